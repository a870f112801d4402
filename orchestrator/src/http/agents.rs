//! Where agents connect: see [`windlass_api::wire`].

use std::sync::Arc;

use axum::{
    Extension,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use uuid::Uuid;
use windlass_api::{
    problem::Code,
    wire::{FRAME_BYTES_MAX, STREAM_MESSAGE_BYTES_MAX},
};

use windlass_core::access::Caller;

use super::{
    Api,
    parameters::PathParameters,
    session,
    stream::{self, STREAM_BUFFER_BYTES},
};
use crate::error::Error;

/// The buffers of a session, in bytes: most of what an agent says is a heartbeat. The WebSocket
/// clears all of its buffer before each read, so with the usual 128 KiB a thousand agents took
/// 115 MB, and a sixth of the server's time at rest.
const SESSION_BUFFER_BYTES: usize = 4 << 10;

/// Opens an agent's session.
pub(super) async fn session(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    let (handle, sessions) = (api.handle.clone(), Arc::clone(&api.sessions));
    let shutdown = api.shutdown.clone();
    Ok(bounded(upgrade, FRAME_BYTES_MAX)?
        .read_buffer_size(SESSION_BUFFER_BYTES)
        .write_buffer_size(SESSION_BUFFER_BYTES)
        .on_upgrade(|socket| session::serve(socket, caller, handle, sessions, shutdown)))
}

/// Opens a stream that the server asked for.
pub(super) async fn stream(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: PathParameters,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    let id: Uuid = path.get("stream")?;
    let upgrade = bounded(upgrade, STREAM_MESSAGE_BYTES_MAX)?;
    let (node, end) = api
        .sessions
        .opened(id, |node| caller.speaks_for(node))
        .ok_or_else(|| Error::new(Code::NotFound, "nobody waits for that stream (any more)"))?;
    let shutdown = api.shutdown.clone();
    Ok(upgrade.on_upgrade(async move |socket| {
        let agent = format!("the agent of node {node}");
        stream::pump(socket, end, &agent, shutdown).await;
    }))
}

fn bounded(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    bytes_max: usize,
) -> Result<WebSocketUpgrade, Error> {
    match upgrade {
        Ok(upgrade) => Ok(upgrade
            .max_message_size(bytes_max)
            .max_frame_size(bytes_max)
            .read_buffer_size(STREAM_BUFFER_BYTES)),
        Err(rejection) => Err(Error::malformed(format!(
            "this route is for the WebSockets of agents: {rejection}"
        ))),
    }
}
