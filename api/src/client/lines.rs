//! A body that is read line by line, with bounded memory.

use bytes::{Buf, Bytes, BytesMut};

use super::{Error, exchange::Stream};

/// What becomes of a line that is longer than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LongLine {
    /// It comes in pieces.
    Split,
    /// It is an error.
    Refuse,
}

/// The lines of an answer, as they arrive.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line feed.
    searched: usize,
    len_max: usize,
    long_line: LongLine,
}

impl Lines {
    pub(super) fn new(stream: Stream, len_max: usize, long_line: LongLine) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            searched: 0,
            len_max,
            long_line,
        }
    }

    /// The next line without its end, or `None` after the last one. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// The connection broke, or a line is too long to be what was asked for.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(line) = self.buffered()? {
                return Ok(Some(line));
            }
            match self.stream.next().await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Ok(Some(self.take(self.buffer.len()))),
            }
        }
    }

    /// A line that is complete, or as long as it may be.
    fn buffered(&mut self) -> Result<Option<Bytes>, Error> {
        let found = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        match found.map(|at| self.searched + at) {
            Some(end) if end <= self.len_max => {
                let mut line = self.take(end);
                self.buffer.advance(1);
                if line.last() == Some(&b'\r') {
                    line.truncate(end - 1);
                }
                return Ok(Some(line));
            }
            None if self.buffer.len() < self.len_max => {
                self.searched = self.buffer.len();
                return Ok(None);
            }
            Some(_) | None => {}
        }
        match self.long_line {
            LongLine::Split => Ok(Some(self.take(self.len_max))),
            LongLine::Refuse => Err(Error::Protocol {
                server: self.stream.server().to_owned(),
                why: format!("a line has more than {} bytes", self.len_max),
            }),
        }
    }

    fn take(&mut self, len: usize) -> Bytes {
        self.searched = 0;
        self.buffer.split_to(len).freeze()
    }
}
