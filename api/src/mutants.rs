//! Mistakes on purpose, one at a time, to prove that the simulation sees them. They exist only in
//! builds with the feature `mutants`, which no build that is used has.

use std::cell::Cell;

/// A mistake, at the place in the code that would be wrong because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// A server that was just started takes silent nodes for lost at once.
    NoReturnGrace,
    /// An update starts as many new instances beside the old ones as it likes.
    ForgottenSurge,
    /// An agent may report about any instance.
    ForeignReports,
    /// An agent that was not told yet that an instance is to stop may report it gone.
    IgnoredStopGeneration,
    /// An agent takes an older assignment for a newer one.
    OlderGeneration,
    /// An instance's serial number is given out again.
    ReusedInstanceId,
    /// Nodes on which nothing may be placed are taken for others.
    IgnoredCordon,
    /// Nodes have room without end.
    EndlessRoom,
    /// An agent is not told what it is to stop.
    UntoldRemovals,
    /// A batch for which there was no space is shown and answered.
    AnsweredBeforeStored,
    /// An agent removes what it holds on the word of a server whose state went back.
    ObeyedRestore,
    /// What fails is tried again without a pause.
    ForgottenBackoff,
    /// An agent does not tell that what came and went is gone.
    ForgottenDropped,
    /// A commit is answered before it is durable.
    ForgottenFlush,
    /// An agent lets what is exclusive run on without a lease.
    SkippedFence,
    /// What is exclusive is replaced as soon as its node is lost.
    HastyFence,
    /// Instances are replaced though most nodes are not heard from.
    ForgottenBrake,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::NoReturnGrace,
        Self::ForgottenSurge,
        Self::ForeignReports,
        Self::IgnoredStopGeneration,
        Self::OlderGeneration,
        Self::ReusedInstanceId,
        Self::IgnoredCordon,
        Self::EndlessRoom,
        Self::UntoldRemovals,
        Self::AnsweredBeforeStored,
        Self::ObeyedRestore,
        Self::ForgottenBackoff,
        Self::ForgottenDropped,
        Self::ForgottenFlush,
        Self::SkippedFence,
        Self::HastyFence,
        Self::ForgottenBrake,
    ];

    /// Whether this thread makes the mistake.
    #[must_use]
    pub fn is_on(self) -> bool {
        ON.get() == Some(self)
    }
}

thread_local! {
    static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Lets this thread make a mistake, or none.
pub fn make(mutant: Option<Mutant>) {
    ON.set(mutant);
}
