//! The contents of an image as a stream of bytes, in the format of `tar`.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tar::{Builder, EntryType, Header};
use tokio::sync::{mpsc, oneshot};

use super::contents::{Contents, Entry};

/// How much of the archive may wait in memory: 16 pieces of 64 KiB.
const PIECES_DEPTH: usize = 16;
/// The size of a piece of the archive, in bytes.
const PIECE_SIZE: usize = 64 << 10;

/// The archive, piece by piece, and the error with which it breaks off.
///
/// It is made on a thread of its own, which waits while nobody takes the pieces, and ends when
/// nobody will.
pub(super) fn stream(
    contents: Contents,
) -> (
    impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    oneshot::Receiver<io::Error>,
) {
    let (pieces_in, mut pieces) = mpsc::channel(PIECES_DEPTH);
    let (failure_in, failure) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let writer = BufWriter::with_capacity(PIECE_SIZE, Pieces(pieces_in.clone()));
        if let Err(error) = write(&contents, writer) {
            let kind = error.kind();
            // Both fail only if the reader has gone, and then nobody wants to know.
            let _ = failure_in.send(error);
            let _ = pieces_in.blocking_send(Err(kind.into()));
        }
    });
    (
        stream::poll_fn(move |context| pieces.poll_recv(context)),
        failure,
    )
}

fn write(contents: &Contents, writer: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(writer);
    for (path, entry) in &contents.0 {
        append(&mut archive, path, entry).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
    }
    archive.into_inner()?.flush()
}

fn append(archive: &mut Builder<impl Write>, path: &Path, entry: &Entry) -> io::Result<()> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    match entry {
        Entry::Copy(source) => {
            let file = File::open(source)?;
            let len = file.metadata()?.len();
            header.set_size(len);
            header.set_mode(0o755);
            archive.append_data(&mut header, path, file.take(len))
        }
        Entry::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            archive.append_link(&mut header, path, target)
        }
        Entry::Text(text) => {
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, text.as_bytes())
        }
        Entry::Directory(mode) => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            header.set_mode(*mode);
            archive.append_data(&mut header, path, io::empty())
        }
    }
}

/// Sends what is written to whoever uploads it.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use futures_util::{StreamExt, TryStreamExt};

    use super::*;

    fn contents(entries: &[(&str, Entry)]) -> Contents {
        let owned = |(path, entry): &(&str, Entry)| (PathBuf::from(path), entry.clone());
        Contents(entries.iter().map(owned).collect())
    }

    #[tokio::test]
    async fn an_archive_reads_back() {
        let own = Entry::Copy("/proc/self/exe".into());
        let (archive, _failure) = stream(contents(&[
            ("/a", Entry::Directory(0o1777)),
            ("/a/link", Entry::Link("text".into())),
            ("/a/text", Entry::Text("hello")),
            ("/program", own),
        ]));
        let pieces: Vec<Bytes> = archive.try_collect().await.unwrap();
        assert!(
            pieces.iter().all(|piece| piece.len() <= PIECE_SIZE),
            "memory is bounded"
        );
        let bytes = pieces.concat();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let read: BTreeMap<String, (EntryType, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                (
                    path,
                    (
                        header.entry_type(),
                        header.mode().unwrap(),
                        header.size().unwrap(),
                    ),
                )
            })
            .collect();
        let own_size = std::fs::metadata("/proc/self/exe").unwrap().len();
        assert_eq!(read["a"], (EntryType::Directory, 0o1777, 0));
        assert_eq!(read["a/link"].0, EntryType::Symlink);
        assert_eq!(read["a/text"], (EntryType::Regular, 0o644, 5));
        assert_eq!(read["program"], (EntryType::Regular, 0o755, own_size));
    }

    #[tokio::test]
    async fn a_file_that_is_missing_breaks_the_archive_off_and_is_named() {
        let missing = Entry::Copy("/nonexistent".into());
        let (archive, failure) = stream(contents(&[("/lib/missing.so", missing)]));
        let last = archive.collect::<Vec<_>>().await.pop().unwrap();
        assert_eq!(last.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(
            failure
                .await
                .unwrap()
                .to_string()
                .starts_with("/lib/missing.so: ")
        );
    }
}
