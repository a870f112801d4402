//! The deterministic simulation: servers, agents, a network, disks, clocks and container engines in
//! one thread, and one seed that determines everything that happens.
//!
//! What decides is the real code: the controller's brain with the core, the codec, the history and
//! what agents were told; the agents' ledger, mind, plan and dialogue. What waits is simulated, and
//! breaks. Checkers look at every step. A run is a function of its seed: the same one gives the
//! same trace, byte for byte.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

mod checker;
mod clock;
mod coverage;
mod engine;
mod many;
#[cfg(feature = "mutants")]
mod prover;
mod random;
mod store;
mod trace;
mod world;

pub use coverage::{Coverage, Fault};
pub use many::run_many;
#[cfg(feature = "mutants")]
pub use prover::{SEEDS_MAX, prove, run_mutant};
pub use trace::Output;

use trace::Trace;
use world::World;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// All that happened, if it was to be kept.
    pub trace: String,
    /// What did not hold. The run ended with the first of it.
    pub violations: Vec<String>,
    /// What happened last.
    pub tail: String,
    /// Which faults there were.
    pub coverage: Coverage,
    /// How many commits were checked.
    pub commits: u64,
    /// How many starts of containers were checked.
    pub starts: u64,
    /// How much time passed in the run.
    pub simulated: Duration,
}

impl Outcome {
    /// What a person is told of a run that failed: what did not hold, what happened before, and how
    /// to see it again.
    #[must_use]
    pub fn report(&self) -> String {
        format!(
            "{}\n\nseed {}: {}\nreplay: cargo run --profile simulation -p windlass-simulation -- --seed {} --trace",
            self.tail,
            self.seed,
            self.violations.join("; "),
            self.seed
        )
    }
}

/// Runs a seed to its end, or until something that must hold does not.
#[must_use]
pub fn run(seed: u64, output: Output) -> Outcome {
    let mut world = World::new(seed, Trace::new(output));
    // What panics would end the server or the agent, so it is a failure of this seed like others.
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| world.run())) {
        world.violated("panic", words(panic.as_ref()));
    }
    Outcome {
        seed,
        violations: world.checker.violations,
        tail: world.trace.tail(),
        trace: world.trace.kept(),
        coverage: world.coverage,
        commits: world.checker.commits,
        starts: world.checker.started,
        simulated: world.now,
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a word").to_owned()
}
