//! The agent: makes what runs on a node equal to what the server assigned to it.
//!
//! The way of the data: `session` hears assignments and hands them to the `ledger`, which
//! judges them and writes them down; the `reconciler` lists the containers, asks `plan` what to
//! do and hands its steps to the `worker`, which asks the `runtime`; what is seen goes onto the
//! `board`, from where the session reports it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use windlass_api::{
    DEFAULT_ADDRESS,
    clock::Clock,
    expression::Taint,
    ids::NodeName,
    quantity::{CpuMillis, MemoryBytes},
    resource::Capacity,
};

use crate::{
    board::Board,
    data_dir::{DataDir, Identity},
    dial::{Dial, Server},
    fence::Fence,
    history::Histories,
    ledger::{Held, Ledger},
    membership::{Encryption, Membership, Renewal},
    reach::Reach,
    reconciler::{Local, Reconciler},
    runtime::{Owner, Runtime},
    session::{Introduction, Session},
    stream::Streams,
};

pub use data_dir::DataDirError;
pub use dial::ServerError;
pub use membership::{Join, JoinError, Joined, join};

mod backoff;
mod board;
mod data_dir;
mod dial;
pub mod docker;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod fence;
mod history;
mod image;
mod keeper;
mod ledger;
mod membership;
mod plan;
mod probe;
pub mod reach;
mod reconciler;
pub mod runtime;
mod session;
#[cfg(feature = "simulation")]
pub mod simulation;
mod slot;
mod state_file;
mod stream;
#[cfg(test)]
mod testing;
mod worker;

/// How long the end waits for the parts: longer than the reconciler waits for its steps.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// What an agent is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address of the server, like `http://127.0.0.1:7400`, of which a node that has joined a
    /// cluster takes host and port only. `None`: where it joined.
    pub server: Option<String>,
    /// The node's name.
    pub node: NodeName,
    /// Where to keep what must outlive the agent. One agent per directory.
    pub data_dir: PathBuf,
    /// The labels to register the node with.
    pub labels: BTreeMap<String, String>,
    /// The taints to register the node with.
    pub taints: Vec<Taint>,
    /// What instances may use in all.
    pub offer: Offer,
}

/// What a node offers to instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offer {
    /// CPU; `None`: all that the machine has.
    pub cpu: Option<CpuMillis>,
    /// Memory; `None`: all that the machine has.
    pub memory: Option<MemoryBytes>,
}

impl Offer {
    /// What is offered of a machine of this size.
    pub(crate) fn of(self, machine: Capacity) -> Capacity {
        Capacity {
            cpu: self.cpu.unwrap_or(machine.cpu),
            memory: self.memory.unwrap_or(machine.memory),
        }
    }
}

