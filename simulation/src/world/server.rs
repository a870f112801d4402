//! The server: a process with a queue, sessions, and a store that takes its time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;
use windlass_api::{ids::NodeName, wire::AgentFrame};
use windlass_core::lease::CHECK_INTERVAL;
use windlass_orchestrator::{
    controller::{AgentReport, Incumbent, Look, Storage, Write},
    simulation::{Answer, Greeting, Request, Server, Session, Step},
    store::{Batch, Guard},
};

use super::{Event, Message, Way, World};
use crate::{coverage::Fault, store::TailMissing, trace::Seen};

/// The most commands in one batch, as in the real one.
const BATCH_MAX: usize = 512;
/// The most commands that wait, as in the real one.
pub(crate) const QUEUE_MAX: usize = 4_096;

/// A server that runs.
pub(crate) struct Process {
    pub(crate) incarnation: u64,
    pub(crate) server: Server,
    pub(crate) started: Duration,
    pub(crate) queue: VecDeque<Request>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    /// The links whose agents wait to be let in, by the number of the request.
    greeting: BTreeMap<u64, u64>,
    committing: Option<(Step, Option<(Batch, Guard)>)>,
    step_planned: bool,
    /// Until when it does nothing.
    suspended_until: Duration,
    tick_due: bool,
    resyncs: u64,
}

/// A connection that an agent has made to it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The session, once the agent was let in.
    pub(crate) session: Option<Box<Session>>,
    heard_at: Duration,
}

/// How long an agent may take to say who it is, as in the real one.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

impl Process {
    /// The link of the session of a node's agent.
    fn link_of(&self, node: &NodeName) -> Option<u64> {
        let speaks = |c: &Connection| c.session.as_ref().is_some_and(|s| s.node() == node);
        let mut links = self.connections.iter();
        links.find(|(_, c)| speaks(c)).map(|(link, _)| *link)
    }
}

