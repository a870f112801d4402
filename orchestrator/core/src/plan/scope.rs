//! Which workloads a pass of the planner looks at.

use std::collections::BTreeSet;

use windlass_api::ids::WorkloadKey;

use crate::{cluster::Cluster, record::Change, transaction::Transaction};

/// Which workloads a pass looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those that something happened to.
    Workloads(BTreeSet<WorkloadKey>),
}

impl Scope {
    /// What the changes of `txn` can have consequences for. `before` is the state without them.
    #[must_use]
    pub fn of_changes(before: &Cluster, txn: &Transaction) -> Self {
        // What a node is and has decides about every workload on it, and about every one that
        // waits for a place.
        let node = |change: &Change| matches!(change, Change::Node(..));
        if txn.changes().iter().any(node) {
            return Self::All;
        }
        let mut keys = affected(before, txn.cluster(), txn.changes());
        if txn
            .changes()
            .iter()
            .any(|c| makes_room(before, txn.cluster(), c))
        {
            keys.extend(waiting(txn.cluster()));
        }
        Self::Workloads(keys)
    }

    /// Whether there is nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::All => false,
            Self::Workloads(keys) => keys.is_empty(),
        }
    }
}

/// The workloads that wait for a place.
pub(super) fn waiting(cluster: &Cluster) -> impl Iterator<Item = WorkloadKey> {
    cluster.unplaced().map(|i| i.workload.clone())
}

/// Whether something may have become free, or taken, by a change that is no node's. What is told of
/// an instance makes no difference to others as long as it is wanted where it is and has not ended.
pub(super) fn makes_room(before: &Cluster, after: &Cluster, change: &Change) -> bool {
    match change {
        Change::Instance(id, _) => {
            let place = |cluster: &Cluster| {
                let instance = cluster.instances.get(id)?;
                Some((instance.node.clone(), instance.goal, instance.has_ended()))
            };
            place(before) != place(after)
        }
        Change::Workload(..) | Change::Job(..) | Change::Revision(..) | Change::Node(..) => true,
        // It counts events and instances.
        Change::Cluster(_)
        | Change::Schedule(..)
        | Change::Index(..)
        | Change::Assignment(..)
        | Change::Images(..)
        | Change::Event(..)
        | Change::Token(..)
        | Change::Admission(..)
        | Change::Idempotency(..) => false,
    }
}

/// The workloads that changes can mean something for. `before` and `after` are the states without
/// them and with them.
pub(super) fn affected(
    before: &Cluster,
    after: &Cluster,
    changes: &[Change],
) -> BTreeSet<WorkloadKey> {
    let mut keys = BTreeSet::new();
    for change in changes {
        match change {
            Change::Workload(key, record) => {
                let record = record.as_ref().or_else(|| before.workloads.get(key));
                keys.extend(record.and_then(|w| w.owner()));
                keys.insert(key.clone());
            }
            Change::Instance(id, _) => {
                let known = before.instances.get(id).or_else(|| after.instances.get(id));
                keys.extend(known.map(|i| i.workload.clone()));
            }
            // Others may wait for it to complete.
            Change::Job(key, _) => {
                keys.extend(after.workloads.get(key).and_then(|w| w.owner()));
                keys.insert(key.clone());
            }
            // Who writes these has looked at all that they mean something for.
            Change::Index(..) | Change::Schedule(..) => {}
            Change::Cluster(_)
            | Change::Revision(..)
            | Change::Node(..)
            | Change::Assignment(..)
            | Change::Images(..)
            | Change::Event(..)
            | Change::Token(..)
            | Change::Admission(..)
            | Change::Idempotency(..) => {}
        }
    }
    let dependents = keys.iter().flat_map(|key| after.dependents(key));
    let dependents: Vec<_> = dependents.cloned().collect();
    keys.extend(dependents);
    keys
}
