//! How far a workload is.

use std::{cmp::Reverse, collections::BTreeMap};

use windlass_api::{
    resource::{RolloutState, RolloutStatus, Scheduling, WorkloadStatus},
    spec::WorkloadSpec,
    status::{NodeState, Phase},
};

use super::job;

use crate::{
    cluster::Cluster,
    record::{InstanceRecord, NodeRecord, RevisionKey, RolloutRecord, WorkloadRecord},
    rollout::Bounds,
    tally::Tally,
};

/// How far a workload is.
#[must_use]
pub fn workload_status(cluster: &Cluster, record: &WorkloadRecord) -> WorkloadStatus {
    match &record.manifest.spec {
        WorkloadSpec::Job(spec) => return job::job(cluster, record, spec),
        WorkloadSpec::CronJob(_) => return job::schedule(cluster, record),
        WorkloadSpec::Service(_) | WorkloadSpec::Daemon(_) => {}
    }
    let tally = Tally::of(cluster, record);
    let rolls = record.rollout.as_ref().is_some_and(|r| !r.state.is_over());
    WorkloadStatus {
        revision: record.revision,
        wanted: tally.wanted,
        running: tally.running,
        ready: tally.ready,
        updated: tally.updated,
        moving: tally.moving,
        settled: tally.is_in_order() && !rolls,
        reasons: reasons(cluster, record),
        rollout: record
            .rollout
            .as_ref()
            .map(|r| rollout_status(cluster, record, r)),
        ..WorkloadStatus::default()
    }
}

fn rollout_status(
    cluster: &Cluster,
    record: &WorkloadRecord,
    rollout: &RolloutRecord,
) -> RolloutStatus {
    let key = RevisionKey {
        workload: record.manifest.key(),
        number: record.revision,
    };
    let template = cluster.revisions.get(&key).map(|r| &*r.template);
    let bounds = Bounds::of(&record.manifest.spec, template);
    RolloutStatus {
        from: rollout.from,
        to: rollout.to,
        state: rollout.state.clone(),
        failure: rollout.failure.clone(),
        order: bounds.order,
        order_reason: bounds.order_reason,
        started_at: rollout.started_at,
        progressed_at: rollout.progressed_at,
    }
}

/// What is wrong with a workload, the most frequent reason first.
pub(super) fn reasons(cluster: &Cluster, record: &WorkloadRecord) -> Vec<String> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for instance in cluster.instances_of(&record.manifest.key()) {
        if let Some(reason) = trouble(cluster, record, instance) {
            *counts.entry(reason).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(reason, count)| (Reverse(*count), reason.clone()));
    let reasons = counts.into_iter().map(|(reason, count)| {
        if count > 1 {
            format!("{reason} ({count} instances)")
        } else {
            reason
        }
    });
    let held = record.rollout.as_ref().and_then(held);
    held.into_iter().chain(reasons).collect()
}

/// Why a rollout does not go on.
fn held(rollout: &RolloutRecord) -> Option<String> {
    match &rollout.state {
        RolloutState::Paused { reason } => Some(format!("paused: {}", first_line(reason))),
        RolloutState::RollingBack { reason } => Some(format!("going back: {}", first_line(reason))),
        RolloutState::Progressing
        | RolloutState::Canary
        | RolloutState::RolledBack { .. }
        | RolloutState::Completed => None,
    }
}

/// Without the lines of the log that follow.
fn first_line(reason: &str) -> &str {
    reason.lines().next().unwrap_or_default()
}

/// Why an instance is not what it should be, if there is more to say than that it is on its way.
fn trouble(
    cluster: &Cluster,
    record: &WorkloadRecord,
    instance: &InstanceRecord,
) -> Option<String> {
    if instance.has_ended() {
        // Its job has drawn the consequences.
        return None;
    }
    if cluster.is_out_of_sight(instance) {
        return Some(format!("node {} is lost", instance.node.as_ref()?));
    }
    let node = instance
        .node
        .as_ref()
        .and_then(|name| cluster.nodes.get(name));
    if let Some(node) = node
        && let NodeState::RuntimeUnhealthy { reason } = &node.state
    {
        return Some(format!(
            "docker on node {} does not answer: {reason}",
            node.name
        ));
    }
    match &instance.status.phase {
        Phase::Running { .. } if instance.pinned.is_some() => kept(record, instance, node?),
        Phase::Pending { reason } if reason.is_empty() => None,
        phase => phase.reason().map(str::to_owned),
    }
}

/// Why a daemon's instance stays although another revision is wanted.
fn kept(record: &WorkloadRecord, instance: &InstanceRecord, node: &NodeRecord) -> Option<String> {
    let stays = match node.scheduling {
        Scheduling::Enabled | Scheduling::Removed { .. } => return None,
        Scheduling::Cordoned => "is cordoned",
        Scheduling::Draining { .. } => "drains",
    };
    let (node, revision) = (&node.name, instance.revision);
    (revision != record.revision)
        .then(|| format!("node {node} {stays}, and keeps revision {revision}"))
}
