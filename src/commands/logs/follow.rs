//! Follows the output of all containers of a workload, or of one instance.

use std::{collections::BTreeMap, io::Write};

use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet};
use windlass_api::{
    client::{Client, Error, Mirror},
    clock,
    problem::Code,
    resource::Instance,
    status::{ContainerPhase, ContainerStatus},
};

use super::{
    Source, What,
    origin::Origin,
    printer::Printer,
    reader::{Message, Part, Reader, is_outage},
    why_silent,
};
use crate::error::{self, Failure};

/// How many containers are followed at once: each one is a connection to the server and another
/// to its agent, and nobody reads more.
const READERS_MAX: usize = 50;
/// How many lines may wait to be written, before the readers wait.
const LINES_MAX: usize = 1_024;

/// Follows containers.
pub(super) struct Follow<W> {
    client: Client,
    source: Source,
    what: What,
    printer: Printer<W>,
    followed: BTreeMap<Origin, Followed>,
    outages: Outages,
    readers: JoinSet<()>,
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
}

/// What is known of a container's stream.
#[derive(Debug)]
enum Followed {
    /// It is read.
    Reading(Reading),
    /// It was read to its end.
    Ended { run: Run, at: Timestamp },
    /// It broke, which was told, and is to be opened again: this is what is missing of it.
    Broken { part: Part },
}

/// A stream that is read.
#[derive(Debug)]
struct Reading {
    run: Run,
    part: Part,
    /// Whether anything of it came.
    heard: bool,
    /// Whether it is opened again after it broke.
    again: bool,
}

/// What becomes of streams that break because the server or an agent is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outages {
    /// They are opened again when it is back.
    Waited,
    /// Only what is left is read, and what cannot be read is not waited for.
    Told,
}

/// One life of a container: the next one has another number, or is another container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    container: String,
    restarts: u32,
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
            outages: Outages::Waited,
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
        self.outages = Outages::Told;
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
            Message::Line(origin, line) => {
                if let Some(Followed::Reading(reading)) = self.followed.get_mut(&origin) {
                    reading.heard = true;
                }
                self.printer.line(&origin, &line)?;
            }
            Message::Ended(origin, result) => {
                let Some(Followed::Reading(reading)) = self.followed.remove(&origin) else {
                    return Ok(());
                };
                let followed = self.end(&origin, reading, result)?;
                self.followed.insert(origin, followed);
            }
        }
        Ok(())
    }

    /// What becomes of a stream that ended.
    fn end(
        &mut self,
        origin: &Origin,
        reading: Reading,
        result: Result<(), Error>,
    ) -> Result<Followed, Failure> {
        let at = clock::now();
        let ended = Followed::Ended {
            run: reading.run,
            at,
        };
        let Err(error) = result else {
            return Ok(ended);
        };
        if self.outages == Outages::Told || !is_outage(&error) {
            self.printer.note(origin, &error.to_string())?;
            return Ok(ended);
        }
        // Once for each outage, not for each attempt.
        if reading.heard || !reading.again {
            let note = format!("{error}; it is read on when that is over");
            self.printer.note(origin, &note)?;
        }
        Ok(Followed::Broken {
            part: if reading.heard {
                Part::About(at)
            } else {
                reading.part
            },
        })
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
            let before = self.followed.get(&origin);
            let reading = Reading {
                run,
                part,
                heard: false,
                again: matches!(before, Some(Followed::Broken { .. })),
            };
            self.followed
                .insert(origin.clone(), Followed::Reading(reading));
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
        Some(Followed::Broken { part }) => Some(*part),
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

#[cfg(test)]
mod tests {
    use windlass_api::status::Exit;

    use super::*;
    use crate::fixtures;

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
