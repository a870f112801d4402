//! Applying resources together, for real or as a dry run.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;
use windlass_api::{
    apply::{ApplyResponse, ApplyResult, PlanView},
    ids::Uid,
    resource::Manifest,
    validate::{FieldError, RESOURCES_PER_CALL_MAX, validate},
};
use windlass_core::{
    access::{Caller, Need, Role, authorise},
    cluster::Cluster,
    command::{self, Applied},
    plan::{Scope, plan},
    transaction::Transaction,
};

use super::{Api, etag::IfMatch, parameters::Query, workloads::after, write::WriteRequest};
use crate::{controller::Write, error::Error};

/// How to apply.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ApplyQuery {
    /// Only say what would change, and what would follow from it.
    #[serde(default)]
    dry_run: bool,
}

/// [`windlass_api::apply::ApplyRequest`] with resources that are not read yet, so that the
/// mistakes of all of them can be told at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    resources: Vec<Value>,
}

/// Applies resources: all of them, or none.
pub(super) async fn apply(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ApplyQuery>,
    request: WriteRequest,
) -> Result<Json<ApplyResponse>, Error> {
    if request.if_match != IfMatch::Absent {
        return Err(Error::malformed(
            "several resources have no one version: `if-match` belongs to requests about one",
        ));
    }
    let Body { resources } = request.json()?;
    let manifests = manifests(resources)?;
    for manifest in &manifests {
        let need = Need::Role(Role::Operator);
        authorise(&caller, need, Some(&manifest.namespace))?;
    }
    if query.dry_run {
        let mut planned = dry_run(api.handle.state(), manifests, api.handle.now()).await?;
        let reach = caller.reach();
        if let Some(plan) = &mut planned.plan {
            // What is in the way of one namespace may be in another.
            plan.steps
                .retain(|step| reach.includes(&step.workload.namespace));
        }
        return Ok(Json(planned));
    }
    let written = api
        .handle
        .write(Write::Apply(manifests), request.idempotency)
        .await?;
    let results = results(&written.cluster, written.results)?;
    Ok(Json(ApplyResponse {
        version: written.cluster.version,
        results,
        plan: None,
    }))
}

/// What applying would lead to, found by the code that would do it, on a copy of the state. The
/// plan has everything that would be done at that moment.
async fn dry_run(
    state: Cluster,
    manifests: Vec<Manifest>,
    now: Timestamp,
) -> Result<ApplyResponse, Error> {
    // A large plan takes some 100 ms, for which no thread of the server's own must be held.
    let planning = tokio::task::spawn_blocking(move || {
        let mut txn = Transaction::new(&state, now);
        let uids: Vec<Uid> = manifests.iter().map(|_| Uid(Uuid::new_v4())).collect();
        let applied = command::apply(&mut txn, &manifests, &uids)?;
        let steps = plan(&mut txn, &Scope::All).steps;
        let results = results(txn.cluster(), applied)?;
        Ok(ApplyResponse {
            version: state.version,
            results,
            plan: Some(PlanView { steps }),
        })
    });
    match planning.await {
        Ok(planned) => planned,
        Err(error) => match error.try_into_panic() {
            // As if it had happened here: it is logged, and answered, in one place.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(crate::controller::Error::Stopping.into()),
        },
    }
}

fn results(cluster: &Cluster, applied: Vec<Applied>) -> Result<Vec<ApplyResult>, Error> {
    let result = |Applied { key, outcome, diff }| {
        let workload = after(cluster, &key)?;
        Ok(ApplyResult {
            kind: workload.manifest.kind,
            key,
            outcome,
            diff,
            workload,
        })
    };
    applied.into_iter().map(result).collect()
}

/// The manifests, or every mistake in any of them.
fn manifests(resources: Vec<Value>) -> Result<Vec<Manifest>, Error> {
    if resources.len() > RESOURCES_PER_CALL_MAX {
        let message = format!(
            "at most {RESOURCES_PER_CALL_MAX} in one call, these are {}",
            resources.len()
        );
        return Err(Error::invalid(vec![FieldError::new("resources", message)]));
    }
    let read: Vec<Result<Manifest, FieldError>> =
        resources.into_iter().map(Manifest::from_json).collect();
    if read.iter().all(Result::is_ok) {
        // What makes no sense in them is found where they are applied.
        return Ok(read.into_iter().flatten().collect());
    }
    let mut errors = Vec::new();
    for (i, resource) in read.into_iter().enumerate() {
        let mistakes = match resource {
            Ok(manifest) => validate(&manifest),
            Err(mistake) => vec![mistake],
        };
        errors.extend(mistakes.into_iter().map(|FieldError { path, message }| {
            let dot = if path.is_empty() { "" } else { "." };
            FieldError::new(format!("resources[{i}]{dot}{path}"), message)
        }));
    }
    Err(Error::invalid(errors))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mistakes_of_all_resources_are_told_at_once() {
        let resource = |port: Value, replicas: Value| {
            json!({ "kind": "Service", "name": "web",
                "spec": { "image": "nginx", "replicas": replicas, "ports": [{ "container": port }] } })
        };
        let error = manifests(vec![
            resource(json!(80), json!(1)),
            resource(json!("x"), json!(1)),
            resource(json!(80), json!(10_000_000)),
            json!(7),
            json!({ "kind": "Nonsense" }),
        ])
        .unwrap_err();
        let paths: Vec<_> = error
            .problem()
            .errors
            .iter()
            .map(|e| e.path.as_str())
            .collect();
        assert_eq!(
            paths,
            [
                "resources[1].spec.ports[0].container",
                "resources[2].spec.replicas",
                "resources[3].kind",
                "resources[4].kind",
            ]
        );
    }
}
