//! Instances, one at a time, and their output.

use std::{io, pin::Pin, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use windlass_api::{
    ids::{InstanceId, Namespace},
    problem::Code,
    resource::Instance,
    wire::LogOptions,
};
use windlass_core::cluster::Cluster;

use super::{
    Api, LOG_STREAMS_MAX,
    collection::{Collection, Instances},
    etag,
    parameters::{PathParameters, Query},
};
use crate::{error::Error, sessions::Chunk};

/// Which part of the output is wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LogQuery {
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
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
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
    Query(query): Query<LogQuery>,
) -> Result<Response, Error> {
    let instance = find(
        &api.handle.state(),
        &path.namespace()?,
        &path.get("instance")?,
    )?;
    let Some(node) = &instance.node else {
        let reason = instance
            .status
            .phase
            .reason()
            .filter(|reason| !reason.is_empty());
        let reason = reason.unwrap_or("it was made a moment ago");
        let detail = format!("no node was found for {} yet: {reason}", instance.name);
        return Err(Error::new(Code::Conflict, detail));
    };
    let permit = Arc::clone(&api.log_streams)
        .try_acquire_owned()
        .map_err(|_| {
            let detail = format!("{LOG_STREAMS_MAX} logs are being read, which is the most");
            Error::new(Code::Overloaded, detail)
        })?;
    let LogQuery {
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
    let chunks = api
        .sessions
        .open_logs(node, &instance.name, options)
        .await?;
    let output = Output {
        chunks: Box::pin(chunks),
        shutdown: api.shutdown.clone(),
        _permit: permit,
    };
    let output = futures_util::stream::unfold(Some(output), |output| async {
        let mut output = output?;
        let chunk = output.next().await?;
        // What broke off is not read on.
        let rest = chunk.is_ok().then_some(output);
        Some((chunk, rest))
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((headers, Body::from_stream(output)).into_response())
}

/// An output that is being read.
struct Output<S> {
    chunks: Pin<Box<S>>,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl<S: Stream<Item = Chunk>> Output<S> {
    async fn next(&mut self) -> Option<Chunk> {
        match self.shutdown.run_until_cancelled(self.chunks.next()).await {
            Some(chunk) => chunk,
            // An error, since a plain end would say that the output ends here.
            None => Some(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server stops",
            ))),
        }
    }
}

fn find(cluster: &Cluster, namespace: &Namespace, id: &InstanceId) -> Result<Instance, Error> {
    let instance = Instances::get(cluster, id).filter(|i| i.namespace == *namespace);
    instance.ok_or_else(|| {
        Error::new(
            Code::NotFound,
            format!("there is no instance {id} in namespace {namespace}"),
        )
    })
}
