//! Schedules: they make jobs when they are due.
//!
//! Each due moment is dealt with once: what is due at [`ScheduleRecord::since`] and before counts
//! for nothing any more. So a clock that is put back makes nothing run twice, and of what was due
//! while the server was away only the last is made up for.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use windlass_api::{
    event::{Severity, Subject},
    ids::{Uid, WorkloadKey},
    resource::{JobState, Manifest},
    spec::{Concurrency, CronJobSpec, JobHistory, JobSpec, Kind, WorkloadSpec},
};

use super::moves::Moves;
use crate::{
    cluster::Cluster,
    command::create,
    ownership::{active_jobs, delete, derived_name, ended_jobs},
    record::{Change, ScheduleRecord, Suspension, WorkloadRecord},
    transaction::Transaction,
};

#[cfg(test)]
mod tests;

/// How many missed moments are counted, and how many are told of as "more than". A schedule of
/// every minute reaches it within a day, and counting further would only take time.
const COUNTED_MAX: usize = 1_000;

/// Makes the job that is due, and forgets those that are over.
pub(super) fn advance(txn: &mut Transaction, workload: &WorkloadRecord) {
    let WorkloadSpec::CronJob(spec) = &workload.manifest.spec else {
        return;
    };
    let key = workload.manifest.key();
    let record = follow(txn, workload, spec);
    if record.suspended == Suspension::Active
        && let Some(due) = Due::find(spec, record.since, txn.now())
    {
        start(txn, workload, spec, &record, &due);
    }
    forget_jobs(txn, &key, &spec.history);
}

/// When to look at a schedule again. It has no instances of its own.
pub(super) fn moves(cluster: &Cluster, workload: &WorkloadRecord, _: Timestamp) -> Moves {
    let mut moves = Moves::default();
    next(cluster, workload)
        .into_iter()
        .for_each(|at| moves.wake_at(at));
    moves
}

/// When a schedule is next due; never, while it is suspended.
pub(super) fn next(cluster: &Cluster, workload: &WorkloadRecord) -> Option<Timestamp> {
    let WorkloadSpec::CronJob(spec) = &workload.manifest.spec else {
        return None;
    };
    if spec.suspend {
        return None;
    }
    let record = cluster.schedules.get(&workload.manifest.key());
    let since = record.map_or(workload.meta.created_at, |record| record.since);
    spec.schedule.next(since, spec.time_zone.rules())
}

/// What is written down about a schedule, brought up to date with what its user wrote. A schedule
/// that is new, changed or no longer suspended counts from now on.
fn follow(txn: &mut Transaction, workload: &WorkloadRecord, spec: &CronJobSpec) -> ScheduleRecord {
    let key = workload.manifest.key();
    let now = txn.now();
    let suspended = if spec.suspend {
        Suspension::Suspended
    } else {
        Suspension::Active
    };
    let known = txn.cluster().schedules.get(&key).cloned();
    let same = |known: &ScheduleRecord| {
        known.schedule == spec.schedule && known.time_zone == spec.time_zone
    };
    let (since, last) = match &known {
        None => (workload.meta.created_at, None),
        Some(known) if !same(known) => (now, known.last),
        Some(known) => match (known.suspended, suspended) {
            (Suspension::Suspended, Suspension::Active) => (now, known.last),
            _ => (known.since, known.last),
        },
    };
    let record = ScheduleRecord {
        schedule: spec.schedule.clone(),
        time_zone: spec.time_zone.clone(),
        suspended,
        since,
        last,
    };
    let before = known.as_ref().map_or(Suspension::Active, |k| k.suspended);
    match (before, suspended) {
        (Suspension::Active, Suspension::Suspended) => {
            let message = "no jobs are made, and what is due meanwhile is left out";
            event(txn, &key, Severity::Normal, "Suspended", message);
        }
        (Suspension::Suspended, Suspension::Active) => {
            let message = "jobs are made again, from now on";
            event(txn, &key, Severity::Normal, "Resumed", message);
        }
        (Suspension::Active, Suspension::Active)
        | (Suspension::Suspended, Suspension::Suspended) => {}
    }
    if known.as_deref() != Some(&record) {
        put(txn, &key, record.clone());
    }
    record
}

/// What was due and is not dealt with.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// The last moment.
    at: Timestamp,
    /// How many there were before it; at most [`COUNTED_MAX`] of them are counted.
    missed: usize,
}

impl Due {
    fn find(spec: &CronJobSpec, since: Timestamp, now: Timestamp) -> Option<Self> {
        let next = |after| {
            let next = spec.schedule.next(after, spec.time_zone.rules());
            next.filter(|at| *at <= now)
        };
        let mut at = next(since)?;
        let mut missed = 0;
        while let Some(later) = next(at) {
            if missed == COUNTED_MAX {
                at = last(next, at, now);
                break;
            }
            at = later;
            missed += 1;
        }
        Some(Self { at, missed })
    }
}

/// The last due moment, which is this one or a later one. It is looked for in ever longer windows
/// that end now: the first that is not empty has it, and not many others.
fn last(
    next: impl Fn(Timestamp) -> Option<Timestamp>,
    known: Timestamp,
    now: Timestamp,
) -> Timestamp {
    let mut window = SignedDuration::from_mins(1);
    let mut at = known;
    while let Some(start) = now.checked_sub(window).ok().filter(|start| *start > known) {
        if let Some(inside) = next(start) {
            at = inside;
            break;
        }
        window *= 2;
    }
    while let Some(later) = next(at) {
        at = later;
    }
    at
}

