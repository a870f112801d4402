//! Which workloads have to be planned anew after some changes.

use std::collections::BTreeSet;

use windlass_core::{cluster::Cluster, plan::Scope, record::Change, transaction::Transaction};

/// What the changes of `txn` can have consequences for. `before` is the state without them.
pub(super) fn of_changes(before: &Cluster, txn: &Transaction) -> Scope {
    let mut keys = BTreeSet::new();
    for change in txn.changes() {
        match change {
            Change::Workload(key, _) => {
                let known = before.workloads.get(key);
                let known = known.or_else(|| txn.cluster().workloads.get(key));
                keys.extend(known.and_then(|w| w.owner()));
                keys.insert(key.clone());
            }
            Change::Instance(id, _) => {
                let known = before
                    .instances
                    .get(id)
                    .or_else(|| txn.cluster().instances.get(id));
                keys.extend(known.map(|i| i.workload.clone()));
            }
            // What a node is and has decides about every workload on it, and about every one
            // that waits for a place.
            Change::Node(..) => return Scope::All,
            // The planner alone writes these.
            Change::Job(..) | Change::Index(..) | Change::Schedule(..) => {}
            Change::Cluster(_)
            | Change::Revision(..)
            | Change::Assignment(..)
            | Change::Images(..)
            | Change::Event(..)
            | Change::Idempotency(..) => {}
        }
    }
    if !keys.is_empty() {
        // Something may have become free, or taken.
        keys.extend(txn.cluster().unplaced().map(|i| i.workload.clone()));
    }
    Scope::Workloads(keys)
}
