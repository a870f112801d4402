//! How many instances of a workload are wanted, and how many there are.

use windlass_api::{resource::Goal, spec::WorkloadSpec};

use crate::{cluster::Cluster, plan, record::WorkloadRecord};

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
    /// How many are there and are not to stay: of another revision, to leave their node, or on
    /// their way out.
    pub left_over: u32,
}

impl Tally {
    /// Counts the instances that can be seen. Nobody knows about those on lost nodes.
    #[must_use]
    pub fn of(cluster: &Cluster, workload: &WorkloadRecord) -> Self {
        let mut tally = Self {
            wanted: wanted(cluster, workload),
            ..Self::default()
        };
        let key = workload.manifest.key();
        let seen = cluster.instances_of(&key);
        for instance in seen.filter(|i| !cluster.is_out_of_sight(i)) {
            let current = u32::from(instance.revision == workload.revision);
            if instance.goal != Goal::Run {
                tally.left_over += 1;
                continue;
            }
            let serves = u32::from(instance.serves());
            tally.running += u32::from(instance.status.phase.is_running());
            tally.ready += serves;
            tally.updated += serves * current;
            let moves = u32::from(cluster.leaving(instance).is_some());
            tally.moving += moves;
            tally.left_over += (1 - current).max(moves);
        }
        tally
    }
}

fn wanted(cluster: &Cluster, workload: &WorkloadRecord) -> u32 {
    match &workload.manifest.spec {
        WorkloadSpec::Service(spec) => spec.replicas,
        WorkloadSpec::Daemon(_) => plan::daemon_nodes(cluster, workload),
        WorkloadSpec::Job(spec) => spec.completions.min(spec.parallelism),
        WorkloadSpec::CronJob(_) => 0,
    }
}
