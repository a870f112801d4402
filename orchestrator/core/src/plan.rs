//! What follows from the state: instances to make, place, run and stop.
//!
//! Planning is level-triggered. It compares what every slot of a workload holds with what it
//! should hold, whatever happened before; so it can be interrupted and repeated at any point,
//! and a second pass over its own result finds nothing to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use windlass_api::{
    apply::{Action, PlannedStep},
    event::{Severity, Subject},
    ids::{InstanceId, NodeName, WorkloadKey},
    resource::{Goal, Scheduling},
    spec::Kind,
    status::Phase,
};

use crate::{
    cluster::Cluster,
    dependency,
    record::{Change, InstanceRecord, NodeRecord, RevisionKey, WorkloadRecord},
    transaction::Transaction,
};

mod daemon;
mod fleet;
mod job;
mod moves;
mod placement;
pub mod rebalance;
mod relocation;
mod replace;
mod rollout;
mod schedule;
mod scope;
mod service;
mod slot;
#[cfg(test)]
mod tests;

pub(crate) use fleet::Rule;
use moves::{Move, Moves, Place, Spot, live};
pub use scope::Scope;
use scope::affected;

/// The most revisions of a workload that are kept for going back.
pub const REVISIONS_MAX: usize = 10;

/// How often a pass looks again at what it has placed. The second look finds what that means for
/// the rest of a rollout, and a third one that it was all; more would be a mistake that must not
/// keep the server from its work: the next pass goes on.
const ROUNDS_MAX: usize = 16;

/// What a pass decided, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// When to plan again although nothing happens until then.
    pub wake: Option<Timestamp>,
}

/// Plans, and makes the resulting changes in `txn`.
pub fn plan(txn: &mut Transaction, scope: &Scope) -> Report {
    let mut keys = match scope {
        Scope::All => txn.cluster().workload_keys(),
        Scope::Workloads(keys) => keys.clone(),
    };
    let mut pass = Pass {
        txn,
        report: Report::default(),
        touched: BTreeSet::new(),
        wanted: BTreeMap::new(),
        wakes: BTreeMap::new(),
    };
    let (before, from) = (pass.txn.cluster().clone(), pass.txn.changes().len());
    for round in 0..ROUNDS_MAX {
        let looked_at = keys.clone();
        pass.look_at_all(keys);
        if round == 0 && pass.concerns_room(&before, from) {
            // Whoever waits for a place competes for it, or is told of what is left.
            let waiting = scope::waiting(pass.txn.cluster());
            pass.look_at_all(waiting.filter(|key| !looked_at.contains(key)).collect());
        }
        // Only then nodes are looked for, all at once.
        keys = pass.place_all();
        if keys.is_empty() {
            break;
        }
    }
    note_drained(pass.txn);
    for node in std::mem::take(&mut pass.touched) {
        pass.txn.bump_generation(&node);
    }
    pass.report.wake = pass.wakes.into_values().min();
    pass.report
}

/// Notes of nodes that drain that everything has left them.
fn note_drained(txn: &mut Transaction) {
    let cluster = txn.cluster();
    let drained: Vec<_> = cluster
        .draining()
        .filter(|node| cluster.to_leave(node).next().is_none())
        .cloned()
        .collect();
    for node in drained {
        let Scheduling::Draining {
            drain_since,
            drain_deadline,
            drained_at: None,
        } = node.scheduling
        else {
            continue;
        };
        let scheduling = Scheduling::Draining {
            drain_since,
            drain_deadline,
            drained_at: Some(txn.now()),
        };
        let name = node.name.clone();
        let subject = Subject::Node { name: name.clone() };
        let message = "what was to leave it has left";
        txn.event(subject, Severity::Normal, "Drained", message);
        let node = NodeRecord {
            scheduling,
            ..NodeRecord::clone(&node)
        };
        txn.put(Change::Node(name, Some(Arc::new(node))));
    }
}

/// The nodes on each of which one instance of a daemon is wanted.
pub(crate) fn daemon_nodes(
    cluster: &Cluster,
    workload: &WorkloadRecord,
) -> BTreeMap<NodeName, Rule> {
    daemon::nodes(cluster, workload)
}

/// When a schedule is next due; never, while it is suspended.
pub(crate) fn next_due(cluster: &Cluster, workload: &WorkloadRecord) -> Option<Timestamp> {
    schedule::next(cluster, workload)
}

/// Brings what is written down about a workload up to date with what its instances do: what has
/// to outlive a restart of the server.
fn advance(txn: &mut Transaction, workload: &WorkloadRecord) {
    match workload.manifest.kind {
        Kind::Service => {
            relocation::advance(txn, workload);
            rollout::advance(txn, workload, service::fleet);
        }
        Kind::Daemon => rollout::advance(txn, workload, daemon::fleet),
        Kind::Job => job::advance(txn, workload),
        Kind::CronJob => schedule::advance(txn, workload),
    }
}

/// What is to be done for a workload.
fn moves(cluster: &Cluster, key: &WorkloadKey, now: Timestamp) -> Moves {
    let Some(workload) = cluster.workloads.get(key) else {
        let mut moves = Moves::default();
        for instance in live(cluster, key) {
            moves.stop(instance, "the workload was deleted");
        }
        return moves;
    };
    match workload.manifest.kind {
        Kind::Service => service::moves(cluster, workload, now),
        Kind::Daemon => daemon::moves(cluster, workload, now),
        Kind::Job => job::moves(cluster, workload, now),
        Kind::CronJob => schedule::moves(cluster, workload, now),
    }
}

