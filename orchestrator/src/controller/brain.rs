//! What the controller decides. It waits for nothing: commands and the time go in, a batch for the
//! store comes out, and what the store made of it goes in again. So the simulation drives the same
//! code as the server.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use uuid::Uuid;
use windlass_api::{
    clock::Clock,
    ids::{NodeName, Version},
};
use windlass_core::{
    cluster::Cluster,
    command::{self, Applied, Refusal},
    lease::{Leases, Moment},
    plan::{Report, Scope, plan, rebalance},
    record::Change,
    transaction::Transaction,
};

use super::{
    handle::{AgentReport, Answer, Command, Handle, Incumbent, Storage, locked},
    write::{Error, Written, carry_out},
};
use crate::{
    codec,
    history::{Commit, History},
    metrics::Metrics,
    store::{self, Batch, Guard, Records},
};

/// How often everything is planned anew, to find what events missed: which should be nothing.
const FULL_PASS_INTERVAL: Duration = Duration::from_secs(30);

/// Makes the identities of new workloads.
pub(crate) type NewId = Box<dyn FnMut() -> Uuid + Send + Sync>;

/// A time, as both clocks have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// The time of day, which can jump.
    pub(crate) wall: Timestamp,
    /// The time since the server started, which cannot.
    pub(crate) moment: Moment,
}

impl Now {
    /// By how much the clock was set since then, if it was: the time of day went on otherwise than time
    /// did.
    fn set_since(self, then: Self) -> Option<SignedDuration> {
        let passed = self.moment.saturating_sub(then.moment);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let by = self.wall.duration_since(then.wall).saturating_sub(passed);
        (by.abs() >= command::clock::STEP_MIN).then_some(by)
    }
}

/// What a pass of the planner looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// At what something happened to.
    AtWhatChanged,
    /// At everything.
    AtEverything,
}

/// An answer that waits until what it tells of is durable.
enum Pending {
    Write(Answer<Written>, Result<Vec<Applied>, Refusal>),
    Hello(Answer<Cluster>, Result<(), Refusal>),
}

/// What was decided so far, of which nobody has heard.
pub(crate) struct Decision {
    txn: Transaction,
    pending: Vec<Pending>,
    /// How many agents' reports are in it.
    reports: usize,
    now: Now,
}

/// What was decided, until it is known what the store made of it.
pub(crate) struct Decided {
    cluster: Cluster,
    changes: Vec<Change>,
    bytes: u64,
    pending: Vec<Pending>,
    reports: usize,
    now: Now,
}

impl Decided {
    /// How many records change.
    pub(crate) fn changes(&self) -> usize {
        self.changes.len()
    }
}

/// The state of the cluster, and all that decides about it.
pub(crate) struct Brain {
    cluster: Cluster,
    metrics: Arc<Metrics>,
    state: watch::Sender<Cluster>,
    history: Arc<History>,
    resync: watch::Sender<u64>,
    storage: watch::Sender<Storage>,
    leases: Arc<Mutex<Leases>>,
    full_pass_at: Moment,
    wake: Option<Timestamp>,
    /// When a decision was last durable.
    decided_at: Option<Now>,
    new_id: NewId,
}

impl Brain {
    /// The brain of a server that starts, with what its store holds.
    pub(crate) fn new(cluster: Cluster, metrics: Arc<Metrics>, new_id: NewId) -> Self {
        Self {
            state: watch::Sender::new(cluster.clone()),
            history: Arc::new(History::new(cluster.version)),
            resync: watch::Sender::new(0),
            storage: watch::Sender::new(Storage::Writable),
            leases: Arc::new(Mutex::new(Leases::new(Moment::ZERO))),
            full_pass_at: Moment::ZERO,
            wake: None,
            decided_at: None,
            cluster,
            metrics,
            new_id,
        }
    }

    /// How others see it, and send it `commands`. Its moments count from `started`.
    pub(crate) fn handle(
        &self,
        commands: mpsc::Sender<Command>,
        started: Instant,
        clock: Clock,
    ) -> Handle {
        Handle {
            commands,
            state: self.state.subscribe(),
            history: Arc::clone(&self.history),
            resync: self.resync.subscribe(),
            storage: self.storage.subscribe(),
            leases: Arc::clone(&self.leases),
            started,
            clock,
        }
    }

    /// When to look at everything although nothing happens until then.
    pub(crate) fn wake(&self) -> Option<Timestamp> {
        self.wake
    }

    /// Whether the store takes writes.
    pub(crate) fn storage(&self) -> Storage {
        *self.storage.borrow()
    }

    /// What the pass of a tick looks at.
    pub(crate) fn look(&mut self, now: Moment) -> Look {
        if now < self.full_pass_at {
            return Look::AtWhatChanged;
        }
        self.full_pass_at = now + FULL_PASS_INTERVAL;
        Look::AtEverything
    }

