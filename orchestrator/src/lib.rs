//! The server: keeps the state of the cluster, decides through `windlass-core` what follows from
//! it, and tells agents.
//!
//! ```text
//! HTTP -> controller queue -> core::command -> core::plan -> store.commit -> snapshot, history
//!                                                              |
//!              agent reports <- session <- assignment <--------+
//! ```

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinSet,
};
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
pub mod trust;

pub use http::{ListenError, check_listen};
pub use windlass_core::lease;
pub use windlass_trust::authority::Host;

/// The socket in the data directory by which a server's owner reaches it, once the cluster has
/// certificates.
pub const SOCKET: &str = "windlass.sock";

/// How a server runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the state is kept. One server at a time uses it.
    pub data_dir: PathBuf,
    /// The program that checks the store before this process opens it; see [`store`].
    pub verifier: Option<store::Verifier>,
    /// What tells the time of day.
    pub clock: Clock,
    /// By which names and addresses the server is reached, beside those that everything here uses:
    /// they stand in its certificate, if the cluster has any.
    pub hosts: Vec<Host>,
    /// How long the certificates of nodes hold. They are renewed when half of that is over.
    pub node_lifetime: Duration,
}

impl Config {
    /// What is usual, with the state in this directory. Nothing checks the store beforehand.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            verifier: None,
            clock: Clock::default(),
            hosts: Vec::new(),
            node_lifetime: trust::NODE_LIFETIME,
        }
    }
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
    /// The cluster's authority cannot be used.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// The socket for the server's owner cannot be made.
    #[error("cannot listen at {}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
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
    serve(&config, Box::new(store), listener, shutdown).await
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
    config: &Config,
    store: Box<dyn store::Store>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let committer = store::Committer::spawn(store)?;
    let cluster = load(&committer, config.clock.now()).await?;
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
    let trust = trust::Trust::open(config, cluster.record.id)?;
    let trust = trust.map(Arc::new);
    let (entrances, doors) = ways_in(config, trust.as_deref(), listener)?;
    let metrics = Arc::new(metrics::Metrics::new());
    let (controller, handle) = controller::Controller::new(
        cluster,
        committer,
        Arc::clone(&metrics),
        config.clock.clone(),
    );
    let parts = http::Parts {
        handle,
        metrics: Arc::clone(&metrics),
        sessions: Arc::new(sessions::Sessions::default()),
        trust: trust.clone(),
        shutdown: shutdown.clone(),
    };

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
    for (door, router) in doors.into_iter().zip(http::routers(parts, &entrances)) {
        let served = http::serve(door, router, Arc::clone(&metrics), shutdown.clone());
        tasks.spawn(async move { ("listener", served.await.map_err(Error::Listener)) });
    }
    if let Some(trust) = trust {
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            let kept = trust.keep_fresh(shutdown).await;
            ("certificate's keeper", kept.map_err(Error::Trust))
        });
    }
    attend(tasks, &shutdown, &stop_controller).await
}

/// Waits until all parts have ended. When one does, all are asked to.
async fn attend(
    mut tasks: JoinSet<(&'static str, Result<(), Error>)>,
    shutdown: &CancellationToken,
    stop_controller: &CancellationToken,
) -> Result<(), Error> {
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

/// How the server is reached: without certificates only by this machine, and with them by everybody
/// over the network, and by its owner over a socket in its data directory. The two lists belong
/// together.
fn ways_in(
    config: &Config,
    trust: Option<&trust::Trust>,
    listener: TcpListener,
) -> Result<(Vec<http::Entrance>, Vec<http::Door>), Error> {
    // Nobody was told before: without a state, connections only wait.
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, encrypted = trust.is_some(), "listening");
    }
    let Some(trust) = trust else {
        let door = http::Door::Loopback(listener);
        return Ok((vec![http::Entrance::Loopback], vec![door]));
    };
    let path = config.data_dir.join(SOCKET);
    let local = bind_local(&path).map_err(|source| Error::Socket {
        path: path.clone(),
        source,
    })?;
    tracing::info!(path = %path.display(), "listening");
    Ok((
        vec![http::Entrance::Network, http::Entrance::Local],
        vec![
            http::Door::Network(listener, trust.tls()),
            http::Door::Local(local),
        ],
    ))
}

/// Listens at a path that nobody but this process' user may open.
fn bind_local(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // That of a server that is gone: this one alone uses the data directory.
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
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
