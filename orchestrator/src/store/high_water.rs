//! How far the store has been acknowledged, in a small file beside it. Whoever opens the store
//! can tell from it whether the end is missing, which the store itself cannot.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use windlass_api::ids::{Epoch, Version};

use super::{Position, data_dir::sync_dir, medium::Medium};

/// Starts a slot and names its format.
const MAGIC: [u8; 8] = *b"WLMARK\0\x01";
/// Magic, epoch, version, CRC-32C.
const SLOT_BYTES: usize = 8 + 8 + 8 + 4;
/// The slots lie in different pages, so that no torn write reaches both.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const FILE_BYTES: usize = 2 * 4096;

/// The open file. It has two slots that are written in turn; the farther one counts.
pub(super) struct HighWater {
    file: File,
    next_slot: usize,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// There is no file.
    Absent,
    /// This was acknowledged.
    At(Position),
    /// There is a file, and no slot of it can be read.
    Unreadable,
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> io::Result<Mark> {
    match File::open(path) {
        Ok(file) => {
            let newest = read_slots(&file)?.into_iter().flatten().max();
            Ok(newest.map_or(Mark::Unreadable, Mark::At))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mark::Absent),
        Err(error) => Err(error),
    }
}

impl HighWater {
    /// Makes the file, or replaces it, in one step and durably. It has its full size at once, so
    /// that writing to it later takes no space.
    pub(super) fn create(path: &Path, position: Position, medium: &dyn Medium) -> io::Result<Self> {
        let unfinished = path.with_extension("new");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all_at(&[0; FILE_BYTES], 0)?;
        file.write_all_at(&encode(position), SLOT_OFFSETS[0])?;
        medium.sync_data(&file)?;
        fs::rename(&unfinished, path)?;
        if let Some(dir) = path.parent() {
            sync_dir(dir)?;
        }
        Ok(Self { file, next_slot: 1 })
    }

    /// Moves the mark, durably.
    pub(super) fn write(&mut self, position: Position, medium: &dyn Medium) -> io::Result<()> {
        self.file
            .write_all_at(&encode(position), SLOT_OFFSETS[self.next_slot])?;
        medium.sync_data(&self.file)?;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

fn read_slots(file: &File) -> io::Result<[Option<Position>; 2]> {
    let mut slots = [None; 2];
    for (slot, offset) in slots.iter_mut().zip(SLOT_OFFSETS) {
        let mut bytes = [0; SLOT_BYTES];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => *slot = decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
    }
    Ok(slots)
}

fn encode(position: Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(position.epoch.0.to_le_bytes());
    bytes.extend(position.version.0.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Position> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let numbers = body.strip_prefix(&MAGIC)?;
    let (epoch, version) = numbers.split_first_chunk::<8>()?;
    let position = Position {
        epoch: Epoch(u64::from_le_bytes(*epoch)),
        version: Version(u64::from_le_bytes(*version.first_chunk::<8>()?)),
    };
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SystemMedium;

    fn at(version: u64) -> Position {
        Position {
            epoch: Epoch(1),
            version: Version(version),
        }
    }

    fn overwrite(path: &Path, offset: u64) {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&[0xff; 3], offset + 9).unwrap();
    }

    #[test]
    fn the_slots_are_written_in_turn_and_the_farther_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hwm");
        assert_eq!(read(&path).unwrap(), Mark::Absent);
        let mut mark = HighWater::create(&path, at(0), &SystemMedium).unwrap();
        assert_eq!(read(&path).unwrap(), Mark::At(at(0)));
        for version in 1..=6 {
            mark.write(at(version), &SystemMedium).unwrap();
            assert_eq!(read(&path).unwrap(), Mark::At(at(version)));
        }
        overwrite(&path, SLOT_OFFSETS[0]);
        assert_eq!(read(&path).unwrap(), Mark::At(at(5)));
        overwrite(&path, SLOT_OFFSETS[1]);
        assert_eq!(read(&path).unwrap(), Mark::Unreadable);
        HighWater::create(&path, at(7), &SystemMedium).unwrap();
        assert_eq!(read(&path).unwrap(), Mark::At(at(7)));
    }

    #[test]
    fn a_short_file_is_unreadable_and_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hwm");
        std::fs::write(&path, b"WL").unwrap();
        assert_eq!(read(&path).unwrap(), Mark::Unreadable);
    }
}
