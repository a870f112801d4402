//! How far a job is, and what a schedule does.

use windlass_api::{
    ids::{Slot, WorkloadName},
    resource::{
        Goal, IndexStatus, JOB_INDICES_MAX, JobState, JobStatus, ScheduleStatus, WorkloadStatus,
    },
    spec::JobSpec,
};

use crate::{
    cluster::Cluster,
    ownership::active_jobs,
    plan,
    record::{IndexRecord, IndexState, WorkloadRecord},
};

/// How far a job is. Its instances are `wanted` while an index is to be completed.
pub(super) fn job(cluster: &Cluster, record: &WorkloadRecord, spec: &JobSpec) -> WorkloadStatus {
    let key = record.manifest.key();
    let job = cluster.jobs.get(&key);
    let state = job.map_or(JobState::Running, |job| job.state.clone());
    let (mut completed, mut given_up, mut failed) = (0_u32, 0_u32, 0_u32);
    for index in cluster.indices_of(&key) {
        failed = failed.saturating_add(index.failures);
        completed += u32::from(index.state == IndexState::Completed);
        given_up += u32::from(index.state == IndexState::GivenUp);
    }
    let live: Vec<_> = cluster
        .instances_of(&key)
        .filter(|i| i.goal != Goal::Stop && !i.has_ended() && i.revision == record.revision)
        .collect();
    let active = live.iter().filter(|i| i.node.is_some()).count();
    let seen = live.iter().filter(|i| !cluster.is_out_of_sight(i));
    let ready = count(seen.clone().filter(|i| i.serves()).count());
    let left = spec.completions.saturating_sub(completed + given_up);
    let ended = state.finished_at().is_some();
    WorkloadStatus {
        revision: record.revision,
        wanted: if ended { 0 } else { left.min(spec.parallelism) },
        running: count(seen.filter(|i| i.status.phase.is_running()).count()),
        ready,
        updated: ready,
        settled: ended,
        reasons: if ended {
            Vec::new()
        } else {
            super::workload::reasons(cluster, record)
        },
        job: Some(JobStatus {
            active: count(active),
            succeeded: completed,
            failed,
            completions: spec.completions,
            started_at: job.map_or(record.meta.created_at, |job| job.started_at),
            indices: indices(cluster, record),
            state,
        }),
        ..WorkloadStatus::default()
    }
}

/// How the indices ended: those that have not completed first, if not all can be told of, since
/// they say why the job failed.
fn indices(cluster: &Cluster, record: &WorkloadRecord) -> Vec<IndexStatus> {
    let key = record.manifest.key();
    let status = |index: &IndexRecord| {
        let exit = index.exit.as_ref()?;
        Some(IndexStatus {
            index: index.key.index,
            code: exit.code,
            finished_at: exit.finished_at,
            failures: index.failures,
            completed: index.state == IndexState::Completed,
        })
    };
    let mut all: Vec<_> = cluster.indices_of(&key).filter_map(|i| status(i)).collect();
    all.sort_by_key(|index| index.completed);
    all.truncate(JOB_INDICES_MAX);
    all.sort_by_key(|index| -> Slot { index.index });
    all
}

/// What a schedule did last, and does next. It has no instances that it could wait for.
pub(super) fn schedule(cluster: &Cluster, record: &WorkloadRecord) -> WorkloadStatus {
    let key = record.manifest.key();
    let active = active_jobs(cluster, &key);
    let active: Vec<WorkloadName> = active.map(|job| job.name.clone()).collect();
    WorkloadStatus {
        revision: record.revision,
        settled: true,
        schedule: Some(ScheduleStatus {
            last: cluster.schedules.get(&key).and_then(|s| s.last),
            next: plan::next_due(cluster, record),
            active,
        }),
        ..WorkloadStatus::default()
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
