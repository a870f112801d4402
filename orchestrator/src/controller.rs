//! The one writer: everything that changes the state goes through its queue.
//!
//! It drains what waits, lets the pure core decide on each command, plans what follows, makes all
//! of it durable as one batch, and only then answers and publishes the new state. So durability
//! costs one sync for each batch, and readers never wait for it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use windlass_api::{clock, ids::NodeName};
use windlass_core::{
    cluster::Cluster,
    command::{self, Applied, Refusal},
    lease::{CHECK_INTERVAL, Leases},
    plan::{Report, Scope, plan},
    record::Change,
    transaction::Transaction,
};

use crate::{
    codec,
    history::{Commit, History},
    metrics::Metrics,
    store::{self, Committer, ExportWhen, Guard, Recovery, Task},
};

mod handle;
mod scope;
mod write;

pub use handle::{AgentReport, Handle, Storage};
use handle::{Answer, Command};
use write::carry_out;
pub use write::{Error, Idempotency, Write, Written};

/// How many commands may wait. 64 API requests at a time and a few frames of each of 1,000 agents
/// fit; a full queue answers `overloaded`.
const QUEUE_DEPTH: usize = 4_096;
/// The most commands in one batch: bounds how long the first one waits for the last one.
const BATCH_MAX: usize = 512;
/// How often everything is planned anew, to find what events missed: which should be nothing.
const FULL_PASS_INTERVAL: Duration = Duration::from_secs(30);

/// An answer that waits until what it tells of is durable.
enum Pending {
    Write(Answer<Written>, Result<Vec<Applied>, Refusal>),
    Hello(Answer<Cluster>, Result<(), Refusal>),
}

/// The one writer.
pub(crate) struct Controller {
    cluster: Cluster,
    committer: Committer,
    metrics: Arc<Metrics>,
    commands: mpsc::Receiver<Command>,
    state: watch::Sender<Cluster>,
    history: Arc<History>,
    resync: watch::Sender<u64>,
    storage: watch::Sender<Storage>,
    leases: Leases,
    started: Instant,
    full_pass_at: Instant,
    wake: Option<jiff::Timestamp>,
}

