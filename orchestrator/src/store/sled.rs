//! The engine beneath the disk store: sled 0.34.7, and all that must be known about it.
//!
//! - `flush` ends in `sync_file_range`, which does not survive a power cut; the engine syncs the
//!   `db` file through a descriptor of its own.
//! - A page above a quarter of a segment goes to a file in `blobs/`, which is never synced. The
//!   segment size and the longest value ([`super::record::CHUNK_BYTES`]) are chosen so that there
//!   is none.
//! - Its background flusher only logs errors, so it is off. It is also the only thing that
//!   collects garbage; a store that has grown is written anew instead, see `rewrite.rs`.
//! - `Mode` is read nowhere in this version.
//! - Several flushes at once can deadlock. There is one caller at a time.
//! - An error sticks until the database is opened again.
//! - Damaged files can make it panic, and it cuts a damaged log off in silence. Opening and
//!   reading happen in a thread of their own, and `record.rs` finds what is missing.

use std::{
    fs::{self, File},
    io,
    ops::Deref,
    path::{Path, PathBuf},
    thread,
};

use sled::{Batch, Config, Db};

use super::{
    fault::Fault,
    lock,
    medium::Medium,
    record::{RawKey, RawValue},
};

/// The unit in which the file grows, is written and is reused; a power of two, fixed when the
/// database is created. One is kept in memory as the write buffer and one is written at every
/// opening: with 8 MiB an idle server needed 11 MB and more, with 1 MiB 4 MB, at the same speed.
const SEGMENT_BYTES: usize = 1 << 20;

/// The file of a database's settings.
const SETTINGS: &str = "conf";

/// Pages kept in memory, in bytes. The controller has the whole state in memory and never reads
/// it here, so the cache only serves pages that are written again and again.
const CACHE_BYTES: u64 = 1 << 20;

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => error.into(),
            other => Self::Corrupt(other.to_string()),
        }
    }
}

/// An open database.
pub(super) struct Engine {
    db: Db,
    data: File,
}

impl Engine {
    /// Opens the database in `dir`, or creates it. The directory must exist.
    pub(super) fn open(dir: &Path) -> Result<Self, Fault> {
        let open = || {
            Config::new()
                .path(dir)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()
                .map_err(|error| locked(dir).unwrap_or_else(|| error.into()))
        };
        isolated(|| {
            let db = lock::patiently(open, |fault| matches!(fault, Fault::Locked))?;
            let data = File::options().write(true).open(data_file(dir))?;
            sync_files(dir)?;
            Ok(Self { db, data })
        })
    }

    /// Gives every key and value to `each`, ordered by key.
    pub(super) fn scan(
        &self,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), Fault> + Send,
    ) -> Result<(), Fault> {
        isolated(|| {
            for pair in self.db.iter() {
                let (key, value) = pair?;
                each(&key, &value)?;
            }
            Ok(())
        })
    }

    /// Reads one value.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<impl Deref<Target = [u8]>>, Fault> {
        Ok(self.db.get(key)?)
    }

    /// Writes and removes (`None`) values, all or none. They are durable after [`Self::sync`].
    pub(super) fn apply(
        &self,
        writes: impl IntoIterator<Item = (RawKey, Option<RawValue>)>,
    ) -> Result<(), Fault> {
        let mut batch = Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        Ok(())
    }

    /// Returns when everything that was applied survives a power cut.
    pub(super) fn sync(&self, medium: &dyn Medium) -> io::Result<()> {
        medium.sync_data(&self.data)
    }

    /// What the database takes on disk, in bytes.
    pub(super) fn disk_bytes(&self) -> io::Result<u64> {
        Ok(self.data.metadata()?.len())
    }
}

/// Whether there is a database in `dir`.
pub(super) fn exists(dir: &Path) -> bool {
    data_file(dir).exists()
}

/// Takes out of the way what a database can do without and may be why it cannot be opened: its
/// snapshot, without which the next opening reads the whole log, and its settings if they are
/// damaged, since those that it is opened with are the same. Returns whether there was any of it.
pub(super) fn set_aside(dir: &Path) -> io::Result<bool> {
    let mut found = false;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with("snap.") || (name == SETTINGS && are_damaged(&fs::read(&path)?)) {
            fs::rename(&path, dir.join(format!("unreadable-{name}")))?;
            found = true;
        }
    }
    Ok(found)
}

/// Whether the settings do not match their checksum, of which sled only says so in its log.
fn are_damaged(settings: &[u8]) -> bool {
    settings
        .split_last_chunk::<4>()
        .is_none_or(|(text, crc)| crc32(text) != u32::from_le_bytes(*crc))
}

/// CRC-32 as in IEEE 802.3, which sled uses.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn data_file(dir: &Path) -> PathBuf {
    dir.join("db")
}

/// [`Fault::Locked`] if another descriptor holds the lock that sled takes on its file.
fn locked(dir: &Path) -> Option<Fault> {
    let file = File::open(data_file(dir)).ok()?;
    let held = lock::is_held(&file).ok()?;
    held.then_some(Fault::Locked)
}

/// Syncs every file of the database and the directory: sled syncs neither its settings nor the
/// directory in which it has replaced a snapshot.
fn sync_files(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}

/// Runs `work` in a thread, so that a panic in it is an error.
fn isolated<T: Send>(work: impl FnOnce() -> Result<T, Fault> + Send) -> Result<T, Fault> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("store-open".to_owned())
            .spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text
                .unwrap_or("it cannot be read")
                .lines()
                .next()
                .unwrap_or_default();
            Err(Fault::Corrupt(text.to_owned()))
        })
    })
}
