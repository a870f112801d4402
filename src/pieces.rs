//! A file that arrives in pieces, for whoever reads it on a thread of its own.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Reads pieces as they come, and waits for them; not for use in async code.
#[derive(Debug)]
pub(crate) struct Pieces {
    from: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Pieces {
    /// The file whose pieces come from `from`. An error among them is an error of reading.
    pub(crate) fn new(from: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        let rest = Bytes::new();
        Self { from, rest }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.from.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let len = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}
