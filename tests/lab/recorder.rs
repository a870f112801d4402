//! What really ran, and when: a thread that looks ten times a second at the control groups and files
//! of all engines. It asks no engine, so it sees as much while one hangs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{PATIENCE, signal};

use super::sweep::groups_in;

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// Where to look at a host.
#[derive(Debug)]
pub(crate) struct Lookout {
    pub(crate) host: String,
    /// What its engine keeps.
    pub(crate) data: PathBuf,
    /// The control group of its containers.
    pub(crate) group: PathBuf,
    /// The id of a container that is none of ours.
    pub(crate) foreign: String,
}

/// A process that ran in a container of ours: one start of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) host: String,
    pub(crate) instance: String,
    pub(crate) workload: String,
    pub(crate) slot: u32,
    /// The process, as this machine sees it.
    pid: u32,
    /// Since the recorder began.
    pub(crate) from: Duration,
    /// The first moment at which it was not there any more.
    pub(crate) until: Option<Duration>,
}

impl Run {
    /// Kills it, behind the backs of agent and engine.
    pub(crate) fn kill(&self) {
        signal(self.pid, Signal::KILL);
    }

    /// A variable in its environment, as the kernel knows it. `None` if it has ended.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let variables = fs::read_to_string(format!("/proc/{}/environ", self.pid)).ok()?;
        let mut variables = variables
            .split('\0')
            .filter_map(|line| line.split_once('='));
        variables.find_map(|(key, value)| (key == name).then(|| value.to_owned()))
    }

    fn overlaps(&self, from: Duration, until: Duration) -> bool {
        self.from < until && self.until.is_none_or(|end| end > from)
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct History {
    runs: Vec<Run>,
    /// The container and process of those that go on, and where they are in `runs`.
    going_on: BTreeMap<(String, u32), usize>,
    /// When containers were made or removed.
    changes: Vec<Duration>,
    containers: BTreeMap<String, BTreeSet<String>>,
    labels: BTreeMap<String, Option<Labels>>,
    /// What became of the containers that are none of ours, by host.
    foreign: BTreeMap<String, Foreign>,
    /// When the last look began that is over.
    looked: Duration,
    longest_gap: Duration,
}

/// What became of a container that is none of ours.
#[derive(Debug, Clone, Default)]
struct Foreign {
    /// Its processes: one for each start.
    processes: BTreeSet<u32>,
    is_gone: bool,
}

#[derive(Debug, Clone)]
struct Labels {
    instance: String,
    workload: String,
    slot: u32,
}

/// The recorder.
#[derive(Debug)]
pub(crate) struct Recorder {
    began: Instant,
    history: Arc<Mutex<History>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Begins to record.
    pub(crate) fn start(lookouts: Vec<Lookout>) -> Self {
        let began = Instant::now();
        let history = Arc::<Mutex<History>>::default();
        let over = Arc::<AtomicBool>::default();
        let (into, ended) = (Arc::clone(&history), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let mut last = began.elapsed();
            while !ended.load(Ordering::Relaxed) {
                let now = began.elapsed();
                let mut history = into.lock().expect("a reader panics without it");
                history.longest_gap = history.longest_gap.max(now - last);
                for lookout in &lookouts {
                    history.look(lookout, now);
                }
                history.looked = now;
                drop(history);
                last = now;
                thread::sleep(INTERVAL);
            }
        });
        Self {
            began,
            history,
            over,
            thread: Some(thread),
        }
    }

    /// Now, as the recorder counts it.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until everything that happened until now is seen. Returns the moment of the last look:
    /// what is seen later has happened later.
    pub(crate) fn mark(&self) -> Duration {
        let begin = self.now();
        loop {
            let looked = self.history().looked;
            if looked > begin {
                return looked;
            }
            assert!(self.now() < begin + PATIENCE, "nobody looks any more");
            thread::sleep(INTERVAL / 4);
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("the recorder goes on")
    }

    /// All runs of a workload, in the order of their starts.
    pub(crate) fn runs(&self, workload: &str) -> Vec<Run> {
        let history = self.history();
        let of_workload = history.runs.iter().filter(|run| run.workload == workload);
        of_workload.cloned().collect()
    }

    /// The runs of a workload that go on.
    pub(crate) fn running(&self, workload: &str) -> Vec<Run> {
        let mut runs = self.runs(workload);
        runs.retain(|run| run.until.is_none());
        runs
    }

    /// The most that ran at the same time in one slot of a workload, from a moment on.
    pub(crate) fn most_in_a_slot(&self, workload: &str, since: Duration) -> usize {
        let mut runs = self.runs(workload);
        runs.retain(|run| run.overlaps(since, Duration::MAX));
        let beside = |run: &Run| {
            let begin = run.from.max(since);
            let at_begin = |other: &&Run| {
                other.slot == run.slot
                    && other.from <= begin
                    && other.until.is_none_or(|end| end > begin)
            };
            runs.iter().filter(at_begin).count()
        };
        runs.iter().map(beside).max().unwrap_or_default()
    }

    /// How many containers there are on all hosts, whether they run or not.
    pub(crate) fn containers(&self) -> usize {
        self.history().containers.values().map(BTreeSet::len).sum()
    }

    /// How often anything was started, ended, made or removed after a moment, by whomever.
    pub(crate) fn changes_since(&self, since: Duration) -> usize {
        let history = self.history();
        let starts = history.runs.iter().filter(|run| run.from > since).count();
        let ended = |run: &&Run| run.until.is_some_and(|end| end > since);
        let ends = history.runs.iter().filter(ended).count();
        starts + ends + history.changes.iter().filter(|at| **at > since).count()
    }

    /// How often a host's container that is none of ours was started, if it was never removed.
    pub(crate) fn foreign_starts(&self, host: &str) -> Option<usize> {
        let history = self.history();
        let foreign = history.foreign.get(host)?;
        (!foreign.is_gone).then_some(foreign.processes.len())
    }

    /// The longest time that it did not look, since this machine was busy.
    pub(crate) fn longest_gap(&self) -> Duration {
        self.history().longest_gap
    }

    /// All runs, a line each.
    pub(crate) fn story(&self) -> String {
        let line = |run: &Run| {
            let until = run
                .until
                .map_or_else(String::new, |end| format!("{:.1}", end.as_secs_f64()));
            let from = run.from.as_secs_f64();
            format!(
                "{from:>7.1} - {until:>7} s  {}  {}\n",
                run.host, run.instance
            )
        };
        self.history().runs.iter().map(line).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // If it panicked, whoever asked it has said so.
            let _ = thread.join();
        }
    }
}

