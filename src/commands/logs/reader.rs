//! One stream of output, read to its end.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{sync::mpsc, time};
use windlass_api::{
    client::{Client, Error},
    problem::Code,
    resource::Instance,
};

use super::{What, origin::Origin};

/// The pause before a stream that broke is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a reader says.
#[derive(Debug)]
pub(super) enum Message {
    Line(Origin, Bytes),
    Ended(Origin, Result<(), Error>),
}

/// Which part of a stream is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What the user asked for.
    Asked,
    /// What was written after a time at which the stream had been read already.
    After(Timestamp),
    /// What is written after a time, which had been read up to about then.
    About(Timestamp),
}

/// Reads one stream.
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) instance: Instance,
    pub(super) origin: Origin,
    pub(super) part: Part,
    pub(super) what: What,
    pub(super) sender: mpsc::Sender<Message>,
}

impl Reader {
    /// Reads it, and says how it ended.
    pub(super) async fn run(self) {
        let origin = self.origin.clone();
        let result = self.read().await;
        if result.as_ref().is_err_and(is_outage) {
            time::sleep(PAUSE).await;
        }
        // The receiver is gone only when the program is about to end.
        drop(self.sender.send(Message::Ended(origin, result)).await);
    }

    async fn read(&self) -> Result<(), Error> {
        let mut options = self.what.options.clone();
        match self.part {
            Part::Asked => {}
            Part::About(time) => {
                options.tail = None;
                options.since = Some(time);
            }
            Part::After(time) => {
                // Docker knows whole seconds only; the rest is told apart by the lines' times.
                options.tail = None;
                options.since = Some(time);
                options.timestamps = true;
            }
        }
        let Instance {
            namespace, name, ..
        } = &self.instance;
        let container = self.origin.container.as_ref().or(self.what.only.as_ref());
        let mut lines = self
            .client
            .logs(namespace, name, container, &options)
            .await?;
        while let Some(line) = lines.next().await? {
            let line = match self.part {
                Part::After(time) => match after(&line, time) {
                    None => continue,
                    Some(_) if self.what.options.timestamps => line,
                    Some(start) => line.slice(start..),
                },
                Part::Asked | Part::About(_) => line,
            };
            if self
                .sender
                .send(Message::Line(self.origin.clone(), line))
                .await
                .is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Where the text of a line begins, behind its time; `None` if it was written up to `time`.
/// Times are compared by the millisecond, since exits are known no better.
fn after(line: &[u8], time: Timestamp) -> Option<usize> {
    let end = line
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(line.len());
    let written = std::str::from_utf8(&line[..end])
        .ok()
        .and_then(|t| t.parse::<Timestamp>().ok());
    match written {
        Some(written) if written.as_millisecond() <= time.as_millisecond() => None,
        Some(_) => Some((end + 1).min(line.len())),
        // The later pieces of a very long line have no time.
        None => Some(0),
    }
}

/// Whether a stream broke, or was not opened, because somebody is away who may come back.
pub(super) fn is_outage(error: &Error) -> bool {
    error.is_unreachable()
        || matches!(error, Error::BrokeOff { .. })
        || error.code() == Some(Code::NodeUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_were_read_before_are_told_by_their_time() {
        let time = "2026-01-01T00:00:01.500Z".parse().unwrap();
        assert_eq!(after(b"2026-01-01T00:00:01.499999999Z old", time), None);
        assert_eq!(after(b"2026-01-01T00:00:01.500999999Z last", time), None);
        let new = b"2026-01-01T00:00:01.501000000Z new";
        assert_eq!(
            after(new, time).map(|start| &new[start..]),
            Some(&b"new"[..])
        );
        assert_eq!(after(b"2026-01-01T00:00:02.501000000Z", time), Some(30));
        assert_eq!(after(b"a piece of a long line", time), Some(0));
    }
}
