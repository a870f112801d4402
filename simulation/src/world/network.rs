//! The network: connections as TCP makes them (in order, nothing twice, nothing lost while they
//! stand), over lines that are cut in either direction.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use windlass_api::{ids::NodeName, wire::ServerFrame};

use super::{Event, Message, Way, World};
use crate::{coverage::Fault, trace::Told};

/// How long it is until TCP sends again what it could not send, in milliseconds.
const RETRIES_WITHIN_MS: u64 = 5_000;

/// How many assignments are kept of what was sent on a link.
const ASSIGNMENTS_MAX: usize = 4;

/// The lines between the nodes and the server.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// What is cut.
    pub(crate) cut: BTreeSet<(NodeName, Way)>,
    /// The longest delay of a message, in milliseconds, if it is a bad day.
    pub(crate) slow_ms: u64,
}

/// A connection between an agent and a server.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) node: NodeName,
    /// Which agent of all that were started.
    pub(crate) agent: u64,
    queues: [VecDeque<(Duration, Message)>; 2],
    /// The last assignments that were sent on it.
    assignments: VecDeque<String>,
    /// Whether each end still reads.
    pub(crate) agent_open: bool,
    pub(crate) server_open: bool,
}

impl Link {
    fn queue(&mut self, way: Way) -> &mut VecDeque<(Duration, Message)> {
        match way {
            Way::ToServer => &mut self.queues[0],
            Way::ToAgent => &mut self.queues[1],
        }
    }
}

impl World {
    /// An agent dials.
    pub(crate) fn dial(&mut self, node: &NodeName) {
        let Some(machine) = self.machines.get(node) else {
            return;
        };
        let incarnation = machine.incarnation;
        let delay = self.random.millis(1, 20);
        self.after(delay, Event::Connect(node.clone(), incarnation));
    }

    /// A connection is made if both directions are there; it is refused if nobody listens.
    pub(crate) fn connect(&mut self, node: &NodeName, agent: u64) {
        let cut = [Way::ToServer, Way::ToAgent]
            .map(|way| self.network.cut.contains(&(node.clone(), way)));
        if cut.contains(&true) {
            return;
        }
        if self.server.is_none() {
            self.agent_broken(node, agent);
            return;
        }
        // The kernel takes the connection, and nobody says anything.
        if self.suspended().is_some() {
            return;
        }
        if self
            .machines
            .get(node)
            .is_none_or(|m| m.incarnation != agent || m.agent.is_none())
        {
            return;
        }
        let number = self.number();
        let link = Link {
            node: node.clone(),
            agent,
            queues: Default::default(),
            assignments: VecDeque::new(),
            agent_open: true,
            server_open: true,
        };
        self.links.insert(number, link);
        self.server_accepts(number);
        self.agent_opened(node, number);
    }

    /// Puts a message on a link.
    pub(crate) fn send(&mut self, number: u64, way: Way, message: Message) {
        let slow = self.network.slow_ms;
        let delay = match slow {
            0 => self.random.millis(0, 5),
            slow => self.random.millis(1, slow),
        };
        let now = self.now;
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        let queue = link.queue(way);
        // One after the other, however long each takes.
        let when = queue.back().map_or(now, |(at, _)| *at).max(now + delay);
        queue.push_back((when, message));
        self.at(when, Event::Deliver(number, way));
    }

    /// Sends a frame to an agent.
    pub(crate) fn send_frame(&mut self, number: u64, frame: &ServerFrame) {
        let message = Message::from_server(frame);
        let is_assignment = matches!(frame, ServerFrame::Assignment(_));
        if let (true, Message::Text(text)) = (is_assignment, &message)
            && let Some(link) = self.links.get_mut(&number)
        {
            if link.assignments.len() == ASSIGNMENTS_MAX {
                link.assignments.pop_front();
            }
            link.assignments.push_back(text.clone());
        }
        if let ServerFrame::Assignment(frame) = frame
            && let Some(node) = self.links.get(&number).map(|link| link.node.clone())
        {
            self.note(format_args!("{node} <- {}", Told(frame)));
        }
        self.send(number, Way::ToAgent, message);
    }

