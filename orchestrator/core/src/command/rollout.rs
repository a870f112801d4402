//! What operators ask of the rollout of a workload.

use std::sync::Arc;

use windlass_api::{
    event::Subject,
    ids::{RevisionNumber, Version, WorkloadKey},
    resource::{RolloutAction, RolloutState},
};

use super::{Refusal, check_version, find, new_revision, note, put_record};
use crate::{
    plan::revisions_of,
    record::{Canaries, RevisionKey, RevisionRecord, RolloutRecord, WorkloadRecord},
    rollout::Bounds,
    transaction::Transaction,
};

/// Why an operator's pause holds a rollout, as it is shown.
const PAUSED_BY_OPERATOR: &str = "an operator paused it";

/// Replaces every instance by a fresh one, as an update would. After a rollback, what the user
/// wrote is tried again.
///
/// # Errors
/// If there is no such workload, it changed, or its kind does not roll.
pub fn restart(
    txn: &mut Transaction,
    key: &WorkloadKey,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    let mut record = rolling(txn, key, expected)?;
    record.restarts_asked += 1;
    let failed = record.rollout.as_ref().is_some_and(|r| match r.state {
        RolloutState::RollingBack { .. } | RolloutState::RolledBack { .. } => true,
        RolloutState::Progressing
        | RolloutState::Canary
        | RolloutState::Paused { .. }
        | RolloutState::Completed => false,
    });
    let mut template = match revision(txn, key, record.revision).filter(|_| !failed) {
        Some(wanted) => (*wanted.template).clone(),
        None => record.manifest.spec.template(record.restarts_asked),
    };
    template.restarts_asked = record.restarts_asked;
    let number = new_revision(txn, key, template);
    let canary = Bounds::of(&record.manifest.spec, None).canary;
    record.roll_to(number, canary, txn.now());
    put_record(txn, record);
    note(
        txn,
        Subject::workload(key),
        "RestartAsked",
        format!("as revision {number}"),
    );
    Ok(())
}

/// Does to the rollout of a workload what an operator asks for.
///
/// # Errors
/// If there is no such workload, it changed, or its rollout is not so that this makes sense.
pub fn rollout(
    txn: &mut Transaction,
    key: &WorkloadKey,
    action: RolloutAction,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    let record = rolling(txn, key, expected)?;
    match action {
        RolloutAction::Promote => promote(txn, record),
        RolloutAction::Abort => abort(txn, record),
        RolloutAction::Pause => pause(txn, record),
        RolloutAction::Resume => resume(txn, record),
        RolloutAction::Undo { to } => undo(txn, record, to),
    }
}

/// The workload, if it is one that is rolled out.
fn rolling(
    txn: &Transaction,
    key: &WorkloadKey,
    expected: Option<Version>,
) -> Result<WorkloadRecord, Refusal> {
    let record = find(txn, key)?;
    check_version(txn, key, expected)?;
    if record.manifest.spec.update().is_none() {
        return Err(Refusal::Conflict(format!(
            "{key} is a {}, and only a Service or a Daemon is rolled out",
            record.manifest.kind
        )));
    }
    Ok(WorkloadRecord::clone(&record))
}

fn promote(txn: &mut Transaction, mut record: WorkloadRecord) -> Result<(), Refusal> {
    let key = record.manifest.key();
    let now = txn.now();
    match &mut record.rollout {
        Some(rollout) if rollout.state == RolloutState::Canary => {
            rollout.canaries = Canaries::Promoted;
            rollout.go_on(now);
            let message = format!("revision {} replaces the others, too", rollout.to);
            put_record(txn, record);
            note(txn, Subject::workload(&key), "Promoted", message);
            Ok(())
        }
        Some(RolloutRecord {
            state: RolloutState::Paused { .. },
            canaries: Canaries::Awaited,
            ..
        }) => Err(Refusal::Conflict(format!(
            "the rollout of {key} is paused: resume it before you promote it"
        ))),
        Some(_) | None => Err(Refusal::Conflict(format!(
            "no canaries of {key} wait to be promoted"
        ))),
    }
}

