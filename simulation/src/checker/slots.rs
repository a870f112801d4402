//! What must hold of the slots of a workload: how many instances they have, how many of them serve,
//! and when one is replaced because its node was lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use windlass_agent::runtime::ContainerId;
use windlass_api::{
    ids::{InstanceId, NodeName, RevisionNumber, Slot, WorkloadKey},
    resource::{Goal, Scheduling},
    spec::WorkloadSpec,
};
use windlass_core::{
    cluster::Cluster,
    lease::MOVE_PAUSE,
    record::{Change, InstanceRecord},
    rollout::Bounds,
};

use super::published::Wrong;
use crate::world::World;

/// How long the agent of a node may be away, at most, so that what it has to stop is stopped before
/// another one may be started: the margin of a fence, without what an engine takes.
pub(crate) const AWAY_MAX: Duration = Duration::from_secs(3);
/// How long it counts that an agent was away for longer, or its engine did not do what it was asked.
const HELPLESS_FOR: Duration = Duration::from_secs(60);
/// How much earlier a slot may move again by the clock of the server.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

impl World {
    /// The bounds of updates, and one instance for each slot and revision.
    pub(super) fn fleets(&self, before: &Cluster, after: &Cluster, wrong: &mut Wrong) {
        // Returned nodes bring back what was replaced meanwhile.
        let hurt = self.machines.keys().any(|node| self.is_hurt(node));
        if hurt || after.record.awaits_acceptance() {
            return;
        }
        for (key, workload) in &after.workloads {
            let WorkloadSpec::Service(_) = &workload.manifest.spec else {
                continue;
            };
            let bounds = Bounds::of(&workload.manifest.spec, None);
            let most = bounds.surge.max(bounds.canary) + bounds.surge_of_moves;
            let (slots, count) = (slots(after, key), beside(after, key));
            // What an update within other bounds has begun may go on.
            if count > beside(before, key).max(most as usize) {
                let what = format!("{key} has {count} instances too many, and may have {most}");
                wrong.push(("rollout", what));
            }
            for ((slot, revision), count) in slots.into_iter().filter(|(_, count)| *count > 1) {
                let what = format!("slot {slot} of {key} has {count} instances of {revision}");
                wrong.push(("B", what));
            }
        }
    }

    /// The brake, and one move for each slot and minute.
    pub(super) fn evictions(
        &mut self,
        before: &Cluster,
        after: &Cluster,
        changes: &[Change],
        wrong: &mut Wrong,
    ) {
        let braked = most_are_lost(before) && most_are_lost(after);
        for change in changes {
            let Change::Instance(id, Some(instance)) = change else {
                continue;
            };
            if before.instances.contains_key(id) {
                continue;
            }
            let slot = (instance.workload.clone(), instance.slot);
            if instance.moved_at != Some(instance.created_at) || is_seen(before, instance) {
                // Somebody wants something else there.
                self.checker.moved.remove(&slot);
                continue;
            }
            if braked {
                wrong.push((
                    "brake",
                    format!("{id} replaces what was lost with most of the nodes"),
                ));
            }
            let last = self.checker.moved.insert(slot, self.now);
            let pause = MOVE_PAUSE.as_std().saturating_sub(CLOCK_SLACK);
            if last.is_some_and(|last| self.now - last < pause) && !self.checker.clock_jumped {
                wrong.push((
                    "moves",
                    format!("{id} is in a slot that has moved a moment ago"),
                ));
            }
        }
    }

    /// Nothing that serves is stopped for an update or a move unless enough others serve.
    pub(super) fn outages(
        &self,
        before: &Cluster,
        after: &Cluster,
        changes: &[Change],
        wrong: &mut Wrong,
    ) {
        let hurt = self.machines.keys().any(|node| self.is_hurt(node));
        if hurt || after.record.awaits_acceptance() {
            return;
        }
        let mut known: BTreeMap<&InstanceId, &Arc<InstanceRecord>> = BTreeMap::new();
        let mut stopped = BTreeSet::new();
        for change in changes {
            let Change::Instance(id, Some(now)) = change else {
                continue;
            };
            // Its agent may have told of its end a moment ago.
            let was = known.insert(id, now).or(before.instances.get(id));
            let serves = was.is_some_and(|was| was.serves());
            if serves && now.goal == Goal::Stop && !is_expelled(after, now) {
                stopped.insert(now.workload.clone());
            }
        }
        for key in stopped {
            let workloads = (before.workloads.get(&key), after.workloads.get(&key));
            let (Some(was), Some(is)) = workloads else {
                continue;
            };
            let spec = &is.manifest.spec;
            let bounds = Bounds::of(spec, None);
            let may_be_missing = bounds.unavailable.max(bounds.unavailable_in_stead);
            let wanted = spec.replicas().unwrap_or_default();
            let (served, serve) = (serving(before, &key, wanted), serving(after, &key, wanted));
            if was.meta.uid == is.meta.uid && serve < served && serve + may_be_missing < wanted {
                let what = format!("{serve} of {wanted} slots of {key} are left to serve");
                wrong.push(("rollout", what));
            }
        }
    }

