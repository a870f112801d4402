//! Writes down how far the rollout of a workload is, and what follows when it fails.

use std::{collections::BTreeMap, sync::Arc};

use windlass_api::{
    event::{Severity, Subject},
    ids::{RevisionNumber, Slot},
    resource::RolloutState,
    spec::OnFailure,
};

use super::fleet::{Fleet, Survey};
use crate::{
    cluster::Cluster,
    dependency,
    record::{Canaries, Change, Gate, RevisionKey, RevisionRecord, RolloutRecord, WorkloadRecord},
    transaction::Transaction,
};

/// Notes how far the rollout of a workload is. `fleet` looks at the workload as it is.
pub(super) fn advance(
    txn: &mut Transaction,
    workload: &WorkloadRecord,
    fleet: for<'a> fn(&'a Cluster, &'a WorkloadRecord, jiff::Timestamp) -> Fleet<'a>,
) {
    let Some(rollout) = workload.rollout.as_ref().filter(|r| !r.state.is_over()) else {
        return;
    };
    let mut next = rollout.clone();
    let gate = pass_gate(txn, workload, &mut next);
    let (survey, on_failure) = {
        let fleet = fleet(txn.cluster(), workload, txn.now());
        (fleet.survey(&next), fleet.bounds.on_failure)
    };
    // Of what no instance is wanted, nothing waits.
    if gate == Gate::Closed && !survey.complete {
        put(txn, workload, next);
        return;
    }
    if next.progress < survey.progress {
        next.progress = survey.progress;
        next.progressed_at = txn.now();
    }
    match &rollout.state {
        RolloutState::Progressing | RolloutState::Paused { .. }
            if survey.complete && rollout.canaries == Canaries::Promoted =>
        {
            complete(txn, workload, next);
        }
        RolloutState::Progressing | RolloutState::Canary => {
            judge(txn, workload, next, &survey, on_failure);
        }
        RolloutState::RollingBack { reason } if survey.complete => {
            next.state = RolloutState::RolledBack {
                reason: reason.clone(),
            };
            put(txn, workload, next);
            let message = format!("revision {} runs again", workload.revision);
            event(txn, workload, Severity::Normal, "RolledBack", message);
        }
        // How often the last good revision fails does not matter: there is nothing better.
        RolloutState::RollingBack { .. } => put(txn, workload, next),
        RolloutState::Paused { .. } | RolloutState::RolledBack { .. } | RolloutState::Completed => {
        }
    }
}

/// Whether the workload waits for others. The time until it need not any more is not its own.
fn pass_gate(txn: &Transaction, workload: &WorkloadRecord, next: &mut RolloutRecord) -> Gate {
    let gate = match dependency::waits_for(txn.cluster(), workload) {
        Some(_) => Gate::Closed,
        None => Gate::Open,
    };
    if next.gate != gate {
        next.gate = gate;
        next.progressed_at = txn.now();
    }
    gate
}

fn complete(txn: &mut Transaction, workload: &WorkloadRecord, mut next: RolloutRecord) {
    next.state = RolloutState::Completed;
    next.failure = None;
    next.passed_over.clear();
    let mut record = workload.clone();
    // Where nothing runs, nothing was proved.
    if next.progress.available > 0 {
        record.last_good = Some(workload.revision);
        note_good(txn, workload);
    }
    let message = format!("all instances are of revision {}", workload.revision);
    record.rollout = Some(next);
    write(txn, record);
    event(txn, workload, Severity::Normal, "RolledOut", message);
}

fn note_good(txn: &mut Transaction, workload: &WorkloadRecord) {
    let key = RevisionKey {
        workload: workload.manifest.key(),
        number: workload.revision,
    };
    let revision = txn.cluster().revisions.get(&key).cloned();
    if let Some(revision) = revision.filter(|r| r.good_since.is_none()) {
        let revision = RevisionRecord {
            good_since: Some(txn.now()),
            ..RevisionRecord::clone(&revision)
        };
        txn.put(Change::Revision(key, Some(Arc::new(revision))));
    }
}