fn abort(txn: &mut Transaction, mut record: WorkloadRecord) -> Result<(), Refusal> {
    let key = record.manifest.key();
    let active = record.rollout.as_ref().filter(|r| !r.state.is_over());
    let Some(rollout) = active else {
        return Err(Refusal::Conflict(format!(
            "nothing is being rolled out: {key} is at revision {}; `undo` goes back to an earlier one",
            record.revision
        )));
    };
    if let RolloutState::RollingBack { .. } = rollout.state {
        return Ok(());
    }
    let Some(good) = rollout.from else {
        return Err(Refusal::Conflict(format!(
            "no revision of {key} before revision {} was good, so there is nothing to go back to: \
             apply another manifest, or delete it",
            rollout.to
        )));
    };
    let message = format!("revision {}: going back to revision {good}", rollout.to);
    record.roll_back(good, "an operator aborted it".to_owned(), txn.now());
    put_record(txn, record);
    note(txn, Subject::workload(&key), "Aborted", message);
    Ok(())
}

fn pause(txn: &mut Transaction, mut record: WorkloadRecord) -> Result<(), Refusal> {
    let key = record.manifest.key();
    let number = record.revision;
    match record.rollout.as_mut().map(|r| &mut r.state) {
        Some(RolloutState::Paused { .. }) => Ok(()),
        Some(state @ (RolloutState::Progressing | RolloutState::Canary)) => {
            *state = RolloutState::Paused {
                reason: PAUSED_BY_OPERATOR.to_owned(),
            };
            put_record(txn, record);
            note(
                txn,
                Subject::workload(&key),
                "Paused",
                format!("at revision {number}"),
            );
            Ok(())
        }
        Some(RolloutState::RollingBack { .. }) => Err(Refusal::Conflict(format!(
            "{key} is going back to revision {number}, which cannot be paused"
        ))),
        Some(RolloutState::RolledBack { .. } | RolloutState::Completed) | None => {
            Err(Refusal::Conflict(format!(
                "nothing is being rolled out: {key} is at revision {number}"
            )))
        }
    }
}

fn resume(txn: &mut Transaction, mut record: WorkloadRecord) -> Result<(), Refusal> {
    let key = record.manifest.key();
    let number = record.revision;
    let now = txn.now();
    match &mut record.rollout {
        Some(rollout) if matches!(rollout.state, RolloutState::Paused { .. }) => {
            rollout.go_on(now);
            put_record(txn, record);
            note(
                txn,
                Subject::workload(&key),
                "Resumed",
                format!("at revision {number}"),
            );
        }
        // It goes on, or has ended, which is what was asked for.
        Some(_) | None => {}
    }
    Ok(())
}

fn undo(
    txn: &mut Transaction,
    mut record: WorkloadRecord,
    to: Option<RevisionNumber>,
) -> Result<(), Refusal> {
    let key = record.manifest.key();
    let wanted = record.revision;
    let kept = revisions_of(txn.cluster(), &key);
    let good =
        |number| revision(txn, &key, number).is_some_and(|record| record.good_since.is_some());
    let before = |r: &&RevisionKey| r.number < wanted && good(r.number);
    let after = |r: &&RevisionKey| r.number > wanted && good(r.number);
    let target = match to {
        Some(number) => number,
        None => kept.iter().rev().find(before).map(|r| r.number).ok_or_else(|| {
            let later: Vec<_> = kept.iter().filter(after).map(|r| r.number.to_string()).collect();
            let named = match later.is_empty() {
                true => String::new(),
                false => format!("; a later one has to be named: {}", later.join(", ")),
            };
            Refusal::Conflict(format!(
                "there is nothing to undo: no kept revision of {key} before revision {wanted} was \
                 good{named}"
            ))
        })?,
    };
    if target == wanted {
        return Err(Refusal::Conflict(format!(
            "there is nothing to undo: revision {wanted} of {key} is wanted already"
        )));
    }
    let known = revision(txn, &key, target);
    if known.is_none_or(|r| r.template.kind != record.manifest.kind) {
        let kept: Vec<_> = kept.iter().map(|r| r.number.to_string()).collect();
        return Err(Refusal::NotFound {
            what: format!("revision {target} of {key}, only {}", kept.join(", ")),
        });
    }
    // What was good once needs no canaries.
    record.roll_to(target, 0, txn.now());
    put_record(txn, record);
    let message = format!("from revision {wanted} to revision {target}");
    note(txn, Subject::workload(&key), "UndoAsked", message);
    Ok(())
}

fn revision(
    txn: &Transaction,
    key: &WorkloadKey,
    number: RevisionNumber,
) -> Option<Arc<RevisionRecord>> {
    let key = RevisionKey {
        workload: key.clone(),
        number,
    };
    txn.cluster().revisions.get(&key).cloned()
}
