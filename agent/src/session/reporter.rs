//! Which frames tell the server of a snapshot, after what it was told before.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use windlass_api::{
    ids::{Generation, InstanceId},
    status::InstanceStatus,
    wire::{FRAME_ITEMS_MAX, Observed, ObservedInstance, Scope},
};

use crate::board::Snapshot;

/// Knows what the server was told on one connection.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    /// The last snapshot that was told; `None`: all must be told.
    told: Option<Arc<Snapshot>>,
    /// The instances that are to be told of again though nothing about them is new.
    again: BTreeSet<InstanceId>,
    /// The instances that were dropped by an assignment, until it is said that nothing is left of
    /// them. Of one that came and went between two reports the server would never hear otherwise.
    dropped: BTreeMap<InstanceId, Generation>,
}

impl Reporter {
    /// Tells everything the next time.
    pub(super) fn start_over(&mut self) {
        self.told = None;
    }

    /// Tells of these the next time. What the agent said of an instance counted for nothing if the
    /// server did not know then that it is on this node: one whose state went back may learn that
    /// later, and assign the very same.
    pub(super) fn again(&mut self, ids: impl Iterator<Item = InstanceId>) {
        self.again.extend(ids);
    }

    /// Takes note that the assignment of this generation dropped instances.
    pub(super) fn dropped(&mut self, generation: Generation, ids: Vec<InstanceId>) {
        #[cfg(feature = "mutants")]
        if windlass_api::mutants::Mutant::ForgottenDropped.is_on() {
            return;
        }
        self.dropped
            .extend(ids.into_iter().map(|id| (id, generation)));
    }

    /// The frames that tell of `now`; none if there is nothing new.
    pub(super) fn report(&mut self, now: &Arc<Snapshot>) -> Vec<Observed> {
        let (first, changed) = match &self.told {
            None => (Scope::Full, now.statuses.iter().collect::<Vec<_>>()),
            Some(told) => {
                let known = |id: &InstanceId| match self.again.contains(id) {
                    true => None,
                    false => told.statuses.get(id),
                };
                let changed = now.statuses.iter().filter(|(id, s)| known(id) != Some(s));
                (Scope::Delta, changed.collect())
            }
        };
        let gone = self.gone(now);
        let is_new = match &self.told {
            None => true,
            Some(told) => told.generation != now.generation,
        };
        self.told = Some(Arc::clone(now));
        self.again.clear();
        if changed.is_empty() && gone.is_empty() && !is_new {
            return Vec::new();
        }
        frames(first, now.generation, &changed, &gone)
    }

    /// The instances of which nothing is left, and of which the server does not know it yet.
    fn gone(&mut self, now: &Snapshot) -> Vec<InstanceId> {
        let mut gone: BTreeSet<InstanceId> = BTreeSet::new();
        if let Some(told) = &self.told {
            gone.extend(told.statuses.keys().cloned());
        }
        self.dropped.retain(|id, generation| {
            let worked_on = *generation <= now.generation;
            if worked_on {
                gone.insert(id.clone());
            }
            // One that still exists is told of, and so is its end.
            !worked_on
        });
        gone.into_iter()
            .filter(|id| !now.statuses.contains_key(id))
            .collect()
    }
}

/// Frames of at most [`FRAME_ITEMS_MAX`] items, of which the first has the scope `first`.
fn frames(
    first: Scope,
    generation: Generation,
    changed: &[(&InstanceId, &InstanceStatus)],
    gone: &[InstanceId],
) -> Vec<Observed> {
    let mut changed = changed.chunks(FRAME_ITEMS_MAX);
    let mut gone = gone.chunks(FRAME_ITEMS_MAX);
    let mut frames = Vec::new();
    loop {
        let (instances, ids) = (changed.next(), gone.next());
        if instances.is_none() && ids.is_none() && !frames.is_empty() {
            return frames;
        }
        let instances = instances.unwrap_or_default().iter();
        frames.push(Observed {
            scope: if frames.is_empty() {
                first
            } else {
                Scope::Delta
            },
            instances: instances
                .map(|(id, status)| ObservedInstance {
                    id: (*id).clone(),
                    status: (*status).clone(),
                })
                .collect(),
            gone: ids.unwrap_or_default().to_vec(),
            generation,
        });
    }
}

#[cfg(test)]
mod tests {
    use windlass_api::status::Phase;

    use super::*;
    use crate::testing::id;

