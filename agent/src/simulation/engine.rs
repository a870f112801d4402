//! What the agent asks of its engine, and makes of the answers.

use std::collections::BTreeSet;

use tokio::time::Instant;
use windlass_api::{duration::Span, image::ImageRef, wire::AssignedInstance};

use super::{Agent, Effect, Now};
use crate::{
    board::publish,
    history::Member,
    plan::{Action, Step},
    reconciler::{
        self, RELIST_INTERVAL,
        chores::{Chore, Done},
        mind::{Deeds, ENGINE_RETRY, Engine, Looked, Mind, Next},
        state::Then,
    },
    runtime::{Container, ContainerId, EngineInfo, Part, Result},
    worker::{LastLines, Outcome},
};

/// What is asked of the engine. Each call is answered once with [`Agent::replied`], or never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// [`Runtime::info`](crate::runtime::Runtime::info).
    Info,
    /// The names of the images.
    Images,
    /// The containers of this agent.
    List,
    /// Make an image ready.
    Fetch(ImageRef),
    /// Create a container, and start it.
    Launch(Box<AssignedInstance>, Part),
    /// Start a container.
    Start(ContainerId),
    /// Stop a container, in that time, and keep it.
    Halt(ContainerId, Span),
    /// Stop a container, in that time, and remove it.
    Stop(ContainerId, Span),
    /// Remove a container that does not run.
    Remove(ContainerId),
    /// Read the last lines of a container.
    LastLines(ContainerId),
    /// Remove networks or volumes that are not in use.
    Prune,
}

/// What the engine answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// To [`Call::Info`].
    Info(Result<EngineInfo>),
    /// To [`Call::Images`].
    Images(Result<BTreeSet<String>>),
    /// To [`Call::List`].
    Containers(Result<Vec<Container>>),
    /// To [`Call::LastLines`].
    Lines(Vec<String>),
    /// To all others.
    Done(Result<Option<ContainerId>>),
}

/// A call that is not answered yet.
#[derive(Debug)]
pub(super) enum Pending {
    Info,
    List { number: u64, began: Instant },
    Step(Box<Step>),
    Lines(Member),
    Chore(Chore),
}

impl Agent {
    /// The engine told of a change.
    pub fn event(&mut self, now: Now) {
        let at = self.instant(now);
        if let Some(mind) = &mut self.mind {
            mind.look_soon(at);
        }
        self.follow(now);
    }

    /// The engine answered a call.
    pub fn replied(&mut self, ticket: u64, reply: Reply, now: Now) {
        let Some(pending) = self.pending.remove(&ticket) else {
            return;
        };
        match (pending, reply) {
            (Pending::Info, Reply::Info(result)) => {
                let local = self.local();
                let pause = reconciler::introduced(&self.board, &local, result);
                self.info_at = now.moment + pause;
            }
            (Pending::List { number, began }, Reply::Containers(result)) => {
                let looked = Looked {
                    number,
                    began,
                    result,
                };
                self.looked(looked, now);
            }
            (Pending::Step(step), Reply::Done(result)) => {
                self.finished(
                    Outcome {
                        step: *step,
                        result,
                    },
                    now,
                );
            }
            (Pending::Lines(member), Reply::Lines(lines)) => {
                if let Some(mind) = &mut self.mind {
                    mind.lines_read(LastLines { member, lines });
                }
                self.act(now);
            }
            (Pending::Chore(chore), reply) => self.chore_done(chore, reply, now),
            (pending, reply) => panic!("{pending:?} was answered with {reply:?}"),
        }
        self.follow(now);
    }

    fn call(&mut self, call: Call, pending: Pending) {
        self.ticket += 1;
        self.pending.insert(self.ticket, pending);
        self.effects.push(Effect::Call(self.ticket, call));
    }

    pub(super) fn is_asking(&self) -> bool {
        self.pending.values().any(|p| matches!(p, Pending::Info))
    }

    pub(super) fn is_listing(&self) -> bool {
        let mut pending = self.pending.values();
        pending.any(|p| matches!(p, Pending::List { .. }))
    }

    pub(super) fn attend_engine(&mut self, now: Now) {
        let at = self.instant(now);
        let due = |time: Option<Instant>| time.is_some_and(|time| time <= at);
        if self.mind.is_none() {
            if !self.is_asking() && self.info_at <= now.moment {
                self.info_at = now.moment + ENGINE_RETRY;
                self.call(Call::Info, Pending::Info);
            }
            return;
        }
        if self.relist_at <= now.moment {
            self.relist_at = now.moment + RELIST_INTERVAL;
            if let Some(mind) = &mut self.mind {
                mind.look_soon(at);
            }
        }
        let listing = self.is_listing();
        if let Some(mind) = self.mind.as_mut().filter(|m| due(m.look_at()) && !listing) {
            let number = mind.begin_look();
            self.call(Call::List, Pending::List { number, began: at });
        }
        if self.mind.as_ref().is_some_and(|mind| due(mind.act_at())) {
            self.act(now);
        }
    }

