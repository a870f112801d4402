//! Follows the output of all instances of a workload, or of one instance.

use std::{collections::BTreeMap, io::Write, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet, time};
use windlass_api::{
    client::{Client, Error, Mirror},
    clock,
    ids::InstanceId,
    problem::Code,
    resource::Instance,
    status::Phase,
    wire::LogOptions,
};

use super::{Source, printer::Printer, why_silent};
use crate::error::{self, Failure};

/// How many instances are followed at once: each one is a connection to the server and another
/// to its agent, and nobody reads more.
const READERS_MAX: usize = 50;
/// How many lines may wait to be written, before the readers wait.
const LINES_MAX: usize = 1_024;
/// The pause before a stream that broke is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows instances.
pub(super) struct Follow<W> {
    client: Client,
    source: Source,
    options: LogOptions,
    printer: Printer<W>,
    followed: BTreeMap<InstanceId, Followed>,
    readers: JoinSet<()>,
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
}

/// What is known of an instance's stream.
#[derive(Debug)]
enum Followed {
    /// It is read.
    Reading(Run),
    /// It was read to its end.
    Ended { run: Run, at: Timestamp },
    /// It broke and is to be opened again.
    Broken { at: Timestamp },
}

/// One life of a container: the next one has another number, or is another container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    container: String,
    restarts: u32,
}

/// What a reader says.
#[derive(Debug)]
enum Message {
    Line(InstanceId, Bytes),
    Ended(InstanceId, Result<(), Error>),
}

impl<W: Write> Follow<W> {
    pub(super) fn new(
        client: Client,
        source: Source,
        options: LogOptions,
        printer: Printer<W>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        let readers = JoinSet::new();
        let followed = BTreeMap::new();
        Self {
            client,
            source,
            options,
            printer,
            followed,
            readers,
            sender,
            receiver,
        }
    }

    /// Follows until there is nothing left that could write.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let mut instances = Mirror::<Instance>::open(&self.client, self.source.selection()).await?;
        self.printer
            .introduce(instances.items().values().map(|instance| &instance.name));
        for instance in instances.items().values() {
            if let Some(why) = why_silent(instance) {
                self.printer.note(&instance.name, &why)?;
            }
        }
        self.open_streams(&instances)?;
        loop {
            if instances.items().is_empty() && self.readers.is_empty() && self.is_over().await? {
                return Ok(self.printer.flush()?);
            }
            // Neither loses anything when it is dropped here.
            tokio::select! {
                change = instances.changed() => {
                    change?;
                    self.followed.retain(|name, followed| {
                        matches!(followed, Followed::Reading(_))
                            || instances.items().values().any(|i| i.name == *name)
                    });
                    self.open_streams(&instances)?;
                }
                Some(message) = self.receiver.recv() => {
                    self.take(message)?;
                    if self.receiver.is_empty() {
                        self.printer.flush()?;
                        self.open_streams(&instances)?;
                    }
                }
                Some(ended) = self.readers.join_next() => {
                    ended.expect("readers neither panic nor are aborted");
                }
            }
        }
    }

    /// Whether no instance will come any more.
    async fn is_over(&self) -> Result<bool, Failure> {
        match &self.source {
            Source::Instance(..) => Ok(self.receiver.is_empty()),
            Source::Workload(key) => match self.client.workload(key).await {
                Ok(_) => Ok(false),
                Err(error) if error.code() == Some(Code::NotFound) => Ok(self.receiver.is_empty()),
                Err(error) => Err(error.into()),
            },
        }
    }

    fn take(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Line(instance, line) => self.printer.line(&instance, &line)?,
            Message::Ended(instance, result) => {
                let at = clock::now();
                let Some(Followed::Reading(run)) = self.followed.remove(&instance) else {
                    return Ok(());
                };
                let followed = match result {
                    Err(error) if error.is_unreachable() => Followed::Broken { at },
                    Err(error) => {
                        self.printer.note(&instance, &error.to_string())?;
                        Followed::Ended { run, at }
                    }
                    Ok(()) => Followed::Ended { run, at },
                };
                self.followed.insert(instance, followed);
            }
        }
        Ok(())
    }

    /// Opens the streams that are not open and have something to say.
    fn open_streams(&mut self, instances: &Mirror<Instance>) -> Result<(), Failure> {
        for instance in instances.items().values() {
            let Some(run) = Run::of(instance) else {
                continue;
            };
            let Some(part) = part_to_read(self.followed.get(&instance.name), &run, instance) else {
                continue;
            };
            if self.readers.len() >= READERS_MAX {
                let detail =
                    format!("more than {READERS_MAX} instances cannot be followed at once");
                return Err(
                    Failure::new(error::Exit::Failed, detail).hint("name one of the instances")
                );
            }
            self.followed
                .insert(instance.name.clone(), Followed::Reading(run));
            let reader = Reader {
                client: self.client.clone(),
                instance: instance.clone(),
                part,
                options: self.options.clone(),
                sender: self.sender.clone(),
            };
            self.readers.spawn(reader.run());
        }
        Ok(())
    }
}

