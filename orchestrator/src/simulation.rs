//! The server without a runtime, a listener or a disk: what the deterministic simulation drives.
//!
//! It is put together from the parts of the real one that decide: the controller's brain, the codec
//! of the store, the history for watches, and what agents were told. What waits in the real one, a
//! caller does here.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;
use windlass_api::{
    clock::Clock,
    ids::{ClusterId, NodeName, Version},
    wire::{Hello, ServerFrame},
};
use windlass_core::{cluster::Cluster, lease::Moment, plan::Report};

use crate::{
    begin, codec,
    controller::{
        AgentReport, Brain, Command, Decided, Error, Handle, Idempotency, Incumbent, Look, Now,
        Storage, Write, Written,
    },
    dialogue::Dialogue,
    history::History,
    metrics::Metrics,
    store::{self, Batch, Guard, Records},
};

pub use session::Session;

mod session;

/// What is asked of the server.
#[derive(Debug)]
pub enum Request {
    /// What a user asks for, with a number for the answer.
    Write(u64, Write, Option<Idempotency>),
    /// What an agent begins with, and who speaks for its node so far, with a number for the answer.
    Hello(u64, Box<Hello>, Incumbent),
    /// What an agent reports.
    Report(NodeName, AgentReport),
}

/// What the server answers.
#[derive(Debug)]
pub enum Answer {
    /// To [`Request::Write`]: the version that has it.
    Write(u64, Result<Version, Error>),
    /// To [`Request::Hello`].
    Hello(u64, Greeting),
}

/// How an agent is greeted.
#[derive(Debug)]
pub enum Greeting {
    /// It is let in, and told this.
    Welcome(Box<Session>, ServerFrame),
    /// It is not, and is told why.
    Refused(ServerFrame),
    /// Its lease was over before it could be told anything.
    TooLate,
}

enum Waiting {
    Write(u64, oneshot::Receiver<Result<Written, Error>>),
    Hello(u64, Box<Hello>, oneshot::Receiver<Result<Cluster, Error>>),
}

/// What was decided, until the store has it.
pub struct Step {
    decided: Decided,
    waiting: Vec<Waiting>,
    /// What the store is to make durable, if anything.
    pub to_store: Option<(Batch, Guard)>,
    /// What was planned, if anything was looked at.
    pub report: Option<Report>,
}

/// A server.
pub struct Server {
    brain: Brain,
    handle: Handle,
}

impl Server {
    /// What the store holds, and what is to be made durable before [`Self::start`], if anything.
    ///
    /// # Errors
    /// If the store holds what cannot be read.
    pub fn load(
        records: &Records,
        new_id: Uuid,
        wall: Timestamp,
    ) -> Result<(Cluster, Option<(Cluster, Batch)>), codec::Error> {
        let loaded = codec::decode(records, ClusterId(new_id))?;
        let begun = begin(&loaded, records.epoch, wall);
        Ok((loaded, begun))
    }

    /// Starts with a state that is durable. `seed` stands for all randomness.
    #[must_use]
    pub fn start(cluster: Cluster, seed: u64) -> Self {
        let mut serial = 0;
        let new_id = move || {
            serial += 1;
            Uuid::from_u64_pair(seed, serial)
        };
        let brain = Brain::new(cluster, Arc::new(Metrics::new()), Box::new(new_id));
        // The commands come with each step instead.
        let (unused, _) = mpsc::channel(1);
        // Moments are handed in as well.
        let handle = brain.handle(unused, Instant::now(), Clock::default());
        Self { brain, handle }
    }

    /// What the pass of a tick at this moment looks at.
    pub fn look(&mut self, now: Moment) -> Look {
        self.brain.look(now)
    }

    /// When to look at everything though nothing may happen until then.
    #[must_use]
    pub fn wake(&self) -> Option<Timestamp> {
        self.brain.wake()
    }

    /// Decides on requests, and on what follows: of everything, or of what changed.
    pub fn step(&mut self, requests: Vec<Request>, now: (Timestamp, Moment), look: Look) -> Step {
        let mut waiting = Vec::new();
        let commands = requests.into_iter().map(|request| match request {
            Request::Write(number, write, idempotency) => {
                let (answer, answered) = oneshot::channel();
                waiting.push(Waiting::Write(number, answered));
                Command::Write(write, idempotency, answer)
            }
            Request::Hello(number, hello, incumbent) => {
                let (answer, answered) = oneshot::channel();
                waiting.push(Waiting::Hello(number, hello.clone(), answered));
                Command::Hello(hello, incumbent, answer)
            }
            Request::Report(node, report) => Command::Agent(node, report),
        });
        let commands: Vec<Command> = commands.collect();
        let now = Now {
            wall: now.0,
            moment: now.1,
        };
        let mut decision = self.brain.decide(commands, now);
        let report = self.brain.plan(&mut decision, look);
        let (decided, to_store) = self.brain.close(decision);
        Step {
            decided,
            waiting,
            to_store,
            report,
        }
    }

    /// Shows everybody what is durable, and answers. `stored` is `None` if nothing was to be stored.
    ///
    /// # Errors
    /// That of the store, if the server must not survive it.
    pub fn settle(
        &mut self,
        step: Step,
        stored: Option<store::Result<Version>>,
        now: Moment,
    ) -> store::Result<Vec<Answer>> {
        self.brain.settle(step.decided, stored)?;
        let answers = step.waiting.into_iter().map(|waiting| match waiting {
            Waiting::Write(number, answered) => {
                let answer = settled(answered);
                Answer::Write(number, answer.map(|written| written.cluster.version))
            }
            Waiting::Hello(number, hello, answered) => {
                Answer::Hello(number, self.greet(&hello, settled(answered), now))
            }
        });
        Ok(answers.collect())
    }

    fn greet(&self, hello: &Hello, answer: Result<Cluster, Error>, now: Moment) -> Greeting {
        let cluster = match answer {
            Ok(cluster) => cluster,
            Err(error) => {
                let reason = error.to_string();
                return Greeting::Refused(ServerFrame::Refused { reason });
            }
        };
        let Some(pace) = self.handle.renew_at(&hello.node, now) else {
            return Greeting::TooLate;
        };
        let (dialogue, welcome) = Dialogue::begin(hello, &cluster, pace);
        let session = Box::new(Session(dialogue));
        Greeting::Welcome(session, ServerFrame::Welcome(welcome))
    }

    /// The store takes writes again, and holds this.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn recovered(&mut self, records: &Records) -> store::Result<()> {
        self.brain.recovered(records)
    }

    /// Whether the store takes writes, as far as the server knows.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.brain.storage()
    }

    /// The state as everybody sees it.
    #[must_use]
    pub fn state(&self) -> Cluster {
        self.handle.state()
    }

    /// The last commits.
    #[must_use]
    pub fn history(&self) -> &History {
        self.handle.history()
    }

    /// How often agents were asked to report everything again.
    #[must_use]
    pub fn resyncs(&self) -> u64 {
        *self.handle.resyncs().borrow()
    }
}

fn settled<T>(mut answered: oneshot::Receiver<T>) -> T {
    let answer = answered.try_recv();
    answer.expect("a step that settled answers all")
}
