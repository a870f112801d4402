//! Compares what each slot of a workload holds with what it should hold.

use std::collections::BTreeMap;

use jiff::Timestamp;
use windlass_api::{
    ids::{RevisionNumber, Slot},
    resource::Goal,
    status::Phase,
};

use super::{
    MIN_READY,
    moves::{Move, Moves, Place, Spot, live},
};
use crate::{
    cluster::Cluster,
    record::{InstanceRecord, WorkloadRecord},
};

/// How many slots are brought to a new revision at the same time.
const UPDATES_AT_ONCE: usize = 1;

/// What is to be done for a service.
pub(super) fn moves(cluster: &Cluster, workload: &WorkloadRecord, now: Timestamp) -> Moves {
    let mut comparison = Comparison {
        cluster,
        revision: workload.revision,
        now,
        moves: Moves::default(),
        updates_left: UPDATES_AT_ONCE,
    };
    comparison.workload(workload);
    comparison.moves
}

/// What a slot holds. At most one instance of each kind is worth keeping.
#[derive(Default)]
struct Held<'a> {
    /// Of the wanted revision, on a node where it may be.
    current: Vec<&'a InstanceRecord>,
    /// Of another revision, or on a node where it may no longer be.
    outdated: Vec<&'a InstanceRecord>,
    /// On a node that is lost: nobody can tell whether they run.
    unseen: Vec<&'a InstanceRecord>,
}

struct Comparison<'a> {
    cluster: &'a Cluster,
    revision: RevisionNumber,
    now: Timestamp,
    moves: Moves,
    updates_left: usize,
}

impl<'a> Comparison<'a> {
    fn workload(&mut self, workload: &WorkloadRecord) {
        let replicas = workload.manifest.spec.replicas().unwrap_or_default();
        let mut slots: BTreeMap<Slot, Held<'a>> = (0..replicas)
            .map(|slot| (Slot(slot), Held::default()))
            .collect();
        for instance in live(self.cluster, &workload.manifest.key()) {
            let held = slots.entry(instance.slot).or_default();
            if self.cluster.is_out_of_sight(instance) {
                held.unseen.push(instance);
            } else if is_current(self.cluster, workload, instance) {
                held.current.push(instance);
            } else {
                held.outdated.push(instance);
            }
        }
        let rolling = slots.values().any(|held| !held.outdated.is_empty());
        if rolling {
            let behind =
                |held: &&Held<'_>| !held.current.is_empty() && !self.any_available(&held.current);
            let started = slots.values().filter(behind).count();
            self.updates_left = UPDATES_AT_ONCE.saturating_sub(started);
        }
        for (slot, held) in slots {
            if slot.0 >= replicas {
                for instance in held
                    .current
                    .iter()
                    .chain(&held.outdated)
                    .chain(&held.unseen)
                {
                    self.stop(instance, "the workload was scaled down");
                }
            } else {
                self.slot(slot, &held);
            }
        }
    }

    fn slot(&mut self, slot: Slot, held: &Held<'a>) {
        let current = self.keep_best(&held.current, "another instance fills the slot");
        let outdated = self.keep_best(&held.outdated, "a newer instance fills the slot");
        match (current, outdated) {
            (None, None) => {
                let why = match held.unseen.first().and_then(|i| i.node.as_ref()) {
                    Some(node) => format!("node {node} is lost"),
                    None => format!("slot {slot} is empty"),
                };
                self.place(slot, None, None, why);
            }
            (None, Some(old)) => self.begin_update(slot, old),
            (Some(new), None) => self.settle(slot, new, &held.unseen),
            (Some(new), Some(old)) => self.continue_update(slot, new, old),
        }
    }

    fn begin_update(&mut self, slot: Slot, old: &InstanceRecord) {
        let why = format!("replaces {}", old.id);
        if !old.status.phase.is_running() {
            // It serves nobody, so nothing is gained by keeping it until its successor runs.
            self.stop(old, "it does not run, and is to be replaced");
            self.place(slot, None, None, why);
        } else if self.updates_left > 0 {
            self.updates_left -= 1;
            self.place(slot, None, Some(old), why);
        }
    }