impl Controller {
    /// A controller of `cluster`, which is what the store behind `committer` holds.
    pub(crate) fn new(
        cluster: Cluster,
        committer: Committer,
        metrics: Arc<Metrics>,
    ) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(QUEUE_DEPTH);
        let state = watch::Sender::new(cluster.clone());
        let history = Arc::new(History::new(cluster.version));
        let resync = watch::Sender::new(0);
        let storage = watch::Sender::new(Storage::Writable);
        let handle = Handle {
            commands: sender,
            state: state.subscribe(),
            history: Arc::clone(&history),
            resync: resync.subscribe(),
            storage: storage.subscribe(),
        };
        let started = Instant::now();
        let controller = Self {
            cluster,
            committer,
            metrics,
            commands,
            state,
            history,
            resync,
            storage,
            leases: Leases::new(Duration::ZERO),
            started,
            full_pass_at: started,
            wake: None,
        };
        (controller, handle)
    }

    /// Runs until `shutdown`, or until the store fails in a way that must not be survived.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), store::Error> {
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let until_wake = self.until_wake();
            // Cancel-safe, all of them: `recv_many` takes nothing unless it returns.
            tokio::select! {
                () = shutdown.cancelled() => break,
                received = self.commands.recv_many(&mut batch, BATCH_MAX) => {
                    if received == 0 {
                        break;
                    }
                    self.step(&mut batch, Look::AtWhatChanged).await?;
                }
                _ = tick.tick() => self.on_tick(&mut batch).await?,
                () = tokio::time::sleep(until_wake), if self.wake.is_some() => {
                    self.wake = None;
                    self.step(&mut batch, Look::AtEverything).await?;
                }
            }
        }
        self.committer.shutdown().await
    }

    fn until_wake(&self) -> Duration {
        let wake = self.wake.map(|at| at.duration_since(clock::now()));
        wake.and_then(|d| Duration::try_from(d).ok())
            .unwrap_or_default()
    }

    async fn on_tick(&mut self, batch: &mut Vec<Command>) -> Result<(), store::Error> {
        if *self.storage.borrow() == Storage::Full && !self.recover().await? {
            return Ok(());
        }
        let look = if Instant::now() >= self.full_pass_at {
            self.full_pass_at = Instant::now() + FULL_PASS_INTERVAL;
            Look::AtEverything
        } else {
            Look::AtWhatChanged
        };
        self.step(batch, look).await?;
        self.maintain().await
    }

    /// Lets the store write its automatic export and give back space, when that is due.
    async fn maintain(&self) -> Result<(), store::Error> {
        let done = self
            .committer
            .maintain(clock::now(), ExportWhen::Due)
            .await?;
        match done.export {
            Task::NotDue => {}
            Task::Done(path) => tracing::info!(path = %path.display(), "state exported"),
            Task::Failed(error) => tracing::warn!(%error, "the state could not be exported"),
        }
        match done.rewrite {
            Task::NotDue => {}
            Task::Done(bytes) => tracing::info!(bytes, "store rewritten"),
            Task::Failed(error) => tracing::warn!(%error, "the store could not be rewritten"),
        }
        Ok(())
    }

    /// Carries out what waits in `batch`, and what follows from it.
    async fn step(&mut self, batch: &mut Vec<Command>, look: Look) -> Result<(), store::Error> {
        let mut txn = Transaction::new(&self.cluster, clock::now());
        let mut pending = Vec::with_capacity(batch.len());
        let mut reports = 0;
        for command in batch.drain(..) {
            match command {
                Command::Agent(node, report) => {
                    reports += 1;
                    self.on_report(&mut txn, &node, report);
                }
                Command::Write(write, idempotency, answer) => {
                    let result = carry_out(&mut txn, write, idempotency);
                    pending.push(Pending::Write(answer, result));
                }
                Command::Hello(hello, answer) => {
                    let result = txn.attempt(|txn| command::agent::hello(txn, &hello));
                    // One that is refused does not speak for the node.
                    if result.is_ok() {
                        self.leases.renew(&hello.node, self.started.elapsed());
                    }
                    pending.push(Pending::Hello(answer, result));
                }
            }
        }
        self.lose_nodes(&mut txn);
        let report = self.plan(&mut txn, look);
        self.wake = [self.wake, report.wake].into_iter().flatten().min();
        let outcome = self.commit(txn).await?;
        if outcome.is_err() && reports > 0 {
            self.resync.send_modify(|n| *n += 1);
        }
        for pending in pending {
            self.answer(pending, &outcome);
        }
        Ok(())
    }

    fn on_report(&mut self, txn: &mut Transaction, node: &NodeName, report: AgentReport) {
        self.leases.renew(node, self.started.elapsed());
        match report {
            AgentReport::Heartbeat(health) => command::agent::heartbeat(txn, node, &health),
            AgentReport::Observed(observed) => command::agent::observed(txn, node, &observed),
            AgentReport::Images(images) => command::agent::images(txn, node, images),
            AgentReport::Rejected {
                generation,
                reason,
                seen,
            } => {
                command::agent::rejected(txn, node, generation, &reason, seen);
                let reason: String = reason
                    .chars()
                    .take(command::agent::TEXT_CHARS_MAX)
                    .collect();
                tracing::warn!(%node, %generation, reason, "an agent rejected its assignment");
            }
        }
    }

    fn lose_nodes(&mut self, txn: &mut Transaction) {
        let nodes = txn.cluster().nodes.values().filter(|n| !n.is_lost());
        let names = nodes.map(|n| &n.name);
        for node in self.leases.expired(names, self.started.elapsed()) {
            tracing::warn!(%node, "node lost");
            command::agent::lose(txn, &node);
        }
    }

    fn plan(&self, txn: &mut Transaction, look: Look) -> Report {
        let scope = match look {
            Look::AtEverything => Scope::All,
            Look::AtWhatChanged => scope::of_changes(&self.cluster, txn),
        };
        if scope == Scope::Workloads(BTreeSet::new()) {
            return Report::default();
        }
        let began = Instant::now();
        let report = plan(txn, &scope);
        self.metrics.planned(began.elapsed(), report.steps.len());
        for step in &report.steps {
            tracing::info!(
                action = ?step.action,
                workload = %step.workload,
                instance = %step.instance,
                node = step.node.as_ref().map(tracing::field::display),
                reason = step.reason,
                "planned"
            );
        }
        report
    }

    /// Makes a transaction durable and visible. The inner error leaves the state as it was.
    async fn commit(&mut self, txn: Transaction) -> Result<Result<(), Error>, store::Error> {
        if txn.is_empty() {
            return Ok(Ok(()));
        }
        if *self.storage.borrow() == Storage::Full {
            return Ok(Err(Error::NoSpace));
        }
        let (cluster, changes) = txn.finish();
        let batch = codec::encode(cluster.version, &changes);
        let bytes = batch.bytes();
        let began = Instant::now();
        match self
            .committer
            .commit(batch, Guard::Version(self.cluster.version))
            .await
        {
            Ok(_) => {
                self.metrics.committed(began.elapsed(), changes.len());
                self.publish(cluster, changes, bytes);
                Ok(Ok(()))
            }
            Err(store::Error::NoSpace { .. }) => {
                tracing::error!("the disk is full: writes are refused until there is space");
                self.storage.send_replace(Storage::Full);
                Ok(Err(Error::NoSpace))
            }
            // It changed nothing, and would not the next time either: a mistake of ours, which costs
            // those who asked for it their answer, and nobody the server.
            Err(store::Error::InvalidBatch { what }) => {
                tracing::error!(what, "a batch cannot be stored");
                Ok(Err(Error::Unstorable))
            }
            Err(fatal) => Err(fatal),
        }
    }

    /// Shows everybody a state that is durable.
    fn publish(&mut self, cluster: Cluster, changes: Vec<Change>, bytes: u64) {
        let before = std::mem::replace(&mut self.cluster, cluster.clone());
        self.state.send_replace(cluster.clone());
        self.history.push(Arc::new(Commit {
            before,
            after: cluster,
            changes,
            bytes,
        }));
    }

    /// Whether the store takes writes again. What it then holds is what counts: a batch that was
    /// not acknowledged may have landed all the same.
    async fn recover(&mut self) -> Result<bool, store::Error> {
        let records = match self.committer.try_recover().await? {
            Recovery::StillFull => return Ok(false),
            Recovery::Ready(records) => records,
        };
        let id = self.cluster.record.id;
        let cluster = codec::decode(&records, id).map_err(store::Error::unreadable)?;
        if cluster.version != self.cluster.version {
            // Without changes, since nobody knows which: whoever watches has to begin again.
            self.publish(cluster, Vec::new(), 0);
        }
        tracing::info!("the disk has space again: writes are accepted");
        self.storage.send_replace(Storage::Writable);
        self.resync.send_modify(|n| *n += 1);
        Ok(true)
    }

    fn answer(&self, pending: Pending, outcome: &Result<(), Error>) {
        // A client that did not wait for its answer is no error.
        match pending {
            Pending::Write(answer, result) => {
                let result = result.map_err(Error::Refused).and_then(|results| {
                    outcome.clone()?;
                    Ok(Written {
                        cluster: self.cluster.clone(),
                        results,
                    })
                });
                self.metrics.answered(result.as_ref().err());
                let _ = answer.send(result);
            }
            Pending::Hello(answer, result) => {
                let result = result.map_err(Error::Refused).and_then(|()| {
                    outcome.clone()?;
                    Ok(self.cluster.clone())
                });
                let _ = answer.send(result);
            }
        }
    }
}

/// What a pass of the planner looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    AtWhatChanged,
    AtEverything,
}
