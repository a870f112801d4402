//! Nodes, one at a time.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use windlass_api::{
    ids::NodeName,
    problem::Code,
    resource::{Node, NodePatch},
};
use windlass_core::cluster::Cluster;

use super::{
    Api,
    collection::{Collection, Nodes},
    etag,
    parameters::PathParameters,
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

pub(super) fn find(cluster: &Cluster, name: &NodeName) -> Result<Node, Error> {
    Nodes::get(cluster, name)
        .ok_or_else(|| Error::new(Code::NotFound, format!("there is no node {name}")))
}
