//! Instances, one at a time, and their output.

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use windlass_api::{
    ids::{ContainerName, InstanceId, Namespace, NodeName},
    problem::Code,
    resource::Instance,
    wire::{Control, LogOptions, StreamRequest},
};
use windlass_core::cluster::Cluster;

use super::{
    Api, LOG_STREAMS_MAX,
    collection::{Collection, Instances},
    etag,
    parameters::{PathParameters, Query},
};
use crate::{
    error::Error,
    sessions::{Frame, StreamEnd},
};

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
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((headers, output.into_body()).into_response())
}

/// What an agent sends, which is being read as the body of an answer.
pub(super) struct Output {
    pub(super) end: StreamEnd,
    pub(super) shutdown: CancellationToken,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Output {
    /// The data, until it ends or breaks off.
    pub(super) fn into_body(self) -> Body {
        let chunks = futures_util::stream::unfold(Some(self), |output| async {
            let mut output = output?;
            let chunk = output.next().await?;
            // What broke off is not read on.
            let rest = chunk.is_ok().then_some(output);
            Some((chunk, rest))
        });
        Body::from_stream(chunks)
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let chunk = self.end.incoming.recv();
            match self.shutdown.run_until_cancelled(chunk).await {
                Some(Some(Ok(Frame::Data(bytes)))) => return Some(Ok(bytes)),
                Some(Some(Ok(Frame::Control(Control::Failed { reason, .. })))) => {
                    return Some(Err(io::Error::other(reason)));
                }
                Some(Some(Ok(Frame::Control(_)))) => {}
                Some(Some(Err(error))) => return Some(Err(error)),
                Some(None) => return None,
                // An error, since a plain end would say that the output ends here.
                None => {
                    return Some(Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the server stops",
                    )));
                }
            }
        }
    }
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
