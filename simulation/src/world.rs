//! The world of a run: all processes and machines, and the queue of what happens next.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use windlass_api::{
    ids::{InstanceId, NodeName},
    wire::{AgentFrame, ServerFrame},
};
use windlass_orchestrator::controller::Write;

use crate::{
    checker::Checker, clock::Clock, coverage::Coverage, engine::Engine, random::Random,
    store::Store, trace::Trace,
};
use agents::Machine;
use network::{Link, Network};
use server::Process;

mod agents;
mod calls;
mod faults;
mod network;
mod rival;
mod server;
mod users;

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// An agent looks at its clock.
    AgentTick(NodeName),
    /// An agent is started.
    AgentStart(NodeName),
    /// A call is due at an engine, or its second half.
    Call(u64),
    /// An engine tells its agent that something changed.
    Notify(NodeName),
    /// A container comes to its end.
    Exit(
        NodeName,
        windlass_agent::runtime::ContainerId,
        jiff::Timestamp,
        i64,
    ),
    /// A container is healthy now.
    Healthy(
        NodeName,
        windlass_agent::runtime::ContainerId,
        jiff::Timestamp,
    ),
    /// A connection is made, or cannot be.
    Connect(NodeName, u64),
    /// The head of a link's queue arrives.
    Deliver(u64, Way),
    /// A server is started.
    ServerStart,
    /// A server looks at its clock.
    ServerTick(u64),
    /// A server works on what waits.
    ServerStep(u64),
    /// A commit came to its end.
    Committed(u64),
    /// Users and operators do something.
    User,
    /// Something breaks.
    Fault,
    /// A line comes and goes, so often.
    Flap(NodeName, u64),
    /// It is mended.
    Mend(faults::Wound),
    /// An operator restores the newest export, if that is needed.
    Restore,
    /// Nothing breaks any more, and everything is mended.
    Heal,
}

/// The direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    ToServer,
    ToAgent,
}

/// What travels on a link, as it does on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Ping,
    Pong,
    Close,
}

impl Message {
    fn from_agent(frame: &AgentFrame) -> Self {
        Self::Text(serde_json::to_string(frame).expect("frames have only string keys"))
    }

    fn from_server(frame: &ServerFrame) -> Self {
        Self::Text(serde_json::to_string(frame).expect("frames have only string keys"))
    }
}

/// How rough a run is.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How long things break.
    pub(crate) rough_until: Duration,
    /// How long it goes on after that.
    pub(crate) ends: Duration,
    /// How long it is between two faults, at most, in milliseconds; 0: there are none.
    pub(crate) fault_every_ms: u64,
    /// How long it is between two things that users do, at most, in milliseconds.
    pub(crate) user_every_ms: u64,
    pub(crate) nodes: u64,
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    serial: u64,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    pub(crate) checker: Checker,
    pub(crate) plan: Plan,
    pub(crate) machines: BTreeMap<NodeName, Machine>,
    pub(crate) engines: BTreeMap<NodeName, Engine>,
    pub(crate) calls: BTreeMap<u64, calls::Running>,
    pub(crate) network: Network,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) store: Store,
    pub(crate) exports: Vec<crate::store::State>,
    pub(crate) server: Option<Process>,
    pub(crate) server_clock: Clock,
    pub(crate) asked: BTreeMap<u64, String>,
    /// The instances of which a server heard that nothing is left.
    pub(crate) gone: BTreeSet<InstanceId>,
    pub(crate) disk_ms_max: u64,
    seed: u64,
}