    /// Decides on commands, and on the nodes whose lease is over.
    pub(crate) fn decide(
        &mut self,
        commands: impl IntoIterator<Item = Command>,
        now: Now,
    ) -> Decision {
        let mut decision = Decision {
            txn: Transaction::new(&self.cluster, now.wall),
            pending: Vec::new(),
            reports: 0,
            now,
        };
        let txn = &mut decision.txn;
        // It is noticed again if this does not become durable.
        if let Some(by) = self.decided_at.and_then(|then| now.set_since(then)) {
            tracing::warn!(seconds = by.as_secs(), "the clock of this machine was set");
            command::clock::set(txn, by);
        }
        for command in commands {
            match command {
                Command::Agent(node, report) => {
                    decision.reports += 1;
                    on_report(txn, &node, report);
                }
                Command::Write(write, idempotency, answer) => {
                    let result = carry_out(txn, write, idempotency, &mut self.new_id);
                    decision.pending.push(Pending::Write(answer, result));
                }
                Command::Hello(hello, incumbent, answer) => {
                    let result = txn.attempt(|txn| {
                        match incumbent {
                            Incumbent::Away => command::agent::take_over(txn, &hello),
                            Incumbent::Connected => command::agent::refuse_copy(txn, &hello)?,
                        }
                        command::agent::hello(txn, &hello)
                    });
                    // One that is refused does not speak for the node.
                    if result.is_ok() {
                        locked(&self.leases).grant(&hello.node, now.moment);
                    }
                    decision.pending.push(Pending::Hello(answer, result));
                }
            }
        }
        self.lose_nodes(txn, now.moment);
        decision
    }

    fn lose_nodes(&mut self, txn: &mut Transaction, now: Moment) {
        let found = locked(&self.leases).check(txn.cluster(), now);
        for node in &found.lost {
            tracing::warn!(%node, "node lost");
            command::agent::lose(txn, node);
        }
        for (node, waited) in &found.waited {
            command::agent::lost_for(txn, node, *waited);
        }
        command::agent::judge_darkness(txn, found.dark);
    }

    /// Plans what follows. Nothing was looked at if there is no report.
    pub(crate) fn plan(&mut self, decision: &mut Decision, look: Look) -> Option<Report> {
        let scope = match look {
            Look::AtEverything => {
                self.wake = None;
                rebalance::by_itself(&mut decision.txn);
                Scope::All
            }
            Look::AtWhatChanged => Scope::of_changes(&self.cluster, &decision.txn),
        };
        if scope.is_empty() {
            return None;
        }
        let report = plan(&mut decision.txn, &scope);
        self.wake = [self.wake, report.wake].into_iter().flatten().min();
        Some(report)
    }

    /// Ends a decision: what is to be made durable before [`Self::settle`], if anything is.
    pub(crate) fn close(&self, decision: Decision) -> (Decided, Option<(Batch, Guard)>) {
        let Decision {
            txn,
            pending,
            reports,
            now,
        } = decision;
        let (cluster, changes) = txn.finish();
        let to_store = (!changes.is_empty() && self.storage() == Storage::Writable).then(|| {
            let batch = codec::encode(cluster.version, &changes);
            (batch, Guard::Version(self.cluster.version))
        });
        let decided = Decided {
            cluster,
            changes,
            bytes: to_store.as_ref().map_or(0, |(batch, _)| batch.bytes()),
            pending,
            reports,
            now,
        };
        (decided, to_store)
    }

    /// Shows everybody what is durable, and answers. `stored` is `None` if nothing was to be stored.
    ///
    /// # Errors
    /// That of the store, if it must not be survived.
    pub(crate) fn settle(
        &mut self,
        decided: Decided,
        stored: Option<store::Result<Version>>,
    ) -> store::Result<()> {
        let Decided {
            cluster,
            changes,
            bytes,
            pending,
            reports,
            now,
        } = decided;
        let outcome = match stored {
            None if changes.is_empty() => Ok(()),
            None => Err(Error::NoSpace),
            Some(Ok(_)) => {
                self.publish(cluster, changes, bytes);
                Ok(())
            }
            #[cfg(feature = "mutants")]
            Some(Err(store::Error::NoSpace { .. }))
                if windlass_api::mutants::Mutant::AnsweredBeforeStored.is_on() =>
            {
                self.publish(cluster, changes, bytes);
                Ok(())
            }
            Some(Err(store::Error::NoSpace { .. })) => {
                tracing::error!("the disk is full: writes are refused until there is space");
                self.storage.send_replace(Storage::Full);
                Err(Error::NoSpace)
            }
            // It changed nothing, and would not the next time either: a mistake of ours, which costs
            // those who asked for it their answer, and nobody the server.
            Some(Err(store::Error::InvalidBatch { what })) => {
                tracing::error!(what, "a batch cannot be stored");
                Err(Error::Unstorable)
            }
            Some(Err(fatal)) => return Err(fatal),
        };
        if outcome.is_ok() {
            self.decided_at = Some(now);
        }
        if outcome.is_err() && reports > 0 {
            self.resync.send_modify(|n| *n += 1);
        }
        for pending in pending {
            self.answer(pending, &outcome);
        }
        Ok(())
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

    /// The store takes writes again. What it then holds is what counts: a batch that was not
    /// acknowledged may have landed all the same.
    ///
    /// # Errors
    /// If that cannot be read.
    pub(crate) fn recovered(&mut self, records: &Records) -> store::Result<()> {
        let id = self.cluster.record.id;
        let cluster = codec::decode(records, id).map_err(store::Error::unreadable)?;
        if cluster.version != self.cluster.version {
            // Without changes, since nobody knows which: whoever watches has to begin again.
            self.publish(cluster, Vec::new(), 0);
        }
        tracing::info!("the disk has space again: writes are accepted");
        self.storage.send_replace(Storage::Writable);
        self.resync.send_modify(|n| *n += 1);
        Ok(())
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

/// Takes an agent's report into account.
fn on_report(txn: &mut Transaction, node: &NodeName, report: AgentReport) {
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
            let reason = command::agent::clipped(&reason);
            tracing::warn!(%node, %generation, reason, "an agent rejected its assignment");
        }
    }
}

#[cfg(test)]
mod tests;