    /// Sends an assignment again that was sent some time ago, as no network should.
    pub(crate) fn send_stale(&mut self, node: &NodeName) {
        let link = self.machines.get(node).and_then(|m| m.link);
        let stale = link.and_then(|l| self.links.get(&l)?.assignments.front().cloned());
        if let (Some(link), Some(text)) = (link, stale) {
            self.coverage.fired(Fault::StaleAssignment);
            self.note(format_args!("{node} is told again what it was told before"));
            self.send(link, Way::ToAgent, Message::Text(text));
        }
    }

    /// What is under way on a link's way arrives twice, but for what begins a session.
    pub(crate) fn repeat(&mut self, node: &NodeName, way: Way) {
        let now = self.now;
        let number = self.machines.get(node).and_then(|m| m.link);
        let Some(link) = number.and_then(|number| self.links.get_mut(&number)) else {
            return;
        };
        let is_greeting = |text: &str| text.contains("\"hello\"") || text.contains("\"welcome\"");
        let queue = link.queue(way);
        let again = queue.iter().flat_map(|(at, message)| {
            let twice = matches!(message, Message::Text(text) if !is_greeting(text));
            std::iter::repeat_n((*at, message.clone()), if twice { 2 } else { 1 })
        });
        let again: VecDeque<_> = again.collect();
        let added = again.len() - queue.len();
        let last = again.back().map_or(now, |(at, _)| *at);
        *queue = again;
        if let Some(number) = number.filter(|_| added > 0) {
            self.coverage.fired(Fault::FramesTwice);
            for _ in 0..added {
                self.at(last, Event::Deliver(number, way));
            }
        }
    }

    /// The head of a queue arrives, unless the line is cut: then it waits until that is mended.
    pub(crate) fn deliver(&mut self, number: u64, way: Way) {
        let now = self.now;
        if let (Way::ToServer, Some(until)) = (way, self.suspended()) {
            return self.at(until, Event::Deliver(number, way));
        }
        let newer = self.links.get(&number).is_some_and(|old| {
            let link = self.machines.get(&old.node).and_then(|m| m.link);
            link.is_some_and(|link| link != number)
        });
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        let node = link.node.clone();
        if self.network.cut.contains(&(node.clone(), way)) {
            return;
        }
        let queue = link.queue(way);
        if queue.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let Some((_, message)) = queue.pop_front() else {
            return;
        };
        let (agent, agent_open, server_open) = (link.agent, link.agent_open, link.server_open);
        if way == Way::ToServer && newer && matches!(message, Message::Text(_)) {
            self.coverage.fired(Fault::LateFrames);
        }
        match way {
            Way::ToServer if server_open => self.server_hears(number, message),
            Way::ToAgent if agent_open => self.agent_hears(&node, agent, number, message),
            Way::ToServer | Way::ToAgent => {}
        }
    }

    /// One end of a connection closes it, and tells the other one.
    pub(crate) fn close(&mut self, number: u64, by: Way) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        let open = match by {
            Way::ToServer => &mut link.agent_open,
            Way::ToAgent => &mut link.server_open,
        };
        if std::mem::replace(open, false) {
            self.send(number, by, Message::Close);
        }
        let closed = |l: &Link| !l.agent_open && !l.server_open;
        if self.links.get(&number).is_some_and(closed) {
            self.links.remove(&number);
        }
    }

    /// A connection breaks, with everything that was under way on it.
    pub(crate) fn break_link(&mut self, number: u64) {
        let Some(mut link) = self.links.remove(&number) else {
            return;
        };
        let lost = link.queue(Way::ToServer).len() + link.queue(Way::ToAgent).len();
        if lost > 0 {
            self.coverage.fired(Fault::FramesLost);
        }
        self.server_loses(number);
        self.agent_broken(&link.node, link.agent);
    }

    /// A line is mended: what waited arrives.
    pub(crate) fn mend_line(&mut self, node: &NodeName, way: Way) {
        self.network.cut.remove(&(node.clone(), way));
        let numbers: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, l)| l.node == *node)
            .map(|(n, _)| *n)
            .collect();
        for number in numbers {
            let waiting = self
                .links
                .get_mut(&number)
                .map_or(0, |l| l.queue(way).len());
            // It is some time until either end tries again.
            let pause = self.random.millis(0, RETRIES_WITHIN_MS);
            for _ in 0..waiting {
                self.after(pause, Event::Deliver(number, way));
            }
        }
    }
}
