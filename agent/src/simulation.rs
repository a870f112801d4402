//! The agent without a runtime, an engine or a disk: what the deterministic simulation drives.
//!
//! It is put together from the parts of the real one that decide: the ledger's judgement, the
//! reconciler's mind with plan and histories, and the session's dialogue. What waits in the real
//! one, a caller does here: it hands in the time, what the engine answered and what the server
//! said, and takes out what is to be called and sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;
use windlass_api::{
    ids::{AgentId, NodeName},
    wire::{AgentFrame, Assignment, RuntimeHealth},
};

use crate::{
    Offer,
    board::{Board, Machine, Snapshot},
    data_dir::Identity,
    fence::{self, Contact, KeptContact},
    history::Histories,
    keeper,
    ledger::{Held, Ledger},
    probe::{Memory, Rota},
    reconciler::{Local, RELIST_INTERVAL, mind::Mind},
    session::Introduction,
};

use engine::Pending;
use talk::Session;

pub use disk::Disk;
pub use engine::{Call, Reply};

mod disk;
mod engine;
mod talk;

/// A time, as both clocks of the machine have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time of day, which can jump.
    pub wall: Timestamp,
    /// The time since the machine was switched on.
    pub moment: Duration,
}

/// What the agent wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A call to the engine, with the ticket for its reply.
    Call(u64, Call),
    /// A connection to the server: [`Agent::opened`] or [`Agent::broken`].
    Dial,
    /// A frame for the server.
    Send(Box<AgentFrame>),
    /// A ping, which the other end of the connection answers: [`Agent::ponged`].
    Ping,
    /// The end of the connection.
    HangUp,
}

/// Changes on the board that the parts of the agent wait for.
struct Wakes {
    held: watch::Receiver<Option<Arc<Held>>>,
    snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    contact: watch::Receiver<Contact>,
    health: watch::Receiver<RuntimeHealth>,
    images: watch::Receiver<Arc<BTreeSet<String>>>,
    machine: watch::Receiver<Option<Machine>>,
    histories: watch::Receiver<Histories>,
    memory: watch::Receiver<Memory>,
}

/// An agent.
pub struct Agent {
    introduction: Introduction,
    identity: Identity,
    disk: Disk,
    ledger: Ledger,
    board: Arc<Board>,
    wakes: Wakes,
    /// What moments are counted from. Nothing depends on when that was.
    base: Instant,
    /// How often the machine was switched on before.
    boot: String,
    /// What may run of what is held, and when that is to be looked at again.
    fenced: fence::Fenced,
    mind: Option<Mind>,
    rota: Rota,
    pending: BTreeMap<u64, Pending>,
    ticket: u64,
    session: Session,
    in_vain: u32,
    random: u64,
    info_at: Duration,
    relist_at: Duration,
    keep_at: Option<Duration>,
    effects: Vec<Effect>,
}

impl Agent {
    /// Starts an agent with what its disk holds, on a machine that was switched on so often.
    /// `seed` stands for all randomness.
    #[must_use]
    pub fn start(node: NodeName, disk: Disk, boot: u64, seed: u64, now: Now) -> Self {
        let identity: Identity = disk.read(disk::IDENTITY).unwrap_or_else(|| Identity {
            agent: AgentId(Uuid::from_u64_pair(seed, 0xa6e7)),
            node: node.clone(),
            machine: None,
        });
        disk.keep(disk::IDENTITY, &identity);
        let ledger = Ledger::on(disk.clone());
        let cluster = ledger.held().map(|h| h.cluster);
        let histories = disk.read(disk::HISTORIES).unwrap_or_default();
        let boot = format!("{node}-{boot}");
        let contact = KeptContact::read(disk.read(disk::CONTACT), &boot, now.moment);
        // Nobody reads the clock: moments are handed in.
        let clock = Arc::new(move || now.moment);
        let board = Board::new(cluster, identity.machine.clone(), histories, clock);
        board.contact.send_replace(contact);
        let memory: Memory = disk.read(disk::HEALTH).unwrap_or_default();
        board.health_memory.send_replace(memory.clone());
        let board = Arc::new(board);
        let wakes = Wakes {
            held: ledger.subscribe(),
            contact: board.contact.subscribe(),
            snapshot: board.snapshot.subscribe(),
            health: board.health.subscribe(),
            images: board.images.subscribe(),
            machine: board.machine.subscribe(),
            histories: board.histories.subscribe(),
            memory: board.health_memory.subscribe(),
        };
        let introduction = Introduction {
            node,
            boot: boot.clone(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
        };
        let fenced = fence::fence(ledger.held().as_ref(), &contact, now.moment);
        let mut agent = Self {
            introduction,
            identity,
            disk,
            ledger,
            board,
            wakes,
            base: Instant::now(),
            boot,
            fenced,
            mind: None,
            rota: Rota::new(memory),
            pending: BTreeMap::new(),
            ticket: 0,
            session: Session::Away {
                dial_at: now.moment,
            },
            in_vain: 0,
            random: seed,
            info_at: now.moment,
            relist_at: now.moment,
            keep_at: None,
            effects: Vec::new(),
        };
        agent.tick(now);
        agent
    }

    /// What is to be done, since the last time that this was asked.
    pub fn effects(&mut self) -> Vec<Effect> {
        mem::take(&mut self.effects)
    }

    /// When to call [`Self::tick`] though nothing may happen until then.
    #[must_use]
    pub fn next_at(&self) -> Duration {
        let offset = |at: Instant| at.saturating_duration_since(self.base);
        let mind = self.mind.as_ref();
        let looks = !self.is_listing();
        let session = match &self.session {
            Session::Away { dial_at } => {
                let known = self.board.machine.borrow().is_some();
                [known.then_some(*dial_at), None]
            }
            Session::Greeting { until } => [Some(*until), None],
            Session::Talking(talk) => [Some(talk.beat_at), talk.dialogue.report_at().map(offset)],
        };
        let asked = self.is_asking();
        let engine = match mind {
            Some(_) => Some(self.relist_at),
            None => Some(self.info_at).filter(|_| !asked),
        };
        let times = [
            engine,
            mind.and_then(Mind::look_at).filter(|_| looks).map(offset),
            mind.and_then(Mind::act_at).map(offset),
            self.keep_at,
            self.fenced.until,
        ];
        let times = times.into_iter().chain(session).flatten();
        times.min().unwrap_or(Duration::MAX)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        self.attend_engine(now);
        self.attend_session(now);
        if self.keep_at.is_some_and(|at| at <= now.moment) {
            self.keep();
        }
        self.follow(now);
    }

    /// The assignment that it holds.
    #[must_use]
    pub fn held(&self) -> Option<Assignment> {
        self.ledger.held().map(|held| held.assignment.clone())
    }

    /// The newest epoch and generation that it has seen.
    #[must_use]
    pub fn seen(&self) -> Option<(u64, u64)> {
        let held = self.ledger.held()?;
        Some((held.epoch.0, held.assignment.generation.0))
    }

    /// Whether it is connected to a server.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.session, Session::Talking(_))
    }

