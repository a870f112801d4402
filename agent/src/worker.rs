//! Carries out steps, a bounded number at a time. It makes no choices.

use std::{collections::BTreeMap, future, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::{AbortHandle, JoinError, JoinSet},
    time::timeout,
};
use windlass_api::{ids::ContainerName, image::ImageRef, wire::AssignedInstance};

use crate::{
    history::Member,
    image::Images,
    plan::{Action, Leaves, Step, StopManner},
    runtime::{ContainerId, Owner, Part, Result, Runtime},
};

mod farewell;
mod last_lines;

/// How many containers are created and started at a time. Docker takes about a third of a second
/// for each, mostly waiting for the kernel (network, mounts, the shim); beyond eight at a time it
/// only queues, and a burst should not keep a restart waiting for long.
const STARTS_AT_ONCE: usize = 8;

/// How many containers are stopped at a time. A stop mostly waits, for as long as the container's
/// grace period, so there can be many.
const STOPS_AT_ONCE: usize = 64;

/// What came of a step.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The step.
    pub(crate) step: Step,
    /// Whether it was done, and on which container.
    pub(crate) result: Result<Option<ContainerId>>,
}

/// The last lines that a container wrote before it failed.
#[derive(Debug)]
pub(crate) struct LastLines {
    /// The container.
    pub(crate) member: Member,
    /// The lines; none if they could not be read.
    pub(crate) lines: Vec<String>,
}

/// Something came to its end.
#[derive(Debug)]
pub(crate) enum Ended {
    /// A step.
    Step(Box<Outcome>),
    /// Last lines were read.
    Lines(LastLines),
}

/// Carries out steps. At most one task per container is handed to it at a time, and one that reads
/// its last lines, so that the number of tasks is bounded by the size of an assignment.
#[derive(Debug)]
pub(crate) struct Worker<R> {
    hands: Arc<Hands<R>>,
    tasks: JoinSet<Ended>,
    /// What can be cut off: making images ready, which may take long and changes no container.
    fetches: BTreeMap<Member, AbortHandle>,
}

#[derive(Debug)]
struct Hands<R> {
    runtime: Arc<R>,
    owner: Owner,
    images: Images<R>,
    starts: Semaphore,
    stops: Semaphore,
}

impl<R: Runtime> Worker<R> {
    /// Works on the containers of `owner`.
    pub(crate) fn new(runtime: Arc<R>, owner: Owner) -> Self {
        Self {
            hands: Arc::new(Hands {
                images: Images::new(Arc::clone(&runtime), owner.node.clone()),
                runtime,
                owner,
                starts: Semaphore::new(STARTS_AT_ONCE),
                stops: Semaphore::new(STOPS_AT_ONCE),
            }),
            tasks: JoinSet::new(),
            fetches: BTreeMap::new(),
        }
    }

    /// Begins with a step.
    pub(crate) fn begin(&mut self, step: Step) {
        let fetching = matches!(step.action, Action::Fetch { .. }).then(|| step.member.clone());
        let hands = Arc::clone(&self.hands);
        let handle = self.tasks.spawn(async move {
            let result = hands.carry_out(&step).await;
            Ended::Step(Box::new(Outcome { step, result }))
        });
        if let Some(member) = fetching {
            self.fetches.insert(member, handle);
        }
    }

    /// Begins to read the last lines of a container.
    pub(crate) fn read_last_lines(&mut self, member: Member, container: ContainerId) {
        let hands = Arc::clone(&self.hands);
        self.tasks.spawn(async move {
            let lines = last_lines::read(&*hands.runtime, &container).await;
            Ended::Lines(LastLines { member, lines })
        });
    }

    /// Makes the image of a container ready no longer. Without an outcome, unless it is there
    /// already.
    pub(crate) fn cut_off_fetch(&mut self, member: &Member) {
        if let Some(handle) = self.fetches.remove(member) {
            handle.abort();
        }
    }

    /// What ends next; waits as long as nothing is done. Fails if it panicked. Cancel-safe.
    pub(crate) async fn next(&mut self) -> std::result::Result<Ended, JoinError> {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(ended)) => {
                    if let Ended::Step(outcome) = &ended {
                        self.fetches.remove(&outcome.step.member);
                    }
                    return Ok(ended);
                }
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => return Err(error),
                None => future::pending().await,
            }
        }
    }

    /// Waits for what has begun, but not longer than `limit`; what is left is cut off.
    pub(crate) async fn finish(mut self, limit: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(limit, all).await.is_err() {
            tracing::info!(left = self.tasks.len(), "not waiting for steps any longer");
        }
        self.tasks.shutdown().await;
    }
}

