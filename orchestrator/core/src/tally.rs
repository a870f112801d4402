//! How many instances of a workload are wanted, and how many there are.

use std::collections::BTreeMap;

use windlass_api::{ids::NodeName, resource::Goal, spec::WorkloadSpec, status::NodeState};

use crate::{
    cluster::Cluster,
    plan::{self, Rule},
    record::{InstanceRecord, WorkloadRecord},
};

/// How many instances of a workload are wanted, and how many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many are wanted.
    pub wanted: u32,
    /// How many run, of any revision.
    pub running: u32,
    /// How many serve, of any revision.
    pub ready: u32,
    /// How many of the wanted revision serve.
    pub updated: u32,
    /// How many are to leave their node.
    pub moving: u32,
    /// How many of the wanted ones are on lost nodes and are replaced nowhere else: a daemon's.
    pub absent: u32,
    /// How many of the wanted ones something can be done about: not those of a daemon on nodes that
    /// keep what they have.
    awaited: u32,
    /// How many of these are as they should be.
    in_order: u32,
    /// How many others there are that something can be done about: not ready, of another revision,
    /// to leave their node, or on their way out.
    others: u32,
}

impl Tally {
    /// Counts the instances that can be seen. Nobody knows about those on lost nodes.
    #[must_use]
    pub fn of(cluster: &Cluster, workload: &WorkloadRecord) -> Self {
        let rules = match &workload.manifest.spec {
            WorkloadSpec::Daemon(_) => plan::daemon_nodes(cluster, workload),
            WorkloadSpec::Service(_) | WorkloadSpec::Job(_) | WorkloadSpec::CronJob(_) => {
                BTreeMap::new()
            }
        };
        let mut tally = Self::wanted(workload, &rules);
        let key = workload.manifest.key();
        let seen = cluster.instances_of(&key);
        for instance in seen.filter(|i| !cluster.is_out_of_sight(i)) {
            let rule = instance.pinned.as_ref().and_then(|node| rules.get(node));
            let awaited = u32::from(rule.is_none_or(|rule| *rule == Rule::Fill));
            if instance.goal != Goal::Run {
                tally.others += awaited;
                continue;
            }
            let current = instance.revision == workload.revision;
            let serves = instance.serves();
            let moves = cluster.leaving(instance).is_some();
            tally.running += u32::from(instance.status.phase.is_running());
            tally.ready += u32::from(serves);
            tally.updated += u32::from(serves && current);
            tally.moving += u32::from(moves);
            if serves && current && !moves && has_answering_engine(cluster, instance) {
                tally.in_order += awaited;
            } else {
                tally.others += awaited;
            }
        }
        tally
    }

    fn wanted(workload: &WorkloadRecord, rules: &BTreeMap<NodeName, Rule>) -> Self {
        let wanted = match &workload.manifest.spec {
            WorkloadSpec::Service(spec) => spec.replicas,
            WorkloadSpec::Daemon(_) => number(rules.len()),
            WorkloadSpec::Job(spec) => spec.completions.min(spec.parallelism),
            WorkloadSpec::CronJob(_) => 0,
        };
        let of_rule = |wanted: Rule| number(rules.values().filter(|rule| **rule == wanted).count());
        let absent = of_rule(Rule::Absent);
        Self {
            wanted,
            absent,
            awaited: wanted - absent - of_rule(Rule::Keep),
            ..Self::default()
        }
    }

    /// Whether all that something can be done about is as it should be, and nothing else is there.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.in_order == self.awaited && self.others == 0
    }
}

/// Whether what is known of an instance is still true.
fn has_answering_engine(cluster: &Cluster, instance: &InstanceRecord) -> bool {
    let node = instance
        .node
        .as_ref()
        .and_then(|node| cluster.nodes.get(node));
    !node.is_some_and(|node| matches!(node.state, NodeState::RuntimeUnhealthy { .. }))
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
