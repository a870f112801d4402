//! The faults of a soak: what happens, for how long, and what must be true of it.

use std::{fmt, thread, time::Duration};

use crate::{
    harness::random::Random,
    lab::{Lab, network, recorder::Run},
};

use super::wanted::Wanted;

/// Shorter than any lease: nothing may come of it.
const SHORT: Duration = Duration::from_secs(4);
/// Longer than a lease, so that what is lost is replaced.
const LONG: Duration = Duration::from_secs(20);
/// How long a drain may take to move what is there.
const DRAINED_WITHIN: &str = "60s";

/// What can break, or be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Link(network::Fault),
    AgentKilled,
    AgentSuspended,
    ServerKilled,
    ServerSuspended,
    EngineKilled,
    EngineHung,
    ContainerKilled,
    Drained,
    RolledOut,
    RolledOutBadly,
    Scaled,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 15] = [
        Self::Link(network::Fault::Cut),
        Self::Link(network::Fault::CutFromHost),
        Self::Link(network::Fault::CutToHost),
        Self::Link(network::Fault::Lossy),
        Self::AgentKilled,
        Self::AgentSuspended,
        Self::ServerKilled,
        Self::ServerSuspended,
        Self::EngineKilled,
        Self::EngineHung,
        Self::ContainerKilled,
        Self::Drained,
        Self::RolledOut,
        Self::RolledOutBadly,
        Self::Scaled,
    ];
}

/// Something that breaks, or is changed.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// The host that it concerns, if it concerns one.
    pub(crate) host: String,
    pub(crate) lasts: Duration,
    /// Chooses what else there is to be chosen.
    choice: u64,
}

/// Draws faults: in an order that is different each time, but each kind once before any comes again.
#[derive(Debug)]
pub(crate) struct Deck {
    random: Random,
    left: Vec<Kind>,
}

impl Deck {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            left: Vec::new(),
        }
    }

    /// The next one, on one of so many hosts. It depends on nothing but the seed.
    pub(crate) fn draw(&mut self, hosts: usize) -> Fault {
        if self.left.is_empty() {
            self.left = Kind::ALL.to_vec();
        }
        let kind = self.below(self.left.len());
        Fault {
            kind: self.left.swap_remove(kind),
            host: format!("h{}", 1 + self.below(hosts)),
            lasts: [SHORT, LONG][self.below(2)],
            choice: self.random.below(1 << 32),
        }
    }

    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("a few");
        usize::try_from(self.random.below(count)).expect("a few")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, .. } = self;
        match self.kind {
            Kind::Link(fault) => write!(f, "link of {host}: {fault:?}")?,
            Kind::AgentKilled => write!(f, "agent of {host} killed")?,
            Kind::AgentSuspended => write!(f, "agent of {host} suspended")?,
            Kind::ServerKilled => write!(f, "server killed")?,
            Kind::ServerSuspended => write!(f, "server suspended")?,
            Kind::EngineKilled => write!(f, "engine of {host} killed")?,
            Kind::EngineHung => write!(f, "engine of {host} hung")?,
            Kind::ContainerKilled => return write!(f, "a container killed"),
            Kind::Drained => write!(f, "{host} drained")?,
            Kind::RolledOut => return write!(f, "a rollout"),
            Kind::RolledOutBadly => return write!(f, "a rollout of what cannot run"),
            Kind::Scaled => return write!(f, "scaled"),
        }
        write!(f, " for {} s", self.lasts.as_secs())
    }
}

impl Fault {
    /// Lets it happen. Returns what it hit, if that is a container.
    pub(crate) fn strike(&self, lab: &mut Lab, wanted: &mut Wanted) -> Option<Run> {
        match self.kind {
            Kind::Link(fault) => lab.network.harm(&self.host, fault),
            Kind::AgentKilled => lab.host(&self.host).kill_agent(),
            Kind::AgentSuspended => lab.host(&self.host).suspend_agent(),
            Kind::ServerKilled => lab.kill_server(),
            Kind::ServerSuspended => lab.suspend_server(),
            Kind::EngineKilled => lab.host(&self.host).kill_engine(),
            Kind::EngineHung => lab.host(&self.host).suspend_engine(),
            Kind::ContainerKilled => {
                let victim = self.victim(lab);
                victim.kill();
                return Some(victim);
            }
            Kind::Drained => {
                lab.ok(&["drain", &self.host, "--timeout", DRAINED_WITHIN]);
            }
            Kind::RolledOut => wanted.roll_out(lab),
            Kind::RolledOutBadly => wanted.roll_out_badly(lab, self.choice),
            Kind::Scaled => wanted.scale(lab, self.choice),
        }
        None
    }

