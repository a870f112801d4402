//! What the server says about itself.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use windlass_api::{problem::Code, resource::ServerInfo};

use super::Api;
use crate::{
    controller::{self, Storage},
    error::Error,
    metrics::Now,
    store::SPACE_NEEDED_BYTES,
};

/// The media type of the metrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Who the server is.
pub(super) async fn info(State(api): State<Arc<Api>>) -> Json<ServerInfo> {
    let cluster = api.handle.state();
    Json(ServerInfo {
        cluster: cluster.record.id.0,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        version: cluster.version,
        time: Some(api.handle.now()),
    })
}

/// The process lives.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Whether writes are taken.
pub(super) async fn readiness(State(api): State<Arc<Api>>) -> Result<&'static str, Error> {
    if api.shutdown.is_cancelled() {
        return Err(controller::Error::Stopping.into());
    }
    match api.handle.storage() {
        Storage::Writable => Ok("ready\n"),
        Storage::Full => Err(Error::new(
            Code::NoSpace,
            format!(
                "the server's disk is full: writes are refused until at least {} MiB are free; \
                 reads go on",
                SPACE_NEEDED_BYTES >> 20
            ),
        )),
    }
}

/// The metrics, with gauges as of now.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let now = Now {
        cluster: api.handle.state(),
        storage: api.handle.storage(),
        agents: api.sessions.connected(),
        watches: api.watches_open(),
        log_streams: api.log_streams_open(),
        reach_streams: api.reach_streams_open(),
    };
    (
        [(header::CONTENT_TYPE, OPENMETRICS)],
        api.metrics.render(&now),
    )
        .into_response()
}

/// The OpenAPI document.
pub(super) async fn openapi(State(api): State<Arc<Api>>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        api.openapi.clone(),
    )
        .into_response()
}