    /// B: of what is exclusive never two run at once, as long as the agents run and are obeyed.
    pub(super) fn check_exclusive(&mut self, node: &NodeName, id: &ContainerId) {
        // Nobody can promise anything for a server that has forgotten what it promised.
        if self.checker.has_gone_back || self.is_helpless(node) {
            return;
        }
        let this = self.engines.get(node);
        let Some((slot, instance)) = this.and_then(|e| e.exclusive(id)) else {
            return;
        };
        let others = self.engines.iter().flat_map(|(node, engine)| {
            let running = engine.running().filter_map(|c| engine.exclusive(&c.id));
            running.map(move |(slot, instance)| (node, slot, instance))
        });
        let other: Option<(NodeName, InstanceId)> = others
            .filter(|(at, ..)| !self.is_helpless(at))
            .find(|(_, other, runs)| *other == slot && **runs != *instance)
            .map(|(at, _, runs)| (at.clone(), runs.clone()));
        if let Some((at, runs)) = other {
            let what = format!("{instance} is started on {node} while {runs} runs on {at}");
            self.violated("exclusive", what);
        }
    }

    /// Whether an agent could not stop what it had to.
    fn is_helpless(&self, node: &NodeName) -> bool {
        let Some(machine) = self.machines.get(node) else {
            return true;
        };
        let away = machine.died_at.is_some_and(|at| self.now - at > AWAY_MAX);
        let was = machine
            .helpless_at
            .is_some_and(|at| self.now - at < HELPLESS_FOR);
        let hangs = self
            .engines
            .get(node)
            .is_none_or(|engine| !engine.is_fine());
        away || was || hangs
    }
}

/// Whether an instance has to leave its node at once.
fn is_expelled(state: &Cluster, instance: &InstanceRecord) -> bool {
    let node = instance
        .node
        .as_ref()
        .and_then(|node| state.nodes.get(node));
    let scheduling = node.map(|node| &node.scheduling);
    match scheduling {
        Some(Scheduling::Draining { drain_deadline, .. }) => drain_deadline.is_some(),
        Some(Scheduling::Removed { .. }) => true,
        Some(Scheduling::Enabled | Scheduling::Cordoned) | None => false,
    }
}

/// How many of the wanted slots of a workload have an instance that serves and is to stay.
fn serving(state: &Cluster, key: &WorkloadKey, wanted: u32) -> u32 {
    let serves = state.instances_of(key).filter(|i| i.serves());
    let slots: BTreeSet<Slot> = serves.map(|i| i.slot).collect();
    let slots = slots.iter().filter(|slot| slot.0 < wanted).count();
    u32::try_from(slots).unwrap_or(u32::MAX)
}

/// Whether a server sees something in the slot of an instance that is to stay.
fn is_seen(state: &Cluster, instance: &InstanceRecord) -> bool {
    let mut others = state.instances_of(&instance.workload);
    others.any(|i| i.slot == instance.slot && i.goal != Goal::Stop && !state.is_out_of_sight(i))
}

/// Whether more than half of the nodes are lost, and more than one.
fn most_are_lost(state: &Cluster) -> bool {
    let nodes: Vec<_> = state.nodes.values().filter(|n| !n.is_removed()).collect();
    let lost = nodes.iter().filter(|node| node.is_lost()).count();
    lost > 1 && 2 * lost > nodes.len()
}

/// How many instances of each slot and revision of a workload are to stay.
fn slots(state: &Cluster, key: &WorkloadKey) -> BTreeMap<(Slot, RevisionNumber), usize> {
    let mut slots = BTreeMap::new();
    // One that is to leave its node stays until another one has taken over.
    let stays = |i: &&Arc<InstanceRecord>| i.goal == Goal::Run && state.leaving(i).is_none();
    for instance in state.instances_of(key).filter(stays) {
        *slots.entry((instance.slot, instance.revision)).or_default() += 1;
    }
    slots
}

/// How many instances of a workload are to run on a node beside others of their slots.
fn beside(state: &Cluster, key: &WorkloadKey) -> usize {
    let placed = state.instances_of(key);
    let placed = placed.filter(|i| i.goal == Goal::Run && i.node.is_some());
    let slots: Vec<Slot> = placed.map(|i| i.slot).collect();
    slots.len() - slots.iter().collect::<BTreeSet<_>>().len()
}
