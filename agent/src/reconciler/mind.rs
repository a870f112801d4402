//! What the reconciler decides. It waits for nothing: what was seen and the time go in, what is to
//! be done comes out. So the simulation drives the same code as the agent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use windlass_api::{
    ids::InstanceId,
    status::InstanceStatus,
    wire::{AssignedInstance, Assignment, RuntimeHealth},
};

use super::{
    Local,
    chores::{Chore, Chores, Done},
    state::{Advance, InUse, State, Then},
};
use crate::{
    board::{Board, Machine, Snapshot, publish},
    history::Member,
    ledger::Held,
    plan::{Action, Plan, Step},
    probe::{Healths, Subject},
    runtime::{Container, ContainerId, Error, Result},
    worker::{LastLines, Outcome},
};

/// How long to gather events before listing: Docker tells of one change in several events.
const DEBOUNCE: Duration = Duration::from_millis(2);

/// The longest pause after a list. Below it the pause is twice as long as the list took, so that
/// a burst of events leaves the engine two thirds of its time for the burst itself.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How often an engine that does not answer is asked again.
pub(crate) const ENGINE_RETRY: Duration = Duration::from_secs(3);

/// What is known of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// It was not asked yet.
    Unknown,
    /// It answered when last asked.
    Answers,
    /// It did not answer when last asked. Nothing is done, and nothing follows for containers.
    Silent,
}

/// The result of listing the containers.
pub(crate) struct Looked {
    /// The number of the listing.
    pub(crate) number: u64,
    /// When it began.
    pub(crate) began: Instant,
    /// The containers.
    pub(crate) result: Result<Vec<Container>>,
}

/// What is to be done now.
pub(crate) struct Deeds {
    /// The steps, which are taken for begun.
    pub(crate) steps: Vec<Step>,
    /// The containers that have failed and whose last lines are to be read.
    pub(crate) failed: Vec<(Member, ContainerId)>,
}

/// What is to be done after a chore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// What had to wait for it, and then the next chore.
    Act,
    /// The next chore.
    Chore,
    /// Nothing: the engine did not answer.
    Nothing,
}

/// What is known, and what follows from it.
pub(crate) struct Mind {
    local: Local,
    board: Arc<Board>,
    /// The assignment that was last acted on.
    current: Option<Arc<Held>>,
    state: State,
    engine: Engine,
    look_at: Option<Instant>,
    /// When the pause after the last list ends.
    rested_at: Instant,
    act_at: Option<Instant>,
    chores: Chores,
    /// Whether networks or volumes are being removed: then none may be needed anew.
    pruning: bool,
}

impl Mind {
    /// What is known at the start: what is held, and what the board has from the disk.
    pub(crate) fn new(
        local: Local,
        board: Arc<Board>,
        held: Option<Arc<Held>>,
        now: Instant,
    ) -> Self {
        let histories = board.histories.borrow().clone();
        Self {
            local,
            board,
            current: held,
            state: State::new(histories),
            engine: Engine::Unknown,
            look_at: None,
            rested_at: now,
            act_at: None,
            chores: Chores::new(now),
            pruning: false,
        }
    }

    /// What is known of the engine.
    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// When to list the containers, unless they are being listed.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// When to act though nothing may happen until then.
    pub(crate) fn act_at(&self) -> Option<Instant> {
        self.act_at
    }

    /// Lists the containers as soon as it is reasonable.
    pub(crate) fn look_soon(&mut self, now: Instant) {
        let at = (now + DEBOUNCE).max(self.rested_at);
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// The containers are being listed. Returns the number of the listing.
    pub(crate) fn begin_look(&mut self) -> u64 {
        self.look_at = None;
        self.state.list_begins()
    }

    /// They were listed, or could not be. Tells what is known of the engine now; if it answers,
    /// there is to be acted.
    pub(crate) fn looked(&mut self, looked: Looked, now: Instant) -> Engine {
        match looked.result {
            Ok(containers) => {
                self.rested_at = now + (2 * (now - looked.began)).min(PAUSE_MAX);
                // For what happened during the list, too.
                self.look_at = self.look_at.map(|at| at.max(self.rested_at));
                self.state.listed(looked.number, containers);
                if self.engine == Engine::Silent {
                    tracing::info!("the container engine answers again");
                    self.chores.engine_is_back(now);
                }
                self.engine = Engine::Answers;
                publish(&self.board.health, RuntimeHealth::Healthy);
            }
            Err(error) => {
                if self.engine != Engine::Silent {
                    tracing::warn!(reason = %error, "the container engine does not answer; containers are left as they are");
                }
                self.engine = Engine::Silent;
                self.act_at = None;
                publish(&self.board.health, unhealthy(&error));
                self.look_at = Some(now + ENGINE_RETRY);
            }
        }
        self.engine
    }

    /// There is another assignment. Returns what is not to be fetched any more.
    pub(crate) fn reassign(&mut self, held: Option<Arc<Held>>, now: Instant) -> Vec<Member> {
        let mut abandoned = Vec::new();
        if let Some(new) = &held {
            let old = self.current.as_ref().map(|h| &h.assignment);
            self.state.reassigned(old, &new.assignment);
            abandoned = self.state.abandon_fetches(&new.assignment);
            if old.is_some_and(|old| drops_volumes(old, &new.assignment)) {
                self.chores.volumes_left(now);
            }
        }
        self.current = held;
        abandoned
    }

    /// The containers that run and are wanted, to be probed.
    pub(crate) fn subjects(&self) -> Vec<Subject<'_>> {
        let assignment = self.current.as_ref().map(|h| &h.assignment);
        self.state.subjects(assignment)
    }

