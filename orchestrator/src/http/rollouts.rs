//! How a workload gets from one revision to the next.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use windlass_api::{
    list::List,
    problem::Code,
    resource::{Revision, RolloutAction},
};
use windlass_core::view;

use super::{
    Api,
    parameters::PathParameters,
    workloads::{after, show},
    write::WriteRequest,
};
use crate::{controller::Write, error::Error};

/// Decides how a change of revision goes on.
pub(super) async fn act(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    request: WriteRequest,
) -> Result<Response, Error> {
    let key = path.workload()?;
    let action: RolloutAction = request.json()?;
    let write = Write::Rollout(key.clone(), action, request.if_match.version());
    let written = api.handle.write(write, request.idempotency).await?;
    Ok(show(StatusCode::OK, &after(&written.cluster, &key)?))
}

/// The revisions of one that are kept.
pub(super) async fn revisions(
    State(api): State<Arc<Api>>,
    path: PathParameters,
) -> Result<Response, Error> {
    let key = path.workload()?;
    let cluster = api.handle.state();
    if !cluster.workloads.contains_key(&key) {
        let detail = format!("there is no workload {key}");
        return Err(Error::new(Code::NotFound, detail));
    }
    Ok(Json(List::<Revision> {
        items: view::revisions(&cluster, &key),
        version: cluster.version,
        next: None,
    })
    .into_response())
}
