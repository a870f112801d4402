//! Which workloads have to be planned anew after some changes.

use windlass_core::{
    cluster::Cluster,
    plan::{Scope, affected},
    record::Change,
    transaction::Transaction,
};

/// What the changes of `txn` can have consequences for. `before` is the state without them.
pub(super) fn of_changes(before: &Cluster, txn: &Transaction) -> Scope {
    // What a node is and has decides about every workload on it, and about every one that waits
    // for a place.
    let node = |change: &Change| matches!(change, Change::Node(..));
    if txn.changes().iter().any(node) {
        return Scope::All;
    }
    let mut keys = affected(before, txn.cluster(), txn.changes());
    if !keys.is_empty() {
        // Something may have become free, or taken.
        keys.extend(txn.cluster().unplaced().map(|i| i.workload.clone()));
    }
    Scope::Workloads(keys)
}
