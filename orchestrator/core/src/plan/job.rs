//! Jobs: every index is completed once, by instances that run until they end.
//!
//! `advance` takes the reports of instances into account, each once, and decides whether the job
//! has ended. `moves` says which instances are missing or too many.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use windlass_api::{
    duration::Span,
    event::{Severity, Subject},
    ids::WorkloadKey,
    resource::JobState,
    spec::{JobSpec, WorkloadSpec},
};

use super::moves::Moves;
use crate::{
    cluster::Cluster,
    dependency, ownership,
    record::{Change, JobRecord, WorkloadRecord},
    transaction::Transaction,
};

mod account;
mod roster;
#[cfg(test)]
pub(in crate::plan) mod tests;

/// How many ended instances of a job are kept for their logs. Their results are in the records;
/// ten tell how the last attempts went, and each costs a stopped container on its node.
const JOB_ENDED_KEPT: usize = 10;
/// How long an index waits after its first failure before it is tried again. It doubles with each
/// failure, as in Kubernetes, whose users know it.
const BACKOFF_MIN: SignedDuration = SignedDuration::from_secs(10);
/// The longest wait: what was down for longer is found up again within this time, and no schedule
/// of a day is upset by it.
const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(300);

/// Notes how far a job is.
pub(super) fn advance(txn: &mut Transaction, workload: &WorkloadRecord) {
    let WorkloadSpec::Job(spec) = &workload.manifest.spec else {
        return;
    };
    let key = workload.manifest.key();
    let Some(job) = begun(txn, workload) else {
        return;
    };
    if job.state.finished_at().is_some() {
        expire(txn, &key, spec, &job);
        return;
    }
    account::account(txn, workload, spec);
    if let Some(state) = account::conclusion(txn.cluster(), &key, spec, &job, txn.now()) {
        end(txn, &key, &job, state);
    }
}

/// What is to be done for a job.
pub(super) fn moves(cluster: &Cluster, workload: &WorkloadRecord, now: Timestamp) -> Moves {
    let WorkloadSpec::Job(spec) = &workload.manifest.spec else {
        return Moves::default();
    };
    let job = cluster.jobs.get(&workload.manifest.key());
    let mut moves = roster::moves(cluster, workload, spec, now);
    if let Some(job) = job {
        let wake = match job.state.finished_at() {
            None => after(job.started_at, spec.active_deadline),
            Some(finished_at) => after(finished_at, spec.ttl_after_finished),
        };
        wake.into_iter().for_each(|at| moves.wake_at(at));
    }
    moves
}

/// What is written down about a job, once what it depends on is there.
fn begun(txn: &mut Transaction, workload: &WorkloadRecord) -> Option<Arc<JobRecord>> {
    let key = workload.manifest.key();
    if let Some(job) = txn.cluster().jobs.get(&key) {
        return Some(Arc::clone(job));
    }
    if dependency::waits_for(txn.cluster(), workload).is_some() {
        return None;
    }
    let job = Arc::new(JobRecord {
        state: JobState::Running,
        started_at: txn.now(),
    });
    txn.put(Change::Job(key.clone(), Some(Arc::clone(&job))));
    event(txn, &key, Severity::Normal, "Started", "the job begins");
    Some(job)
}

fn end(txn: &mut Transaction, key: &WorkloadKey, job: &JobRecord, state: JobState) {
    let (severity, message) = match &state {
        JobState::Running => return,
        JobState::Completed { .. } => (Severity::Normal, "every index has completed".to_owned()),
        JobState::Failed { reason, .. } => (Severity::Warning, reason.clone()),
    };
    let reason = state.name();
    let job = JobRecord {
        state,
        ..job.clone()
    };
    txn.put(Change::Job(key.clone(), Some(Arc::new(job))));
    event(txn, key, severity, reason, message);
}

/// Deletes a job that has ended long enough ago.
fn expire(txn: &mut Transaction, key: &WorkloadKey, spec: &JobSpec, job: &JobRecord) {
    let finished_at = job.state.finished_at();
    let expires = finished_at.and_then(|at| after(at, spec.ttl_after_finished));
    if expires.is_some_and(|at| at <= txn.now()) {
        ownership::delete(txn, key, "it ended longer ago than `ttlAfterFinished`");
    }
}

/// The moment that comes `span` after another one.
fn after(at: Timestamp, span: Option<Span>) -> Option<Timestamp> {
    at.checked_add(span?.as_std()).ok()
}

fn event(
    txn: &mut Transaction,
    key: &WorkloadKey,
    severity: Severity,
    reason: &'static str,
    message: impl Into<String>,
) {
    txn.event(Subject::workload(key), severity, reason, message);
}
