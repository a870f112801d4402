//! The nodes: machines on which agents run, die and are started again.

use std::time::Duration;

use windlass_agent::simulation::{Agent, Disk, Effect, Now};
use windlass_api::{ids::NodeName, wire::ServerFrame};

use super::{Event, Message, Way, World};
use crate::{checker::AWAY_MAX, clock::Clock};

/// A node's machine.
pub(crate) struct Machine {
    pub(crate) clock: Clock,
    /// How often it was switched on before.
    pub(crate) boot: u64,
    pub(crate) disk: Disk,
    pub(crate) agent: Option<Agent>,
    /// How many agents were started on it.
    pub(crate) incarnation: u64,
    /// The connection of the agent.
    pub(crate) link: Option<u64>,
    /// When the agent is next to look at its clock.
    tick_at: Option<Duration>,
    /// When its agent died, if none runs.
    pub(crate) died_at: Option<Duration>,
    /// When it was last too late for something that was to be stopped.
    pub(crate) helpless_at: Option<Duration>,
    /// When something last went wrong with it.
    pub(crate) hurt_at: Option<Duration>,
    /// The newest epoch and generation that its agents held.
    pub(crate) held: Option<(u64, u64)>,
}

impl Machine {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            boot: 0,
            disk: Disk::default(),
            agent: None,
            incarnation: 0,
            link: None,
            tick_at: None,
            died_at: None,
            helpless_at: None,
            hurt_at: None,
            held: None,
        }
    }

    fn now(&self, now: Duration) -> Now {
        Now {
            wall: self.clock.wall(now),
            moment: self.clock.moment(now),
        }
    }
}

impl World {
    pub(crate) fn agent_start(&mut self, node: &NodeName) {
        let seed = self.process_seed();
        let now = self.now;
        let Some(machine) = self.machines.get_mut(node).filter(|m| m.agent.is_none()) else {
            return;
        };
        machine.incarnation += 1;
        if machine.died_at.take().is_some_and(|at| now - at > AWAY_MAX) {
            machine.helpless_at = Some(now);
        }
        let clock = machine.now(now);
        machine.agent = Some(Agent::start(
            node.clone(),
            machine.disk.clone(),
            machine.boot,
            seed,
            clock,
        ));
        self.note(format_args!("agent {node} starts"));
        self.after_agent(node);
    }

    /// An agent is killed. What it asked of its engine goes on there.
    pub(crate) fn agent_dies(&mut self, node: &NodeName) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(node).filter(|m| m.agent.is_some()) else {
            return;
        };
        machine.agent = None;
        machine.tick_at = None;
        machine.hurt_at = Some(now);
        machine.died_at = Some(now);
        let link = machine.link.take();
        self.note(format_args!("agent {node} dies"));
        if let Some(link) = link {
            self.close(link, Way::ToServer);
        }
    }

    /// Lets an agent do something, if it runs, and carries out what it wants.
    pub(crate) fn with_agent(&mut self, node: &NodeName, act: impl FnOnce(&mut Agent, Now)) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        let clock = machine.now(now);
        let Some(agent) = &mut machine.agent else {
            return;
        };
        act(agent, clock);
        self.after_agent(node);
    }

    fn after_agent(&mut self, node: &NodeName) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        let effects = machine
            .agent
            .as_mut()
            .map(Agent::effects)
            .unwrap_or_default();
        for effect in effects {
            self.carry_out(node, effect);
        }
        self.check_agent(node);
        let now = self.now;
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        let Some(agent) = &machine.agent else {
            return;
        };
        let next = machine
            .clock
            .when(agent.next_at())
            .max(now + Duration::from_micros(1));
        if machine.tick_at.is_none_or(|at| at > next || at <= now) {
            machine.tick_at = Some(next);
            self.at(next, Event::AgentTick(node.clone()));
        }
    }

    pub(crate) fn agent_tick(&mut self, node: &NodeName) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        // Only the earliest of all that were planned counts.
        if machine.tick_at != Some(now) {
            return;
        }
        machine.tick_at = None;
        self.with_agent(node, Agent::tick);
    }

    fn carry_out(&mut self, node: &NodeName, effect: Effect) {
        let link = self.machines.get(node).and_then(|m| m.link);
        match effect {
            Effect::Call(ticket, call) => self.call(node, ticket, call),
            Effect::Dial => self.dial(node),
            Effect::Send(frame) => {
                if let Some(link) = link {
                    self.send(link, Way::ToServer, Message::from_agent(&frame));
                }
            }
            Effect::Ping => {
                if let Some(link) = link {
                    self.send(link, Way::ToServer, Message::Ping);
                }
            }
            Effect::HangUp => {
                if let Some(machine) = self.machines.get_mut(node) {
                    machine.link = None;
                }
                if let Some(link) = link {
                    self.close(link, Way::ToServer);
                }
            }
        }
    }

    pub(crate) fn agent_opened(&mut self, node: &NodeName, link: u64) {
        if let Some(machine) = self.machines.get_mut(node)
            && let Some(old) = machine.link.replace(link)
        {
            self.close(old, Way::ToServer);
        }
        self.with_agent(node, Agent::opened);
    }

    /// An agent's connection broke, or could not be made.
    pub(crate) fn agent_broken(&mut self, node: &NodeName, incarnation: u64) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if machine.incarnation == incarnation {
            machine.link = None;
            self.with_agent(node, Agent::broken);
        }
    }

    pub(crate) fn agent_hears(&mut self, node: &NodeName, agent: u64, link: u64, message: Message) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if machine.incarnation != agent || machine.link != Some(link) {
            return;
        }
        match message {
            Message::Text(text) => {
                let frame: ServerFrame = serde_json::from_str(&text).expect("a server's frame");
                self.with_agent(node, |agent, now| agent.received(frame, now));
            }
            Message::Pong => self.with_agent(node, Agent::ponged),
            Message::Close => {
                self.close(link, Way::ToServer);
                self.agent_broken(node, agent);
            }
            Message::Ping => {}
        }
    }

    pub(crate) fn agent_event(&mut self, node: &NodeName) {
        self.with_agent(node, Agent::event);
    }
}
