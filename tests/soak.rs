//! A lab on which something breaks every minute, for as long as is wanted, while clients write:
//! `cargo test --test soak -- --minutes 30`.
//!
//! What breaks is random, and follows from the seed alone, which is printed. Whatever it is, what must
//! hold is checked all the time: see [`Soak::minute`].
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and this runs in real time"
)]

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

#[allow(dead_code, reason = "other tests use the rest of it")]
mod harness;
#[allow(dead_code, reason = "other tests use the rest of it")]
mod lab;
mod soak {
    pub(crate) mod fault;
    pub(crate) mod usage;
    pub(crate) mod wanted;
}

use harness::load::Load;
use lab::{
    Lab,
    recorder::Run,
    slots::{HEALED_WITHIN, NOT_LOST_BEFORE, QUIET},
};
use soak::{
    fault::{Deck, Fault},
    usage::Peak,
    wanted::Wanted,
};

const USAGE: &str = "usage: cargo test --test soak -- [--minutes N] [--seed N]";
/// How many hosts there are. One of them at a time is dark at the most, so that it is replaced.
const HOSTS: usize = 4;
/// How many clients write, and how often each of them.
const CLIENTS: usize = 4;
const WRITE_EVERY: Duration = Duration::from_millis(250);
/// One fault in each of them.
const MINUTE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!("{options}");
    let _again = Again(&options);
    let mut soak = Soak::start();
    let mut deck = Deck::new(options.seed);
    for minute in 1..=options.minutes {
        let fault = deck.draw(HOSTS);
        print!("minute {minute}: {fault}");
        soak.minute(&fault);
    }
    soak.end();
    ExitCode::SUCCESS
}

/// What is wanted.
#[derive(Debug)]
struct Options {
    minutes: u32,
    seed: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut options = Self {
            minutes: 30,
            seed: now.ok()?.as_secs(),
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--minutes" => options.minutes = args.next()?.parse().ok()?,
                "--seed" => options.seed = args.next()?.parse().ok()?,
                _ => return None,
            }
        }
        Some(options)
    }
}

impl std::fmt::Display for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { minutes, seed } = self;
        write!(
            f,
            "cargo test --test soak -- --minutes {minutes} --seed {seed}"
        )
    }
}

/// Says, after a failure, how to see the same faults again.
struct Again<'a>(&'a Options);

impl Drop for Again<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the same faults again: {}", self.0);
        }
    }
}

/// What goes on.
struct Soak {
    lab: Lab,
    load: Load,
    wanted: Wanted,
    peak: Peak,
    /// How long it took after each fault until everything was as it should be.
    healed: Vec<Duration>,
}

impl Soak {
    fn start() -> Self {
        let lab = Lab::start(HOSTS);
        let load = Load::start(lab.api().clone(), CLIENTS, WRITE_EVERY);
        let wanted = Wanted::begin(&lab);
        lab.after_grace();
        Self {
            lab,
            load,
            wanted,
            peak: Peak::default(),
            healed: Vec::new(),
        }
    }

    /// One fault, and what must be true of it.
    fn minute(&mut self, fault: &Fault) {
        let began = Instant::now();
        let before = self.lab.recorder().mark();
        let ran = self.running();
        let hit = fault.strike(&mut self.lab, &mut self.wanted);
        fault.mend(&mut self.lab);
        let (wanted, within) = (&self.wanted, HEALED_WITHIN + fault.takes());
        let healed = self.lab.within(within, "all is as it should be", |lab| {
            lab.all_connected() && wanted.is_there(lab)
        });
        let whole = self.lab.recorder().mark();
        println!(", whole {:.1} s later", healed.as_secs_f64());
        self.healed.push(healed);

        self.spared(fault, &ran, hit.as_ref());
        self.one_in_a_slot(fault, before);
        self.in_time(fault, before);
        self.lab.foreign_untouched();
        self.load.check();
        // From here on nobody has anything to do, but to write down what clients want.
        let written = self.load.acknowledged();
        thread::sleep(MINUTE.saturating_sub(began.elapsed()).max(QUIET));
        self.lab.untouched_since(whole);
        let more = self.load.acknowledged() - written;
        assert!(
            more > 0,
            "nothing is written any more\n{}",
            self.lab.story()
        );
        self.peak.look(&self.lab);
    }

    fn running(&self) -> Vec<Run> {
        let running = |workload| self.lab.recorder().running(workload);
        Wanted::WORKLOADS.into_iter().flat_map(running).collect()
    }

    /// What the fault does not concern runs on: nothing that is healthy is restarted because of it.
    fn spared(&self, fault: &Fault, ran: &[Run], hit: Option<&Run>) {
        let running = self.running();
        for run in ran.iter().filter(|run| Some(*run) != hit) {
            assert!(
                !fault.spares(run) || running.contains(run),
                "{} on {} does not run on\n{}",
                run.instance,
                run.host,
                self.lab.story()
            );
        }
    }

    /// There is one container for each slot, unless it is replaced; what is exclusive never runs twice.
    fn one_in_a_slot(&self, fault: &Fault, since: Duration) {
        let most = |workload, since| self.lab.recorder().most_in_a_slot(workload, since);
        for (workload, most, allowed) in [
            (
                Wanted::WEB,
                most(Wanted::WEB, since),
                fault.most_in_a_slot(),
            ),
            (Wanted::EACH, most(Wanted::EACH, since), 1),
            (Wanted::SINGLE, most(Wanted::SINGLE, Duration::ZERO), 1),
        ] {
            assert!(
                most <= allowed,
                "{most} instances of a slot of {workload} ran at the same time\n{}",
                self.lab.story()
            );
        }
    }

    /// Nothing is replaced too early, nor without need.
    fn in_time(&self, fault: &Fault, since: Duration) {
        if !fault.silences() {
            return;
        }
        for workload in Wanted::WORKLOADS {
            let not_before = match workload {
                Wanted::SINGLE => since + NOT_LOST_BEFORE,
                _ if fault.may_lose_a_node() => since + NOT_LOST_BEFORE,
                _ => Duration::MAX,
            };
            let runs = self.lab.recorder().runs(workload).into_iter();
            let early = |run: &Run| (since..not_before).contains(&run.from);
            let early: Vec<Run> = runs.filter(early).collect();
            assert!(
                early.is_empty(),
                "too early: {early:?}\n{}",
                self.lab.story()
            );
        }
    }

    fn end(&mut self) {
        self.load.stop();
        self.load.check();
        self.healed.sort();
        let median = self.healed.get(self.healed.len() / 2);
        let longest = self.healed.last();
        println!(
            "{} faults; whole after {:.1?} (median) to {:.1?}; {} writes acknowledged, all of them there",
            self.healed.len(),
            median.unwrap_or(&Duration::ZERO),
            longest.unwrap_or(&Duration::ZERO),
            self.load.acknowledged(),
        );
        println!("the server used at most {}", self.peak.server);
        println!("an agent used at most {}", self.peak.agents);
        let gap = self.lab.recorder().longest_gap();
        println!("what ran was looked at every {gap:.1?} or more often");
    }
}