/// Which part of a stream is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// What the user asked for.
    Asked,
    /// What was written after a time at which the stream had been read already.
    After(Timestamp),
    /// What is written after a time, which had been read up to about then.
    About(Timestamp),
}

/// Which part of the instance's stream is to be read now, if any.
fn part_to_read(followed: Option<&Followed>, run: &Run, instance: &Instance) -> Option<Part> {
    match followed {
        None => Some(Part::Asked),
        Some(Followed::Reading(_)) => None,
        Some(Followed::Ended { run: ended, .. }) if ended == run => None,
        // A new container has a log of its own, of which nothing was read.
        Some(Followed::Ended { run: ended, .. }) if ended.container != run.container => {
            Some(Part::Asked)
        }
        Some(Followed::Ended { at, .. }) => {
            Some(match (&instance.status.phase, &instance.status.last_exit) {
                // It runs again: its last exit is where the part that was read ends.
                (Phase::Running { .. }, Some(exit)) => Part::After(exit.finished_at),
                _ => Part::After(*at),
            })
        }
        Some(Followed::Broken { at }) => Some(Part::About(*at)),
    }
}

impl Run {
    fn of(instance: &Instance) -> Option<Self> {
        let container = instance
            .status
            .containers
            .iter()
            .find_map(|c| c.id.clone())?;
        Some(Self {
            container,
            restarts: instance.status.restarts,
        })
    }
}

/// Reads one stream.
struct Reader {
    client: Client,
    instance: Instance,
    part: Part,
    options: LogOptions,
    sender: mpsc::Sender<Message>,
}

impl Reader {
    async fn run(self) {
        let name = self.instance.name.clone();
        let result = self.read().await;
        if result.as_ref().is_err_and(Error::is_unreachable) {
            time::sleep(PAUSE).await;
        }
        // The receiver is gone only when the program is about to end.
        drop(self.sender.send(Message::Ended(name, result)).await);
    }

    async fn read(&self) -> Result<(), Error> {
        let mut options = self.options.clone();
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
        let mut lines = self.client.logs(namespace, name, &options).await?;
        while let Some(line) = lines.next().await? {
            let line = match self.part {
                Part::After(time) => match after(&line, time) {
                    None => continue,
                    Some(_) if self.options.timestamps => line,
                    Some(start) => line.slice(start..),
                },
                Part::Asked | Part::About(_) => line,
            };
            if self
                .sender
                .send(Message::Line(name.clone(), line))
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

#[cfg(test)]
mod tests {
    use windlass_api::status::Exit;

    use super::*;
    use crate::fixtures;

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

    #[test]
    fn a_container_that_starts_again_is_read_from_its_last_exit() {
        let instance = |phase: Phase, restarts: u32| -> Instance {
            let mut instance = fixtures::instance("web-0-1", phase);
            instance.status.restarts = restarts;
            instance.status.containers = vec![fixtures::container("c1")];
            let finished_at = "2026-01-01T00:00:09Z".parse().unwrap();
            instance.status.last_exit = Some(Exit {
                code: 1,
                oom_killed: false,
                finished_at,
            });
            instance
        };
        let backing_off = Phase::BackingOff {
            until: fixtures::NOW,
            reason: String::new(),
        };
        let part = |followed: Option<&Followed>, instance: &Instance| {
            part_to_read(followed, &Run::of(instance).unwrap(), instance)
        };
        let first = instance(fixtures::RUNNING, 0);
        assert_eq!(part(None, &first), Some(Part::Asked));
        let at = "2026-01-01T00:00:10Z".parse().unwrap();
        let ended = Followed::Ended {
            run: Run::of(&first).unwrap(),
            at,
        };
        assert_eq!(part(Some(&ended), &instance(backing_off, 0)), None);
        let exit = "2026-01-01T00:00:09Z".parse().unwrap();
        assert_eq!(
            part(Some(&ended), &instance(fixtures::RUNNING, 1)),
            Some(Part::After(exit))
        );
        let mut replaced = instance(fixtures::RUNNING, 1);
        replaced.status.containers = vec![fixtures::container("c2")];
        assert_eq!(part(Some(&ended), &replaced), Some(Part::Asked));
    }
}
