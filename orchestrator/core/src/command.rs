//! What users and operators ask for: whether it is allowed, and what it changes.
//!
//! Each function makes its changes in a transaction, or refuses and makes none.

use std::{collections::BTreeMap, sync::Arc};

use windlass_api::{
    apply::{FieldChange, Outcome},
    event::{Severity, Subject},
    ids::{NodeName, RevisionNumber, Uid, Version, WorkloadKey},
    resource::{Manifest, Meta, NodePatch, Scheduling},
    spec::WorkloadSpec,
    template::InstanceTemplate,
    validate::{FieldError, REPLICAS_MAX, RESOURCES_PER_CALL_MAX, validate, validate_node},
};

use crate::{
    diff,
    plan::revisions_of,
    record::{Change, NodeRecord, RevisionKey, RevisionRecord, WorkloadRecord},
    transaction::Transaction,
};

pub mod agent;
pub mod idempotency;
#[cfg(test)]
mod tests;

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
    check_all(manifests)?;
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
    let errors = validate(manifest);
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    check_version(txn, &manifest.key(), expected)?;
    Ok(write(txn, manifest, uid))
}

/// Deletes a workload. Its instances are stopped by the plan that follows.
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
    txn.put(Change::Workload(key.clone(), None));
    txn.event(
        Subject::workload(key),
        Severity::Normal,
        "Deleted",
        "its instances are stopped",
    );
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

/// Replaces every instance by a fresh one, as an update would.
///
/// # Errors
/// If there is no such workload, or it changed.
pub fn restart(
    txn: &mut Transaction,
    key: &WorkloadKey,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    let record = find(txn, key)?;
    check_version(txn, key, expected)?;
    let mut record = WorkloadRecord::clone(&record);
    record.restarts_asked += 1;
    let template = record.manifest.spec.template(record.restarts_asked);
    record.revision = new_revision(txn, key, template);
    let message = format!("as revision {}", record.revision);
    put_record(txn, record);
    txn.event(
        Subject::workload(key),
        Severity::Normal,
        "RestartAsked",
        message,
    );
    Ok(())
}

/// Changes what operators may change about a node.
///
/// # Errors
/// If there is no such node, it changed, or a label makes no sense.
pub fn patch_node(
    txn: &mut Transaction,
    name: &NodeName,
    patch: &NodePatch,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    let what = format!("node {name}");
    let Some(node) = txn.cluster().nodes.get(name).cloned() else {
        return Err(Refusal::NotFound { what });
    };
    if let Some(expected) = expected.filter(|e| *e != node.version) {
        return Err(Refusal::VersionMismatch {
            what,
            expected,
            actual: node.version,
        });
    }
    let mut patched = NodeRecord::clone(&node);
    for (key, value) in &patch.labels {
        match value {
            Some(value) => patched.labels.insert(key.clone(), value.clone()),
            None => patched.labels.remove(key),
        };
    }
    patched.scheduling = patch.scheduling.unwrap_or(patched.scheduling);
    patched.taints = patch.taints.clone().unwrap_or(patched.taints);
    let errors = validate_node(&patched.labels, &patched.taints);
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    if patched == *node {
        return Ok(());
    }
    if patched.scheduling != node.scheduling {
        let (reason, message) = match patched.scheduling {
            Scheduling::Cordoned => ("Cordoned", "nothing new is placed on it"),
            Scheduling::Enabled => ("Uncordoned", "it can be given work again"),
        };
        txn.event(
            Subject::Node { name: name.clone() },
            Severity::Normal,
            reason,
            message,
        );
    }
    patched.version = txn.version();
    txn.put(Change::Node(name.clone(), Some(Arc::new(patched))));
    Ok(())
}

fn check_all(manifests: &[Manifest]) -> Result<(), Refusal> {
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
        for error in validate(manifest) {
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
    let Some(expected) = expected else {
        return Ok(());
    };
    // A workload that does not exist is at version 0, so that `If-Match: "0"` means: only create.
    let actual = txn
        .cluster()
        .workloads
        .get(key)
        .map_or(Version(0), |w| w.meta.version);
    if actual == expected {
        return Ok(());
    }
    Err(Refusal::VersionMismatch {
        what: format!("workload {key}"),
        expected,
        actual,
    })
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
            create(txn, &key, manifest, uid);
            Outcome::Created
        }
    };
    Applied { key, outcome, diff }
}

fn create(txn: &mut Transaction, key: &WorkloadKey, manifest: &Manifest, uid: Uid) {
    let now = txn.now();
    let revision = new_revision(txn, key, manifest.spec.template(0));
    let meta = Meta {
        uid,
        version: txn.version(),
        created_at: now,
        updated_at: now,
        owner: None,
    };
    let record = WorkloadRecord {
        manifest: manifest.clone(),
        meta,
        revision,
        restarts_asked: 0,
    };
    put_record(txn, record);
    let message = format!("as revision {revision}");
    txn.event(Subject::workload(key), Severity::Normal, "Created", message);
}

fn update(txn: &mut Transaction, key: &WorkloadKey, before: &WorkloadRecord, to: &Manifest) {
    let template = to.spec.template(before.restarts_asked);
    let known = find_revision(txn, key, before.revision, &template);
    let revision = known.unwrap_or_else(|| new_revision(txn, key, template));
    let same = revision == before.revision;
    put_record(
        txn,
        WorkloadRecord {
            manifest: to.clone(),
            revision,
            ..before.clone()
        },
    );
    let message = if same {
        format!("still revision {revision}")
    } else {
        format!("revision {revision} follows revision {}", before.revision)
    };
    txn.event(Subject::workload(key), Severity::Normal, "Updated", message);
}

/// The revision that has this template, if one is kept: then what still runs of it is what is
/// wanted. The current one first, then the newest.
fn find_revision(
    txn: &Transaction,
    key: &WorkloadKey,
    current: RevisionNumber,
    template: &InstanceTemplate,
) -> Option<RevisionNumber> {
    let cluster = txn.cluster();
    let mut kept = revisions_of(cluster, key);
    kept.sort_by_key(|revision| (revision.number == current, revision.number));
    let has_it = |revision: &RevisionKey| {
        let record = cluster.revisions.get(revision);
        record.is_some_and(|record| *record.template == *template)
    };
    kept.iter()
        .rev()
        .find(|revision| has_it(revision))
        .map(|revision| revision.number)
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
    };
    txn.put(Change::Revision(key, Some(Arc::new(record))));
    number
}