impl<R: Runtime> Hands<R> {
    async fn carry_out(&self, step: &Step) -> Result<Option<ContainerId>> {
        match &step.action {
            Action::Fetch { image, pin, policy } => {
                self.images.ensure(image, pin.as_ref(), *policy).await?;
                Ok(None)
            }
            Action::Launch(assigned) => {
                let _turn = turn(&self.starts).await;
                let id = self.create(assigned, &step.member.part).await?;
                self.runtime.start(&id).await?;
                Ok(Some(id))
            }
            Action::Start { container } => {
                let _turn = turn(&self.starts).await;
                self.runtime.start(container).await?;
                Ok(Some(container.clone()))
            }
            Action::Halt {
                container, manner, ..
            } => {
                self.stop(container, manner).await?;
                Ok(Some(container.clone()))
            }
            Action::Stop {
                container,
                manner,
                leaves,
            } => {
                self.stop(container, manner).await?;
                self.remove(container, &step.member, leaves.as_ref())
                    .await?;
                Ok(Some(container.clone()))
            }
            Action::Remove { container, leaves } => {
                self.remove(container, &step.member, leaves.as_ref())
                    .await?;
                Ok(Some(container.clone()))
            }
        }
    }

    async fn create(&self, assigned: &AssignedInstance, part: &Part) -> Result<ContainerId> {
        let image = match part {
            Part::Named(name) => self.pinned_image(assigned, name).await?,
            Part::Pause => None,
        };
        let runtime = &self.runtime;
        let create = runtime.create(&self.owner, assigned, part, image.as_ref());
        create.await
    }

    /// What to run in place of what the template says.
    async fn pinned_image(
        &self,
        assigned: &AssignedInstance,
        name: &ContainerName,
    ) -> Result<Option<ImageRef>> {
        let pin = assigned.images.get(name);
        match (pin, assigned.template.container(name)) {
            (Some(pin), Some(container)) => self.images.pinned(&container.image, pin).await,
            (None, _) | (_, None) => Ok(None),
        }
    }

    async fn stop(&self, container: &ContainerId, manner: &StopManner) -> Result<()> {
        // Without a turn: it only waits, and those that do not have to are not to wait for it.
        let left = farewell::bid(&*self.runtime, container, manner).await;
        let _turn = turn(&self.stops).await;
        self.runtime.stop(container, left).await
    }

    async fn remove(
        &self,
        container: &ContainerId,
        member: &Member,
        leaves: Option<&Leaves>,
    ) -> Result<()> {
        let _turn = turn(&self.stops).await;
        self.runtime.remove(container).await?;
        if let Some(Leaves { namespace, volumes }) = leaves {
            let (runtime, instance) = (&self.runtime, &member.instance);
            let removed = runtime.remove_volumes(&self.owner, namespace, instance, volumes);
            removed.await?;
        }
        Ok(())
    }
}

async fn turn(of: &Semaphore) -> SemaphorePermit<'_> {
    of.acquire()
        .await
        .expect("a worker's semaphores are never closed")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        fake::{Call, Fake},
        testing::{instance, main_of, owner},
    };

    fn stop(instance: &str, container: ContainerId) -> Step {
        Step {
            member: main_of(instance),
            action: Action::Stop {
                container,
                manner: StopManner {
                    grace: windlass_api::duration::Span::from_secs(10),
                    pre_stop: None,
                    address: None,
                },
                leaves: None,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_stops_do_not_keep_starts_waiting() {
        let fake = Fake::default();
        fake.add_image("web:1");
        fake.delay(Call::Stop, Duration::from_secs(10));
        fake.delay(Call::Start, Duration::from_millis(300));
        let mut worker = Worker::new(Arc::new(fake.clone()), owner());
        for n in 0..20 {
            let container = fake.run(&owner(), &instance(&format!("old-{n}-{n}")));
            worker.begin(stop(&format!("old-{n}-{n}"), container));
        }
        for n in 0..16 {
            let assigned = instance(&format!("web-{n}-{n}"));
            worker.begin(Step {
                member: main_of(assigned.id.as_str()),
                action: Action::Launch(assigned),
            });
        }
        let start = Instant::now();
        for _ in 0..16 {
            let Ended::Step(outcome) = worker.next().await.unwrap() else {
                panic!("nothing else was begun")
            };
            assert!(matches!(outcome.step.action, Action::Launch(_)));
            assert!(outcome.result.is_ok());
        }
        assert_eq!(start.elapsed().as_millis(), 600, "two rounds of eight");
        worker.finish(Duration::from_secs(60)).await;
        assert_eq!(fake.containers().len(), 16);
        assert!(start.elapsed() < Duration::from_secs(11));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_no_longer_than_told() {
        let fake = Fake::default();
        fake.delay(Call::Stop, Duration::from_secs(600));
        let mut worker = Worker::new(Arc::new(fake.clone()), owner());
        let container = fake.run(&owner(), &instance("web-0-1"));
        worker.begin(stop("web-0-1", container));
        assert!(worker.next().now_or_never().is_none());
        let start = Instant::now();
        worker.finish(Duration::from_secs(5)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
