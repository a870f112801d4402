//! Daemons: one instance on every node that they may run on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use windlass_api::{
    ids::{NodeName, Slot},
    resource::{Goal, Scheduling},
    spec::Placement,
    status::NodeState,
};

use super::{
    fleet::{Fleet, Rule, Seat},
    moves::Moves,
    replace,
};
use crate::{
    cluster::Cluster,
    record::{NodeRecord, WorkloadRecord},
};

/// A daemon, node by node.
pub(super) fn fleet<'a>(
    cluster: &'a Cluster,
    workload: &'a WorkloadRecord,
    now: Timestamp,
) -> Fleet<'a> {
    Fleet::new(cluster, workload, seats(cluster, workload), now)
}

/// What is to be done for a daemon.
pub(super) fn moves(cluster: &Cluster, workload: &WorkloadRecord, now: Timestamp) -> Moves {
    let fleet = fleet(cluster, workload, now);
    replace::moves(&fleet, "the daemon may no longer run on the node")
}

/// The nodes on each of which one instance of a daemon is wanted, and what may happen to it.
pub(super) fn nodes(cluster: &Cluster, workload: &WorkloadRecord) -> BTreeMap<NodeName, Rule> {
    let seats = seats(cluster, workload).into_values();
    seats
        .filter_map(|seat| Some((seat.pinned?, seat.rule)))
        .collect()
}

/// The slots of a daemon. The instances remember which slot belongs to which node; a node that
/// comes is given the smallest that is free.
fn seats(cluster: &Cluster, workload: &WorkloadRecord) -> BTreeMap<Slot, Seat> {
    let key = workload.manifest.key();
    let mut known: BTreeMap<&NodeName, Slot> = BTreeMap::new();
    // Those that something runs on, and that will not have it removed.
    let mut occupied: BTreeSet<&NodeName> = BTreeSet::new();
    let mut used: BTreeSet<Slot> = BTreeSet::new();
    for instance in cluster.instances_of(&key) {
        used.insert(instance.slot);
        if let Some(node) = instance
            .pinned
            .as_ref()
            .filter(|_| instance.goal != Goal::Stop)
        {
            let slot = known.entry(node).or_insert(instance.slot);
            *slot = (*slot).min(instance.slot);
            if instance.node.is_some() {
                occupied.insert(node);
            }
        }
    }
    let placement = workload.manifest.spec.instance().placement;
    let mut free = (0..).map(Slot).filter(|slot| !used.contains(slot));
    let mut seats = BTreeMap::new();
    for node in cluster.nodes.values().filter(|n| may_run(placement, n)) {
        let rule = match rule(node) {
            Rule::Fill => Rule::Fill,
            // What is not there is not added.
            Rule::Keep | Rule::Absent if !occupied.contains(&node.name) => continue,
            rule @ (Rule::Keep | Rule::Absent) => rule,
        };
        let slot = known.get(&node.name).copied().or_else(|| free.next());
        let pinned = Some(node.name.clone());
        if let Some(slot) = slot {
            seats.insert(slot, Seat { pinned, rule });
        }
    }
    seats
}

/// Whether a daemon may run on the node: what is free there does not matter.
fn may_run(placement: &Placement, node: &NodeRecord) -> bool {
    let tolerated = |taint| placement.tolerate.iter().any(|t| t.covers(taint));
    let met = placement.require.iter().all(|r| r.is_met_by(node.facts()));
    met && !node.is_removed() && node.taints.iter().all(tolerated)
}

/// What may happen on the node for now.
fn rule(node: &NodeRecord) -> Rule {
    if node.is_out_of_sight() {
        return Rule::Absent;
    }
    match (&node.state, node.scheduling) {
        (NodeState::Lost { .. }, _) => Rule::Absent,
        (NodeState::RuntimeUnhealthy { .. }, _)
        | (
            NodeState::Ready,
            Scheduling::Cordoned | Scheduling::Draining { .. } | Scheduling::Removed { .. },
        ) => Rule::Keep,
        (NodeState::Ready, Scheduling::Enabled) => Rule::Fill,
    }
}