    fn looked(&mut self, looked: Looked, now: Now) {
        let at = self.instant(now);
        let Some(mind) = &mut self.mind else {
            return;
        };
        if mind.looked(looked, at) == Engine::Answers {
            self.probe(now);
            self.act(now);
            self.begin_chore(now);
        }
    }

    fn probe(&mut self, now: Now) {
        let at = self.instant(now);
        if let Some(mind) = &self.mind {
            self.rota.observe(&mind.subjects(), now.wall, at);
        }
    }

    fn finished(&mut self, outcome: Outcome, now: Now) {
        let at = self.instant(now);
        let Some(mind) = &mut self.mind else {
            return;
        };
        match mind.finished(outcome, at, now.wall) {
            Then::Plan => self.act(now),
            Then::List => mind.look_soon(at),
        }
    }

    fn act(&mut self, now: Now) {
        let at = self.instant(now);
        let Some(mind) = &mut self.mind else {
            return;
        };
        let Some(Deeds { steps, failed }) = mind.act(self.rota.healths(), at, now.wall) else {
            return;
        };
        for (member, container) in failed {
            self.call(Call::LastLines(container), Pending::Lines(member));
        }
        for step in steps {
            self.call(call_of(&step), Pending::Step(Box::new(step)));
        }
        publish(&self.board.health_memory, self.rota.memory());
    }

    fn begin_chore(&mut self, now: Now) {
        let at = self.instant(now);
        if self
            .pending
            .values()
            .any(|p| matches!(p, Pending::Chore(_)))
        {
            return;
        }
        let Some(chore) = self.mind.as_mut().and_then(|mind| mind.next_chore(at)) else {
            return;
        };
        let call = match &chore {
            Chore::Info => Call::Info,
            Chore::Images => Call::Images,
            Chore::PruneNetworks(_) | Chore::PruneVolumes(_) => Call::Prune,
        };
        self.call(call, Pending::Chore(chore));
    }

    fn chore_done(&mut self, chore: Chore, reply: Reply, now: Now) {
        let done = match (chore, reply) {
            (Chore::Info, Reply::Info(result)) => Done::Info(result),
            (Chore::Images, Reply::Images(result)) => Done::Images(result),
            (Chore::PruneNetworks(keep), Reply::Done(result)) => {
                Done::NetworksPruned(keep, result.map(drop))
            }
            (Chore::PruneVolumes(_), Reply::Done(result)) => Done::VolumesPruned(result.map(drop)),
            (chore, reply) => panic!("{chore:?} was answered with {reply:?}"),
        };
        let at = self.instant(now);
        let Some(mind) = &mut self.mind else {
            return;
        };
        match mind.chore_done(done, at) {
            Next::Act => self.act(now),
            Next::Chore => {}
            Next::Nothing => return,
        }
        self.begin_chore(now);
    }

    /// Something else may run.
    pub(super) fn reassign(&mut self, now: Now) {
        let at = self.instant(now);
        let may_run = self.fenced.held.clone();
        let Some(mind) = &mut self.mind else {
            return;
        };
        let abandoned = mind.reassign(may_run, at);
        self.pending.retain(|_, pending| match pending {
            Pending::Step(step) => {
                let fetches = matches!(step.action, Action::Fetch { .. });
                !(fetches && abandoned.contains(&step.member))
            }
            _ => true,
        });
        if self.mind.as_ref().map(Mind::engine) == Some(Engine::Answers) {
            self.probe(now);
        }
        self.act(now);
    }
}

fn call_of(step: &Step) -> Call {
    match &step.action {
        Action::Fetch { image, .. } => Call::Fetch(image.clone()),
        Action::Launch(assigned) => {
            Call::Launch(Box::new(assigned.clone()), step.member.part.clone())
        }
        Action::Start { container } => Call::Start(container.clone()),
        Action::Halt {
            container, manner, ..
        } => Call::Halt(container.clone(), manner.grace),
        Action::Stop {
            container, manner, ..
        } => Call::Stop(container.clone(), manner.grace),
        Action::Remove { container, .. } => Call::Remove(container.clone()),
    }
}