    fn continue_update(&mut self, slot: Slot, new: &InstanceRecord, old: &InstanceRecord) {
        let replaced = format!("replaced by {}", new.id);
        if !old.status.phase.is_running() {
            self.stop(old, "it does not run, and is being replaced");
            if new.node.is_none() {
                self.place(slot, Some(new), None, format!("replaces {}", old.id));
            }
        } else if new.node.is_none() {
            self.place(slot, Some(new), Some(old), format!("replaces {}", old.id));
        } else if new.goal == Goal::Prepare {
            if new.status.phase == Phase::Prepared {
                self.stop(old, &replaced);
            }
        } else if self.is_available(new) {
            self.stop(old, &replaced);
        } else if new.status.phase.is_running() {
            let available_at = new
                .phase_since
                .saturating_add(MIN_READY)
                .unwrap_or(self.now);
            self.moves.wake_at(available_at);
        }
    }

    fn settle(&mut self, slot: Slot, new: &InstanceRecord, unseen: &[&InstanceRecord]) {
        if new.node.is_none() {
            self.place(slot, Some(new), None, format!("slot {slot} is empty"));
        } else if new.goal == Goal::Prepare && !self.is_blocked(new) {
            self.moves.list.push(Move::Run { id: new.id.clone() });
        }
        if new.status.phase.is_running() {
            for instance in unseen {
                self.stop(
                    instance,
                    &format!("replaced by {} while its node was lost", new.id),
                );
            }
        }
    }

    /// Whether an instance that is to stop still holds what this one waits for.
    fn is_blocked(&self, instance: &InstanceRecord) -> bool {
        self.cluster.instances_of(&instance.workload).any(|other| {
            other.id != instance.id && other.slot == instance.slot && other.node == instance.node
        })
    }

    /// The best of several instances of a slot; the others are stopped. What runs is better than
    /// what does not, and then what is older.
    fn keep_best(
        &mut self,
        instances: &[&'a InstanceRecord],
        why: &str,
    ) -> Option<&'a InstanceRecord> {
        let best = *instances
            .iter()
            .min_by_key(|i| (!i.status.phase.is_running(), i.created_at, &i.id))?;
        for instance in instances.iter().filter(|i| i.id != best.id) {
            self.stop(instance, why);
        }
        Some(best)
    }

    fn any_available(&self, instances: &[&InstanceRecord]) -> bool {
        instances.iter().any(|i| self.is_available(i))
    }

    fn is_available(&self, instance: &InstanceRecord) -> bool {
        match &instance.status.phase {
            Phase::Running { .. } => self.now.duration_since(instance.phase_since) >= MIN_READY,
            Phase::Succeeded => true,
            Phase::Pending { .. }
            | Phase::Assigned
            | Phase::Pulling
            | Phase::Prepared
            | Phase::Starting
            | Phase::BackingOff { .. }
            | Phase::Stopping
            | Phase::Failed { .. } => false,
        }
    }

    fn stop(&mut self, instance: &InstanceRecord, why: &str) {
        self.moves.stop(instance, why);
    }

    fn place(
        &mut self,
        slot: Slot,
        waiting: Option<&InstanceRecord>,
        predecessor: Option<&InstanceRecord>,
        why: String,
    ) {
        let beside = predecessor.map(|i| Spot::BesideOrInstead(i.id.clone()));
        self.moves.list.push(Move::Place(Place {
            slot,
            revision: self.revision,
            waiting: waiting.map(|i| i.id.clone()),
            spot: beside.unwrap_or(Spot::Free),
            why,
        }));
    }
}

/// Whether an instance is of the wanted revision, and its node still meets what the workload
/// requires.
fn is_current(cluster: &Cluster, workload: &WorkloadRecord, instance: &InstanceRecord) -> bool {
    let placement = workload.manifest.spec.instance().placement;
    let allowed = match instance
        .node
        .as_ref()
        .and_then(|node| cluster.nodes.get(node))
    {
        Some(node) => placement.require.iter().all(|r| r.is_met_by(node.facts())),
        None => true,
    };
    instance.revision == workload.revision && allowed
}
