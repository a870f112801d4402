//! Proves the prover: each mistake on purpose has to be seen.

use windlass_api::mutants::{self, Mutant};

use crate::{Outcome, Output, many::on_all_cores, run};

/// How many seeds a mistake may stay unseen.
pub const SEEDS_MAX: u64 = 1_000;

/// Runs a seed with a mistake on purpose.
#[must_use]
pub fn run_mutant(seed: u64, mutant: Mutant, output: Output) -> Outcome {
    mutants::make(Some(mutant));
    let outcome = run(seed, output);
    mutants::make(None);
    outcome
}

/// The first run of [`SEEDS_MAX`] in which each mistake was seen, if there is one.
#[must_use]
pub fn prove() -> Vec<(Mutant, Option<Outcome>)> {
    on_all_cores(&Mutant::ALL, |mutant| {
        let mut runs = (1..=SEEDS_MAX).map(|seed| run_mutant(seed, *mutant, Output::Quiet));
        (*mutant, runs.find(|outcome| !outcome.violations.is_empty()))
    })
}
