//! What the reconciler knows: the containers as last listed, what is being done about them, and
//! what came of it. No I/O; the time is passed in.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use windlass_api::{
    ids::{InstanceId, Namespace},
    spec::PullPolicy,
    wire::{AssignedInstance, Assignment},
};

use crate::{
    history::Histories,
    plan::{self, Activity, ImageState, Input, Plan, Step},
    probe::{Healths, Subject},
    runtime::{Container, ContainerId, ContainerState, Error, ErrorKind},
    worker::Outcome,
};

/// What is known.
#[derive(Debug, Default)]
pub(super) struct State {
    containers: Vec<Container>,
    histories: Histories,
    images: BTreeMap<InstanceId, ImageState>,
    busy: BTreeMap<InstanceId, Busy>,
    /// How many times the listing of containers was begun.
    lists: u64,
}

#[derive(Debug)]
struct Busy {
    activity: Activity,
    until: Until,
}

/// When something new may be done for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// When its step is done.
    Done,
    /// When a list is there that was begun after this many: an earlier one may show the time
    /// before the step.
    Listed(u64),
}

/// What to do after an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Plan: the containers are as they were.
    Plan,
    /// List the containers, which have changed.
    List,
}

impl State {
    pub(super) fn new(histories: Histories) -> Self {
        Self {
            histories,
            ..Self::default()
        }
    }

    pub(super) fn histories(&self) -> &Histories {
        &self.histories
    }