/// Decides what follows from what has failed, if anything has.
fn judge(
    txn: &mut Transaction,
    workload: &WorkloadRecord,
    mut next: RolloutRecord,
    survey: &Survey,
    on_failure: OnFailure,
) {
    let Some(reason) = survey.failed.values().next().cloned() else {
        put(txn, workload, next);
        return;
    };
    match (on_failure, next.from) {
        (OnFailure::Rollback, Some(good)) => roll_back(txn, workload, next, good, reason),
        // There is nothing to go back to: it is tried on, and says why it does not get further.
        (OnFailure::Rollback, None) => {
            if next.failure.is_none() {
                let follows = "no revision before it was good, so it is tried on";
                let message = told(&next, &reason, follows);
                next.failure = Some(reason);
                put(txn, workload, next);
                event(txn, workload, Severity::Warning, "RolloutFailing", message);
            } else {
                put(txn, workload, next);
            }
        }
        (OnFailure::Pause, _) => {
            next.state = RolloutState::Paused {
                reason: reason.clone(),
            };
            let message = told(&next, &reason, "nothing goes on by itself");
            put(txn, workload, next);
            event(txn, workload, Severity::Warning, "RolloutPaused", message);
        }
        (OnFailure::Continue, _) => pass_over(txn, workload, next, &survey.failed),
    }
}

fn roll_back(
    txn: &mut Transaction,
    workload: &WorkloadRecord,
    next: RolloutRecord,
    good: RevisionNumber,
    reason: String,
) {
    let message = told(&next, &reason, &format!("going back to revision {good}"));
    let mut record = workload.clone();
    record.rollout = Some(next);
    record.roll_back(good, reason, txn.now());
    write(txn, record);
    event(txn, workload, Severity::Warning, "RolloutFailed", message);
}

/// Goes on with other slots than those that have failed.
fn pass_over(
    txn: &mut Transaction,
    workload: &WorkloadRecord,
    mut next: RolloutRecord,
    failed: &BTreeMap<Slot, String>,
) {
    let new = failed
        .iter()
        .find(|(slot, _)| !next.passed_over.contains(*slot))
        .map(|(_, reason)| reason.clone());
    let Some(reason) = new else {
        put(txn, workload, next);
        return;
    };
    next.passed_over.extend(failed.keys());
    next.progressed_at = txn.now();
    let follows = match next.canaries {
        Canaries::Awaited => "the canaries are tried on",
        Canaries::Promoted => "other slots are tried first",
    };
    let message = told(&next, &reason, follows);
    next.failure = Some(reason);
    put(txn, workload, next);
    event(txn, workload, Severity::Warning, "RolloutFailing", message);
}

/// What failed and what follows, and below it the last lines of the log.
fn told(rollout: &RolloutRecord, reason: &str, follows: &str) -> String {
    let (what, log) = reason.split_at(reason.find('\n').unwrap_or(reason.len()));
    format!("revision {}: {what}; {follows}{log}", rollout.to)
}

/// Writes the rollout if it has changed.
fn put(txn: &mut Transaction, workload: &WorkloadRecord, next: RolloutRecord) {
    if workload.rollout.as_ref() != Some(&next) {
        let mut record = workload.clone();
        record.rollout = Some(next);
        write(txn, record);
    }
}

/// Writes the record. Its version stays: that is of what its user wrote.
fn write(txn: &mut Transaction, record: WorkloadRecord) {
    let key = record.manifest.key();
    txn.put(Change::Workload(key, Some(Arc::new(record))));
}

fn event(
    txn: &mut Transaction,
    workload: &WorkloadRecord,
    severity: Severity,
    reason: &'static str,
    message: String,
) {
    let subject = Subject::workload(&workload.manifest.key());
    txn.event(subject, severity, reason, message);
}