impl World {
    /// A server starts on the store, if no other one uses it.
    pub(crate) fn server_start(&mut self) {
        if self.server.is_some() {
            return;
        }
        let (wall, seed) = (self.server_clock.wall(self.now), self.process_seed());
        let records = match self.store.load() {
            Ok(records) => records,
            // It says so, and waits for an operator.
            Err(TailMissing) => return self.note(format_args!("the tail of the store is missing")),
        };
        let loaded = Server::load(&records, Uuid::from_u64_pair(seed, 1), wall);
        let (loaded, begun) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return self.violated("A", format!("the store cannot be read: {error}")),
        };
        self.check_loaded(&loaded);
        let cluster = match begun {
            None => loaded,
            Some((begun, batch)) => {
                if self
                    .store
                    .commit(&batch, Guard::Version(loaded.version))
                    .is_err()
                {
                    // It comes to its end, and is started again.
                    self.after(Duration::from_secs(1), Event::ServerStart);
                    return;
                }
                begun
            }
        };
        let incarnation = self.number();
        self.note(format_args!("server starts at version {}", cluster.version));
        let server = Server::start(cluster, seed);
        let resyncs = server.resyncs();
        self.checker.server_started(&server.state());
        self.server = Some(Process {
            incarnation,
            server,
            started: self.now,
            queue: VecDeque::new(),
            connections: BTreeMap::new(),
            greeting: BTreeMap::new(),
            committing: None,
            step_planned: false,
            suspended_until: Duration::ZERO,
            tick_due: false,
            resyncs,
        });
        self.after(Duration::ZERO, Event::ServerTick(incarnation));
    }

    /// The server is killed. What it was committing is there afterwards, or is not.
    pub(crate) fn server_dies(&mut self) {
        let Some(process) = self.server.take() else {
            return;
        };
        self.note(format_args!("server dies"));
        self.store.crash();
        if let Some((_, Some((batch, guard)))) = process.committing
            && self.store.is_next(guard)
            && self.store.health == crate::store::Health::Fine
        {
            if self.random.percent(50) {
                self.coverage.fired(Fault::CommitLanded);
                self.store.land(&batch);
            } else {
                self.coverage.fired(Fault::CommitLost);
            }
        }
        self.checker.server_died();
        self.asked.clear();
        let links: Vec<u64> = process.connections.keys().copied().collect();
        for link in links {
            self.close(link, Way::ToAgent);
        }
    }

    fn process(&mut self, incarnation: u64) -> Option<&mut Process> {
        self.server
            .as_mut()
            .filter(|p| p.incarnation == incarnation)
    }

    fn enqueue(&mut self, request: Request) {
        let Some(process) = &mut self.server else {
            return;
        };
        if process.queue.len() >= QUEUE_MAX {
            return;
        }
        process.queue.push_back(request);
        self.plan_step();
    }

    fn plan_step(&mut self) {
        let delay = self.random.millis(0, 1);
        let Some(process) = &mut self.server else {
            return;
        };
        if !process.step_planned && process.committing.is_none() {
            process.step_planned = true;
            let incarnation = process.incarnation;
            self.after(delay, Event::ServerStep(incarnation));
        }
    }

    /// The server is suspended for a time, and does not know it.
    pub(crate) fn suspend_server(&mut self, time: Duration) {
        let until = self.now + time;
        if let Some(process) = &mut self.server {
            process.suspended_until = until;
            self.note(format_args!("the server is suspended for {time:?}"));
        }
    }

    /// It goes on.
    pub(crate) fn resume_server(&mut self) {
        if let Some(process) = &mut self.server {
            process.suspended_until = Duration::ZERO;
        }
    }

    /// Until when the server does nothing, if it is suspended.
    pub(crate) fn suspended(&self) -> Option<Duration> {
        let until = self.server.as_ref().map(|p| p.suspended_until);
        until.filter(|until| *until > self.now)
    }

    pub(crate) fn server_asked(&mut self, number: u64, write: Write) {
        self.enqueue(Request::Write(number, write, None));
    }

    pub(crate) fn server_tick(&mut self, incarnation: u64) {
        let now = self.now;
        let Some(process) = self.process(incarnation) else {
            return;
        };
        process.tick_due = true;
        let silent_max =
            |c: &Connection| c.session.as_ref().map_or(HELLO_WITHIN, |s| s.silent_max());
        let silent = process
            .connections
            .iter()
            .filter(|(_, c)| now - c.heard_at > silent_max(c));
        let silent: Vec<u64> = silent.map(|(link, _)| *link).collect();
        for link in silent {
            self.server_closes(link);
        }
        self.plan_step();
        self.after(CHECK_INTERVAL, Event::ServerTick(incarnation));
    }

    pub(crate) fn server_step(&mut self, incarnation: u64) {
        let now = self.now;
        let wall = self.server_clock.wall(now);
        let moment = self.server_moment();
        let store_works = self.store.health == crate::store::Health::Fine;
        let full = self
            .process(incarnation)
            .is_some_and(|p| p.server.storage() == Storage::Full);
        let records = (full && store_works).then(|| self.store.load());
        let records = records.map(|records| records.expect("a server that runs has the tail"));
        let Some(process) = self.process(incarnation) else {
            return;
        };
        process.step_planned = false;
        if process.committing.is_some() {
            return;
        }
        let mut look = Look::AtWhatChanged;
        if std::mem::take(&mut process.tick_due) {
            if let Some(records) = &records {
                // What the store holds counts.
                process
                    .server
                    .recovered(records)
                    .expect("the store can be read");
            }
            look = process.server.look(moment);
        }
        if process.server.wake().is_some_and(|at| at <= wall) {
            look = Look::AtEverything;
        }
        let batch: Vec<Request> = {
            let count = process.queue.len().min(BATCH_MAX);
            process.queue.drain(..count).collect()
        };
        let mut step = process.server.step(batch, (wall, moment), look);
        let to_store = step.to_store.take();
        let waits = to_store.is_some();
        process.committing = Some((step, to_store));
        let delay = match waits {
            true => self.random.millis(1, self.disk_ms_max),
            false => Duration::ZERO,
        };
        self.after(delay, Event::Committed(incarnation));
    }

    pub(crate) fn server_committed(&mut self, incarnation: u64) {
        let moment = self.server_moment();
        let Some(process) = self.process(incarnation) else {
            return;
        };
        let Some((step, to_store)) = process.committing.take() else {
            return;
        };
        let before = process.server.state();
        let stored = to_store.map(|(batch, guard)| self.store.commit(&batch, guard));
        let Some(process) = &mut self.server else {
            return;
        };
        let answers = match process.server.settle(step, stored, moment) {
            Ok(answers) => answers,
            Err(error) => {
                self.note(format_args!("server ends: {error}"));
                self.server_dies();
                self.after(Duration::from_secs(2), Event::ServerStart);
                return;
            }
        };
        for answer in answers {
            self.answered(answer);
        }
        self.check_published(&before);
        self.tell_all();
        let more = self
            .server
            .as_ref()
            .is_some_and(|p| !p.queue.is_empty() || p.tick_due);
        if more {
            self.plan_step();
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Write(number, result) => {
                let what = self.asked.remove(&number).unwrap_or_default();
                match result {
                    Ok(version) => self.note(format_args!("user {number}: done at {version}")),
                    Err(error) => self.note(format_args!("user {number}: {what}: {error}")),
                }
            }
            Answer::Hello(number, greeting) => {
                let process = self.server.as_mut();
                if let Some(link) = process.and_then(|p| p.greeting.remove(&number)) {
                    self.greeted(link, greeting);
                }
            }
        }
    }

    fn greeted(&mut self, link: u64, greeting: Greeting) {
        let (session, frame) = match greeting {
            Greeting::Welcome(session, frame) => (session, frame),
            Greeting::Refused(frame) => {
                self.note(format_args!("link {link} is not let in: {frame:?}"));
                self.send_frame(link, &frame);
                return self.server_closes(link);
            }
            Greeting::TooLate => return self.server_closes(link),
        };
        let Some(process) = &mut self.server else {
            return;
        };
        let old = process.link_of(session.node());
        if let Some(connection) = process.connections.get_mut(&link) {
            connection.session = Some(session);
            self.send_frame(link, &frame);
        }
        if let Some(old) = old {
            self.server_closes(old);
        }
    }

    /// Every session tells its agent what is new.
    fn tell_all(&mut self) {
        let Some(process) = &mut self.server else {
            return;
        };
        let cluster = process.server.state();
        let resyncs = process.server.resyncs();
        let resync = std::mem::replace(&mut process.resyncs, resyncs) != resyncs;
        let mut frames = Vec::new();
        for (link, connection) in &mut process.connections {
            let Some(session) = &mut connection.session else {
                continue;
            };
            if resync {
                frames.push((*link, session.resync()));
            }
            frames.extend(session.news(&cluster).map(|frame| (*link, frame)));
        }
        for (link, frame) in frames {
            self.send_frame(link, &frame);
        }
    }

    pub(crate) fn server_accepts(&mut self, link: u64) {
        let heard_at = self.now;
        if let Some(process) = &mut self.server {
            let connection = Connection {
                session: None,
                heard_at,
            };
            process.connections.insert(link, connection);
        }
    }

    pub(crate) fn server_loses(&mut self, link: u64) {
        if let Some(process) = &mut self.server {
            process.connections.remove(&link);
        }
    }

    fn server_closes(&mut self, link: u64) {
        self.server_loses(link);
        self.close(link, Way::ToAgent);
    }

    pub(crate) fn server_hears(&mut self, link: u64, message: Message) {
        let (now, moment) = (self.now, self.server_moment());
        let Some(process) = &mut self.server else {
            return;
        };
        let Some(connection) = process.connections.get_mut(&link) else {
            return;
        };
        let text = match message {
            Message::Text(text) => text,
            Message::Ping => return self.send(link, Way::ToAgent, Message::Pong),
            Message::Close => return self.server_closes(link),
            Message::Pong => return,
        };
        connection.heard_at = now;
        let frame: AgentFrame = serde_json::from_str(&text).expect("an agent's frame");
        if let (AgentFrame::Observed(observed), Some(session)) = (&frame, &connection.session) {
            let line = format_args!("{} -> {}", session.node(), Seen(observed));
            self.trace.note(now, line);
        }
        match (frame, &mut connection.session) {
            (frame, Some(session)) => match session.hear(&process.server, frame, moment) {
                Ok((answer, request)) => {
                    if let Some(answer) = answer {
                        self.send_frame(link, &answer);
                    }
                    if let Some(request) = request {
                        self.enqueue(request);
                    }
                }
                Err(reason) => {
                    self.note(format_args!("link {link} ends: {reason}"));
                    self.server_closes(link);
                }
            },
            (AgentFrame::Hello(hello), None) => {
                let state = process.server.state();
                self.checker.greeted(&state, &hello.node, hello.seen);
                let incumbent = match process.link_of(&hello.node) {
                    Some(_) => Incumbent::Connected,
                    None => Incumbent::Away,
                };
                let number = self.number();
                if let Some(process) = &mut self.server {
                    process.greeting.insert(number, link);
                }
                self.enqueue(Request::Hello(number, hello, incumbent));
            }
            (_, None) => self.server_closes(link),
        }
    }

    /// What an agent says of instances that are not its own.
    pub(crate) fn forge(&mut self, node: NodeName, report: AgentReport) {
        self.enqueue(Request::Report(node, report));
    }

    /// The time since the server started, as it counts it.
    fn server_moment(&self) -> Duration {
        let clock = &self.server_clock;
        let started = self.server.as_ref().map_or(self.now, |p| p.started);
        clock.moment(self.now).saturating_sub(clock.moment(started))
    }

    /// The time of day of the server.
    pub(crate) fn server_wall(&self) -> Timestamp {
        self.server_clock.wall(self.now)
    }
}
