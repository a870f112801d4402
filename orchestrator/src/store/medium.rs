//! What a store asks of the disk beneath it, apart from plain reads and writes. Tests put
//! failures in here.

use std::{fs::File, io, path::Path};

/// The space that must stay free, in bytes. Eight segments of the engine: a commit can open a new
/// one in the middle, opening the store writes up to two, and the rest is for an operator who has
/// to log in and clean up.
pub const RESERVE_BYTES: u64 = 8 << 20;

/// The space from which on a store that was full takes writes again, in bytes: more than a write
/// needs, lest it be full again with the next one.
pub const SPACE_NEEDED_BYTES: u64 = RESERVE_BYTES + (1 << 20);

/// The disk beneath a store.
pub trait Medium: Send + Sync {
    /// How many bytes an ordinary user can still write in the file system of `dir`.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Returns when what was written to `file` survives a power cut.
    fn sync_data(&self, file: &File) -> io::Result<()>;
}

/// The disk as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemMedium;

impl Medium for SystemMedium {
    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}
