//! A store in memory that fails as it is told, for tests and simulation.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use jiff::Timestamp;
use windlass_api::ids::Version;

use super::{
    Batch, Error, ExportWhen, Guard, Key, Landed, Maintenance, Position, Records, Recovery, Result,
    Store, Summary, Task, export,
};

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There is no space, and nothing is written. The next commit is tried afresh.
    NoSpace,
    /// Space runs out in the middle. The batch is in the store, or is not, and the store takes no
    /// writes until [`MemoryStore::free_space`] was called and it was recovered.
    RunsFull {
        /// Whether the batch is found after the recovery.
        then: Leaves,
    },
    /// The sync fails. The store takes no more writes.
    Sync,
    /// The commit works and takes this long.
    Slow(Duration),
    /// The store panics, as an embedded engine can.
    Panic,
}

/// What a failed commit left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// All of it.
    Batch,
    /// None of it.
    Nothing,
}

/// A [`Store`] for tests and simulation. Clones share one state, so that a test keeps one while
/// the server has another.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    position: Position,
    records: BTreeMap<Key, Vec<u8>>,
    script: VecDeque<Failure>,
    health: Health,
}

#[derive(Debug, PartialEq, Eq)]
enum Health {
    Serving,
    Full,
    /// Full, with space again.
    Recoverable,
    Failed,
}

impl Default for State {
    fn default() -> Self {
        Self {
            position: Position::START,
            records: BTreeMap::new(),
            script: VecDeque::new(),
            health: Health::Serving,
        }
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a later commit fail: the next one, or the one after those told before.
    pub fn script(&self, failure: Failure) {
        self.lock().script.push_back(failure);
    }

    /// Ends the lack of space that [`Failure::RunsFull`] began.
    pub fn free_space(&self) {
        let mut state = self.lock();
        if state.health == Health::Full {
            state.health = Health::Recoverable;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self) -> Result<()> {
        match self.health {
            Health::Serving => Ok(()),
            Health::Full | Health::Recoverable => Err(no_space(Landed::Unknown)),
            Health::Failed => Err(sync_failed()),
        }
    }

    fn apply(&mut self, batch: Batch) {
        self.position = self.position.after(&batch);
        for (key, value) in batch.changes {
            match value {
                Some(value) => self.records.insert(key, value),
                None => self.records.remove(&key),
            };
        }
    }

    fn records(&self) -> Records {
        Records {
            version: self.position.version,
            epoch: self.position.epoch,
            records: self
                .records
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        }
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Result<Records> {
        Ok(self.lock().records())
    }

    fn commit(&self, batch: Batch, guard: Guard) -> Result<Version> {
        let mut state = self.lock();
        state.check()?;
        batch.check(state.position.version, guard)?;
        match state.script.pop_front() {
            Some(Failure::NoSpace) => return Err(no_space(Landed::No)),
            Some(Failure::RunsFull { then }) => {
                if then == Leaves::Batch {
                    state.apply(batch);
                }
                state.health = Health::Full;
                return Err(no_space(Landed::Unknown));
            }
            Some(Failure::Sync) => {
                state.health = Health::Failed;
                return Err(sync_failed());
            }
            Some(Failure::Panic) => panic!("scripted"),
            Some(Failure::Slow(time)) => {
                drop(state);
                thread::sleep(time);
                state = self.lock();
            }
            None => {}
        }
        state.apply(batch);
        Ok(state.position.version)
    }

    fn export(&self, to: &mut dyn Write) -> Result<Summary> {
        let records = self.load()?;
        export::write(to, &records).map_err(Error::io("export", Path::new("memory")))
    }

    fn try_recover(&self) -> Result<Recovery> {
        let mut state = self.lock();
        match state.health {
            Health::Serving | Health::Recoverable => {
                state.health = Health::Serving;
                Ok(Recovery::Ready(state.records()))
            }
            Health::Full => Ok(Recovery::StillFull),
            Health::Failed => Err(sync_failed()),
        }
    }

    fn maintain(&self, _now: Timestamp, _export: ExportWhen) -> Result<Maintenance> {
        Ok(Maintenance {
            export: Task::NotDue,
            rewrite: Task::NotDue,
        })
    }
}

fn no_space(landed: Landed) -> Error {
    Error::NoSpace {
        dir: "memory".into(),
        available_bytes: 0,
        needed_bytes: 1,
        landed,
    }
}

fn sync_failed() -> Error {
    let what = "cannot sync the store: scripted".to_owned();
    Error::Failed { what }
}