/// Makes the job for what is due, unless it is too late or the one before still runs.
fn start(
    txn: &mut Transaction,
    workload: &WorkloadRecord,
    spec: &CronJobSpec,
    record: &ScheduleRecord,
    due: &Due,
) {
    let key = workload.manifest.key();
    let mut record = ScheduleRecord {
        since: due.at,
        ..record.clone()
    };
    let waited = txn.now().duration_since(due.at);
    if spec
        .starting_deadline
        .is_some_and(|deadline| waited > deadline.as_signed())
    {
        let message = format!(
            "{} were missed, the last at {}: later than `startingDeadline` allows",
            count(due.missed + 1),
            due.at
        );
        event(txn, &key, Severity::Warning, "Missed", message);
    } else {
        if due.missed > 0 {
            let message = format!(
                "{} before {} were missed: only this last one is made up for",
                count(due.missed),
                due.at
            );
            event(txn, &key, Severity::Warning, "Missed", message);
        }
        if make_room(txn, &key, spec.concurrency, due.at) == Room::Made
            && make_job(txn, workload, spec, due.at) == Outcome::Made
        {
            record.last = Some(due.at);
        }
    }
    put(txn, &key, record);
}

/// How many moments, for people.
fn count(moments: usize) -> String {
    match moments {
        1 => "1 due time".to_owned(),
        n if n >= COUNTED_MAX => format!("more than {} due times", COUNTED_MAX - 1),
        n => format!("{n} due times"),
    }
}

/// Whether another job of a schedule may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Made,
    Taken,
}

fn make_room(
    txn: &mut Transaction,
    key: &WorkloadKey,
    concurrency: Concurrency,
    due: Timestamp,
) -> Room {
    let active: Vec<WorkloadKey> = active_jobs(txn.cluster(), key).cloned().collect();
    let Some(first) = active.first() else {
        return Room::Made;
    };
    match concurrency {
        Concurrency::Allow => Room::Made,
        Concurrency::Forbid => {
            let message = format!(
                "what was due at {due} is left out, since {} still runs",
                first.name
            );
            event(txn, key, Severity::Warning, "Skipped", message);
            Room::Taken
        }
        Concurrency::Replace => {
            for job in &active {
                delete(txn, job, "the next one is due");
                let message = format!("{} still ran when the next one was due", job.name);
                event(txn, key, Severity::Warning, "Replaced", message);
            }
            Room::Made
        }
    }
}

/// Whether a job was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Made,
    NameTaken,
}

fn make_job(
    txn: &mut Transaction,
    workload: &WorkloadRecord,
    spec: &CronJobSpec,
    due: Timestamp,
) -> Outcome {
    let key = workload.manifest.key();
    // Minutes are what a schedule tells apart, so that no moment has two names.
    let minute = due.as_second().div_euclid(60);
    let name = derived_name(&key.name, &minute.to_string());
    let manifest = Manifest {
        kind: Kind::Job,
        name: name.clone(),
        namespace: key.namespace.clone(),
        labels: workload.manifest.labels.clone(),
        spec: WorkloadSpec::Job(JobSpec::from(spec)),
    };
    let job = manifest.key();
    if txn.cluster().workloads.contains_key(&job) {
        let message =
            format!("what was due at {due} is left out, since there is a workload {name}");
        event(txn, &key, Severity::Warning, "Skipped", message);
        return Outcome::NameTaken;
    }
    let uid = uid_of(workload.meta.uid, minute);
    create(txn, &job, &manifest, uid, Some(key.name.clone()));
    let message = format!("{name} was made for {due}");
    event(txn, &key, Severity::Normal, "Scheduled", message);
    Outcome::Made
}

/// The identity of the job for one due minute. Nothing here is random, so it follows from that of
/// the schedule, whose random bits it keeps apart from all others.
fn uid_of(owner: Uid, minute: i64) -> Uid {
    // The version and the variant stand in front of these 62 bits.
    let minute = u128::from(minute.unsigned_abs()) & ((1 << 62) - 1);
    Uid(Uuid::from_u128(owner.0.as_u128() ^ minute))
}

/// Deletes all but the newest of the jobs that have ended.
fn forget_jobs(txn: &mut Transaction, key: &WorkloadKey, history: &JobHistory) {
    let (mut completed, mut failed) = (history.completed, history.failed);
    let mut old = Vec::new();
    for (job, state) in ended_jobs(txn.cluster(), key) {
        let left = match state {
            JobState::Running => continue,
            JobState::Completed { .. } => &mut completed,
            JobState::Failed { .. } => &mut failed,
        };
        match left.checked_sub(1) {
            Some(less) => *left = less,
            None => old.push(job.clone()),
        }
    }
    for job in old {
        delete(txn, &job, "newer ones are kept, as `history` says");
    }
}

fn put(txn: &mut Transaction, key: &WorkloadKey, record: ScheduleRecord) {
    txn.put(Change::Schedule(key.clone(), Some(Arc::new(record))));
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
