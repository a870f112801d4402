//! Nodes that are not heard from, and that are again.

use std::sync::Arc;

use windlass_api::{
    duration::Span,
    event::{Severity, Subject},
    ids::NodeName,
    resource::Evictions,
    status::NodeState,
};

use super::{super::node, set_state};
use crate::{
    lease,
    record::{Change, ClusterRecord, NodeRecord, Sight},
    transaction::Transaction,
};

/// Declares a node lost. From now on nothing that is written down of its instances counts, until its
/// agent has told what became of them.
pub fn lose(txn: &mut Transaction, name: &NodeName) {
    let since = txn.now();
    let Some(node) = txn.cluster().nodes.get(name).filter(|n| !n.is_lost()) else {
        return;
    };
    let node = NodeRecord {
        sight: Sight::Awaited,
        ..NodeRecord::clone(node)
    };
    node::put(txn, node);
    let waited = Span::default();
    set_state(txn, name, NodeState::Lost { since, waited });
    let node = txn.cluster().nodes.get(name);
    if node.is_some_and(|n| n.is_removed()) {
        node::forget_instances(txn, name);
    }
}

/// Notes for how long a node has been lost, if that ends a wait for something on it.
pub fn lost_for(txn: &mut Transaction, name: &NodeName, waited: Span) {
    let cluster = txn.cluster();
    let Some(node) = cluster.nodes.get(name).cloned() else {
        return;
    };
    let NodeState::Lost {
        since,
        waited: before,
    } = node.state
    else {
        return;
    };
    if !lease::passes(cluster, name, before, waited) {
        return;
    }
    let removed = node.is_removed();
    let node = NodeRecord {
        state: NodeState::Lost { since, waited },
        ..NodeRecord::clone(&node)
    };
    node::put(txn, node);
    if removed {
        node::forget_instances(txn, name);
    }
}

/// Stops to replace what is on lost nodes, or goes on with it, when so many nodes are dark.
pub fn judge_darkness(txn: &mut Transaction, dark: usize) {
    let cluster = txn.cluster();
    let all = cluster.nodes.values().filter(|n| !n.is_removed()).count();
    let lost = cluster.nodes.values().filter(|n| n.is_lost()).count();
    let (severity, reason, message, evictions) =
        match (cluster.record.evictions, lease::may_evict(dark, all)) {
            // As long as no node is lost there is nothing to replace.
            (Evictions::Allowed, false) if lost > 0 => (
                Severity::Warning,
                "EvictionsStopped",
                format!(
                    "{dark} of {all} nodes are not heard from: that looks like a link, and \
                     nothing on them is replaced"
                ),
                Evictions::Stopped { since: txn.now() },
            ),
            (Evictions::Stopped { .. }, true) => (
                Severity::Normal,
                "EvictionsResumed",
                format!("{dark} of {all} nodes are not heard from: what is on them is replaced"),
                Evictions::Allowed,
            ),
            (Evictions::Allowed, _) | (Evictions::Stopped { .. }, false) => return,
        };
    txn.event(Subject::Cluster, severity, reason, message);
    let record = ClusterRecord {
        evictions,
        ..ClusterRecord::clone(&txn.cluster().record)
    };
    txn.put(Change::Cluster(Arc::new(record)));
}

/// Its agent tells everything: what is written down of its instances counts again.
pub(super) fn clear(txn: &mut Transaction, name: &NodeName) {
    let nodes = &txn.cluster().nodes;
    let node = nodes.get(name).filter(|n| n.sight == Sight::Awaited);
    if let Some(node) = node {
        let node = NodeRecord {
            sight: Sight::Clear,
            ..NodeRecord::clone(node)
        };
        node::put(txn, node);
    }
}
