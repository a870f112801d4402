//! What users and operators ask for: whether it is allowed, and what it changes.
//!
//! Each function makes its changes in a transaction, or refuses and makes none.

use std::{collections::BTreeMap, sync::Arc};

use windlass_api::{
    apply::{FieldChange, Outcome},
    event::{Severity, Subject},
    ids::{RevisionNumber, Uid, Version, WorkloadKey, WorkloadName},
    resource::{Manifest, Meta},
    spec::WorkloadSpec,
    template::InstanceTemplate,
    validate::{FieldError, REPLICAS_MAX, RESOURCES_PER_CALL_MAX, validate},
};

use crate::{
    access::Denied,
    cluster::Cluster,
    dependency, diff, ownership,
    plan::revisions_of,
    record::{Change, RevisionKey, RevisionRecord, WorkloadRecord},
    rollout::Bounds,
    transaction::Transaction,
};

pub mod agent;
pub mod clock;
pub mod idempotency;
pub mod job;
mod node;
pub mod restore;
mod rollout;
#[cfg(test)]
mod tests;
pub mod token;

pub use node::{Force, drain, patch_node, remove_node};
pub use rollout::{restart, rollout};

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing has that name.
    #[error("there is no {what}")]
    NotFound {
        /// The kind and the name.
        what: String,
    },
    /// The object is not what the client believes it to be.
    #[error(
        "{what} has changed: it is at version {actual}, not {expected}; read it again, and decide again"
    )]
    VersionMismatch {
        /// The kind and the name.
        what: String,
        /// What the client believes.
        expected: Version,
        /// What is so.
        actual: Version,
    },
    /// The input makes no sense.
    #[error("the input is not valid")]
    Invalid(Vec<FieldError>),
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// Whoever asks may not.
    #[error(transparent)]
    Denied(Denied),
    /// The idempotency key belongs to another request.
    #[error("the idempotency key was used for another request: choose a new one for each")]
    KeyReused,
}

/// What became of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The workload.
    pub key: WorkloadKey,
    /// What was done.
    pub outcome: Outcome,
    /// The fields that changed.
    pub diff: Vec<FieldChange>,
}

/// Applies several manifests: all of them, or none.
///
/// `uids` has an identity for each, for those that are new.
///
/// # Errors
/// Every mistake in every manifest, with paths that begin with `resources[<index>]`.
pub fn apply(
    txn: &mut Transaction,
    manifests: &[Manifest],
    uids: &[Uid],
) -> Result<Vec<Applied>, Refusal> {
    check_all(txn.cluster(), manifests)?;
    Ok(manifests
        .iter()
        .zip(uids)
        .map(|(manifest, uid)| write(txn, manifest, *uid))
        .collect())
}

/// Applies one manifest, if the workload is still at the version that the client believes.
///
/// # Errors
/// Every mistake in the manifest, or [`Refusal::VersionMismatch`].
pub fn put(
    txn: &mut Transaction,
    manifest: &Manifest,
    expected: Option<Version>,
    uid: Uid,
) -> Result<Applied, Refusal> {
    let mut errors = validate(manifest);
    errors.extend(check_beside(
        txn.cluster(),
        std::slice::from_ref(manifest),
        manifest,
    ));
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    check_version(txn, &manifest.key(), expected)?;
    Ok(write(txn, manifest, uid))
}

/// Deletes a workload, and the jobs that it has made. Their instances are stopped by the plan that follows.
///
/// # Errors
/// If there is none, or it changed.
pub fn delete(
    txn: &mut Transaction,
    key: &WorkloadKey,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    find(txn, key)?;
    check_version(txn, key, expected)?;
    ownership::delete(txn, key, "its instances are stopped");
    Ok(())
}

/// Changes how many instances are wanted. That makes no revision.
///
/// # Errors
/// If there is no such workload, it changed, or the number is absurd.
pub fn scale(
    txn: &mut Transaction,
    key: &WorkloadKey,
    replicas: u32,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    if replicas > REPLICAS_MAX {
        let message = format!("at most {REPLICAS_MAX}, not {replicas}");
        return Err(Refusal::Invalid(vec![FieldError::new("replicas", message)]));
    }
    let record = find(txn, key)?;
    check_version(txn, key, expected)?;
    let mut record = WorkloadRecord::clone(&record);
    let kind = record.manifest.kind;
    let WorkloadSpec::Service(spec) = &mut record.manifest.spec else {
        return Err(Refusal::Conflict(format!(
            "{key} is a {kind}, and only a Service can be scaled"
        )));
    };
    let before = std::mem::replace(&mut spec.replicas, replicas);
    if before != replicas {
        put_record(txn, record);
        let message = format!("from {before} to {replicas}");
        txn.event(Subject::workload(key), Severity::Normal, "Scaled", message);
    }
    Ok(())
}

