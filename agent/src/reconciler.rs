//! The loop that makes what runs equal to what is assigned.
//!
//! Events, outcomes and new assignments only wake it. What it acts on is the latest assignment and
//! a list of all containers; a list every [`RELIST_INTERVAL`] finds what no event told of.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinError,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use windlass_api::{
    clock::Clock,
    ids::{AgentId, ClusterId},
    wire::RuntimeHealth,
};

use crate::{
    Offer,
    board::{Board, Machine, publish},
    ledger::Held,
    probe::Prober,
    runtime::{EngineInfo, Owner, Result, Runtime},
    slot::{Slot, at},
    worker::{Ended, Outcome, Worker},
};

use chores::Done;
use mind::{Deeds, ENGINE_RETRY, Engine, Looked, Mind, Next, unhealthy};
use state::Then;

pub(crate) mod chores;
mod events;
pub(crate) mod mind;
pub(crate) mod state;

/// How often the containers are listed though nothing seems to have happened.
pub(crate) const RELIST_INTERVAL: Duration = Duration::from_secs(10);

/// How long the end waits for steps. A stop may take longer: the engine carries it out without us.
const FINISH_LIMIT: Duration = Duration::from_secs(5);

/// Who the agent is, and what it was told about its machine.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// The agent.
    pub(crate) agent: AgentId,
    /// What instances may use, in place of what the engine tells.
    pub(crate) offer: Offer,
}

/// Makes what runs equal to what is assigned: gives its [`Mind`] what is seen and the time, and has
/// carried out what it decides.
pub(crate) struct Reconciler<R> {
    runtime: Arc<R>,
    owner: Owner,
    clock: Clock,
    board: Arc<Board>,
    held: watch::Receiver<Option<Arc<Held>>>,
    wakeups: Arc<Notify>,
    worker: Worker<R>,
    prober: Prober<R>,
    mind: Mind,
    look: Slot<Looked>,
    chore: Slot<Done>,
}

/// Asks the engine about the machine until the cluster is known, and with it whose containers are
/// ours.
pub(crate) async fn wait_for_cluster<R: Runtime>(
    runtime: &R,
    local: &Local,
    board: &Board,
) -> ClusterId {
    let mut cluster = board.cluster.subscribe();
    loop {
        if let Some(cluster) = *cluster.borrow_and_update() {
            return cluster;
        }
        let pause = introduced(board, local, runtime.info().await);
        tokio::select! {
            _ = cluster.changed() => {}
            () = sleep(pause) => {}
        }
    }
}

/// The engine told of the machine, or did not. Returns when to ask it again.
pub(crate) fn introduced(board: &Board, local: &Local, info: Result<EngineInfo>) -> Duration {
    match info {
        Ok(info) => {
            let machine = Machine::new(local.agent, info, local.offer);
            publish(&board.machine, Some(machine));
            publish(&board.health, RuntimeHealth::Healthy);
            RELIST_INTERVAL
        }
        Err(error) => {
            publish(&board.health, unhealthy(&error));
            ENGINE_RETRY
        }
    }
}

impl<R: Runtime> Reconciler<R> {
    /// Works on the containers of `owner`, in the direction of `held`.
    pub(crate) fn new(
        runtime: Arc<R>,
        owner: Owner,
        local: Local,
        clock: Clock,
        board: Arc<Board>,
        mut held: watch::Receiver<Option<Arc<Held>>>,
    ) -> Self {
        let current = held.borrow_and_update().clone();
        let health = board.health_memory.borrow().clone();
        Self {
            worker: Worker::new(Arc::clone(&runtime), owner.clone()),
            prober: Prober::new(Arc::clone(&runtime), health),
            mind: Mind::new(local, Arc::clone(&board), current, Instant::now()),
            runtime,
            owner,
            clock,
            board,
            held,
            wakeups: Arc::new(Notify::new()),
            look: Slot::empty(),
            chore: Slot::empty(),
        }
    }

