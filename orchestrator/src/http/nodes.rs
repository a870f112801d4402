//! Nodes, one at a time.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use schemars::JsonSchema;
use serde::Deserialize;
use windlass_api::{
    ids::NodeName,
    problem::Code,
    resource::{DrainRequest, Node, NodePatch},
};
use windlass_core::{cluster::Cluster, command::Force};

use super::{
    Api,
    collection::{Collection, Nodes},
    etag,
    parameters::{PathParameters, Query},
    write::WriteRequest,
};
use crate::{controller::Write, error::Error};

/// One node.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let node = find(&api.handle.state(), &path.get("node")?)?;
    Ok(etag::unless_known(
        &headers,
        etag::tagged(StatusCode::OK, node.version, &node),
    ))
}

/// Changes what an operator decides about one.
pub(super) async fn patch(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    request: WriteRequest,
) -> Result<Response, Error> {
    let name: NodeName = path.get("node")?;
    let patch: NodePatch = request.json()?;
    let write = Write::PatchNode(name.clone(), Box::new(patch), request.if_match.version());
    let written = api.handle.write(write, request.idempotency).await?;
    let node = find(&written.cluster, &name)?;
    Ok(etag::tagged(StatusCode::OK, node.version, &node))
}

/// Has everything leave one.
pub(super) async fn drain(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    request: WriteRequest,
) -> Result<Response, Error> {
    let name: NodeName = path.get("node")?;
    let drain: DrainRequest = request.json()?;
    let write = Write::DrainNode(name.clone(), drain, request.if_match.version());
    let written = api.handle.write(write, request.idempotency).await?;
    let node = find(&written.cluster, &name)?;
    Ok(etag::tagged(StatusCode::OK, node.version, &node))
}

/// How to remove one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RemoveQuery {
    /// Also if it is not lost and has instances that are not a daemon's: they are stopped.
    #[serde(default)]
    force: bool,
}

/// Takes one out of the cluster.
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    Query(query): Query<RemoveQuery>,
    request: WriteRequest,
) -> Result<StatusCode, Error> {
    let force = if query.force { Force::Yes } else { Force::No };
    let write = Write::RemoveNode(path.get("node")?, force, request.if_match.version());
    api.handle.write(write, request.idempotency).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn find(cluster: &Cluster, name: &NodeName) -> Result<Node, Error> {
    Nodes::get(cluster, name)
        .ok_or_else(|| Error::new(Code::NotFound, format!("there is no node {name}")))
}
