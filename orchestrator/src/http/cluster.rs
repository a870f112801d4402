//! The cluster as a whole.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use windlass_api::{
    problem::Code,
    resource::{ClusterInfo, Restore, StoreState},
};
use windlass_core::cluster::Cluster;

use super::{Api, BACKUPS_MAX, write::WriteRequest};
use crate::{
    codec,
    controller::{Storage, Write},
    error::Error,
    metrics::{Census, Count},
};

/// The media type of an export: JSON, one object in a line.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// How much of a backup is made at a time, in bytes, and at least one record.
const PIECE_BYTES: usize = 64 << 10;

/// What there is, and what is wrong.
pub(super) async fn get(State(api): State<Arc<Api>>) -> Json<ClusterInfo> {
    Json(info(&api, &api.handle.state()))
}

/// Accepts the state as it is after it may have gone back.
pub(super) async fn accept_restore(
    State(api): State<Arc<Api>>,
    request: WriteRequest,
) -> Result<Json<ClusterInfo>, Error> {
    let write = api.handle.write(Write::AcceptRestore, request.idempotency);
    Ok(Json(info(&api, &write.await?.cluster)))
}

/// The whole state as an export. It is made from a snapshot while it is read, so that nobody waits
/// for it: neither writers nor the store.
pub(super) async fn backup(State(api): State<Arc<Api>>) -> Result<Response, Error> {
    let permit = Arc::clone(&api.backups).try_acquire_owned().map_err(|_| {
        let detail = format!("{BACKUPS_MAX} backups are being made, which is the most");
        Error::new(Code::Overloaded, detail)
    })?;
    let lines = codec::export(&api.handle.state());
    let pieces = stream::unfold((lines, permit), |(mut lines, permit)| async {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            match lines.next() {
                Some(line) => piece.extend(line),
                None => break,
            }
        }
        (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (lines, permit)))
    });
    let headers = [(header::CONTENT_TYPE, NDJSON)];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

fn info(api: &Api, cluster: &Cluster) -> ClusterInfo {
    let census = Census::of(cluster);
    ClusterInfo {
        id: cluster.record.id,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        version: cluster.version,
        epoch: cluster.record.epoch,
        nodes: named(census.nodes),
        rejecting: census.rejecting,
        agents: api.sessions.connected() as u64,
        workloads: named(census.workloads),
        instances: named(census.instances),
        store: match api.handle.storage() {
            Storage::Writable => StoreState::Writable,
            Storage::Full => StoreState::Full,
        },
        evictions: cluster.record.evictions,
        restore: cluster.record.restore.as_ref().map(|restore| Restore {
            at: restore.at,
            cause: restore.cause.clone(),
            accepted_at: restore.accepted_at,
        }),
    }
}

fn named(count: Count) -> BTreeMap<String, u64> {
    let named = |(name, number): (&str, u64)| (name.to_owned(), number);
    count.into_iter().map(named).collect()
}
