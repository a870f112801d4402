//! Gauges that are counted anew from a snapshot whenever they are asked for.

use std::hash::Hash;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use windlass_core::{cluster::Cluster, view};

use super::Now;
use crate::controller::Storage;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

/// The gauges as of `now`.
pub(super) fn take(now: &Now) -> Registry {
    let mut registry = Registry::with_prefix("windlass");
    let cluster = &now.cluster;
    let workloads = cluster.workloads.values().map(|record| {
        let settled = view::workload_status(cluster, record).settled;
        if settled { "settled" } else { "unsettled" }
    });
    registry.register(
        "workloads",
        "Workloads, by whether they are as they should be",
        by(workloads, |state| StateLabels { state }),
    );
    let instances = cluster
        .instances
        .values()
        .map(|record| record.status.phase.name());
    registry.register("instances", "Instances, by what was last seen of them", {
        by(instances, |phase| PhaseLabels { phase })
    });
    register_nodes(cluster, &mut registry);
    let writable = i64::from(now.storage == Storage::Writable);
    let rejecting = cluster.nodes.values().filter(|n| n.rejects.is_some());
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let version = i64::try_from(cluster.version.0).unwrap_or(i64::MAX);
    for (name, help, value) in [
        (
            "agents_connected",
            "Agents that have a session",
            number(now.agents),
        ),
        ("watches_open", "Watches that are open", number(now.watches)),
        (
            "log_streams_open",
            "Logs that are being read",
            number(now.log_streams),
        ),
        (
            "reach_streams_open",
            "Commands, forwarded connections and copies of files that are open",
            number(now.reach_streams),
        ),
        (
            "nodes_rejecting",
            "Nodes whose agents keep to an assignment that is not the newest",
            number(rejecting.count()),
        ),
        (
            "restore_pending",
            "Whether the state may have gone back and nobody has accepted that: 1, or 0",
            i64::from(cluster.record.awaits_acceptance()),
        ),
        ("state_version", "The version of the state", version),
        (
            "store_writable",
            "Whether the store takes writes: 1, or 0 if the disk is full",
            writable,
        ),
    ] {
        registry.register(name, help, gauge(value));
    }
    registry
}

/// How the nodes are.
fn register_nodes(cluster: &Cluster, registry: &mut Registry) {
    let nodes = cluster.nodes.values().map(|record| record.state_name());
    registry.register(
        "nodes",
        "Nodes, by state",
        by(nodes, |state| StateLabels { state }),
    );
    let schedulings = cluster
        .nodes
        .values()
        .map(|record| record.scheduling.name());
    registry.register(
        "nodes_scheduling",
        "Nodes, by whether new instances may be placed on them",
        by(schedulings, |state| StateLabels { state }),
    );
}

fn by<L>(
    names: impl Iterator<Item = &'static str>,
    labels: impl Fn(&'static str) -> L,
) -> Family<L, Gauge>
where
    L: Clone + Hash + Eq,
{
    let family: Family<L, Gauge> = Family::default();
    for name in names {
        family.get_or_create(&labels(name)).inc();
    }
    family
}

fn gauge(value: i64) -> Gauge {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    gauge
}