impl History {
    fn look(&mut self, lookout: &Lookout, now: Duration) {
        let host = &lookout.host;
        let containers = lookout.data.join("containers");
        let mut there: BTreeSet<String> = names_in(&containers).collect();
        let foreign = self.foreign.entry(host.clone()).or_default();
        foreign.is_gone |= !there.remove(&lookout.foreign);
        let before = self.containers.insert(host.clone(), there.clone());
        if let Some(before) = before {
            let changed = before.symmetric_difference(&there).count();
            self.changes.extend(std::iter::repeat_n(now, changed));
        }
        let mut running: BTreeSet<(String, u32)> = groups_in(&lookout.group)
            .iter()
            .filter_map(|group| {
                let id = group.file_name()?.to_str()?.to_owned();
                let processes = fs::read_to_string(group.join("cgroup.procs")).ok()?;
                // The first process has the lowest number, unless it is the runtime's own, which
                // is there for a moment before.
                let processes = processes.lines().filter_map(|pid| pid.parse().ok());
                let first = processes.filter(|pid| !is_runtime(*pid)).min()?;
                Some((id, first))
            })
            .collect();
        let is_foreign = |(id, _): &(String, u32)| *id == lookout.foreign;
        let foreigners = running.extract_if(.., is_foreign).map(|(_, pid)| pid);
        self.foreign
            .entry(host.clone())
            .or_default()
            .processes
            .extend(foreigners);
        let (going_on, runs) = (&mut self.going_on, &mut self.runs);
        going_on.retain(|run, index| {
            let ended = runs[*index].host == *host && !running.contains(run);
            if ended {
                runs[*index].until = Some(now);
            }
            !ended
        });
        for run in running {
            if self.going_on.contains_key(&run) {
                continue;
            }
            let Some(labels) = self.labels(&containers, &run.0) else {
                continue;
            };
            let pid = run.1;
            self.going_on.insert(run, self.runs.len());
            self.runs.push(Run {
                host: host.clone(),
                instance: labels.instance,
                workload: labels.workload,
                slot: labels.slot,
                pid,
                from: now,
                until: None,
            });
        }
    }

    /// The labels of a container, from the engine's own file. `None` if it is none of ours, or is
    /// just being made.
    fn labels(&mut self, containers: &Path, id: &str) -> Option<Labels> {
        if let Some(known) = self.labels.get(id) {
            return known.clone();
        }
        let file = fs::read(containers.join(id).join("config.v2.json")).ok()?;
        let file: Value = serde_json::from_slice(&file).ok()?;
        let labels = &file["Config"]["Labels"];
        let label = |name: &str| labels[format!("windlass.{name}")].as_str();
        let labels = || {
            Some(Labels {
                instance: label("instance")?.to_owned(),
                workload: label("workload")?.to_owned(),
                slot: label("slot")?.parse().ok()?,
            })
        };
        let labels = labels();
        self.labels.insert(id.to_owned(), labels.clone());
        labels
    }
}

/// Whether a process still is that which makes containers, or has ended. It runs from a sealed copy
/// of its program, under whatever name: only the kernel knows which.
fn is_runtime(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    program.map_or(true, |program| program.to_string_lossy().contains("runc"))
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}
