//! A small file of state that is replaced as a whole, and recognised when it is broken.
//!
//! The first line is `windlass-state 1 <crc32c of the rest, in hexadecimal>`; the rest is JSON.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

const MAGIC: &str = "windlass-state";

/// The version of the layout. It changes when an older agent could misread a newer file.
const VERSION: &str = "1";

/// What a file held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<T> {
    /// There is no file.
    Absent,
    /// The file is torn, damaged or of another version.
    Broken {
        /// What is wrong with it.
        reason: String,
    },
    /// This.
    Whole(T),
}

/// A file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}", path.display())]
pub(crate) struct Error {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

pub(crate) fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error {
        verb,
        path: path.to_owned(),
        source,
    }
}

/// Reads a file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Content<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(match parse(&bytes) {
            Ok(value) => Content::Whole(value),
            Err(reason) => Content::Broken { reason },
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::Absent),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Replaces a file. `Ok` means that the new content survives a power cut; on an error the old
/// content is still there.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    replace(path, value, Sync::Now)
}

/// Replaces a file like [`write()`], but lets the system choose when it reaches the disk: after a power
/// cut there may be the old content, or a broken one.
pub(crate) fn write_soon<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    replace(path, value, Sync::Later)
}

/// When a file reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Now,
    Later,
}

fn replace<T: Serialize>(path: &Path, value: &T, sync: Sync) -> Result<(), Error> {
    let json = serde_json::to_vec(value).expect("state has only string keys and plain values");
    let temporary = path.with_extension("tmp");
    let write = || {
        // Somebody may have removed the directory behind a running agent's back.
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        // Readable by its owner only: an assignment holds environment variables.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        writeln!(file, "{MAGIC} {VERSION} {:08x}", crc32c::crc32c(&json))?;
        file.write_all(&json)?;
        if sync == Sync::Now {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        match sync {
            Sync::Now => sync_directory(path),
            Sync::Later => Ok(()),
        }
    };
    write().map_err(failed("write", path))
}

/// Moves a broken file out of the way, for people to look at, and returns its new path.
pub(crate) fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".corrupt");
    let aside = PathBuf::from(aside);
    fs::rename(path, &aside)
        .and_then(|()| sync_directory(path))
        .map_err(failed("set aside", path))?;
    Ok(aside)
}

fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let end = bytes
        .iter()
        .position(|b| *b == b'\n')
        .ok_or("it has no header line")?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|_| "its header is not text")?;
    let json = &bytes[end + 1..];
    let mut words = header.split(' ');
    if words.next() != Some(MAGIC) {
        return Err("it does not begin with its name".to_owned());
    }
    match words.next() {
        Some(VERSION) => {}
        other => {
            let found = other.unwrap_or("none");
            return Err(format!(
                "it has version {found}, this agent reads {VERSION}"
            ));
        }
    }
    if words.next() != Some(format!("{:08x}", crc32c::crc32c(json)).as_str()) {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_slice(json).map_err(|e| format!("its content is not understood: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), Content::Absent);
        write(&path, &vec![1, 2]).unwrap();
        write(&path, &vec![3]).unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), Content::Whole(vec![3]));
    }

    #[test]
    fn a_directory_that_somebody_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent").join("ledger.json");
        for content in [1, 2] {
            write(&path, &content).unwrap();
            assert_eq!(read::<u32>(&path).unwrap(), Content::Whole(content));
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn any_cut_and_any_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        write(&path, &vec![1, 22, 333]).unwrap();
        let whole = fs::read(&path).unwrap();
        let broken = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            matches!(read::<Vec<u32>>(&path).unwrap(), Content::Broken { .. })
        };
        for len in 0..whole.len() {
            assert!(broken(&whole[..len]), "cut to {len} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(broken(&flipped), "bit {bit} flipped");
        }
    }

    #[test]
    fn a_broken_file_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        fs::write(&path, "torn").unwrap();
        let aside = set_aside(&path).unwrap();
        assert_eq!(aside, dir.path().join("ledger.json.corrupt"));
        assert_eq!(fs::read_to_string(aside).unwrap(), "torn");
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), Content::Absent);
    }
}
