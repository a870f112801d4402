//! Gauges that are counted anew from a snapshot whenever they are asked for.

use std::{collections::BTreeMap, hash::Hash};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use windlass_api::ids::NodeName;
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

/// How many there are of what, by how they are.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Workloads, by whether they are as they should be.
    pub(crate) workloads: Count,
    /// Instances, by what was last seen of them.
    pub(crate) instances: Count,
    /// Nodes, by state.
    pub(crate) nodes: Count,
    /// Nodes, by whether new instances may be placed on them.
    schedulings: Count,
    /// The nodes whose agents keep to an assignment that is not the newest.
    pub(crate) rejecting: Vec<NodeName>,
}

/// How many there are of each name.
pub(crate) type Count = BTreeMap<&'static str, u64>;

impl Census {
    /// Counts everything in `cluster`.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let mut census = Self::default();
        for record in cluster.workloads.values() {
            let settled = view::workload_status(cluster, record).settled;
            let name = if settled { "settled" } else { "unsettled" };
            *census.workloads.entry(name).or_default() += 1;
        }
        for record in cluster.instances.values() {
            let name = record.status.phase.name();
            *census.instances.entry(name).or_default() += 1;
        }
        for record in cluster.nodes.values() {
            *census.nodes.entry(record.state_name()).or_default() += 1;
            let scheduling = record.scheduling.name();
            *census.schedulings.entry(scheduling).or_default() += 1;
            if record.rejects.is_some() {
                census.rejecting.push(record.name.clone());
            }
        }
        census
    }
}

/// The gauges as of `now`.
pub(super) fn take(now: &Now) -> Registry {
    let mut registry = Registry::with_prefix("windlass");
    let cluster = &now.cluster;
    let census = Census::of(cluster);
    registry.register(
        "workloads",
        "Workloads, by whether they are as they should be",
        by(&census.workloads, |state| StateLabels { state }),
    );
    registry.register(
        "instances",
        "Instances, by what was last seen of them",
        by(&census.instances, |phase| PhaseLabels { phase }),
    );
    registry.register(
        "nodes",
        "Nodes, by state",
        by(&census.nodes, |state| StateLabels { state }),
    );
    registry.register(
        "nodes_scheduling",
        "Nodes, by whether new instances may be placed on them",
        by(&census.schedulings, |state| StateLabels { state }),
    );
    let writable = i64::from(now.storage == Storage::Writable);
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
            number(census.rejecting.len()),
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

fn by<L>(count: &Count, labels: impl Fn(&'static str) -> L) -> Family<L, Gauge>
where
    L: Clone + Hash + Eq,
{
    let family: Family<L, Gauge> = Family::default();
    for (name, number) in count {
        let number = i64::try_from(*number).unwrap_or(i64::MAX);
        family.get_or_create(&labels(name)).set(number);
    }
    family
}

fn gauge(value: i64) -> Gauge {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    gauge
}