fn check_all(cluster: &Cluster, manifests: &[Manifest]) -> Result<(), Refusal> {
    let mut errors = Vec::new();
    if manifests.len() > RESOURCES_PER_CALL_MAX {
        let message = format!(
            "at most {RESOURCES_PER_CALL_MAX} in one call, these are {}",
            manifests.len()
        );
        errors.push(FieldError::new("resources", message));
    }
    let mut seen: BTreeMap<WorkloadKey, usize> = BTreeMap::new();
    for (i, manifest) in manifests.iter().enumerate() {
        let mistakes = validate(manifest).into_iter();
        for error in mistakes.chain(check_beside(cluster, manifests, manifest)) {
            errors.push(FieldError::new(
                format!("resources[{i}].{}", error.path),
                error.message,
            ));
        }
        if let Some(first) = seen.insert(manifest.key(), i) {
            let message = format!("{} is also resources[{first}]", manifest.key());
            errors.push(FieldError::new(format!("resources[{i}].name"), message));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Invalid(errors))
    }
}

/// What is wrong with a manifest beside what is there, and the others that are applied with it.
fn check_beside(cluster: &Cluster, manifests: &[Manifest], manifest: &Manifest) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let before = cluster.workloads.get(&manifest.key());
    if let Some(kind) = before
        .map(|w| w.manifest.kind)
        .filter(|k| *k != manifest.kind)
    {
        let message = format!(
            "there is a {kind} of this name, and a kind cannot be changed: delete it first, or \
             choose another name"
        );
        errors.push(FieldError::new("kind", message));
    }
    errors.extend(before.and_then(|before| job::check_change(cluster, before, manifest)));
    if let Some(path) = dependency::cycle(cluster, manifests, manifest) {
        let message = format!(
            "the workloads wait for each other, and none would ever start: {}",
            path.join(" -> ")
        );
        errors.push(FieldError::new("spec.dependsOn", message));
    }
    errors
}

fn find(txn: &Transaction, key: &WorkloadKey) -> Result<Arc<WorkloadRecord>, Refusal> {
    let record = txn.cluster().workloads.get(key).cloned();
    record.ok_or_else(|| Refusal::NotFound {
        what: format!("workload {key}"),
    })
}

fn check_version(
    txn: &Transaction,
    key: &WorkloadKey,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    // A workload that does not exist is at version 0, so that `If-Match: "0"` means: only create.
    let actual = txn
        .cluster()
        .workloads
        .get(key)
        .map_or(Version(0), |w| w.meta.version);
    unchanged(|| format!("workload {key}"), expected, actual)
}

/// Refuses if the client believes another version than that which is there.
fn unchanged(
    what: impl FnOnce() -> String,
    expected: Option<Version>,
    actual: Version,
) -> Result<(), Refusal> {
    match expected.filter(|expected| *expected != actual) {
        Some(expected) => Err(Refusal::VersionMismatch {
            what: what(),
            expected,
            actual,
        }),
        None => Ok(()),
    }
}

/// Says that something was asked for.
fn note(txn: &mut Transaction, subject: Subject, reason: &'static str, text: impl Into<String>) {
    txn.event(subject, Severity::Normal, reason, text);
}

/// Writes a manifest that was checked.
fn write(txn: &mut Transaction, manifest: &Manifest, uid: Uid) -> Applied {
    let key = manifest.key();
    let before = txn.cluster().workloads.get(&key).cloned();
    let diff = diff::fields(before.as_ref().map(|b| &b.manifest), Some(manifest));
    let outcome = match before {
        Some(_) if diff.is_empty() => Outcome::Unchanged,
        Some(record) => {
            update(txn, &key, &record, manifest);
            Outcome::Updated
        }
        None => {
            create(txn, &key, manifest, uid, None);
            Outcome::Created
        }
    };
    Applied { key, outcome, diff }
}