    fn snapshot(generation: u64, phases: &[(&str, Phase)]) -> Arc<Snapshot> {
        let statuses = phases
            .iter()
            .map(|(text, phase)| (id(text), InstanceStatus::new(phase.clone())));
        Arc::new(Snapshot {
            generation: Generation(generation),
            statuses: statuses.collect(),
        })
    }

    fn names(frame: &Observed) -> (Scope, Vec<&str>, Vec<&str>) {
        let instances = frame.instances.iter().map(|i| i.id.as_str()).collect();
        let gone = frame.gone.iter().map(InstanceId::as_str).collect();
        (frame.scope, instances, gone)
    }

    #[test]
    fn everything_first_and_then_what_changes() {
        let mut reporter = Reporter::default();
        let a = ("web-0-1", Phase::Starting);
        let b = ("web-1-2", Phase::Starting);
        let told = reporter.report(&snapshot(1, &[a.clone(), b.clone()]));
        assert_eq!(
            told.iter().map(names).collect::<Vec<_>>(),
            [(Scope::Full, vec!["web-0-1", "web-1-2"], vec![])]
        );
        assert_eq!(reporter.report(&snapshot(1, &[a.clone(), b.clone()])), []);
        let told = reporter.report(&snapshot(1, &[(b.0, Phase::Prepared)]));
        assert_eq!(
            told.iter().map(names).collect::<Vec<_>>(),
            [(Scope::Delta, vec!["web-1-2"], vec!["web-0-1"])]
        );
        reporter.start_over();
        let told = reporter.report(&snapshot(1, &[]));
        assert_eq!(
            told.iter().map(names).collect::<Vec<_>>(),
            [(Scope::Full, vec![], vec![])]
        );
    }

    #[test]
    fn a_new_generation_is_told_though_nothing_else_is_new() {
        let mut reporter = Reporter::default();
        reporter.report(&snapshot(1, &[]));
        let told = reporter.report(&snapshot(2, &[]));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].generation, Generation(2));
    }

    #[test]
    fn what_the_server_did_not_know_before_is_told_again() {
        let mut reporter = Reporter::default();
        let (a, b) = (("web-0-1", Phase::Starting), ("web-1-2", Phase::Starting));
        reporter.report(&snapshot(1, &[a.clone(), b.clone()]));
        reporter.again([id("web-1-2"), id("web-2-3")].into_iter());
        let told = reporter.report(&snapshot(1, &[a.clone(), b.clone()]));
        assert_eq!(names(&told[0]), (Scope::Delta, vec!["web-1-2"], vec![]));
        assert_eq!(reporter.report(&snapshot(1, &[a, b])), []);
    }

    #[test]
    fn what_came_and_went_unseen_is_told_to_be_gone() {
        let mut reporter = Reporter::default();
        reporter.report(&snapshot(1, &[]));
        reporter.dropped(Generation(3), vec![id("web-0-1"), id("web-1-2")]);
        // The reconciler is not there yet.
        assert_eq!(names(&reporter.report(&snapshot(2, &[]))[0]).2.len(), 0);
        let told = reporter.report(&snapshot(3, &[("web-1-2", Phase::Stopping)]));
        assert_eq!(
            names(&told[0]),
            (Scope::Delta, vec!["web-1-2"], vec!["web-0-1"])
        );
        let told = reporter.report(&snapshot(3, &[]));
        assert_eq!(names(&told[0]), (Scope::Delta, vec![], vec!["web-1-2"]));
    }

    #[test]
    fn much_is_told_in_several_frames() {
        let mut reporter = Reporter::default();
        let all: Vec<String> = (0..600).map(|n| format!("web-{n}-{n}")).collect();
        let all: Vec<_> = all.iter().map(|t| (t.as_str(), Phase::Starting)).collect();
        let told = reporter.report(&snapshot(1, &all));
        let shape: Vec<_> = told.iter().map(|f| (f.scope, f.instances.len())).collect();
        assert_eq!(
            shape,
            [(Scope::Full, 256), (Scope::Delta, 256), (Scope::Delta, 88)]
        );
        let told = reporter.report(&snapshot(1, &[]));
        let shape: Vec<_> = told.iter().map(|f| (f.scope, f.gone.len())).collect();
        assert_eq!(
            shape,
            [(Scope::Delta, 256), (Scope::Delta, 256), (Scope::Delta, 88)]
        );
    }
}
