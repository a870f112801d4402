//! Follows the output of all containers of a workload, or of one instance.

use std::{collections::BTreeMap, io::Write, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet, time};
use windlass_api::{
    client::{Client, Error, Mirror},
    clock,
    problem::Code,
    resource::Instance,
    status::{ContainerPhase, ContainerStatus},
};

use super::{Source, What, origin::Origin, printer::Printer, why_silent};
use crate::error::{self, Failure};

/// How many containers are followed at once: each one is a connection to the server and another
/// to its agent, and nobody reads more.
const READERS_MAX: usize = 50;
/// How many lines may wait to be written, before the readers wait.
const LINES_MAX: usize = 1_024;
/// The pause before a stream that broke is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows containers.
pub(super) struct Follow<W> {
    client: Client,
    source: Source,
    what: What,
    printer: Printer<W>,
    followed: BTreeMap<Origin, Followed>,
    readers: JoinSet<()>,
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
}

/// What is known of a container's stream.
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
    Line(Origin, Bytes),
    Ended(Origin, Result<(), Error>),
}

impl<W: Write> Follow<W> {
    pub(super) fn new(client: Client, source: Source, what: What, printer: Printer<W>) -> Self {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        let readers = JoinSet::new();
        let followed = BTreeMap::new();
        Self {
            client,
            source,
            what,
            printer,
            followed,
            readers,
            sender,
            receiver,
        }
    }

    /// Follows until there is nothing left that could write.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let mut instances = self.open().await?;
        self.note_the_silent(&instances)?;
        self.open_streams(&instances, Crowd::Refused)?;
        loop {
            if instances.items().is_empty() && self.readers.is_empty() && self.is_over().await? {
                return Ok(self.printer.flush()?);
            }
            self.step(&mut instances, Crowd::Refused).await?;
        }
    }

    /// Follows until `end` comes, and after that reads what is left.
    pub(super) async fn run_until<T>(
        mut self,
        end: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::pin!(end);
        let mut instances = self.open().await?;
        let result = loop {
            self.open_streams(&instances, Crowd::Waits)?;
            // Both are polled on where they were, and a step loses nothing when it is dropped.
            tokio::select! {
                result = &mut end => break result?,
                stepped = self.step(&mut instances, Crowd::Waits) => stepped?,
            }
        };
        // The mirror may not have heard of the last instances yet.
        instances = self.open().await?;
        self.open_streams(&instances, Crowd::Waits)?;
        while !self.readers.is_empty() || !self.receiver.is_empty() {
            self.step(&mut instances, Crowd::Waits).await?;
        }
        self.printer.flush()?;
        Ok(result)
    }

    async fn open(&mut self) -> Result<Mirror<Instance>, Failure> {
        let instances = Mirror::<Instance>::open(&self.client, self.source.selection()).await?;
        let only = self.what.only.as_ref();
        let origins = instances.items().values();
        self.printer
            .introduce(origins.flat_map(|instance| Origin::all_of(instance, only)));
        Ok(instances)
    }

    fn note_the_silent(&mut self, instances: &Mirror<Instance>) -> Result<(), Failure> {
        let only = self.what.only.as_ref();
        for instance in instances.items().values() {
            for origin in Origin::all_of(instance, only) {
                if let Some(why) = why_silent(instance, &origin, only) {
                    self.printer.note(&origin, &why)?;
                }
            }
        }
        Ok(())
    }

    /// Takes whatever comes first. Dropping the future loses nothing.
    async fn step(
        &mut self,
        instances: &mut Mirror<Instance>,
        crowd: Crowd,
    ) -> Result<(), Failure> {
        // None of these loses anything when it is dropped here.
        tokio::select! {
            change = instances.changed() => {
                change?;
                self.followed.retain(|origin, followed| {
                    matches!(followed, Followed::Reading(_))
                        || instances.items().values().any(|i| i.name == origin.instance)
                });
                self.open_streams(instances, crowd)?;
            }
            Some(message) = self.receiver.recv() => {
                self.take(message)?;
                if self.receiver.is_empty() {
                    self.printer.flush()?;
                    self.open_streams(instances, crowd)?;
                }
            }
            Some(ended) = self.readers.join_next() => {
                ended.expect("readers neither panic nor are aborted");
            }
        }
        Ok(())
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
            Message::Line(origin, line) => self.printer.line(&origin, &line)?,
            Message::Ended(origin, result) => {
                let at = clock::now();
                let Some(Followed::Reading(run)) = self.followed.remove(&origin) else {
                    return Ok(());
                };
                let followed = match result {
                    Err(error) if error.is_unreachable() => Followed::Broken { at },
                    Err(error) => {
                        self.printer.note(&origin, &error.to_string())?;
                        Followed::Ended { run, at }
                    }
                    Ok(()) => Followed::Ended { run, at },
                };
                self.followed.insert(origin, followed);
            }
        }
        Ok(())
    }

    /// Opens the streams that are not open and have something to say.
    fn open_streams(&mut self, instances: &Mirror<Instance>, crowd: Crowd) -> Result<(), Failure> {
        let only = self.what.only.clone();
        let origins = instances.items().values().flat_map(|instance| {
            let origins = Origin::all_of(instance, only.as_ref());
            origins.into_iter().map(move |origin| (instance, origin))
        });
        for (instance, origin) in origins {
            let Some(container) = origin.status(instance, only.as_ref()) else {
                continue;
            };
            let Some(run) = Run::of(container) else {
                continue;
            };
            let Some(part) = part_to_read(self.followed.get(&origin), &run, container) else {
                continue;
            };
            if self.readers.len() >= READERS_MAX {
                match crowd {
                    Crowd::Waits => return Ok(()),
                    Crowd::Refused => return Err(too_many()),
                }
            }
            self.followed.insert(origin.clone(), Followed::Reading(run));
            let reader = Reader {
                client: self.client.clone(),
                instance: instance.clone(),
                origin,
                part,
                what: self.what.clone(),
                sender: self.sender.clone(),
            };
            self.readers.spawn(reader.run());
        }
        Ok(())
    }
}

