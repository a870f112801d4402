//! Instances, one at a time, and their output.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::Response,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use windlass_api::{
    ids::{ContainerName, InstanceId, Namespace, NodeName},
    problem::Code,
    resource::Instance,
    wire::{LogOptions, StreamRequest},
};
use windlass_core::cluster::Cluster;

use super::{
    Api, LOG_STREAMS_MAX,
    collection::{Collection, Instances},
    etag,
    output::Output,
    parameters::{PathParameters, Query},
};
use crate::error::Error;

/// Which part of the output is wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LogQuery {
    /// Whose output. Default: that of the main container.
    #[schemars(with = "String")]
    container: Option<ContainerName>,
    /// Go on with what is written from now on.
    #[serde(default, deserialize_with = "flag")]
    follow: bool,
    /// How many of the last lines. Default: all.
    #[schemars(with = "u32")]
    tail: Option<u32>,
    /// Only what was written since, as in `2026-01-31T12:00:00Z`.
    #[schemars(with = "Timestamp")]
    since: Option<Timestamp>,
    /// Begin each line with its time.
    #[serde(default, deserialize_with = "flag")]
    timestamps: bool,
}

/// `?follow` is as good as `?follow=true`.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(de::Error::custom("it is `true` or `false`")),
    }
}

/// One instance.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let instance = find(
        &api.handle.state(),
        &path.namespace()?,
        &path.get("instance")?,
    )?;
    let response = etag::tagged(StatusCode::OK, instance.version, &instance);
    Ok(etag::unless_known(&headers, response))
}

/// The output of one.
pub(super) async fn logs(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    headers: HeaderMap,
    Query(query): Query<LogQuery>,
) -> Result<Response, Error> {
    let instance = find(
        &api.handle.state(),
        &path.namespace()?,
        &path.get("instance")?,
    )?;
    let node = node_of(&instance)?;
    let permit = Arc::clone(&api.log_streams)
        .try_acquire_owned()
        .map_err(|_| {
            let detail = format!("{LOG_STREAMS_MAX} logs are being read, which is the most");
            Error::new(Code::Overloaded, detail)
        })?;
    let LogQuery {
        container,
        follow,
        tail,
        since,
        timestamps,
    } = query;
    let options = LogOptions {
        follow,
        tail,
        since,
        timestamps,
    };
    let request = StreamRequest::Logs {
        instance: instance.name.clone(),
        container,
        options,
    };
    let output = Output {
        end: api.sessions.open(node, request).await?,
        shutdown: api.shutdown.clone(),
        _permit: permit,
    };
    let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(output.into_response(media_type, &headers))
}

/// The node that an instance is on, which one has to be to be reached.
pub(super) fn node_of(instance: &Instance) -> Result<&NodeName, Error> {
    instance.node.as_ref().ok_or_else(|| {
        let reason = instance.status.phase.reason();
        let reason = reason.filter(|reason| !reason.is_empty());
        let reason = reason.unwrap_or("it was made a moment ago");
        let detail = format!("no node was found for {} yet: {reason}", instance.name);
        Error::new(Code::Conflict, detail)
    })
}

pub(super) fn find(
    cluster: &Cluster,
    namespace: &Namespace,
    id: &InstanceId,
) -> Result<Instance, Error> {
    let instance = Instances::get(cluster, id).filter(|i| i.namespace == *namespace);
    instance.ok_or_else(|| {
        Error::new(
            Code::NotFound,
            format!("there is no instance {id} in namespace {namespace}"),
        )
    })
}
