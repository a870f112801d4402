//! Where the cluster's state is kept: whole at start, then one durable batch after another.
//!
//! [`Store`] is all that the controller sees. It knows no tables and no types: a record is a
//! [`Key`] and opaque bytes. [`DiskStore`] keeps it on this machine's disk, [`MemoryStore`] in
//! memory for tests and simulation; [`Committer`] gives either a thread of its own, since every
//! call blocks.

use std::{collections::BTreeMap, fmt, io::Write, path::PathBuf};

use jiff::Timestamp;
use windlass_api::ids::{Epoch, Version};

mod committer;
mod data_dir;
mod disk;
mod error;
mod export;
mod exports;
mod fault;
mod high_water;
mod lock;
mod medium;
mod memory;
mod opening;
mod record;
mod restore;
mod rewrite;
mod sled;
mod verify;

pub use committer::Committer;
pub use disk::DiskStore;
pub use error::{Error, Landed, Remedy};
pub(crate) use export::Lines;
pub use export::{copy_export, verify_export};
pub use medium::{Medium, RESERVE_BYTES, SPACE_NEEDED_BYTES, SystemMedium};
pub use memory::{Failure, Leaves, MemoryStore};
pub use restore::{Existing, restore, salvage};
pub use verify::{Verifier, verify, verify_process};

/// What a store's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The name of a record: the table that it is in, and its id there, as in
/// `("workload", "default/web")`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The table, at most 255 bytes.
    pub table: String,
    /// The id in the table, at most [`Key::ID_BYTES_MAX`] bytes.
    pub id: String,
}

impl Key {
    /// The longest id. Keys are kept in full in the pages of the disk store, which hold up to 17.
    pub const ID_BYTES_MAX: usize = 1024;

    /// The key of `id` in `table`.
    pub fn new(table: impl Into<String>, id: impl fmt::Display) -> Self {
        Self {
            table: table.into(),
            id: id.to_string(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.id)
    }
}

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    version: Version,
    epoch: Option<Epoch>,
    changes: BTreeMap<Key, Option<Vec<u8>>>,
}

impl Batch {
    /// The largest value. It bounds what reading one record back can cost.
    pub const VALUE_BYTES_MAX: usize = 16 << 20;

    /// An empty batch that leads to `version`.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self {
            version,
            epoch: None,
            changes: BTreeMap::new(),
        }
    }

    /// Lets `epoch` begin with this batch, unless the store has come as far already.
    pub fn begin_epoch(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
    }

    /// Writes a record, whether or not there is one. The last word on a key counts.
    pub fn put(&mut self, key: Key, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    /// Removes a record, content when there is none. The last word on a key counts.
    pub fn delete(&mut self, key: Key) {
        self.changes.insert(key, None);
    }

    /// The version that the batch leads to.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The records, each with its new value or `None` if it goes.
    #[cfg(feature = "simulation")]
    pub fn changes(&self) -> impl Iterator<Item = (&Key, Option<&Vec<u8>>)> {
        self.changes
            .iter()
            .map(|(key, value)| (key, value.as_ref()))
    }

    /// The size of all keys and values, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let size = |(key, value): (&Key, &Option<Vec<u8>>)| {
            key.table.len() + key.id.len() + value.as_ref().map_or(0, Vec::len)
        };
        self.changes.iter().map(size).sum::<usize>() as u64
    }

    /// Refuses what no store takes, for a writer at `newest` under `guard`.
    fn check(&self, newest: Version, guard: Guard) -> Result<()> {
        let Guard::Version(expected) = guard;
        if expected != newest {
            return Err(Error::Fenced { expected, newest });
        }
        if self.version <= newest {
            let what = format!("its version {} does not follow {newest}", self.version);
            return Err(Error::InvalidBatch { what });
        }
        for (key, value) in &self.changes {
            let size = value.as_ref().map_or(0, Vec::len);
            let what = if key.table.is_empty() || key.table.len() > 255 {
                "a table's name must have 1 to 255 bytes".to_owned()
            } else if key.id.len() > Key::ID_BYTES_MAX {
                format!("an id in table {} is longer than 1024 bytes", key.table)
            } else if size > Self::VALUE_BYTES_MAX {
                format!("the value of {key} has {size} bytes, more than 16 MiB")
            } else {
                continue;
            };
            return Err(Error::InvalidBatch { what });
        }
        Ok(())
    }
}

