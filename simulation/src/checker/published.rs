//! What must hold of every state that a server shows.

use std::collections::{BTreeMap, BTreeSet};

use windlass_api::{
    ids::{Generation, NodeName, WorkloadKey},
    resource::{Goal, Scheduling},
    status::Phase,
};
use windlass_core::{
    cluster::Cluster,
    lease::RETURN_GRACE,
    plan::REVISIONS_MAX,
    record::{Change, InstanceRecord},
    scheduler::needs,
    transaction::EVENTS_MAX,
};

use super::FORGED_EXIT;
use crate::world::World;

/// What does not hold, each with its contract.
pub(super) type Wrong = Vec<(&'static str, String)>;

impl World {
    pub(crate) fn check_published(&mut self, before: &Cluster) {
        let Some(process) = &self.server else {
            return;
        };
        let after = process.server.state();
        if after.version == before.version {
            return;
        }
        self.checker.commits += 1;
        self.checker.acknowledged = Some(after.clone());
        if before.record.awaits_acceptance() && !after.record.awaits_acceptance() {
            self.checker.protected.clear();
        }
        let mut wrong = Vec::new();
        let changes = self.watch(&mut wrong);
        grows(before, &after, &mut wrong);
        bounded(&after, &mut wrong);
        self.placements(before, &after, &changes, &mut wrong);
        full(&after, &mut wrong);
        self.losses(before, &after, &mut wrong);
        self.departures(before, &after, &changes, &mut wrong);
        self.fleets(before, &after, &mut wrong);
        self.outages(before, &after, &changes, &mut wrong);
        self.evictions(before, &after, &changes, &mut wrong);
        wrong.extend(after.inconsistencies().into_iter().map(|what| ("A", what)));
        self.note(format_args!(
            "commit {}: {} changes",
            after.version,
            changes.len()
        ));
        self.tell(before, &after, &changes);
        for (contract, what) in wrong {
            self.violated(contract, what);
        }
    }

    /// Notes what a commit means for nodes and instances.
    fn tell(&mut self, before: &Cluster, after: &Cluster, changes: &[Change]) {
        if before.record.epoch != after.record.epoch {
            let restore = after.record.restore.as_ref();
            let accepted = restore.is_none_or(|r| r.accepted_at.is_some());
            self.note(format_args!(
                "  epoch {}, accepted: {accepted}",
                after.record.epoch
            ));
        }
        for change in changes {
            match change {
                Change::Node(name, Some(node)) => {
                    let known = before.nodes.get(name);
                    let same = known.is_some_and(|k| k.state.name() == node.state.name());
                    if !same {
                        self.note(format_args!("  {name}: {}", node.state.name()));
                    }
                }
                Change::Instance(id, Some(instance)) => {
                    let known = before.instances.get(id);
                    let aim = |i: &InstanceRecord| (i.goal, i.node.clone());
                    if known.is_none_or(|known| aim(known) != aim(instance)) {
                        let node = instance.node.as_ref().map(NodeName::as_str);
                        let (goal, node) = (instance.goal, node.unwrap_or("no node"));
                        self.note(format_args!("  {id}: {goal:?} on {node}"));
                    }
                }
                Change::Instance(id, None) => self.note(format_args!("  {id} is gone")),
                Change::Event(_, Some(event)) => {
                    let (subject, reason) = (&event.subject, &event.reason);
                    self.note(format_args!("  {subject}: {reason}: {}", event.message));
                }
                _ => {}
            }
        }
    }

    /// G: a watch misses nothing, and what it tells adds up to the state. Returns what changed.
    fn watch(&mut self, wrong: &mut Wrong) -> Vec<Change> {
        let Some(process) = &self.server else {
            return Vec::new();
        };
        let from = self.checker.watched;
        let commits = match process.server.history().since(from) {
            Ok((commits, _)) => commits,
            Err(error) => {
                wrong.push(("G", format!("a watch from {from} ends: {error:?}")));
                return Vec::new();
            }
        };
        let mut changes = Vec::new();
        for commit in commits {
            let (at, to) = (self.checker.watched, commit.after.version);
            if commit.before.version != at {
                let what = format!("a watch at {at} goes on at {}", commit.before.version);
                wrong.push(("G", what));
            }
            let mut replayed = commit.before.clone();
            commit
                .changes
                .iter()
                .for_each(|change| replayed.apply(change));
            replayed.version = to;
            // A state that was read again after the disk was full comes without changes.
            if !commit.changes.is_empty() && replayed != commit.after {
                wrong.push(("G", format!("what is watched does not add up at {to}")));
            }
            self.checker.watched = to;
            changes.extend(commit.changes.iter().cloned());
        }
        changes
    }

    /// No placement on cordoned nodes, no id twice, and nobody's word on what is not its own.
    fn placements(
        &mut self,
        before: &Cluster,
        after: &Cluster,
        changes: &[Change],
        wrong: &mut Wrong,
    ) {
        let mut touched = BTreeSet::new();
        for change in changes {
            let Change::Instance(id, Some(instance)) = change else {
                continue;
            };
            let known = before.instances.get(id);
            if touched.insert(id.clone())
                && known.is_none()
                && !self.checker.made.insert(id.clone())
            {
                wrong.push(("G", format!("{id} was there before")));
            }
            if instance
                .status
                .last_exit
                .as_ref()
                .is_some_and(|e| e.code == FORGED_EXIT)
            {
                wrong.push(("F", format!("{id} has what another node said of it")));
            }
            let Some(node) = &instance.node else {
                continue;
            };
            let is_new = known.is_none_or(|k| k.node.is_none());
            let cordoned = |state: &Cluster| {
                let node = state.nodes.get(node);
                node.is_some_and(|n| n.scheduling != Scheduling::Enabled)
            };
            if is_new && cordoned(before) && cordoned(after) {
                let what = format!("{id} was placed on {node}, which is cordoned");
                wrong.push(("placement", what));
            }
        }
    }

    /// No node is lost before its agent had time to return to a server that was started.
    fn losses(&self, before: &Cluster, after: &Cluster, wrong: &mut Wrong) {
        let Some(process) = &self.server else {
            return;
        };
        let up = self.now.saturating_sub(process.started);
        let lost = after.nodes.values().filter(|node| node.is_lost());
        for node in lost.filter(|n| before.nodes.get(&n.name).is_some_and(|b| !b.is_lost())) {
            if up < RETURN_GRACE {
                let what = format!("{} is lost {up:?} after the server was started", node.name);
                wrong.push(("lease", what));
            }
        }
    }

    /// B: what a server takes for gone does not run.
    fn departures(
        &mut self,
        before: &Cluster,
        after: &Cluster,
        changes: &[Change],
        wrong: &mut Wrong,
    ) {
        for change in changes {
            let Change::Instance(id, None) = change else {
                continue;
            };
            let Some(instance) = before.instances.get(id).filter(|i| i.goal == Goal::Stop) else {
                continue;
            };
            let Some(node) = &instance.node else {
                continue;
            };
            // What was on a node that was removed and is not heard from is forgotten.
            if after
                .nodes
                .get(node)
                .is_some_and(|n| n.is_removed() && n.is_lost())
            {
                continue;
            }
            if self.engines.get(node).is_some_and(|e| e.runs(id)) {
                wrong.push(("B", format!("{id} is taken for gone, and runs on {node}")));
            }
            self.gone.insert(id.clone());
        }
    }
}

/// Nothing is placed where there is no room for it.
fn full(after: &Cluster, wrong: &mut Wrong) {
    for (name, node) in &after.nodes {
        let here = after.instances_on(name).filter(|i| occupies(i));
        let used = here
            .filter_map(|i| after.template_of(i))
            .map(|t| needs(t).cpu.0);
        let (used, capacity) = (used.sum::<u64>(), node.capacity.cpu.0);
        if used > capacity {
            let here = after.instances_on(name).filter(|i| occupies(i));
            let here = here.map(|i| {
                let cpu = after.template_of(i).map_or(0, |t| needs(t).cpu.0);
                format!("{} ({}, {cpu}m)", i.id, i.revision)
            });
            let here = here.collect::<Vec<_>>().join(", ");
            let what = format!("{name} has {capacity}m, and {used}m are placed on it: {here}");
            wrong.push(("placement", what));
        }
    }
}

/// Whether an instance uses something of its node.
fn occupies(instance: &InstanceRecord) -> bool {
    let over = matches!(
        instance.status.phase,
        Phase::Succeeded | Phase::Failed { .. }
    );
    instance.goal == Goal::Run && !over
}

/// G: numbers only grow.
fn grows(before: &Cluster, after: &Cluster, wrong: &mut Wrong) {
    if after.version <= before.version {
        let what = format!("version {} follows {}", after.version, before.version);
        wrong.push(("G", what));
    }
    let numbers = |state: &Cluster| (state.record.epoch, state.record.next_instance);
    let (old, new) = (numbers(before), numbers(after));
    if new.0 < old.0 || new.1 < old.1 {
        wrong.push(("G", "a number of the cluster went back".to_owned()));
    }
    let behind = |(node, generation): (&NodeName, &Generation)| {
        (after.generation(node) < *generation).then(|| node.clone())
    };
    for node in before.generations.iter().filter_map(behind) {
        wrong.push(("G", format!("the generation of {node} went back")));
    }
}

/// H: what is kept is bounded.
fn bounded(after: &Cluster, wrong: &mut Wrong) {
    if after.events.len() > EVENTS_MAX {
        wrong.push(("H", format!("{} events are kept", after.events.len())));
    }
    let mut revisions: BTreeMap<&WorkloadKey, usize> = BTreeMap::new();
    for revision in after.revisions.keys() {
        *revisions.entry(&revision.workload).or_default() += 1;
    }
    for (key, count) in revisions {
        let used: BTreeSet<_> = after.instances_of(key).map(|i| i.revision).collect();
        // Those in use, and the four that a workload may name.
        if count > REVISIONS_MAX + used.len() + 4 {
            wrong.push(("H", format!("{count} revisions of {key} are kept")));
        }
    }
}
