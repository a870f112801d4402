//! How a workload stands on each node before more of it is placed.

use jiff::{SignedDuration, Timestamp};
use windlass_api::{
    ids::RevisionNumber,
    resource::Goal,
    status::{Exit, Phase},
};

use super::{
    Group,
    table::{NodeIndex, Table},
};
use crate::{cluster::Cluster, record::InstanceRecord};

/// How long a failed start keeps its workload from preferring the node: as long as an agent waits
/// at most before it tries again.
const FAILURE_RECENT: SignedDuration = SignedDuration::from_secs(300);

/// What a signal of ours leaves behind: 128 + SIGKILL and 128 + SIGTERM.
const STOPPED: [i64; 2] = [137, 143];

/// How a workload stands on one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its instances there, of whatever revision, until they are gone.
    pub(super) instances: u32,
    /// Its instances of the revision that is placed, without those that are to stop. An update
    /// replaces all others, so that only these say how even the copies will be in the end.
    pub(super) staying: u32,
    /// Its instances there that failed recently.
    pub(super) failures: u32,
}

/// How the group's workload stands on each node of the table, with those of its instances that
/// were `placed` on top of the snapshot.
pub(super) fn standings(
    cluster: &Cluster,
    table: &Table,
    group: &Group<'_>,
    placed: &[(RevisionNumber, NodeIndex)],
    now: Timestamp,
) -> Vec<Standing> {
    let mut standings = vec![Standing::default(); table.len()];
    for instance in cluster.instances_of(group.workload) {
        if let Some(node) = instance.node.as_ref().and_then(|name| table.index_of(name)) {
            let stays = instance.goal != Goal::Stop && instance.revision == group.revision;
            let standing = &mut standings[node];
            let there = !instance.has_ended();
            standing.instances += u32::from(there);
            standing.staying += u32::from(there && stays);
            standing.failures += u32::from(failed_recently(instance, now));
        }
    }
    for (revision, node) in placed {
        standings[*node].instances += 1;
        standings[*node].staying += u32::from(*revision == group.revision);
    }
    standings
}

fn failed_recently(instance: &InstanceRecord, now: Timestamp) -> bool {
    match instance.status.phase {
        Phase::BackingOff { .. } | Phase::Failed { .. } => true,
        Phase::Pending { .. }
        | Phase::Assigned
        | Phase::Pulling
        | Phase::Prepared
        | Phase::Starting
        | Phase::Running { .. }
        | Phase::Stopping
        | Phase::Succeeded => instance.status.last_exit.as_ref().is_some_and(|exit| {
            let failed = exit.code != 0 && !was_stopped(instance.goal, exit);
            failed && now.duration_since(exit.finished_at) < FAILURE_RECENT
        }),
    }
}

/// Whether a container ended the way that our own stopping ends one.
fn was_stopped(goal: Goal, exit: &Exit) -> bool {
    goal == Goal::Stop && !exit.oom_killed && STOPPED.contains(&exit.code)
}
