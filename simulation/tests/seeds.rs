//! What every change must pass: 200 seeds, in which every kind of fault happens.

use windlass_simulation::{Coverage, Fault, Outcome, Output, run, run_many};

const SEEDS: u64 = 200;

#[test]
fn what_must_hold_does_while_everything_breaks() {
    let outcomes = run_many(1, SEEDS);
    let failed = outcomes.iter().filter(|o| !o.violations.is_empty());
    let failed: Vec<String> = failed.map(Outcome::report).collect();
    assert!(
        failed.is_empty(),
        "{} seeds failed:\n{}",
        failed.len(),
        failed.join("\n\n")
    );
    let mut coverage = Coverage::default();
    outcomes.iter().for_each(|o| coverage.add(&o.coverage));
    let missing: Vec<Fault> = coverage.missing().collect();
    assert_eq!(missing, [], "these faults did not happen");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=3 {
        let (first, second) = (run(seed, Output::Kept), run(seed, Output::Kept));
        assert!(!first.trace.is_empty());
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
    assert_ne!(run(1, Output::Kept).trace, run(2, Output::Kept).trace);
}
