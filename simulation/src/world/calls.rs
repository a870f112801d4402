//! Calls of agents to their engines, which take time, hang, and are half done when an agent dies.

use std::time::Duration;

use jiff::Timestamp;
use windlass_agent::{
    runtime::{ContainerId, ErrorKind},
    simulation::{Agent, Call, Reply},
};
use windlass_api::{duration::Span, ids::NodeName, wire::AssignedInstance};

use super::{Event, World};
use crate::{
    coverage::Fault,
    engine::{Health, Program, error},
};

/// How long a call to an engine that hangs takes until it fails.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A call that is being carried out.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) node: NodeName,
    incarnation: u64,
    ticket: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The engine has it.
    Asked(Call),
    /// Its time limit passed, or the engine is away.
    Unanswered(Call),
    /// A container was created, and is to be started.
    Start(ContainerId),
    /// A container was asked to stop, and is to be removed afterwards or not.
    End(ContainerId, After),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Stay,
    Remove,
}

impl World {
    pub(crate) fn call(&mut self, node: &NodeName, ticket: u64, call: Call) {
        let incarnation = self.machines.get(node).map_or(0, |m| m.incarnation);
        let health = self.engines.get(node).map_or(Health::Down, |e| e.health);
        let (delay, stage) = match health {
            Health::Fine => (self.random.millis(1, 60), Stage::Asked(call)),
            Health::Slow => (self.random.millis(200, 5_000), Stage::Asked(call)),
            Health::Hangs => (CALL_LIMIT, Stage::Unanswered(call)),
            Health::Down => (Duration::from_millis(1), Stage::Unanswered(call)),
        };
        let running = Running {
            node: node.clone(),
            incarnation,
            ticket,
            stage,
        };
        self.proceed(running, delay);
    }

    fn proceed(&mut self, running: Running, delay: Duration) {
        let number = self.number();
        self.calls.insert(number, running);
        self.after(delay, Event::Call(number));
    }

    pub(crate) fn call_due(&mut self, number: u64) {
        let Some(running) = self.calls.remove(&number) else {
            return;
        };
        let (node, incarnation, ticket) =
            (running.node.clone(), running.incarnation, running.ticket);
        let machine = self.machines.get(&node);
        let alive = machine.is_some_and(|m| m.incarnation == incarnation && m.agent.is_some());
        let reply = match running.stage {
            Stage::Asked(call) => self.begun(&node, call, incarnation, ticket),
            Stage::Unanswered(call) => {
                // It may have been done all the same.
                if self.random.percent(50)
                    && self
                        .engines
                        .get(&node)
                        .is_some_and(|e| e.health == Health::Hangs)
                {
                    self.coverage.fired(Fault::EffectWithoutAnswer);
                    self.done_unseen(&node, &call);
                }
                Some(unreachable(&call))
            }
            // The agent that would have started it is gone.
            Stage::Start(_) if !alive => {
                self.coverage.fired(Fault::PartialCreate);
                None
            }
            Stage::Start(id) => Some(Reply::Done(self.start(&node, &id).map(|()| Some(id)))),
            Stage::End(id, after) => {
                self.stopped(&node, &id);
                if after == After::Remove && alive {
                    self.removed(&node, &id);
                }
                Some(Reply::Done(Ok(Some(id))))
            }
        };
        if let Some(reply) = reply.filter(|_| alive) {
            self.with_agent(&node, |agent: &mut Agent, now| {
                agent.replied(ticket, reply, now)
            });
        }
    }

    /// The engine does what it was asked for, or begins with it.
    fn begun(
        &mut self,
        node: &NodeName,
        call: Call,
        incarnation: u64,
        ticket: u64,
    ) -> Option<Reply> {
        let engine = self.engines.get_mut(node)?;
        let next = |stage| Running {
            node: node.clone(),
            incarnation,
            ticket,
            stage,
        };
        Some(match call {
            Call::Info => Reply::Info(Ok(engine.info())),
            Call::Images => Reply::Images(Ok(engine.images.clone())),
            Call::List => Reply::Containers(Ok(engine.containers.values().cloned().collect())),
            Call::LastLines(_) => Reply::Lines(vec!["the last words".to_owned()]),
            Call::Prune => Reply::Done(Ok(None)),
            Call::Fetch(image) => Reply::Done(engine.fetch(&image).map(|()| None)),
            Call::Launch(assigned, part) => match engine.create(&assigned, &part) {
                Err(error) => Reply::Done(Err(error)),
                Ok(id) => {
                    self.created(node, &assigned, &id);
                    let delay = self.random.millis(1, 200);
                    self.proceed(next(Stage::Start(id)), delay);
                    return None;
                }
            },
            Call::Start(id) => Reply::Done(self.start(node, &id).map(|()| Some(id))),
            Call::Halt(id, grace) => {
                let delay = self.stop_time(grace);
                self.proceed(next(Stage::End(id, After::Stay)), delay);
                return None;
            }
            Call::Stop(id, grace) => {
                self.asked_to_stop(node, &id);
                let delay = self.stop_time(grace);
                self.proceed(next(Stage::End(id, After::Remove)), delay);
                return None;
            }
            Call::Remove(id) => {
                self.asked_to_stop(node, &id);
                self.removed(node, &id);
                Reply::Done(Ok(Some(id)))
            }
        })
    }

