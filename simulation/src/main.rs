//! Runs seeds of the simulation: one, to see what happens in it, or many, in parallel.

use std::process::ExitCode;

use clap::Parser;
#[cfg(feature = "mutants")]
use windlass_api::mutants::Mutant;
use windlass_simulation::{Coverage, Fault, Outcome, Output, run, run_many};
#[cfg(feature = "mutants")]
use windlass_simulation::{SEEDS_MAX, prove, run_mutant};

/// How many failures are told in full.
const TOLD_MAX: usize = 3;

/// Simulates clusters that break, and checks that what must hold does.
#[derive(Debug, Parser)]
struct Arguments {
    /// The seed to run, or the first of several.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Print all that happens in the run of the one seed.
    #[arg(long, conflicts_with = "seeds")]
    trace: bool,
    /// Make this mistake on purpose in the run of the one seed.
    #[cfg(feature = "mutants")]
    #[arg(long, value_parser = mutant, conflicts_with = "seeds")]
    mutant: Option<Mutant>,
    /// Prove that every mistake on purpose is seen.
    #[cfg(feature = "mutants")]
    #[arg(long, conflicts_with_all = ["seed", "seeds", "trace", "mutant"])]
    prove: bool,
}

#[cfg(feature = "mutants")]
fn mutant(name: &str) -> Result<Mutant, String> {
    let found = Mutant::ALL.into_iter().find(|m| format!("{m:?}") == name);
    found.ok_or_else(|| format!("one of {:?}", Mutant::ALL))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "mutants")]
    if arguments.prove {
        return proof();
    }
    let outcomes = match arguments.seeds {
        1 => vec![run_one(&arguments)],
        seeds => run_many(arguments.seed, seeds),
    };
    let failed = outcomes.iter().filter(|o| !o.violations.is_empty());
    let failed: Vec<&Outcome> = failed.collect();
    for outcome in failed.iter().take(TOLD_MAX) {
        println!("{}\n", outcome.report());
    }
    let mut coverage = Coverage::default();
    outcomes.iter().for_each(|o| coverage.add(&o.coverage));
    for fault in Fault::ALL {
        println!("{:>8} {fault:?}", coverage.count(fault));
    }
    println!("{}", summary(&outcomes, &failed));
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_one(arguments: &Arguments) -> Outcome {
    let output = match arguments.trace {
        true => Output::Printed,
        false => Output::Quiet,
    };
    #[cfg(feature = "mutants")]
    if let Some(mutant) = arguments.mutant {
        return run_mutant(arguments.seed, mutant, output);
    }
    run(arguments.seed, output)
}

fn summary(outcomes: &[Outcome], failed: &[&Outcome]) -> String {
    let commits: u64 = outcomes.iter().map(|o| o.commits).sum();
    let starts: u64 = outcomes.iter().map(|o| o.starts).sum();
    let hours = outcomes.iter().map(|o| o.simulated.as_secs()).sum::<u64>() / 3_600;
    let seeds: Vec<String> = failed.iter().map(|o| o.seed.to_string()).collect();
    format!(
        "{} seeds, {hours} simulated hours, {commits} commits, {starts} starts; failed: {} [{}]",
        outcomes.len(),
        failed.len(),
        seeds.join(" ")
    )
}

#[cfg(feature = "mutants")]
fn proof() -> ExitCode {
    let mut exit = ExitCode::SUCCESS;
    for (mutant, seen) in prove() {
        match seen {
            Some(outcome) => {
                println!(
                    "{mutant:?}: seed {}: {}",
                    outcome.seed, outcome.violations[0]
                );
            }
            None => {
                println!("{mutant:?}: not seen in {SEEDS_MAX} seeds");
                exit = ExitCode::FAILURE;
            }
        }
    }
    exit
}