/// Why an agent cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the server is none.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// What makes the machine a node cannot be used.
    #[error("what makes this machine a node cannot be used: let it join again")]
    Membership(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A part of the agent ended though nobody asked it to.
    #[error("the agent's {0} ended unexpectedly")]
    Ended(&'static str),
    /// A part of the agent broke down.
    #[error("a part of the agent broke down")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Runs an agent until `shutdown`. Leaves all containers as they are then.
///
/// Neither the server nor the engine need answer: it waits for both.
///
/// # Errors
/// If the configuration or the data directory cannot be used, or a part of it breaks down.
pub async fn run<R: Runtime + Reach>(
    config: Config,
    runtime: R,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (path, node) = (config.data_dir.clone(), config.node.clone());
    let mut kept = spawn_blocking(move || Kept::load(&path, &node)).await??;
    let (server, encryption) = contact(&config, kept.membership.as_ref())?;
    tracing::info!(node = %config.node, agent = %kept.identity.agent, %server, "the agent starts");
    let stop = shutdown.child_token();
    let membership = kept.membership.take().zip(encryption);
    let authority = server.authority().to_owned();
    let parts = Parts::new(config, kept, Arc::new(runtime), Arc::new(server));
    let data = Arc::clone(&parts.data);
    let mut tasks = parts.spawn(&stop);
    if let Some((membership, encryption)) = membership {
        let renewal = Renewal {
            data,
            membership,
            server: authority,
            encryption,
        };
        let renewing = renewal.run(stop.clone());
        tasks.spawn(async move {
            renewing.await;
            Ok("renewal")
        });
    }
    let result = tokio::select! {
        // First: the parts end, too, when the agent is to end.
        biased;
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            Ok(Ok(name)) => Err(Error::Ended(name)),
            Ok(Err(error)) | Err(error) => Err(Error::Panicked(error)),
        },
    };
    stop.cancel();
    let joined = async { while tasks.join_next().await.is_some() {} };
    if timeout(STOP_LIMIT, joined).await.is_err() {
        tracing::warn!("a part of the agent did not end in time and was cut off");
    }
    tasks.shutdown().await;
    result
}

/// How the server is reached: encrypted by a node that has joined a cluster, and then so for ever.
fn contact(
    config: &Config,
    membership: Option<&Membership>,
) -> Result<(Server, Option<Encryption>), Error> {
    let Some(member) = membership else {
        let address = config.server.as_deref();
        let plain = address.map_or_else(|| format!("http://{DEFAULT_ADDRESS}"), str::to_owned);
        return Ok((plain.parse()?, None));
    };
    let encryption = member.encryption();
    let encryption = encryption.map_err(|error| Error::Membership(Box::new(error)))?;
    let (encryption, current) = watch::channel(encryption);
    let authority = match &config.server {
        Some(address) => dial::authority(address)?,
        None => member.server.clone(),
    };
    Ok((Server::encrypted(authority, current), Some(encryption)))
}

/// What an agent finds in its data directory.
struct Kept {
    data: DataDir,
    identity: Identity,
    ledger: Ledger,
    histories: Histories,
    health_memory: probe::Memory,
    boot: String,
    contact: fence::Contact,
    membership: Option<Membership>,
}

impl Kept {
    fn load(path: &std::path::Path, node: &NodeName) -> Result<Self, DataDirError> {
        let data = DataDir::open(path)?;
        let boot = data_dir::boot_id();
        let now = fence::boot_clock()();
        Ok(Self {
            contact: fence::KeptContact::read(data.contact()?, &boot, now),
            boot,
            identity: data.identity(node)?,
            ledger: Ledger::open(data.ledger())?,
            histories: data.histories()?,
            health_memory: data.health_memory()?,
            membership: data.membership()?,
            data,
        })
    }
}

/// All that the tasks of an agent work on.
struct Parts<D, R> {
    config: Config,
    data: Arc<DataDir>,
    identity: Identity,
    boot: String,
    ledger: Arc<Ledger>,
    board: Arc<Board>,
    runtime: Arc<R>,
    dial: Arc<D>,
}

/// The name of a task that ended, or why the reconciler could not go on.
type Ended = Result<&'static str, tokio::task::JoinError>;

impl<D: Dial, R: Runtime + Reach> Parts<D, R> {
    fn new(config: Config, kept: Kept, runtime: Arc<R>, dial: Arc<D>) -> Self {
        let cluster = kept.ledger.held().map(|h| h.cluster);
        let machine = kept.identity.machine.clone();
        let board = Board::new(cluster, machine, kept.histories, fence::boot_clock());
        board.contact.send_replace(kept.contact);
        board.health_memory.send_replace(kept.health_memory);
        Self {
            config,
            data: Arc::new(kept.data),
            identity: kept.identity,
            boot: kept.boot,
            ledger: Arc::new(kept.ledger),
            board: Arc::new(board),
            runtime,
            dial,
        }
    }

    fn spawn(self, stop: &CancellationToken) -> JoinSet<Ended> {
        let mut tasks = JoinSet::new();
        let (requests, asked) = mpsc::channel(stream::QUEUE_MAX);
        let (failed, failures) = mpsc::channel(stream::QUEUE_MAX);
        let session = Session {
            dial: Arc::clone(&self.dial),
            introduction: Introduction {
                node: self.config.node.clone(),
                boot: self.boot.clone(),
                labels: self.config.labels.clone(),
                taints: self.config.taints.clone(),
            },
            ledger: Arc::clone(&self.ledger),
            board: Arc::clone(&self.board),
            requests,
            failures,
        };
        let streams = Streams {
            dial: Arc::clone(&self.dial),
            runtime: Arc::clone(&self.runtime),
            board: Arc::clone(&self.board),
            ledger: Arc::clone(&self.ledger),
            node: self.config.node.clone(),
            requests: asked,
            failures: failed,
        };
        let keeper = keeper::keep(
            Arc::clone(&self.data),
            self.identity.clone(),
            Arc::clone(&self.board),
            stop.clone(),
        );
        let effective = Fence::first(
            self.ledger.held().as_ref(),
            &self.board.contact.borrow(),
            &self.board.boot_clock,
        );
        let may_run = effective.subscribe();
        let fence = Fence {
            held: self.ledger.subscribe(),
            contact: self.board.contact.subscribe(),
            clock: Arc::clone(&self.board.boot_clock),
            boot: self.boot.clone(),
            data: Arc::clone(&self.data),
            effective,
        };
        let fence = fence.run(stop.clone());
        let session = session.run(stop.clone());
        let streams = streams.run(stop.clone());
        tasks.spawn(async move {
            session.await;
            Ok("session")
        });
        tasks.spawn(async move {
            fence.await;
            Ok("fence")
        });
        tasks.spawn(async move {
            streams.await;
            Ok("stream service")
        });
        tasks.spawn(async move {
            keeper.await;
            Ok("keeper")
        });
        let engine = self.attend_engine(may_run, stop.clone());
        tasks.spawn(async move { engine.await.map(|()| "reconciler") });
        tasks
    }

    /// Reconciles as soon as it is known whose containers are ours.
    async fn attend_engine(
        self,
        may_run: watch::Receiver<Option<Arc<Held>>>,
        stop: CancellationToken,
    ) -> Result<(), tokio::task::JoinError> {
        let local = Local {
            agent: self.identity.agent,
            offer: self.config.offer,
        };
        let waiting = reconciler::wait_for_cluster(&*self.runtime, &local, &self.board);
        let Some(cluster) = stop.run_until_cancelled(waiting).await else {
            return Ok(());
        };
        let owner = Owner {
            cluster,
            node: self.config.node,
        };
        let reconciler = Reconciler::new(
            self.runtime,
            owner,
            local,
            Clock::default(),
            self.board,
            may_run,
        );
        reconciler.run(stop).await
    }
}

#[cfg(test)]
mod tests;