/// Makes a workload from a manifest that was checked. It is deleted with its owner, if it has one.
pub(crate) fn create(
    txn: &mut Transaction,
    key: &WorkloadKey,
    manifest: &Manifest,
    uid: Uid,
    owner: Option<WorkloadName>,
) {
    let now = txn.now();
    let revision = new_revision(txn, key, manifest.spec.template(0));
    let meta = Meta {
        uid,
        version: txn.version(),
        created_at: now,
        updated_at: now,
        owner,
    };
    let mut record = WorkloadRecord {
        manifest: manifest.clone(),
        meta,
        revision,
        restarts_asked: 0,
        last_good: None,
        rollout: None,
    };
    record.roll_to(revision, 0, now);
    put_record(txn, record);
    let message = format!("as revision {revision}");
    txn.event(Subject::workload(key), Severity::Normal, "Created", message);
}

fn update(txn: &mut Transaction, key: &WorkloadKey, before: &WorkloadRecord, to: &Manifest) {
    let restarts_asked = before.restarts_asked;
    let template = to.spec.template(restarts_asked);
    let mut record = WorkloadRecord {
        manifest: to.clone(),
        ..before.clone()
    };
    let wanted = RevisionKey {
        workload: key.clone(),
        number: before.revision,
    };
    let wanted = txn.cluster().revisions.get(&wanted);
    let is_wanted = wanted.is_some_and(|r| is_same(&r.template, &template));
    if template == before.manifest.spec.template(restarts_asked) {
        // After a rollback or `undo` that is not what runs, and a change of something else is no
        // reason to try it again.
    } else if is_wanted {
        if before
            .rollout
            .as_ref()
            .is_some_and(|r| r.to != before.revision)
        {
            record.roll_to(before.revision, 0, txn.now());
        }
    } else {
        // What still runs of a revision that is kept is what is wanted again: no canary for that.
        let (revision, canary) = match find_revision(txn, key, &template) {
            Some(kept) => (kept, 0),
            None => {
                let canary = Bounds::of(&to.spec, None).canary;
                (new_revision(txn, key, template), canary)
            }
        };
        record.roll_to(revision, canary, txn.now());
    }
    let revision = record.revision;
    put_record(txn, record);
    let message = if revision == before.revision {
        format!("still revision {revision}")
    } else {
        format!("revision {revision} follows revision {}", before.revision)
    };
    txn.event(Subject::workload(key), Severity::Normal, "Updated", message);
}

/// The newest revision that is kept and has this template. How often a restart was asked for is
/// nothing that the user wrote.
fn find_revision(
    txn: &Transaction,
    key: &WorkloadKey,
    template: &InstanceTemplate,
) -> Option<RevisionNumber> {
    let cluster = txn.cluster();
    let has_it = |revision: &RevisionKey| {
        let record = cluster.revisions.get(revision);
        record.is_some_and(|record| is_same(&record.template, template))
    };
    let kept = revisions_of(cluster, key);
    let found = kept.iter().rev().find(|revision| has_it(revision))?;
    Some(found.number)
}

/// Whether two templates are alike but for restarts.
fn is_same(a: &InstanceTemplate, b: &InstanceTemplate) -> bool {
    let restarts_asked = b.restarts_asked;
    InstanceTemplate {
        restarts_asked,
        ..a.clone()
    } == *b
}

fn put_record(txn: &mut Transaction, mut record: WorkloadRecord) {
    record.meta.version = txn.version();
    record.meta.updated_at = txn.now();
    txn.put(Change::Workload(
        record.manifest.key(),
        Some(Arc::new(record)),
    ));
}

/// Makes the next revision. Numbers go on after those of a deleted workload of the same name, as
/// long as instances of it are left.
fn new_revision(
    txn: &mut Transaction,
    workload: &WorkloadKey,
    template: InstanceTemplate,
) -> RevisionNumber {
    let newest = revisions_of(txn.cluster(), workload)
        .last()
        .map(|r| r.number);
    let key = RevisionKey {
        workload: workload.clone(),
        number: newest.unwrap_or_default().next(),
    };
    let number = key.number;
    let created_at = txn.now();
    let record = RevisionRecord {
        key: key.clone(),
        template: Arc::new(template),
        created_at,
        good_since: None,
        images: BTreeMap::new(),
    };
    txn.put(Change::Revision(key, Some(Arc::new(record))));
    number
}