/// What must be true for a batch to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The writer believes this version to be the newest.
    Version(Version),
}

/// How far a state has come. A restored state has a higher epoch, whatever its version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// How often the state may have gone back, from 1.
    pub epoch: Epoch,
    /// The version of the newest batch, 0 before the first.
    pub version: Version,
}

impl Position {
    /// Where a batch leads to from here.
    #[must_use]
    pub fn after(self, batch: &Batch) -> Self {
        Self {
            epoch: self.epoch.max(batch.epoch.unwrap_or_default()),
            version: batch.version,
        }
    }

    /// Where a new store starts.
    pub const START: Self = Self {
        epoch: Epoch(1),
        version: Version(0),
    };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of epoch {}", self.version, self.epoch)
    }
}

/// The whole state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    /// The version of the newest batch, 0 before the first.
    pub version: Version,
    /// How often the state may have gone back, from 1.
    pub epoch: Epoch,
    /// Every record, ordered by key.
    pub records: Vec<(Key, Vec<u8>)>,
}

impl Records {
    /// A state without records.
    fn none(position: Position) -> Self {
        Self {
            version: position.version,
            epoch: position.epoch,
            records: Vec::new(),
        }
    }

    /// How far the state has come.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            version: self.version,
        }
    }

    /// What a person is told about it.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            position: self.position(),
            records: self.records.len() as u64,
        }
    }

    /// The size of all keys and values, in bytes.
    fn bytes(&self) -> u64 {
        let size = |(key, value): &(Key, Vec<u8>)| key.table.len() + key.id.len() + value.len();
        self.records.iter().map(size).sum::<usize>() as u64
    }
}

/// What a store or an export was found to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// How far the state has come.
    pub position: Position,
    /// How many records it has.
    pub records: u64,
}

/// Whether a store that ran out of space works again.
#[derive(Debug)]
pub enum Recovery {
    /// There is still not enough space.
    StillFull,
    /// It takes writes. This is its state, which replaces whatever the caller had in memory: the
    /// batch that failed may or may not be in it.
    Ready(Records),
}

/// When an export is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportWhen {
    /// If the state changed and the last export is old enough.
    Due,
    /// In any case.
    Now,
}

/// What [`Store::maintain`] did.
#[derive(Debug)]
pub struct Maintenance {
    /// What came of the automatic export.
    pub export: Task<PathBuf>,
    /// What came of rewriting a store that has grown: the bytes given back to the file system.
    pub rewrite: Task<u64>,
}

/// What came of a task that the store itself does not depend on.
#[derive(Debug)]
pub enum Task<T> {
    /// There was no need.
    NotDue,
    /// It is done.
    Done(T),
    /// It failed and will be tried again. The store works as before.
    Failed(Error),
}

/// A durable, versioned set of records with one writer.
///
/// Calls block, for as long as the disk takes. They exclude one another, so calling from several
/// threads is safe but gains nothing; a server calls from the one thread of a [`Committer`].
pub trait Store: Send + Sync {
    /// The whole state.
    fn load(&self) -> Result<Records>;

    /// Makes a batch durable and returns its version. After `Ok` it survives a crash of the
    /// process and of the machine.
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::InvalidBatch`] changed nothing. [`Error::NoSpace`] says
    /// whether the batch may have landed, and then [`Store::try_recover`] must be called before
    /// the next commit. After any other error the store takes no more writes.
    fn commit(&self, batch: Batch, guard: Guard) -> Result<Version>;

    /// Writes the whole state as text, as [`restore()`] takes it; no commit comes between.
    fn export(&self, to: &mut dyn Write) -> Result<Summary>;

    /// Brings a store that ran out of space back to work, if there is space again.
    fn try_recover(&self) -> Result<Recovery>;

    /// Writes the automatic export, removes old ones, and gives back space. To be called now and
    /// then; it returns at once when nothing is due, or the store waits for space.
    ///
    /// # Errors
    /// Only if the store itself does not work any longer.
    fn maintain(&self, now: Timestamp, export: ExportWhen) -> Result<Maintenance>;
}
