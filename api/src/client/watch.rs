//! Server-sent events (as in the HTML standard, section 9.2) that carry watch events.

use std::marker::PhantomData;

use super::{
    Error, Resource,
    exchange::Stream,
    lines::{Lines, LongLine},
};
use crate::list::WatchEvent;

/// The longest message, in bytes: above the largest object that the server accepts (1 MiB), as
/// it grows when it is shown.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What happens to the objects that were selected, as it happens.
#[derive(Debug)]
pub struct Watch<T> {
    server: String,
    lines: Lines,
    /// The data of the message that is being read.
    data: Vec<u8>,
    objects: PhantomData<fn() -> T>,
}

impl<T: Resource> Watch<T> {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            server: stream.server().to_owned(),
            lines: Lines::new(stream, MESSAGE_BYTES_MAX, LongLine::Refuse),
            data: Vec::new(),
            objects: PhantomData,
        }
    }

    /// The next event, or `None` if the server ended the watch. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The connection broke, or what came is not a watch event.
    pub async fn next(&mut self) -> Result<Option<WatchEvent<T>>, Error> {
        while let Some(line) = self.lines.next().await? {
            if line.is_empty() {
                if !self.data.is_empty() {
                    return self.event().map(Some);
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data
                    .extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
                if self.data.len() > MESSAGE_BYTES_MAX {
                    return Err(
                        self.protocol(format!("a message has more than {MESSAGE_BYTES_MAX} bytes"))
                    );
                }
            }
            // The other fields repeat what the data says, and comments keep the connection alive.
        }
        Ok(None)
    }

    fn event(&mut self) -> Result<WatchEvent<T>, Error> {
        let event = serde_json::from_slice(&self.data);
        self.data.clear();
        event.map_err(|e| self.protocol(format!("in a watch: {e}")))
    }

    fn protocol(&self, why: String) -> Error {
        Error::Protocol {
            server: self.server.clone(),
            why,
        }
    }
}