    fn victim(&self, lab: &Lab) -> Run {
        let workloads = Wanted::WORKLOADS.iter();
        let mut runs: Vec<Run> = workloads
            .flat_map(|workload| lab.recorder().running(workload))
            .collect();
        runs.sort_by(|a, b| (&a.host, &a.instance).cmp(&(&b.host, &b.instance)));
        let count = u64::try_from(runs.len()).expect("a few");
        let index = usize::try_from(self.choice % count).expect("a few");
        runs.swap_remove(index)
    }

    /// Puts right what can be put right, when it is time.
    pub(crate) fn mend(&self, lab: &mut Lab) {
        if let Kind::ContainerKilled | Kind::RolledOut | Kind::RolledOutBadly | Kind::Scaled =
            self.kind
        {
            return;
        }
        thread::sleep(self.lasts);
        match self.kind {
            Kind::Link(_) => lab.network.heal(&self.host),
            Kind::AgentKilled => lab.host(&self.host).start_agent(),
            Kind::AgentSuspended => lab.host(&self.host).resume_agent(),
            Kind::ServerKilled => lab.start_server(),
            Kind::ServerSuspended => lab.resume_server(),
            Kind::EngineKilled => lab.host(&self.host).start_engine(),
            Kind::EngineHung => lab.host(&self.host).resume_engine(),
            Kind::Drained => {
                lab.ok(&["uncordon", &self.host]);
            }
            Kind::ContainerKilled | Kind::RolledOut | Kind::RolledOutBadly | Kind::Scaled => {}
        }
    }

    /// How long it takes by itself until it is noticed and over, when nothing has to be mended.
    pub(crate) fn takes(&self) -> Duration {
        match self.kind {
            Kind::RolledOut | Kind::RolledOutBadly => Wanted::ROLLED_OUT_WITHIN,
            _ => Duration::ZERO,
        }
    }

    /// Whether agent and server do not hear each other for a while, so that what is `exclusive` may be
    /// stopped.
    pub(crate) fn silences(&self) -> bool {
        match self.kind {
            Kind::Link(_)
            | Kind::AgentKilled
            | Kind::AgentSuspended
            | Kind::ServerKilled
            | Kind::ServerSuspended => true,
            Kind::EngineKilled
            | Kind::EngineHung
            | Kind::ContainerKilled
            | Kind::Drained
            | Kind::RolledOut
            | Kind::RolledOutBadly
            | Kind::Scaled => false,
        }
    }

    /// Whether a node may be taken for lost because of it.
    pub(crate) fn may_lose_a_node(&self) -> bool {
        let (Kind::Link(_) | Kind::AgentKilled | Kind::AgentSuspended) = self.kind else {
            return false;
        };
        self.lasts > SHORT && self.kind != Kind::Link(network::Fault::Lossy)
    }

    /// How many instances of a slot of `web` may run at the same time meanwhile.
    pub(crate) fn most_in_a_slot(&self) -> usize {
        let replaces = matches!(
            self.kind,
            Kind::Drained | Kind::RolledOut | Kind::RolledOutBadly
        );
        1 + usize::from(replaces || self.may_lose_a_node())
    }

    /// Whether what ran before, and was not hit itself, must run on through it.
    pub(crate) fn spares(&self, run: &Run) -> bool {
        match (self.kind, run.workload.as_str()) {
            (Kind::EngineKilled, _) => run.host != self.host,
            (_, Wanted::SINGLE) if self.silences() => false,
            (Kind::Drained, Wanted::WEB | Wanted::SINGLE) => run.host != self.host,
            (Kind::RolledOut | Kind::Scaled, Wanted::WEB) => false,
            _ => true,
        }
    }
}
