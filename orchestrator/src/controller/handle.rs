//! How others reach the controller.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use windlass_api::{
    clock::Clock,
    ids::{Epoch, Generation, NodeName},
    wire::{Hello, Observed, RuntimeHealth},
};
use windlass_core::{
    cluster::Cluster,
    lease::{Leases, Moment, Pace},
};

use super::write::{Error, Idempotency, Write, Written};
use crate::history::History;

/// What an agent reports; nobody waits for an answer.
#[derive(Debug)]
pub enum AgentReport {
    /// It lives.
    Heartbeat(RuntimeHealth),
    /// What it saw.
    Observed(Observed),
    /// Which images its node has.
    Images(Vec<String>),
    /// It did not accept an assignment.
    Rejected {
        /// The generation of the assignment.
        generation: Generation,
        /// Why.
        reason: String,
        /// What it has seen instead, if the state of this server does not lead there.
        seen: Option<(Epoch, Generation)>,
    },
}

/// The leases, for as long as it takes to look at them.
pub(crate) fn locked(leases: &Mutex<Leases>) -> MutexGuard<'_, Leases> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What waits in the controller's queue.
pub(crate) enum Command {
    Write(Write, Option<Idempotency>, Answer<Written>),
    Hello(Box<Hello>, Incumbent, Answer<Cluster>),
    Agent(NodeName, AgentReport),
}

/// How others reach the controller.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) state: watch::Receiver<Cluster>,
    pub(super) history: Arc<History>,
    pub(super) resync: watch::Receiver<u64>,
    pub(super) storage: watch::Receiver<Storage>,
    pub(super) leases: Arc<Mutex<Leases>>,
    pub(super) started: Instant,
    pub(super) clock: Clock,
}

/// The agent that speaks for a node when one connects that says it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incumbent {
    /// One is connected: the same or another one.
    Connected,
    /// None is.
    Away,
}

/// Whether the store takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// It does.
    Writable,
    /// The disk is full. Reads and heartbeats go on.
    Full,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Write(write, ..) => write.fmt(f),
            Self::Hello(hello, ..) => hello.fmt(f),
            Self::Agent(node, report) => write!(f, "{node}: {report:?}"),
        }
    }
}

impl Handle {
    /// The newest state. It is durable.
    #[must_use]
    pub fn state(&self) -> Cluster {
        self.state.borrow().clone()
    }

    /// The time of day, as the controller has it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Tells of every new state.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<Cluster> {
        self.state.clone()
    }

    /// The last commits.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Changes whenever agents have to report everything again, since a report was not stored.
    #[must_use]
    pub fn resyncs(&self) -> watch::Receiver<u64> {
        self.resync.clone()
    }

    /// Whether the store takes writes.
    #[must_use]
    pub fn storage(&self) -> Storage {
        *self.storage.borrow()
    }

    /// Carries out a write. The answer comes when it is durable.
    ///
    /// # Errors
    /// As [`Error`] says. After any of them nothing of the write is left.
    pub async fn write(
        &self,
        write: Write,
        idempotency: Option<Idempotency>,
    ) -> Result<Written, Error> {
        let (answer, answered) = oneshot::channel();
        self.commands
            .try_send(Command::Write(write, idempotency, answer))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Error::Stopping,
            })?;
        answered.await.map_err(|_| Error::Stopping)?
    }

    /// Lets an agent in, unless the `incumbent` is another one that its node cannot be taken from.
    ///
    /// # Errors
    /// If the agent is refused, or its node cannot be registered now.
    pub async fn hello(&self, hello: Hello, incumbent: Incumbent) -> Result<Cluster, Error> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Hello(Box::new(hello), incumbent, answer);
        self.commands
            .send(command)
            .await
            .map_err(|_| Error::Stopping)?;
        answered.await.map_err(|_| Error::Stopping)?
    }

    /// Renews a node's lease, for a heartbeat that arrived now. That waits neither for the controller
    /// nor for the disk. `None` if the lease is over: the agent has to be let in again.
    #[must_use]
    pub fn renew(&self, node: &NodeName) -> Option<Pace> {
        self.renew_at(node, self.started.elapsed())
    }

    /// The same, at a moment since the server started.
    pub(crate) fn renew_at(&self, node: &NodeName, now: Moment) -> Option<Pace> {
        locked(&self.leases).renew(node, now)
    }

    /// Hands over an agent's report, and waits while the queue is full.
    ///
    /// # Errors
    /// If the server stops.
    pub async fn report(&self, node: &NodeName, report: AgentReport) -> Result<(), Error> {
        let command = Command::Agent(node.clone(), report);
        self.commands
            .send(command)
            .await
            .map_err(|_| Error::Stopping)
    }
}