impl World {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let plan = faults::plan(&mut random);
        let server_clock = faults::clock(&mut random, Duration::ZERO);
        let mut world = Self {
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            serial: 0,
            random,
            trace,
            coverage: Coverage::default(),
            checker: Checker::default(),
            plan,
            machines: BTreeMap::new(),
            engines: BTreeMap::new(),
            calls: BTreeMap::new(),
            network: Network::default(),
            links: BTreeMap::new(),
            store: Store::new(),
            exports: Vec::new(),
            server: None,
            server_clock,
            asked: BTreeMap::new(),
            gone: BTreeSet::new(),
            disk_ms_max: 5,
            seed,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.at(Duration::ZERO, Event::ServerStart);
        for n in 1..=self.plan.nodes {
            let name: NodeName = format!("n{n}").parse().expect("a name");
            let clock = faults::clock(&mut self.random, Duration::ZERO);
            self.engines.insert(name.clone(), Engine::new(name.clone()));
            self.machines.insert(name.clone(), Machine::new(clock));
            let when = self.random.millis(1, 3_000);
            self.at(when, Event::AgentStart(name));
        }
        self.at(self.plan.rough_until, Event::Heal);
        self.at(Duration::from_secs(1), Event::User);
        if self.plan.fault_every_ms > 0 {
            self.at(Duration::from_secs(5), Event::Fault);
        }
    }

    /// A number that was not given out before.
    pub(crate) fn number(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// A number that stands for the randomness of a process.
    pub(crate) fn process_seed(&mut self) -> u64 {
        self.random.next() ^ self.seed
    }

    pub(crate) fn at(&mut self, when: Duration, event: Event) {
        let number = self.number();
        self.queue.insert((when.max(self.now), number), event);
    }

    pub(crate) fn after(&mut self, pause: Duration, event: Event) {
        self.at(self.now + pause, event);
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    pub(crate) fn violated(&mut self, contract: &'static str, what: String) {
        self.trace
            .note(self.now, format_args!("VIOLATED {contract}: {what}"));
        self.checker.violations.push(format!("{contract}: {what}"));
    }

    /// Whether things still break.
    pub(crate) fn is_rough(&self) -> bool {
        self.now < self.plan.rough_until
    }

    /// Runs to the end, or until something that must hold does not.
    pub(crate) fn run(&mut self) {
        while let Some(((when, _), event)) = self.queue.pop_first() {
            if when >= self.plan.ends {
                break;
            }
            self.now = when;
            self.happen(event);
            if !self.checker.violations.is_empty() {
                return;
            }
        }
        self.now = self.plan.ends;
        self.check_rest();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::AgentTick(node) => self.agent_tick(&node),
            Event::AgentStart(node) => self.agent_start(&node),
            Event::Call(number) => self.call_due(number),
            Event::Notify(node) => self.agent_event(&node),
            Event::Exit(node, id, run, code) => self.container_ends(&node, &id, run, code),
            Event::Healthy(node, id, run) => self.container_healthy(&node, &id, run),
            Event::Connect(node, number) => self.connect(&node, number),
            Event::Deliver(link, way) => self.deliver(link, way),
            Event::ServerStart => self.server_start(),
            event @ (Event::ServerTick(_) | Event::ServerStep(_) | Event::Committed(_)) => {
                match self.suspended() {
                    Some(until) => self.at(until, event),
                    None => self.server_goes_on(&event),
                }
            }
            Event::User => self.user_acts(),
            Event::Fault => self.something_breaks(),
            Event::Flap(node, times) => self.flap(&node, times),
            Event::Mend(wound) => self.mend(wound),
            Event::Restore => self.restore_newest(),
            Event::Heal => self.heal(),
        }
    }

    fn server_goes_on(&mut self, event: &Event) {
        match *event {
            Event::ServerTick(incarnation) => self.server_tick(incarnation),
            Event::ServerStep(incarnation) => self.server_step(incarnation),
            Event::Committed(incarnation) => self.server_committed(incarnation),
            _ => {}
        }
    }

    /// Hands the server what a user asks for, if there is one.
    pub(crate) fn ask(&mut self, what: String, write: Write) {
        let number = self.number();
        self.note(format_args!("user {number}: {what}"));
        self.asked.insert(number, what);
        self.server_asked(number, write);
    }
}
