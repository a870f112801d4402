//! The loop that makes what runs equal to what is assigned.
//!
//! Events, outcomes and new assignments only wake it. What it acts on is the latest assignment and
//! a list of all containers; a list every [`RELIST_INTERVAL`] finds what no event told of.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    task::JoinError,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use windlass_api::{
    ids::{AgentId, ClusterId, InstanceId},
    status::InstanceStatus,
    wire::{AssignedInstance, Assignment, RuntimeHealth},
};

use crate::{
    Offer,
    board::{Board, Machine, Snapshot, publish},
    ledger::Held,
    plan::{Action, Plan},
    probe::Prober,
    runtime::{Container, Error, Owner, Result, Runtime},
    slot::{Slot, at},
    worker::{Ended, Outcome, Worker},
};

use chores::{Chore, Chores, Done};
use state::{Advance, InUse, State, Then};

mod chores;
mod events;
mod state;

/// How often the containers are listed though nothing seems to have happened.
const RELIST_INTERVAL: Duration = Duration::from_secs(10);

/// How long to gather events before listing: Docker tells of one change in several events.
const DEBOUNCE: Duration = Duration::from_millis(2);

/// The longest pause after a list. Below it the pause is twice as long as the list took, so that
/// a burst of events leaves the engine two thirds of its time for the burst itself.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How often an engine that does not answer is asked again.
const ENGINE_RETRY: Duration = Duration::from_secs(3);

/// How long the end waits for steps. A stop may take longer: the engine carries it out without us.
const FINISH_LIMIT: Duration = Duration::from_secs(5);

/// Reads the time of day.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Who the agent is, and what it was told about its machine.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// The agent.
    pub(crate) agent: AgentId,
    /// What instances may use, in place of what the engine tells.
    pub(crate) offer: Offer,
}

/// Makes what runs equal to what is assigned.
pub(crate) struct Reconciler<R> {
    runtime: Arc<R>,
    owner: Owner,
    local: Local,
    clock: Clock,
    board: Arc<Board>,
    held: watch::Receiver<Option<Arc<Held>>>,
    /// The assignment that was last acted on.
    current: Option<Arc<Held>>,
    wakeups: Arc<Notify>,
    worker: Worker<R>,
    prober: Prober<R>,
    state: State,
    engine: Engine,
    look: Slot<Looked>,
    look_at: Option<Instant>,
    /// When the pause after the last list ends.
    rested_at: Instant,
    act_at: Option<Instant>,
    chores: Chores,
    chore: Slot<Done>,
    /// Whether networks or volumes are being removed: then none may be needed anew.
    pruning: bool,
}

/// What is known of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    /// It was not asked yet.
    Unknown,
    /// It answered when last asked.
    Answers,
    /// It did not answer when last asked. Nothing is done, and nothing follows for containers.
    Silent,
}

