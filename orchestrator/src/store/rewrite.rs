//! Writes a store anew: after a restore, and when the old one has grown. The engine collects no
//! garbage by itself (see `sled.rs`): one record that never changes keeps a whole segment, so a
//! store in which others change all the time grows without end.

use std::{
    fs::{self, DirBuilder},
    io, mem,
    os::unix::fs::DirBuilderExt,
};

use rustix::fs::{CWD, RenameFlags};

use super::{
    Error, Medium, Position, Records, Result,
    data_dir::DataDir,
    fault::Fault,
    record::{self, Head},
    sled::Engine,
};

/// Below this a store is left alone, in bytes: it does no harm, and small stores have the worst
/// ratio of file to records.
const BYTES_MIN: u64 = 64 << 20;

/// How many times larger than its records a file may be. Under even overwriting it settles at
/// three to six times, so that this is reached when much was removed or much never changes.
const RATIO_MAX: u64 = 8;

/// How many times larger than its records a new file can be, since pages are written again while
/// they fill: two to four times with records of the sizes that occur.
pub(super) const SPACE_RATIO: u64 = 6;

/// How much is given to the engine at once, in bytes.
const BATCH_BYTES: usize = 1 << 20;

/// Whether it is worth finding out how many bytes of records there are.
pub(super) fn may_be_due(file_bytes: u64) -> bool {
    file_bytes >= BYTES_MIN
}

/// Whether a store of this size should be written anew.
pub(super) fn is_due(file_bytes: u64, record_bytes: u64) -> bool {
    may_be_due(file_bytes) && file_bytes / RATIO_MAX > record_bytes
}

/// Writes a new store with `records` at `position`, durably, beside the old one.
///
/// # Errors
/// [`Error::NoSpace`] before anything is written if it would not fit.
pub(super) fn build(
    dir: &DataDir,
    records: &Records,
    position: Position,
    medium: &dyn Medium,
) -> Result<()> {
    let needed = records.bytes().saturating_mul(SPACE_RATIO);
    dir.require_space(medium, needed)?;
    clear(dir)?;
    let path = dir.new_store();
    let made = DirBuilder::new().mode(0o700).create(&path);
    made.map_err(Error::io("create", &path))?;
    let Err(fault) = fill(dir, records, position, medium) else {
        return Ok(());
    };
    let error = match fault {
        Fault::NoSpace => dir.no_space(medium, needed, super::Landed::No),
        other => Error::io("write", &path)(io::Error::other(other.to_string())),
    };
    // What is left of it would only take space; why it failed counts more than that it stays.
    if let Err(error) = clear(dir) {
        tracing::warn!(%error, "what is left of a new store stays");
    }
    Err(error)
}

fn fill(
    dir: &DataDir,
    records: &Records,
    position: Position,
    medium: &dyn Medium,
) -> Result<(), Fault> {
    let engine = Engine::open(&dir.new_store())?;
    let mut head = Head::empty(position);
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    for (key, value) in &records.records {
        let (stored, chunks) = record::encode(key, value);
        head.replace(None, Some(stored));
        batch_bytes += value.len();
        batch.extend(chunks.into_iter().map(|(key, value)| (key, Some(value))));
        if batch_bytes >= BATCH_BYTES {
            batch_bytes = 0;
            engine.apply(mem::take(&mut batch))?;
        }
    }
    batch.push((Head::key(), Some(head.encode())));
    engine.apply(batch)?;
    engine.sync(medium)?;
    Ok(())
}

/// Puts the new store in the place of the old one, and the old one in the place of the new one,
/// in one step: at no moment is there none. It is durable after the directory was synced.
pub(super) fn exchange(dir: &DataDir) -> Result<()> {
    let (new, old) = (dir.new_store(), dir.store());
    rustix::fs::renameat_with(CWD, &new, CWD, &old, RenameFlags::EXCHANGE)
        .map_err(|error| Error::io("put the new store in the place of", &old)(error.into()))
}

/// Removes what is left of a new store that did not take the old one's place, or of an old one
/// that was replaced.
pub(super) fn clear(dir: &DataDir) -> Result<()> {
    let path = dir.new_store();
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", &path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