    fn stop_time(&mut self, grace: Span) -> Duration {
        // Some programs do not listen, and are killed in the end.
        if self.random.percent(20) {
            grace.as_std()
        } else {
            self.random.millis(5, 500).min(grace.as_std())
        }
    }

    /// What a call that is not answered does.
    fn done_unseen(&mut self, node: &NodeName, call: &Call) {
        match call {
            Call::Launch(assigned, part) => {
                let created = self.engines.get_mut(node).map(|e| e.create(assigned, part));
                if let Some(Ok(id)) = created {
                    self.created(node, assigned, &id);
                }
            }
            Call::Start(id) => {
                // Whether it could be is not seen either.
                let _unseen = self.start(node, id);
            }
            Call::Halt(id, _) => self.stopped(node, id),
            Call::Stop(id, _) => {
                self.asked_to_stop(node, id);
                self.stopped(node, id);
            }
            Call::Info
            | Call::Images
            | Call::List
            | Call::Fetch(_)
            | Call::Remove(_)
            | Call::LastLines(_)
            | Call::Prune => {}
        }
    }

    fn created(&mut self, node: &NodeName, assigned: &AssignedInstance, id: &ContainerId) {
        self.note(format_args!("{node}: {} created as {}", assigned.id, id.0));
        self.changed(node);
    }

    fn start(
        &mut self,
        node: &NodeName,
        id: &ContainerId,
    ) -> Result<(), windlass_agent::runtime::Error> {
        let wall = self.wall_of(node);
        let Some(engine) = self.engines.get_mut(node) else {
            return Ok(());
        };
        let Some(program) = engine.start(id, wall)? else {
            return Ok(());
        };
        self.note(format_args!("{node}: {} started", id.0));
        let later = self.random.millis(300, 3_000);
        match program {
            Program::Crashes => self.after(later, Event::Exit(node.clone(), id.clone(), wall, 1)),
            Program::Completes => self.after(later, Event::Exit(node.clone(), id.clone(), wall, 0)),
            Program::HealthyLater => {
                self.after(later, Event::Healthy(node.clone(), id.clone(), wall))
            }
            Program::Serves | Program::NeverHealthy => {}
        }
        self.changed(node);
        self.check_started(node, id);
        Ok(())
    }

    fn stopped(&mut self, node: &NodeName, id: &ContainerId) {
        let wall = self.wall_of(node);
        if self
            .engines
            .get_mut(node)
            .is_some_and(|e| e.end(id, 143, wall))
        {
            self.note(format_args!("{node}: {} stopped", id.0));
            self.changed(node);
        }
    }

    fn removed(&mut self, node: &NodeName, id: &ContainerId) {
        if let Some(engine) = self.engines.get_mut(node) {
            engine.remove(id);
            self.note(format_args!("{node}: {} removed", id.0));
            self.changed(node);
        }
    }

    /// A container was changed on an agent's word.
    fn changed(&mut self, node: &NodeName) {
        let now = self.now;
        if let Some(engine) = self.engines.get_mut(node) {
            engine.changed_at = now;
        }
        self.tell_agent(node);
    }

    /// The engine tells of a change, once, twice or never.
    fn tell_agent(&mut self, node: &NodeName) {
        if self.engines.get(node).is_some_and(|e| e.loses_events) {
            return;
        }
        let delay = self.random.millis(1, 20);
        self.after(delay, Event::Notify(node.clone()));
        if self.random.percent(5) {
            self.coverage.fired(Fault::EventTwice);
            self.after(delay * 2, Event::Notify(node.clone()));
        }
    }

    pub(crate) fn container_ends(
        &mut self,
        node: &NodeName,
        id: &ContainerId,
        run: Timestamp,
        code: i64,
    ) {
        let wall = self.wall_of(node).max(run);
        let Some(engine) = self.engines.get_mut(node) else {
            return;
        };
        let same = engine
            .containers
            .get(id)
            .is_some_and(|c| c.run() == Some(run));
        if same && engine.end(id, code, wall) {
            self.note(format_args!("{node}: {} exits with {code}", id.0));
            self.tell_agent(node);
        }
    }

    pub(crate) fn container_healthy(&mut self, node: &NodeName, id: &ContainerId, run: Timestamp) {
        if self
            .engines
            .get_mut(node)
            .is_some_and(|e| e.healthy(id, run))
        {
            self.tell_agent(node);
        }
    }

    /// The time of day on a node.
    pub(crate) fn wall_of(&self, node: &NodeName) -> Timestamp {
        let machine = self.machines.get(node);
        machine.map_or(Timestamp::UNIX_EPOCH, |m| m.clock.wall(self.now))
    }
}

/// What is said of a call that the engine did not answer.
fn unreachable(call: &Call) -> Reply {
    let error = error(ErrorKind::Unreachable, "the engine does not answer");
    match call {
        Call::Info => Reply::Info(Err(error)),
        Call::Images => Reply::Images(Err(error)),
        Call::List => Reply::Containers(Err(error)),
        Call::LastLines(_) => Reply::Lines(Vec::new()),
        Call::Fetch(_)
        | Call::Launch(..)
        | Call::Start(_)
        | Call::Halt(..)
        | Call::Stop(..)
        | Call::Remove(_)
        | Call::Prune => Reply::Done(Err(error)),
    }
}
