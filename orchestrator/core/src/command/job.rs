//! What users ask of jobs: to run one once more, and to change one.

use std::collections::BTreeMap;

use windlass_api::{
    event::{Severity, Subject},
    ids::{Uid, WorkloadKey, WorkloadName},
    resource::{Manifest, RunJob},
    spec::{JobSpec, Kind, ScalarText, WorkloadSpec},
    validate::{FieldError, validate},
};

use super::{Refusal, create, find};
use crate::{
    cluster::Cluster,
    ownership::{active_jobs, delete, derived_name, ended_jobs},
    record::WorkloadRecord,
    transaction::Transaction,
};

/// How many runs of a job that have ended are kept: as many as an instance's attempts, enough to
/// compare the last ones. Those of a schedule its `history` bounds.
const RUNS_KEPT: usize = 10;
/// How many runs may go on at the same time. A script that starts one in a loop is stopped here,
/// and not by the disk.
const RUNS_MAX: usize = 100;

/// Why a job that has begun is not changed.
const BEGUN: &str = "a job that has begun cannot be changed: delete it, or run it again with \
                     `windlass job run`";

/// Runs the template of a job or a schedule once more, as a job of its own, and returns its name.
/// It is deleted with the job or schedule.
///
/// # Errors
/// If there is no such workload, it is of another kind, what is added makes no sense, or too many
/// runs of it have not ended.
pub fn run(
    txn: &mut Transaction,
    key: &WorkloadKey,
    run: &RunJob,
    uid: Uid,
) -> Result<WorkloadKey, Refusal> {
    let owner = find(txn, key)?;
    let mut spec = match &owner.manifest.spec {
        WorkloadSpec::Job(spec) => spec.clone(),
        WorkloadSpec::CronJob(spec) => JobSpec::from(spec),
        WorkloadSpec::Service(_) | WorkloadSpec::Daemon(_) => {
            return Err(Refusal::Conflict(format!(
                "{key} is a {}, and only a Job or a CronJob can be run once more",
                owner.manifest.kind
            )));
        }
    };
    let active = active_jobs(txn.cluster(), key).count();
    if active >= RUNS_MAX {
        return Err(Refusal::Conflict(format!(
            "{active} runs of {key} have not ended: wait for them, or delete some"
        )));
    }
    adapt(&mut spec, run);
    let manifest = Manifest {
        kind: Kind::Job,
        name: next_name(txn.cluster(), key),
        namespace: key.namespace.clone(),
        labels: owner.manifest.labels.clone(),
        spec: WorkloadSpec::Job(spec),
    };
    let errors = validate(&manifest);
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    if owner.manifest.kind == Kind::Job {
        forget_runs(txn, key);
    }
    let job = manifest.key();
    create(txn, &job, &manifest, uid, Some(key.name.clone()));
    let message = format!("as {}", job.name);
    txn.event(
        Subject::workload(key),
        Severity::Normal,
        "RunAsked",
        message,
    );
    Ok(job)
}

/// Adds the variables to every container, and replaces the arguments of the main one.
fn adapt(spec: &mut JobSpec, run: &RunJob) {
    let add = |env: &mut BTreeMap<String, ScalarText>| env.extend(run.env.clone());
    if spec.containers.is_empty() {
        add(&mut spec.env);
        if run.args.is_some() {
            spec.args.clone_from(&run.args);
        }
    }
    let init = spec.init_containers.iter_mut();
    for container in init.chain(&mut spec.containers) {
        add(&mut container.env);
    }
    if let Some(main) = spec.containers.iter_mut().find(|c| !c.sidecar)
        && run.args.is_some()
    {
        main.args.clone_from(&run.args);
    }
}

/// The name of the next run: one more than the last one that is still there.
fn next_name(cluster: &Cluster, key: &WorkloadKey) -> WorkloadName {
    let name = |n: u32| derived_name(&key.name, &format!("run-{n}"));
    let last = cluster.owned_by(key).filter_map(|run| {
        let (_, number) = run.name.as_str().rsplit_once("-run-")?;
        number.parse::<u32>().ok()
    });
    let from = last.max().map_or(1, |last| last.saturating_add(1));
    let taken = |name: &WorkloadName| {
        let key = WorkloadKey::new(key.namespace.clone(), name.clone());
        cluster.workloads.contains_key(&key)
    };
    (from..)
        .map(name)
        .find(|name| !taken(name))
        .expect("there are fewer workloads than numbers")
}

/// Makes room for one more run among those that are kept.
fn forget_runs(txn: &mut Transaction, key: &WorkloadKey) {
    let old: Vec<WorkloadKey> = ended_jobs(txn.cluster(), key)
        .into_iter()
        .skip(RUNS_KEPT - 1)
        .map(|(job, _)| job.clone())
        .collect();
    for job in old {
        delete(txn, &job, "newer runs of the job are kept");
    }
}

/// What is wrong with a change of a job, if it cannot be made any more.
pub(super) fn check_change(
    cluster: &Cluster,
    before: &WorkloadRecord,
    manifest: &Manifest,
) -> Option<FieldError> {
    let (WorkloadSpec::Job(old), WorkloadSpec::Job(new)) = (&before.manifest.spec, &manifest.spec)
    else {
        return None;
    };
    if !has_begun(cluster, before) {
        return None;
    }
    if old.completions != new.completions {
        return Some(FieldError::new("spec.completions", BEGUN));
    }
    let template = |manifest: &Manifest| manifest.spec.template(before.restarts_asked);
    let changed = template(&before.manifest) != template(manifest);
    changed.then(|| FieldError::new("spec", BEGUN))
}

/// Whether an instance of a job was ever given to a node.
fn has_begun(cluster: &Cluster, job: &WorkloadRecord) -> bool {
    let key = job.manifest.key();
    let mut instances = cluster.instances_of(&key);
    let given = instances.any(|i| i.revision == job.revision && i.node.is_some());
    given || cluster.indices_of(&key).next().is_some()
}