    /// The last lines of a container were read.
    pub(crate) fn lines_read(&mut self, lines: LastLines) {
        self.state.lines_read(lines);
    }

    /// A step came to its end.
    pub(crate) fn finished(&mut self, outcome: Outcome, now: Instant, wall: Timestamp) -> Then {
        if matches!(outcome.step.action, Action::Fetch { .. }) {
            self.chores.images_changed(now);
        }
        self.state.finished(outcome, wall)
    }

    /// What is to be done now; tells how things are. Nothing while the engine does not answer: what
    /// was seen last may not be true any more.
    pub(crate) fn act(&mut self, health: &Healths, now: Instant, wall: Timestamp) -> Option<Deeds> {
        self.act_at = None;
        if self.engine != Engine::Answers || self.pruning {
            return None;
        }
        let assignment = self.current.as_ref().map(|h| &h.assignment);
        let Advance { plan, failed } = self.state.advance(assignment, health, wall);
        let Plan {
            steps,
            wake_at,
            mut statuses,
        } = plan;
        let generation = assignment.map(|a| a.generation).unwrap_or_default();
        self.withhold(&mut statuses);
        self.act_at = wake_at.map(|at| {
            let left = Duration::try_from(at.duration_since(wall)).unwrap_or_default();
            now + left
        });
        let snapshot = Snapshot {
            generation,
            statuses,
        };
        publish(&self.board.snapshot, Some(Arc::new(snapshot)));
        self.board.histories.send_if_modified(|kept| {
            let changed = kept != self.state.histories();
            if changed {
                kept.clone_from(self.state.histories());
            }
            changed
        });
        Some(Deeds { steps, failed })
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

    /// The next chore, which is taken for begun.
    pub(crate) fn next_chore(&mut self, now: Instant) -> Option<Chore> {
        let chore = self.chores.next(now, self.in_use_if_idle())?;
        self.pruning = matches!(chore, Chore::PruneNetworks(_) | Chore::PruneVolumes(_));
        Some(chore)
    }

    fn in_use_if_idle(&self) -> Option<InUse> {
        let held = self.current.as_ref()?;
        let idle = self.state.is_idle();
        idle.then(|| self.state.in_use(&held.assignment))
    }

    /// A chore was done, or could not be.
    pub(crate) fn chore_done(&mut self, done: Done, now: Instant) -> Next {
        self.chores.finished(&done, now);
        match done {
            Done::Info(Ok(info)) => {
                let machine = Machine::new(self.local.agent, info, self.local.offer);
                publish(&self.board.machine, Some(machine));
                Next::Chore
            }
            Done::Images(Ok(images)) => {
                publish(&self.board.images, Arc::new(images));
                Next::Chore
            }
            Done::NetworksPruned(_, result) | Done::VolumesPruned(result) => {
                self.pruning = false;
                if let Err(error) = result {
                    tracing::warn!(reason = %error, "unused networks or volumes could not be removed");
                }
                Next::Act
            }
            Done::Info(Err(error)) | Done::Images(Err(error)) => {
                tracing::debug!(reason = %error, "the engine could not be asked");
                Next::Nothing
            }
        }
    }
}

/// Whether an assignment lacks an instance of another one that has volumes.
fn drops_volumes(old: &Assignment, new: &Assignment) -> bool {
    let gone = |a: &&AssignedInstance| !new.instances.contains_key(&a.id);
    let mut gone = old.instances.values().filter(gone);
    gone.any(|assigned| !assigned.template.volumes.is_empty())
}

pub(super) fn unhealthy(error: &Error) -> RuntimeHealth {
    RuntimeHealth::Unhealthy {
        reason: error.message.clone(),
    }
}