struct Pass<'a> {
    txn: &'a mut Transaction,
    report: Report,
    /// The nodes whose assignment changes.
    touched: BTreeSet<NodeName>,
    /// What needs a node.
    wanted: BTreeMap<WorkloadKey, Vec<Place>>,
    /// When to look at which workload again.
    wakes: BTreeMap<WorkloadKey, Timestamp>,
}

impl Pass<'_> {
    /// Looks at workloads. What changes one can mean something for itself and for others; so all
    /// of them are looked at again, until nothing changes.
    fn look_at_all(&mut self, mut keys: BTreeSet<WorkloadKey>) {
        while let Some(key) = keys.pop_first() {
            keys.extend(self.look_at(&key));
        }
    }

    /// Whether anything needs a place, or what was changed since then may have made or taken room.
    fn concerns_room(&self, before: &Cluster, from: usize) -> bool {
        let changes = &self.txn.changes()[from..];
        let makes_room = |change| scope::makes_room(before, self.txn.cluster(), change);
        self.wanted.values().any(|places| !places.is_empty()) || changes.iter().any(makes_room)
    }

    /// Looks at a workload, and does what needs no node. Returns what has to be looked at because
    /// of that.
    fn look_at(&mut self, key: &WorkloadKey) -> BTreeSet<WorkloadKey> {
        let (before, from) = (self.txn.cluster().clone(), self.txn.changes().len());
        if let Some(workload) = self.txn.cluster().workloads.get(key).cloned() {
            advance(self.txn, &workload);
        }
        let moves = moves(self.txn.cluster(), key, self.txn.now());
        let mut places = Vec::new();
        for step in moves.list {
            match step {
                Move::Stop { id, why } => self.stop(&id, why),
                Move::Run { id } => self.run(&id),
                Move::Place(place) => places.push(place),
            }
        }
        self.close_gate(key, &mut places);
        self.wanted.insert(key.clone(), places);
        match moves.wake {
            Some(wake) => self.wakes.insert(key.clone(), wake),
            None => self.wakes.remove(key),
        };
        self.forget_revisions(key);
        affected(&before, self.txn.cluster(), &self.txn.changes()[from..])
    }

    /// Places nothing of a workload that waits for others.
    fn close_gate(&self, key: &WorkloadKey, places: &mut [Place]) {
        let cluster = self.txn.cluster();
        let workload = cluster.workloads.get(key).filter(|_| !places.is_empty());
        let Some(reason) = workload.and_then(|w| dependency::waits_for(cluster, w)) else {
            return;
        };
        for place in places {
            place.spot = Spot::Nowhere(reason.clone());
        }
    }

    fn stop(&mut self, id: &InstanceId, why: String) {
        let Some(instance) = self.txn.cluster().instances.get(id).cloned() else {
            return;
        };
        self.step(Action::Stop, &instance, why.clone());
        let subject = Subject::instance(&instance.workload, id);
        self.touched.extend(instance.node.clone());
        let Some(node) = instance
            .node
            .as_ref()
            .filter(|_| instance.goal != Goal::Prepare)
        else {
            // No agent was ever told to run it, so nobody has to confirm that it is gone.
            self.txn.put(Change::Instance(id.clone(), None));
            return;
        };
        self.txn.event(subject, Severity::Normal, "Stopping", why);
        let now = self.txn.now();
        let generation = self.txn.cluster().generation(node).next();
        self.txn.update_instance(id, |instance| {
            instance.goal = Goal::Stop;
            instance.stop_generation = Some(generation);
            instance.status.phase = Phase::Stopping;
            instance.phase_since = now;
            instance.ready_since = None;
        });
    }

    fn run(&mut self, id: &InstanceId) {
        let Some(instance) = self.txn.cluster().instances.get(id).cloned() else {
            return;
        };
        self.step(
            Action::Start,
            &instance,
            "its predecessor has made room".to_owned(),
        );
        self.touched.extend(instance.node.clone());
        self.txn
            .update_instance(id, |instance| instance.goal = Goal::Run);
    }

    fn step(&mut self, action: Action, instance: &InstanceRecord, reason: String) {
        self.report.steps.push(PlannedStep {
            action,
            workload: instance.workload.clone(),
            slot: instance.slot,
            instance: instance.id.clone(),
            revision: instance.revision,
            node: instance.node.clone(),
            reason,
        });
    }

    /// Keeps the newest revisions, those in use and those to go back to, and none of a workload
    /// that is gone.
    fn forget_revisions(&mut self, key: &WorkloadKey) {
        let cluster = self.txn.cluster();
        let numbers = revisions_of(cluster, key);
        let workload = cluster.workloads.get(key);
        let keep = if workload.is_some() { REVISIONS_MAX } else { 0 };
        let too_many = numbers.len().saturating_sub(keep);
        if too_many == 0 {
            return;
        }
        let mut used: BTreeSet<_> = cluster.instances_of(key).map(|i| i.revision).collect();
        used.extend(workload.iter().flat_map(|w| w.revisions()));
        let forgotten: Vec<_> = numbers
            .into_iter()
            .filter(|r| !used.contains(&r.number))
            .take(too_many)
            .collect();
        for revision in forgotten {
            self.txn.put(Change::Revision(revision, None));
        }
    }
}

/// The revisions of a workload, the oldest first.
pub(crate) fn revisions_of(cluster: &Cluster, key: &WorkloadKey) -> Vec<RevisionKey> {
    let from = RevisionKey {
        workload: key.clone(),
        number: Default::default(),
    };
    cluster
        .revisions
        .range(from..)
        .map(|(revision, _)| revision)
        .take_while(|revision| revision.workload == *key)
        .cloned()
        .collect()
}