/// The result of listing the containers.
struct Looked {
    number: u64,
    began: Instant,
    result: Result<Vec<Container>>,
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
        let pause = match runtime.info().await {
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
        };
        tokio::select! {
            _ = cluster.changed() => {}
            () = sleep(pause) => {}
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
        let now = Instant::now();
        let current = held.borrow_and_update().clone();
        let histories = board.histories.borrow().clone();
        let health = board.health_memory.borrow().clone();
        Self {
            worker: Worker::new(Arc::clone(&runtime), owner.clone()),
            prober: Prober::new(Arc::clone(&runtime), health),
            runtime,
            owner,
            local,
            clock,
            board,
            current,
            held,
            wakeups: Arc::new(Notify::new()),
            state: State::new(histories),
            engine: Engine::Unknown,
            look: Slot::empty(),
            look_at: None,
            rested_at: now,
            act_at: None,
            chores: Chores::new(now),
            chore: Slot::empty(),
            pruning: false,
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
                () = self.wakeups.notified() => self.look_soon(),
                () = at(self.look_at), if self.look.is_empty() => self.begin_look(),
                () = at(self.act_at) => self.act(),
                _ = relist.tick() => self.look_soon(),
            }
        }
        self.worker.finish(FINISH_LIMIT).await;
        Ok(())
    }

    /// Lists the containers as soon as it is reasonable.
    fn look_soon(&mut self) {
        let at = (Instant::now() + DEBOUNCE).max(self.rested_at);
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn begin_look(&mut self) {
        self.look_at = None;
        let number = self.state.list_begins();
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
        let now = Instant::now();
        match looked.result {
            Ok(containers) => {
                self.rested_at = now + (2 * (now - looked.began)).min(PAUSE_MAX);
                // For what happened during the list, too.
                self.look_at = self.look_at.map(|at| at.max(self.rested_at));
                self.state.listed(looked.number, containers);
                if self.engine == Engine::Silent {
                    tracing::info!("the container engine answers again");
                    self.chores.engine_is_back();
                }
                self.engine = Engine::Answers;
                self.probe();
                publish(&self.board.health, RuntimeHealth::Healthy);
                self.act();
                self.begin_chore();
            }
            Err(error) => {
                if self.engine != Engine::Silent {
                    tracing::warn!(reason = %error, "the container engine does not answer; containers are left as they are");
                }
                self.engine = Engine::Silent;
                self.prober.pause();
                self.act_at = None;
                publish(&self.board.health, unhealthy(&error));
                self.look_at = Some(now + ENGINE_RETRY);
            }
        }
    }

    fn reassign(&mut self) {
        let held = self.held.borrow_and_update().clone();
        if let Some(new) = &held {
            let old = self.current.as_ref().map(|h| &h.assignment);
            self.state.reassigned(old, &new.assignment);
            for member in self.state.abandon_fetches(&new.assignment) {
                self.worker.cut_off_fetch(&member);
            }
            if old.is_some_and(|old| drops_volumes(old, &new.assignment)) {
                self.chores.volumes_left(Instant::now());
            }
        }
        self.current = held;
        if self.engine == Engine::Answers {
            self.probe();
        }
        self.act();
    }

    /// Tells the prober what runs.
    fn probe(&mut self) {
        let assignment = self.current.as_ref().map(|h| &h.assignment);
        let subjects = self.state.subjects(assignment);
        self.prober.observe(&subjects, (self.clock)());
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Step(outcome) => self.finish(*outcome),
            Ended::Lines(lines) => {
                self.state.lines_read(lines);
                // What was withheld until now.
                self.act();
            }
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if matches!(outcome.step.action, Action::Fetch { .. }) {
            self.chores.images_changed(Instant::now());
        }
        match self.state.finished(outcome, (self.clock)()) {
            Then::Plan => self.act(),
            Then::List => self.look_soon(),
        }
    }

    /// Does what is to be done now, and tells how things are. Does nothing while the engine does
    /// not answer: what was seen last may not be true any more.
    fn act(&mut self) {
        self.act_at = None;
        if self.engine != Engine::Answers || self.pruning {
            return;
        }
        let now = (self.clock)();
        let assignment = self.current.as_ref().map(|h| &h.assignment);
        let Advance { plan, failed } = self.state.advance(assignment, self.prober.healths(), now);
        let Plan {
            steps,
            wake_at,
            mut statuses,
        } = plan;
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
        self.withhold(&mut statuses);
        self.act_at = wake_at.map(|at| {
            let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            Instant::now() + left
        });
        let snapshot = Snapshot {
            generation: assignment.map(|a| a.generation).unwrap_or_default(),
            statuses,
        };
        publish(&self.board.snapshot, Some(Arc::new(snapshot)));
        publish(&self.board.health_memory, self.prober.memory());
        self.board.histories.send_if_modified(|kept| {
            let changed = kept != self.state.histories();
            if changed {
                kept.clone_from(self.state.histories());
            }
            changed
        });
    }

    /// Tells of an instance what was told before, as long as it is not known why it failed.
    fn withhold(&self, statuses: &mut BTreeMap<InstanceId, InstanceStatus>) {
        let Some(told) = self.board.snapshot.borrow().clone() else {
            return;
        };
        for id in self.state.withheld() {
            if let (Some(status), Some(before)) = (statuses.get_mut(id), told.statuses.get(id)) {
                status.clone_from(before);
            }
        }
    }

    fn begin_chore(&mut self) {
        if !self.chore.is_empty() {
            return;
        }
        if let Some(chore) = self.chores.next(Instant::now(), self.in_use_if_idle()) {
            self.pruning = matches!(chore, Chore::PruneNetworks(_) | Chore::PruneVolumes(_));
            let (runtime, owner) = (Arc::clone(&self.runtime), self.owner.clone());
            self.chore.put(chores::carry_out(runtime, owner, chore));
        }
    }

    fn in_use_if_idle(&self) -> Option<InUse> {
        let held = self.current.as_ref()?;
        let idle = self.state.is_idle() && self.worker.is_idle();
        idle.then(|| self.state.in_use(&held.assignment))
    }

    fn chore_done(&mut self, done: Done) {
        self.chores.finished(&done, Instant::now());
        match done {
            Done::Info(Ok(info)) => {
                let machine = Machine::new(self.local.agent, info, self.local.offer);
                publish(&self.board.machine, Some(machine));
            }
            Done::Images(Ok(images)) => publish(&self.board.images, Arc::new(images)),
            Done::NetworksPruned(_, result) | Done::VolumesPruned(result) => {
                self.pruning = false;
                if let Err(error) = result {
                    tracing::warn!(reason = %error, "unused networks or volumes could not be removed");
                }
                // What had to wait.
                self.act();
            }
            Done::Info(Err(error)) | Done::Images(Err(error)) => {
                tracing::debug!(reason = %error, "the engine could not be asked");
                return;
            }
        }
        self.begin_chore();
    }
}

/// Whether an assignment lacks an instance of another one that has volumes.
fn drops_volumes(old: &Assignment, new: &Assignment) -> bool {
    let gone = |a: &&AssignedInstance| !new.instances.contains_key(&a.id);
    let mut gone = old.instances.values().filter(gone);
    gone.any(|assigned| !assigned.template.volumes.is_empty())
}

fn relist() -> Interval {
    let mut relist = interval(RELIST_INTERVAL);
    relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
    relist
}

fn unhealthy(error: &Error) -> RuntimeHealth {
    RuntimeHealth::Unhealthy {
        reason: error.message.clone(),
    }
}

#[cfg(test)]
mod tests;
