//! Which faults have happened, so that a run which proves nothing is noticed.

use std::collections::BTreeMap;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A line is cut in both directions.
    Partition,
    /// Only what agents say is lost.
    DeafServer,
    /// Only what the server says is lost.
    DeafAgent,
    /// A line is cut and mended again and again.
    Flapping,
    /// Several lines are cut at once.
    MostNodesDark,
    /// A connection breaks.
    Disconnect,
    /// With messages that were under way.
    FramesLost,
    /// Messages take long.
    SlowNetwork,
    /// What an old connection had under way comes after a new one was begun.
    LateFrames,
    /// Messages arrive twice.
    FramesTwice,
    /// An assignment arrives again, after others.
    StaleAssignment,
    /// An agent is killed, and started again.
    AgentCrash,
    /// Without its data directory.
    AgentDiskLost,
    /// An agent's disk has no space.
    AgentDiskFull,
    /// The server is killed.
    ServerCrash,
    /// While it commits, and the batch is lost.
    CommitLost,
    /// While it commits, and the batch is there all the same.
    CommitLanded,
    /// Another server uses the store, too.
    SecondServer,
    /// The server is suspended for a while.
    ServerSuspended,
    /// The server's disk has lost the last thing that it called durable.
    TailMissing,
    /// The server's disk is slow.
    SlowDisk,
    /// The server's disk has no space.
    DiskFull,
    /// The server's disk fails.
    DiskBroken,
    /// The server's state was restored from an export.
    Restored,
    /// The server's disk came back as it once was.
    WentBack,
    /// An engine hangs.
    EngineHangs,
    /// An engine is slow.
    EngineSlow,
    /// An engine is restarted, and all its containers with it.
    EngineRestart,
    /// An engine does not tell of changes.
    EventsLost,
    /// An engine tells of a change twice.
    EventTwice,
    /// A machine loses its power.
    PowerLost,
    /// A container was created, and its agent died before it was started.
    PartialCreate,
    /// A call was not answered, and had an effect.
    EffectWithoutAnswer,
    /// A container ends by itself.
    ContainerDies,
    /// While no agent sees it.
    ContainerDiesUnseen,
    /// A time of day jumps.
    ClockJump,
    /// An agent reports about instances that are not its own.
    ForeignReport,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 37] = [
        Self::Partition,
        Self::DeafServer,
        Self::DeafAgent,
        Self::Flapping,
        Self::MostNodesDark,
        Self::Disconnect,
        Self::FramesLost,
        Self::SlowNetwork,
        Self::LateFrames,
        Self::FramesTwice,
        Self::StaleAssignment,
        Self::AgentCrash,
        Self::AgentDiskLost,
        Self::AgentDiskFull,
        Self::ServerCrash,
        Self::CommitLost,
        Self::CommitLanded,
        Self::SecondServer,
        Self::ServerSuspended,
        Self::TailMissing,
        Self::SlowDisk,
        Self::DiskFull,
        Self::DiskBroken,
        Self::Restored,
        Self::WentBack,
        Self::EngineHangs,
        Self::EngineSlow,
        Self::EngineRestart,
        Self::EventsLost,
        Self::EventTwice,
        Self::PowerLost,
        Self::PartialCreate,
        Self::EffectWithoutAnswer,
        Self::ContainerDies,
        Self::ContainerDiesUnseen,
        Self::ClockJump,
        Self::ForeignReport,
    ];
}

/// How often each fault has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<Fault, u64>);

impl Coverage {
    pub(crate) fn fired(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// How often a fault has happened.
    #[must_use]
    pub fn count(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// The faults that have not happened.
    pub fn missing(&self) -> impl Iterator<Item = Fault> {
        Fault::ALL
            .into_iter()
            .filter(|fault| self.count(*fault) == 0)
    }

    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.0 {
            *self.0.entry(*fault).or_default() += count;
        }
    }
}
