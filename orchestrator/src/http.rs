//! The REST API.
//!
//! `operations.rs` is the one table of what the API can do: the router and the OpenAPI document
//! are both made from it, so that no route can be undocumented and what is not in it is refused.
//! Everything that is refused, wherever, leaves as a problem (RFC 9457) through `envelope.rs`.

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{controller::Handle, metrics::Metrics, sessions::Sessions, trust::Trust};

mod access;
mod agents;
mod apply;
mod cluster;
mod collection;
mod document;
mod envelope;
mod etag;
mod instances;
mod jobs;
mod list;
mod listener;
mod loopback;
mod nodes;
mod openapi;
mod operation;
mod operations;
mod output;
mod page;
mod parameters;
mod peer;
mod rebalance;
mod rollouts;
mod server;
mod session;
mod stats;
mod stream;
mod streams;
mod tokens;
mod watch;
mod workloads;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use access::Entrance;
pub(crate) use listener::{Door, serve};
pub use loopback::{ListenError, check_listen};
use operation::Operation;

/// The most watches at a time: one for each of a few hundred terminals and dashboards. A watch
/// that waits holds a few KB.
const WATCHES_MAX: usize = 500;
/// The most logs that are read at a time. Each holds at most 512 KiB of chunks.
const LOG_STREAMS_MAX: usize = 64;
/// The most commands, forwarded connections and copies of files at a time: a few people with a
/// browser that opens a handful of connections each. Each holds at most 1 MiB of chunks.
const REACH_STREAMS_MAX: usize = 128;
/// How many may ask for the statistics of nodes at a time: a few terminals, since each asks all
/// agents.
const STATS_MAX: usize = 4;

/// How many may read a backup at a time: each keeps a snapshot of the state alive.
const BACKUPS_MAX: usize = 2;

/// What every handler has.
#[derive(Debug)]
pub(crate) struct Api {
    handle: Handle,
    metrics: Arc<Metrics>,
    sessions: Arc<Sessions>,
    /// What lets nodes in, if the cluster has certificates.
    trust: Option<Arc<Trust>>,
    /// Ends the answers that would not end by themselves.
    shutdown: CancellationToken,
    watches: Arc<Semaphore>,
    log_streams: Arc<Semaphore>,
    /// KiB of pages that wait for their readers.
    unread: Arc<Semaphore>,
    reach_streams: Arc<Semaphore>,
    stats: Semaphore,
    backups: Arc<Semaphore>,
    openapi: Bytes,
}

impl Api {
    fn watches_open(&self) -> usize {
        WATCHES_MAX - self.watches.available_permits()
    }

    fn log_streams_open(&self) -> usize {
        LOG_STREAMS_MAX - self.log_streams.available_permits()
    }

    fn reach_streams_open(&self) -> usize {
        REACH_STREAMS_MAX - self.reach_streams.available_permits()
    }
}

/// What an API is made on.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The controller.
    pub(crate) handle: Handle,
    /// Where refusals are counted.
    pub(crate) metrics: Arc<Metrics>,
    /// The agents that are connected.
    pub(crate) sessions: Arc<Sessions>,
    /// What lets nodes in, if the cluster has certificates.
    pub(crate) trust: Option<Arc<Trust>>,
    /// Ends answers that would not end by themselves.
    pub(crate) shutdown: CancellationToken,
}

/// The API on top of a controller, for those who come in by each of these entrances. They share its
/// bounds.
pub(crate) fn routers(parts: Parts, entrances: &[Entrance]) -> Vec<Router> {
    build(operations::all(), parts, entrances)
}

fn build(operations: Vec<Operation>, parts: Parts, entrances: &[Entrance]) -> Vec<Router> {
    let api = Arc::new(Api {
        handle: parts.handle,
        metrics: parts.metrics,
        sessions: parts.sessions,
        trust: parts.trust,
        shutdown: parts.shutdown,
        watches: Arc::new(Semaphore::new(WATCHES_MAX)),
        log_streams: Arc::new(Semaphore::new(LOG_STREAMS_MAX)),
        unread: Arc::new(Semaphore::new(page::UNREAD_KIB_MAX)),
        reach_streams: Arc::new(Semaphore::new(REACH_STREAMS_MAX)),
        stats: Semaphore::new(STATS_MAX),
        backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
        openapi: openapi::document(&operations),
    });
    let routes = operation::routes(operations).fallback(operation::no_route);
    let through = |entrance: &Entrance| {
        let layers = ServiceBuilder::new()
            .layer(from_fn_with_state(Arc::clone(&api), envelope::enclose))
            .layer(CatchPanicLayer::custom(envelope::panicked))
            .layer(from_fn_with_state(
                (entrance.clone(), Arc::clone(&api)),
                access::enter,
            ));
        routes.clone().layer(layers).with_state(Arc::clone(&api))
    };
    entrances.iter().map(through).collect()
}