    /// Whether nothing is being done.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.is_empty()
    }

    /// The namespaces that are in use or will be.
    pub(super) fn namespaces(&self, assignment: &Assignment) -> BTreeSet<Namespace> {
        let assigned = assignment.instances.values();
        let assigned = assigned.map(|a| a.workload.namespace.clone());
        let existing = self.containers.iter().map(|c| c.namespace.clone());
        assigned.chain(existing).collect()
    }

    /// A listing begins. Returns its number, for [`Self::listed`].
    pub(super) fn list_begins(&mut self) -> u64 {
        self.lists += 1;
        self.lists
    }

    /// The containers, as the listing with that number found them.
    pub(super) fn listed(&mut self, number: u64, containers: Vec<Container>) {
        self.containers = containers;
        self.busy.retain(|_, busy| match busy.until {
            Until::Done => true,
            Until::Listed(after) => number <= after,
        });
    }

    /// There is another assignment: forgets the images of instances that are made from another
    /// template now.
    pub(super) fn reassigned(&mut self, old: Option<&Assignment>, new: &Assignment) {
        self.images.retain(|id, _| {
            let template = |a: Option<&Assignment>| {
                plan::assigned(a, id).map(|a: &AssignedInstance| a.template.clone())
            };
            let new = template(Some(new));
            new.is_some() && new == template(old)
        });
    }

    /// The instances whose images are being made ready though they are not wanted any more. From
    /// now on nothing is being done for them.
    pub(super) fn abandon_fetches(&mut self, assignment: &Assignment) -> Vec<InstanceId> {
        let abandoned = self.busy.extract_if(.., |id, busy| {
            busy.activity == Activity::Fetching && plan::assigned(Some(assignment), id).is_none()
        });
        abandoned.map(|(id, _)| id).collect()
    }

    /// Plans, and takes the steps of the plan for begun.
    pub(super) fn advance(
        &mut self,
        assignment: Option<&Assignment>,
        health: &Healths,
        now: Timestamp,
    ) -> Plan {
        self.update_histories(assignment, now);
        let busy = self
            .busy
            .iter()
            .map(|(id, busy)| (id.clone(), busy.activity))
            .collect();
        let plan = plan::plan(&Input {
            assignment,
            containers: &self.containers,
            histories: &self.histories,
            health,
            images: &self.images,
            busy: &busy,
            now,
        });
        for step in &plan.steps {
            let busy = Busy {
                activity: step.activity(),
                until: Until::Done,
            };
            self.busy.insert(step.instance().clone(), busy);
        }
        plan
    }

    /// The containers that run and are wanted, to be probed.
    pub(super) fn subjects<'a>(&'a self, assignment: Option<&'a Assignment>) -> Vec<Subject<'a>> {
        let subject = |container: &'a Container| {
            let ContainerState::Running { started_at } = container.state else {
                return None;
            };
            let assigned = plan::assigned(assignment, &container.instance)?;
            let current = assigned.revision == container.revision;
            Some(Subject {
                container: &container.id,
                started_at,
                address: container.address,
                spec: assigned.template.main().filter(|_| current)?,
                healthcheck: container.healthcheck.as_ref(),
            })
        };
        self.containers.iter().filter_map(subject).collect()
    }

    fn update_histories(&mut self, assignment: Option<&Assignment>, now: Timestamp) {
        if assignment.is_none() {
            return;
        }
        let containers = plan::by_instance(&self.containers, assignment);
        self.histories.retain(|id, _| {
            plan::assigned(assignment, id).is_some()
                || containers.contains_key(id)
                || self.busy.contains_key(id)
        });
        for assigned in plan::wanted(assignment) {
            let id = &assigned.id;
            // What is being done changes the container; its outcome is still to come.
            if self.busy.contains_key(id) {
                continue;
            }
            let kept = containers.get(id).and_then(|found| found.first().copied());
            let history = self.histories.entry(id.clone()).or_default();
            history.observe(id, kept, now);
        }
    }

    /// A step came to its end.
    pub(super) fn finished(&mut self, outcome: Outcome, now: Timestamp) -> Then {
        let Outcome { step, result } = outcome;
        let then = match (&step, &result) {
            (Step::Fetch { .. }, _) => Then::Plan,
            (Step::Launch(_), Err(error)) if error.kind == ErrorKind::ImageMissing => Then::Plan,
            (Step::Launch(_) | Step::Start { .. } | Step::Stop { .. } | Step::Remove { .. }, _) => {
                Then::List
            }
        };
        match result {
            Ok(container) => self.succeeded(&step, container),
            Err(error) => self.failed(&step, error, now),
        }
        match then {
            Then::Plan => {
                self.busy.remove(step.instance());
            }
            Then::List => {
                if let Some(busy) = self.busy.get_mut(step.instance()) {
                    busy.until = Until::Listed(self.lists);
                }
            }
        }
        then
    }

    fn succeeded(&mut self, step: &Step, container: Option<ContainerId>) {
        let history = self.histories.entry(step.instance().clone()).or_default();
        match step {
            Step::Fetch { instance, .. } => {
                history.fetched();
                self.images.insert(instance.clone(), ImageState::Ready);
            }
            Step::Launch(_) | Step::Start { .. } => {
                self.images.remove(step.instance());
                if let Some(container) = container {
                    history.started(&container);
                }
            }
            Step::Stop { .. } | Step::Remove { .. } => history.removed(),
        }
    }

    fn failed(&mut self, step: &Step, error: Error, now: Timestamp) {
        let id = step.instance();
        if let Step::Launch(assigned) = step
            && error.kind == ErrorKind::ImageMissing
        {
            let before = self.images.insert(id.clone(), ImageState::Missing);
            let policy = assigned
                .template
                .main()
                .expect("a template has a container")
                .image_pull_policy;
            // That it was not there yet is no failure; that it is still missing after it was made
            // ready, or must not be pulled, is one.
            if before.is_none() && policy != PullPolicy::Never {
                return;
            }
        }
        tracing::warn!(instance = %id, activity = ?step.activity(), reason = %error, "a step failed");
        let history = self.histories.entry(id.clone()).or_default();
        if error.kind == ErrorKind::Unreachable {
            history.unreachable(error.message, now);
        } else {
            history.step_failed(id, error.message, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use windlass_api::{duration::Span, status::Phase};

    use super::*;
    use crate::testing::{held, id, instance};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn launched() -> Outcome {
        Outcome {
            step: Step::Launch(instance("web-0-1")),
            result: Ok(Some(ContainerId("c1".to_owned()))),
        }
    }

    fn running() -> Container {
        let assigned = instance("web-0-1");
        Container {
            id: ContainerId("c1".to_owned()),
            instance: assigned.id,
            namespace: assigned.workload.namespace,
            revision: assigned.revision,
            image_id: String::new(),
            address: None,
            healthcheck: None,
            stop_grace: Span::from_secs(10),
            state: ContainerState::Running { started_at: NOW },
        }
    }

    #[test]
    fn a_list_from_before_a_step_ended_says_nothing_about_it() {
        let assignment = held(1, vec![instance("web-0-1")]).assignment;
        let mut state = State::default();
        let plan = state.advance(Some(&assignment), &Healths::new(), NOW);
        assert_eq!(plan.steps, [Step::Launch(instance("web-0-1"))]);

        let early = state.list_begins();
        assert_eq!(state.finished(launched(), NOW), Then::List);
        state.listed(early, vec![]);
        let plan = state.advance(Some(&assignment), &Healths::new(), NOW);
        assert_eq!(plan.steps, []);
        assert_eq!(plan.statuses[&id("web-0-1")].phase, Phase::Starting);

        let late = state.list_begins();
        state.listed(late, vec![running()]);
        let plan = state.advance(Some(&assignment), &Healths::new(), NOW);
        assert_eq!(plan.steps, []);
        assert!(plan.statuses[&id("web-0-1")].phase.is_running());
        assert_eq!(plan.statuses[&id("web-0-1")].restarts, 0);

        // And when it is missing in a list from after, it is gone.
        let later = state.list_begins();
        state.listed(later, vec![]);
        let plan = state.advance(Some(&assignment), &Healths::new(), NOW);
        assert_eq!(plan.steps, [Step::Launch(instance("web-0-1"))]);
    }
}
