//! A file or folder of this machine as a tar archive.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tar::{Builder, EntryType, Header, HeaderMode};
use tokio::sync::mpsc;

/// How much is sent at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Packs what is at `path` under `name`, piece by piece. Blocks.
pub(super) fn pack(
    path: &Path,
    name: &Path,
    to: mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let packed = pack_into(
        path,
        name,
        Pieces {
            to: to.clone(),
            buffer: Vec::new(),
        },
    );
    if let Err(error) = &packed
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // Said, so that half an archive is not taken for a whole one.
        let said = io::Error::new(error.kind(), error.to_string());
        let _gone = to.blocking_send(Err(said));
    }
    packed
}

fn pack_into(path: &Path, name: &Path, to: Pieces) -> io::Result<()> {
    let mut archive = Builder::new(to);
    // A stack in place of recursion: folders can be deep.
    let mut waiting: Vec<(PathBuf, PathBuf)> = vec![(path.to_owned(), name.to_owned())];
    while let Some((path, name)) = waiting.pop() {
        append(&mut archive, &path, &name, &mut waiting).map_err(|error| within(&path, error))?;
    }
    archive.into_inner()?.flush()
}

fn append(
    archive: &mut Builder<Pieces>,
    path: &Path,
    name: &Path,
    waiting: &mut Vec<(PathBuf, PathBuf)>,
) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(&metadata, HeaderMode::Complete);
    // Users of this machine mean nothing in a container.
    header.set_uid(0);
    header.set_gid(0);
    if metadata.is_dir() {
        header.set_size(0);
        archive.append_data(&mut header, name, io::empty())?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            waiting.push((entry.path(), name.join(entry.file_name())));
        }
    } else if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, name, fs::read_link(path)?)?;
    } else if metadata.is_file() {
        let size = metadata.len();
        let mut exact = Exact {
            file: File::open(path)?,
            rest: size,
        };
        archive.append_data(&mut header, name, &mut exact)?;
    } else {
        return Err(io::Error::other("it is neither file nor folder nor link"));
    }
    Ok(())
}

/// A file of exactly the size that was promised.
struct Exact {
    file: File,
    rest: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest == 0 {
            return Ok(0);
        }
        let limit = usize::try_from(self.rest).unwrap_or(usize::MAX);
        let limit = limit.min(buffer.len());
        let read = self.file.read(&mut buffer[..limit])?;
        if read == 0 && limit > 0 {
            return Err(io::Error::other("it became shorter while it was copied"));
        }
        self.rest -= u64::try_from(read).unwrap_or_default();
        Ok(read)
    }
}

fn within(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        // Not about the file: nobody takes the archive any more.
        io::ErrorKind::BrokenPipe => error,
        kind => io::Error::new(kind, format!("cannot copy {}: {error}", path.display())),
    }
}

/// Sends what is written, in pieces.
struct Pieces {
    to: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        let sent = self.to.blocking_send(Ok(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
