//! Workloads, one at a time.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use windlass_api::{
    apply::Outcome,
    ids::{Version, WorkloadKey},
    problem::Code,
    resource::{Manifest, Scale, Workload},
    validate::FieldError,
};
use windlass_core::{cluster::Cluster, view};

use super::{
    Api,
    etag::{self, IfMatch},
    parameters::PathParameters,
    write::WriteRequest,
};
use crate::{controller::Write, error::Error};

/// One workload.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let key = path.workload()?;
    let workload = view::find_workload(&api.handle.state(), &key)
        .ok_or_else(|| Error::new(Code::NotFound, format!("there is no workload {key}")))?;
    Ok(etag::unless_known(
        &headers,
        show(StatusCode::OK, &workload),
    ))
}

/// Makes or replaces one.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    request: WriteRequest,
) -> Result<Response, Error> {
    let key = path.workload()?;
    let manifest = manifest(&key, request.json()?)?;
    let expected = match request.if_match {
        IfMatch::Absent => None,
        IfMatch::Version(version) => Some(version),
        // What exists now. If it changes before the write, the client hears of it.
        IfMatch::Something => Some(existing(&api.handle.state(), &key)?),
    };
    let write = Write::Put(Box::new(manifest), expected);
    let written = api.handle.write(write, request.idempotency).await?;
    let made = written
        .results
        .iter()
        .any(|applied| applied.outcome == Outcome::Created);
    let workload = after(&written.cluster, &key)?;
    if !made {
        return Ok(show(StatusCode::OK, &workload));
    }
    Ok(made_at(&key, &workload))
}

/// Deletes one.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    request: WriteRequest,
) -> Result<StatusCode, Error> {
    let write = Write::Delete(path.workload()?, request.if_match.version());
    api.handle.write(write, request.idempotency).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes how many instances are wanted.
pub(super) async fn scale(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    request: WriteRequest,
) -> Result<Response, Error> {
    let key = path.workload()?;
    let Scale { replicas } = request.json()?;
    let write = Write::Scale(key.clone(), replicas, request.if_match.version());
    let written = api.handle.write(write, request.idempotency).await?;
    Ok(show(StatusCode::OK, &after(&written.cluster, &key)?))
}

/// Replaces every instance by a fresh one.
pub(super) async fn restart(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    request: WriteRequest,
) -> Result<Response, Error> {
    let key = path.workload()?;
    let write = Write::Restart(key.clone(), request.if_match.version());
    let written = api.handle.write(write, request.idempotency).await?;
    Ok(show(StatusCode::OK, &after(&written.cluster, &key)?))
}

/// The manifest in a request about the workload `key`.
fn manifest(key: &WorkloadKey, mut body: Value) -> Result<Manifest, Error> {
    if let Some(fields) = body.as_object_mut() {
        fields
            .entry("namespace")
            .or_insert_with(|| key.namespace.as_str().into());
    }
    let manifest = Manifest::from_json(body).map_err(|error| Error::invalid(vec![error]))?;
    let compare = |field: &str, body: &str, path: &str| {
        let message = format!("`{body}` here, but `{path}` in the request's path");
        (body != path).then(|| FieldError::new(field, message))
    };
    let errors: Vec<FieldError> = [
        compare("name", manifest.name.as_str(), key.name.as_str()),
        compare(
            "namespace",
            manifest.namespace.as_str(),
            key.namespace.as_str(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if errors.is_empty() {
        Ok(manifest)
    } else {
        Err(Error::invalid(errors))
    }
}

fn existing(cluster: &Cluster, key: &WorkloadKey) -> Result<Version, Error> {
    let record = cluster.workloads.get(key).ok_or_else(|| {
        let detail = format!("there is no workload {key}, and the request is to replace one only");
        Error::new(Code::VersionConflict, detail)
    })?;
    Ok(record.meta.version)
}

/// The answer to a request that made a workload.
pub(super) fn made_at(key: &WorkloadKey, workload: &Workload) -> Response {
    let location = format!("/v1/workloads/{}/{}", key.namespace, key.name);
    let location = HeaderValue::try_from(location).expect("names are letters, digits and `-`");
    let mut response = show(StatusCode::CREATED, workload);
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// A workload that was written, in the state that followed.
pub(super) fn after(cluster: &Cluster, key: &WorkloadKey) -> Result<Workload, Error> {
    view::find_workload(cluster, key).ok_or_else(|| {
        let detail = format!("the request was carried out; workload {key} was deleted since");
        Error::new(Code::NotFound, detail)
    })
}

pub(super) fn show(status: StatusCode, workload: &Workload) -> Response {
    etag::tagged(status, workload.meta.version, workload).into_response()
}
