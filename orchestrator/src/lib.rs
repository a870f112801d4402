//! The server: keeps the state of the cluster, decides through `windlass-core` what follows from
//! it, and tells agents.
//!
//! ```text
//! HTTP -> controller queue -> core::command -> core::plan -> store.commit -> snapshot, history
//!                                                              |
//!              agent reports <- session <- assignment <--------+
//! ```

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_api::{
    clock::Clock,
    event::{Severity, Subject},
    ids::{ClusterId, Epoch, Version},
};
use windlass_core::{cluster::Cluster, command, record::Change, transaction::Transaction};

mod assignments;
pub mod codec;
pub mod controller;
mod dialogue;
mod error;
pub mod history;
mod http;
pub mod metrics;
mod sessions;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod store;

pub use http::{ListenError, check_listen};
pub use windlass_core::lease;

/// How a server runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the state is kept. One server at a time uses it.
    pub data_dir: PathBuf,
    /// The program that checks the store before this process opens it; see [`store`].
    pub verifier: Option<store::Verifier>,
    /// What tells the time of day.
    pub clock: Clock,
}

/// Why a server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used (any longer).
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store holds what this version cannot read.
    #[error("the stored state cannot be read")]
    State(#[from] codec::Error),
    /// A part of the server ended that must not.
    #[error("the server's {0} ended unexpectedly")]
    Task(&'static str),
    /// A part of the server panicked.
    #[error("a part of the server panicked")]
    Panic(#[source] tokio::task::JoinError),
    /// The listener failed.
    #[error("cannot accept connections")]
    Listener(#[source] std::io::Error),
}

/// Runs a server until `shutdown`.
///
/// # Errors
/// If the store cannot be opened or fails, or a part of the server ends unexpectedly.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let store = open(&config).await?;
    serve(Box::new(store), config.clock, listener, shutdown).await
}

async fn open(config: &Config) -> Result<store::DiskStore, Error> {
    let config = config.clone();
    let opened = tokio::task::spawn_blocking(move || {
        store::DiskStore::open(&config.data_dir, config.verifier.as_ref())
    });
    Ok(opened.await.map_err(Error::Panic)??)
}

/// Serves the state that `store` holds.
async fn serve(
    store: Box<dyn store::Store>,
    clock: Clock,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let committer = store::Committer::spawn(store)?;
    let cluster = load(&committer, clock.now()).await?;
    for what in cluster.inconsistencies() {
        tracing::error!(what, "the state is inconsistent");
    }
    tracing::info!(
        cluster = %cluster.record.id,
        version = %cluster.version,
        workloads = cluster.workloads.len(),
        nodes = cluster.nodes.len(),
        "state loaded"
    );
    // Nobody is told before: without a state, connections only wait.
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listening");
    }
    let metrics = Arc::new(metrics::Metrics::new());
    let (controller, handle) =
        controller::Controller::new(cluster, committer, Arc::clone(&metrics), clock);
    let sessions = Arc::new(sessions::Sessions::default());
    let router = http::router(handle, Arc::clone(&metrics), sessions, shutdown.clone());

    let mut tasks: JoinSet<(&'static str, Result<(), Error>)> = JoinSet::new();
    // The controller outlives the listener, so that requests in flight get their answers.
    let controller_shutdown = CancellationToken::new();
    let stop_controller = controller_shutdown.clone();
    tasks.spawn(async move {
        (
            "controller",
            controller
                .run(controller_shutdown)
                .await
                .map_err(Error::Store),
        )
    });
    let http_shutdown = shutdown.clone();
    tasks.spawn(async move {
        (
            "listener",
            http::serve(listener, router, metrics, http_shutdown)
                .await
                .map_err(Error::Listener),
        )
    });
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let (name, ended) = match ended {
            Ok(ended) => ended,
            Err(panic) => ("task", Err(Error::Panic(panic))),
        };
        if result.is_ok() {
            let asked = shutdown.is_cancelled();
            result = ended.and_then(|()| {
                if asked {
                    Ok(())
                } else {
                    Err(Error::Task(name))
                }
            });
        }
        shutdown.cancel();
        stop_controller.cancel();
    }
    result
}

/// The state that a server begins with. What it makes of a new or restored store is durable.
async fn load(committer: &store::Committer, now: Timestamp) -> Result<Cluster, Error> {
    let records = committer.load().await?;
    let loaded = codec::decode(&records, ClusterId(Uuid::new_v4()))?;
    let Some((begun, batch)) = begin(&loaded, records.epoch, now) else {
        return Ok(loaded);
    };
    drop(records);
    let guard = store::Guard::Version(loaded.version);
    committer.commit(batch, guard).await?;
    Ok(begun)
}

/// That a new cluster begins, or that its state was restored: to be made durable before anybody is
/// told. `None` if it is neither.
fn begin(loaded: &Cluster, epoch: Epoch, now: Timestamp) -> Option<(Cluster, store::Batch)> {
    let is_new = loaded.version == Version(0);
    let is_restored = epoch > loaded.record.epoch;
    let mut txn = Transaction::new(loaded, now);
    if is_new {
        txn.put(Change::Cluster(Arc::clone(&loaded.record)));
        let text = "a new cluster begins";
        txn.event(Subject::Cluster, Severity::Normal, "Created", text);
    }
    if is_restored {
        command::restore::restored(&mut txn, epoch);
    }
    let (begun, changes) = txn.finish();
    let batch = codec::encode(begun.version, &changes);
    (is_new || is_restored).then_some((begun, batch))
}