/// What becomes of containers that are too many to be followed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    /// They are read when others have ended.
    Waits,
    /// It is told, since the others will not end.
    Refused,
}

fn too_many() -> Failure {
    let detail = format!("more than {READERS_MAX} containers cannot be followed at once");
    Failure::new(error::Exit::Failed, detail).hint("name one of the instances")
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

/// Which part of the container's stream is to be read now, if any.
fn part_to_read(
    followed: Option<&Followed>,
    run: &Run,
    container: &ContainerStatus,
) -> Option<Part> {
    match followed {
        None => Some(Part::Asked),
        Some(Followed::Reading(_)) => None,
        Some(Followed::Ended { run: ended, .. }) if ended == run => None,
        // A new container has a log of its own, of which nothing was read.
        Some(Followed::Ended { run: ended, .. }) if ended.container != run.container => {
            Some(Part::Asked)
        }
        Some(Followed::Ended { at, .. }) => {
            Some(match (&container.state, &container.last_exit) {
                // It runs again: its last exit is where the part that was read ends.
                (ContainerPhase::Running { .. }, Some(exit)) => Part::After(exit.finished_at),
                _ => Part::After(*at),
            })
        }
        Some(Followed::Broken { at }) => Some(Part::About(*at)),
    }
}

impl Run {
    fn of(container: &ContainerStatus) -> Option<Self> {
        Some(Self {
            container: container.id.clone()?,
            restarts: container.restarts,
        })
    }
}

/// Reads one stream.
struct Reader {
    client: Client,
    instance: Instance,
    origin: Origin,
    part: Part,
    what: What,
    sender: mpsc::Sender<Message>,
}

impl Reader {
    async fn run(self) {
        let origin = self.origin.clone();
        let result = self.read().await;
        if result.as_ref().is_err_and(Error::is_unreachable) {
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
        let container = |id: &str, state: ContainerPhase, restarts: u32| {
            let mut container = fixtures::container(id);
            container.state = state;
            container.restarts = restarts;
            let finished_at = "2026-01-01T00:00:09Z".parse().unwrap();
            container.last_exit = Some(Exit {
                code: 1,
                oom_killed: false,
                reason: None,
                finished_at,
            });
            container
        };
        let running = ContainerPhase::Running {
            started_at: fixtures::NOW,
        };
        let part = |followed: Option<&Followed>, container: &ContainerStatus| {
            part_to_read(followed, &Run::of(container).unwrap(), container)
        };
        let first = container("c1", running.clone(), 0);
        assert_eq!(part(None, &first), Some(Part::Asked));
        let at = "2026-01-01T00:00:10Z".parse().unwrap();
        let ended = Followed::Ended {
            run: Run::of(&first).unwrap(),
            at,
        };
        let backing_off = container("c1", ContainerPhase::Exited, 0);
        assert_eq!(part(Some(&ended), &backing_off), None);
        let exit = "2026-01-01T00:00:09Z".parse().unwrap();
        let again = container("c1", running.clone(), 1);
        assert_eq!(part(Some(&ended), &again), Some(Part::After(exit)));
        let replaced = container("c2", running, 1);
        assert_eq!(part(Some(&ended), &replaced), Some(Part::Asked));
    }
}
