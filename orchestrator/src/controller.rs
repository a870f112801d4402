//! The one writer: everything that changes the state goes through its queue.
//!
//! It drains what waits, lets the [`Brain`] decide on each command and what follows from it, makes
//! all of it durable as one batch, and only then answers and publishes the new state. So durability
//! costs one sync for each batch, and readers never wait for it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_api::clock::Clock;
use windlass_core::{cluster::Cluster, lease::CHECK_INTERVAL, plan::Report};

use crate::{
    metrics::Metrics,
    store::{self, Committer, ExportWhen, Recovery, Task},
};

mod brain;
mod handle;
mod write;

#[cfg(feature = "simulation")]
pub(crate) use brain::Decided;
pub use brain::Look;
pub(crate) use brain::{Brain, Now};
pub(crate) use handle::Command;
pub use handle::{AgentReport, Handle, Incumbent, Storage};
pub use write::{Error, Idempotency, Write, Written};

/// How many commands may wait. 64 API requests at a time and a few frames of each of 1,000 agents
/// fit; a full queue answers `overloaded`.
const QUEUE_DEPTH: usize = 4_096;
/// The most commands in one batch: bounds how long the first one waits for the last one.
const BATCH_MAX: usize = 512;

/// The one writer: gives its [`Brain`] the commands and the time, and carries its batches to the
/// store.
pub(crate) struct Controller {
    brain: Brain,
    committer: Committer,
    metrics: Arc<Metrics>,
    commands: mpsc::Receiver<Command>,
    started: Instant,
    clock: Clock,
}

impl Controller {
    /// A controller of `cluster`, which is what the store behind `committer` holds.
    pub(crate) fn new(
        cluster: Cluster,
        committer: Committer,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(QUEUE_DEPTH);
        let brain = Brain::new(cluster, Arc::clone(&metrics), Box::new(Uuid::new_v4));
        let started = Instant::now();
        let handle = brain.handle(sender, started, clock.clone());
        let controller = Self {
            brain,
            committer,
            metrics,
            commands,
            started,
            clock,
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
                () = tokio::time::sleep(until_wake), if self.brain.wake().is_some() => {
                    self.step(&mut batch, Look::AtEverything).await?;
                }
            }
        }
        self.committer.shutdown().await
    }

    fn now(&self) -> Now {
        Now {
            wall: self.clock.now(),
            moment: self.started.elapsed(),
        }
    }

    fn until_wake(&self) -> Duration {
        let wake = self
            .brain
            .wake()
            .map(|at| at.duration_since(self.clock.now()));
        wake.and_then(|d| Duration::try_from(d).ok())
            .unwrap_or_default()
    }

    async fn on_tick(&mut self, batch: &mut Vec<Command>) -> Result<(), store::Error> {
        if self.brain.storage() == Storage::Full && !self.recover().await? {
            return Ok(());
        }
        let look = self.brain.look(self.started.elapsed());
        self.step(batch, look).await?;
        self.maintain().await
    }

    /// Lets the store write its automatic export and give back space, when that is due.
    async fn maintain(&self) -> Result<(), store::Error> {
        let done = self
            .committer
            .maintain(self.clock.now(), ExportWhen::Due)
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
        let mut decision = self.brain.decide(batch.drain(..), self.now());
        let began = Instant::now();
        if let Some(report) = self.brain.plan(&mut decision, look) {
            self.metrics.planned(began.elapsed(), report.steps.len());
            log(&report);
        }
        let (decided, to_store) = self.brain.close(decision);
        let stored = match to_store {
            Some((batch, guard)) => {
                let began = Instant::now();
                let stored = self.committer.commit(batch, guard).await;
                if stored.is_ok() {
                    self.metrics.committed(began.elapsed(), decided.changes());
                }
                Some(stored)
            }
            None => None,
        };
        self.brain.settle(decided, stored)
    }

    /// Whether the store takes writes again.
    async fn recover(&mut self) -> Result<bool, store::Error> {
        match self.committer.try_recover().await? {
            Recovery::StillFull => Ok(false),
            Recovery::Ready(records) => self.brain.recovered(&records).map(|()| true),
        }
    }
}

fn log(report: &Report) {
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
}