    /// Works until `shutdown`. Leaves all containers as they are then. Fails if a step or a check
    /// panicked.
    pub(crate) async fn run(
        self,
        shutdown: CancellationToken,
    ) -> std::result::Result<(), JoinError> {
        let (runtime, owner) = (Arc::clone(&self.runtime), self.owner.clone());
        let wakeups = Arc::clone(&self.wakeups);
        let watching = CancellationToken::new();
        let working = async {
            let _watching = watching.clone().drop_guard();
            self.work(shutdown).await
        };
        let watched = events::watch(&*runtime, &owner, &wakeups);
        let (_, result) = tokio::join!(watching.run_until_cancelled(watched), working);
        result
    }

    async fn work(mut self, shutdown: CancellationToken) -> std::result::Result<(), JoinError> {
        let mut relist = relist();
        // Every branch can be cancelled: what it waits for stays where it is.
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Ok(()) = self.held.changed() => self.reassign(),
                ended = self.worker.next() => self.ended(ended?),
                changed = self.prober.changed() => {
                    changed?;
                    self.act();
                }
                looked = self.look.next() => self.looked(looked),
                done = self.chore.next() => self.chore_done(done),
                () = self.wakeups.notified() => self.mind.look_soon(Instant::now()),
                () = at(self.mind.look_at()), if self.look.is_empty() => self.begin_look(),
                () = at(self.mind.act_at()) => self.act(),
                _ = relist.tick() => self.mind.look_soon(Instant::now()),
            }
        }
        self.worker.finish(FINISH_LIMIT).await;
        Ok(())
    }

    fn begin_look(&mut self) {
        let number = self.mind.begin_look();
        let (runtime, owner) = (Arc::clone(&self.runtime), self.owner.clone());
        let began = Instant::now();
        self.look.put(async move {
            Looked {
                number,
                began,
                result: runtime.list(&owner).await,
            }
        });
    }

    fn looked(&mut self, looked: Looked) {
        match self.mind.looked(looked, Instant::now()) {
            Engine::Answers => {
                self.probe();
                self.act();
                self.begin_chore();
            }
            Engine::Silent | Engine::Unknown => self.prober.pause(),
        }
    }

    fn reassign(&mut self) {
        let held = self.held.borrow_and_update().clone();
        for member in self.mind.reassign(held, Instant::now()) {
            self.worker.cut_off_fetch(&member);
        }
        if self.mind.engine() == Engine::Answers {
            self.probe();
        }
        self.act();
    }

    /// Tells the prober what runs.
    fn probe(&mut self) {
        self.prober.observe(&self.mind.subjects(), self.clock.now());
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Step(outcome) => self.finish(*outcome),
            Ended::Lines(lines) => {
                self.mind.lines_read(lines);
                // What was withheld until now.
                self.act();
            }
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        let now = Instant::now();
        match self.mind.finished(outcome, now, self.clock.now()) {
            Then::Plan => self.act(),
            Then::List => self.mind.look_soon(now),
        }
    }

    /// Does what is to be done now.
    fn act(&mut self) {
        let (now, wall) = (Instant::now(), self.clock.now());
        let Some(Deeds { steps, failed }) = self.mind.act(self.prober.healths(), now, wall) else {
            return;
        };
        for (member, container) in failed {
            self.worker.read_last_lines(member, container);
        }
        for step in steps {
            tracing::debug!(
                instance = %step.member.instance, container = %step.member.part,
                activity = ?step.activity(), "a step begins"
            );
            self.worker.begin(step);
        }
        publish(&self.board.health_memory, self.prober.memory());
    }

    fn begin_chore(&mut self) {
        if !self.chore.is_empty() {
            return;
        }
        if let Some(chore) = self.mind.next_chore(Instant::now()) {
            let (runtime, owner) = (Arc::clone(&self.runtime), self.owner.clone());
            self.chore.put(chores::carry_out(runtime, owner, chore));
        }
    }

    fn chore_done(&mut self, done: Done) {
        match self.mind.chore_done(done, Instant::now()) {
            Next::Act => self.act(),
            Next::Chore => {}
            Next::Nothing => return,
        }
        self.begin_chore();
    }
}

fn relist() -> Interval {
    let mut relist = interval(RELIST_INTERVAL);
    relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
    relist
}

#[cfg(test)]
mod tests;