    /// How many calls are not answered: bounded by what is assigned and what exists.
    #[must_use]
    pub fn pending_calls(&self) -> usize {
        self.pending.len()
    }

    /// How many instances it remembers something of.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.board.histories.borrow().len()
    }

    fn instant(&self, now: Now) -> Instant {
        self.base + now.moment
    }

    fn local(&self) -> Local {
        Local {
            agent: self.identity.agent,
            offer: Offer::default(),
        }
    }

    /// Lets every part see what changed on the board.
    fn follow(&mut self, now: Now) {
        let at = self.instant(now);
        if self.mind.is_none() && self.board.cluster.borrow().is_some() {
            let may_run = self.fenced.held.clone();
            let mut mind = Mind::new(self.local(), Arc::clone(&self.board), may_run, at);
            mind.look_soon(at);
            self.mind = Some(mind);
            self.relist_at = now.moment + RELIST_INTERVAL;
        }
        let news = [
            changed(&mut self.wakes.held),
            changed(&mut self.wakes.contact),
        ];
        if news.contains(&true) || self.fenced.until.is_some_and(|until| until <= now.moment) {
            self.fence(now);
        }
        let snapshot = changed(&mut self.wakes.snapshot);
        let health = changed(&mut self.wakes.health);
        if let Session::Talking(talk) = &mut self.session {
            if snapshot {
                talk.dialogue.report_soon(at);
            }
            if health {
                self.beat(now);
            }
            if self.wakes.images.has_changed().unwrap_or(false) {
                self.send_images();
            }
        }
        let machine = changed(&mut self.wakes.machine);
        if machine {
            // What the server was told in the greeting is no longer so: it is greeted anew at once.
            self.hang_up(now, Some(Duration::ZERO));
        }
        let news = [
            machine,
            changed(&mut self.wakes.histories),
            changed(&mut self.wakes.memory),
        ];
        if news.contains(&true) && self.keep_at.is_none() {
            self.keep_at = Some(now.moment + keeper::GATHER);
        }
    }

    /// Looks at what may run now, as [`fence::Fence`] does.
    fn fence(&mut self, now: Now) {
        let held = self.ledger.held();
        let contact = *self.board.contact.borrow();
        let fenced = fence::fence(held.as_ref(), &contact, now.moment);
        if fence::depends(held.as_deref()) {
            let kept = KeptContact::new(self.boot.clone(), contact);
            self.disk.keep(disk::CONTACT, &kept);
        }
        let before = mem::replace(&mut self.fenced, fenced);
        if before.held != self.fenced.held {
            self.reassign(now);
        }
    }

    fn keep(&mut self) {
        self.keep_at = None;
        self.identity
            .machine
            .clone_from(&self.board.machine.borrow());
        self.disk.keep(disk::IDENTITY, &self.identity);
        self.disk
            .keep(disk::HISTORIES, &*self.board.histories.borrow());
        self.disk
            .keep(disk::HEALTH, &*self.board.health_memory.borrow());
    }
}

fn changed<T>(receiver: &mut watch::Receiver<T>) -> bool {
    let changed = receiver.has_changed().unwrap_or(false);
    receiver.mark_unchanged();
    changed
}
