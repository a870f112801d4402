//! Carries out steps, a bounded number at a time. It makes no choices.

use std::{collections::BTreeMap, future, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::{AbortHandle, JoinError, JoinSet},
    time::timeout,
};
use windlass_api::ids::InstanceId;

use crate::{
    image::Images,
    plan::Step,
    runtime::{ContainerId, Owner, Result, Runtime},
};

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

/// Carries out steps. At most one task per instance is handed to it at a time, so that the number
/// of tasks is bounded by the size of an assignment.
#[derive(Debug)]
pub(crate) struct Worker<R> {
    hands: Arc<Hands<R>>,
    tasks: JoinSet<Outcome>,
    /// What can be cut off: making images ready, which may take long and changes no container.
    fetches: BTreeMap<InstanceId, AbortHandle>,
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
                images: Images::new(Arc::clone(&runtime)),
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
        let fetching = match &step {
            Step::Fetch { instance, .. } => Some(instance.clone()),
            Step::Launch(_) | Step::Start { .. } | Step::Stop { .. } | Step::Remove { .. } => None,
        };
        let hands = Arc::clone(&self.hands);
        let handle = self.tasks.spawn(async move {
            let result = hands.carry_out(&step).await;
            Outcome { step, result }
        });
        if let Some(instance) = fetching {
            self.fetches.insert(instance, handle);
        }
    }

    /// Makes the image of an instance ready no longer. Without an outcome, unless it is there
    /// already.
    pub(crate) fn cut_off_fetch(&mut self, instance: &InstanceId) {
        if let Some(handle) = self.fetches.remove(instance) {
            handle.abort();
        }
    }

    /// Whether nothing is being done.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The next outcome; waits as long as there is none. Fails if a step panicked. Cancel-safe.
    pub(crate) async fn next(&mut self) -> std::result::Result<Outcome, JoinError> {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(outcome)) => {
                    self.fetches.remove(outcome.step.instance());
                    return Ok(outcome);
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
        match step {
            Step::Fetch { image, policy, .. } => {
                self.images.ensure(image, *policy).await?;
                Ok(None)
            }
            Step::Launch(assigned) => {
                let _turn = turn(&self.starts).await;
                let id = self.runtime.create(&self.owner, assigned).await?;
                self.runtime.start(&id).await?;
                Ok(Some(id))
            }
            Step::Start { container, .. } => {
                let _turn = turn(&self.starts).await;
                self.runtime.start(container).await?;
                Ok(Some(container.clone()))
            }
            Step::Stop {
                container, grace, ..
            } => {
                let _turn = turn(&self.stops).await;
                self.runtime.stop(container, *grace).await?;
                self.runtime.remove(container).await?;
                Ok(Some(container.clone()))
            }
            Step::Remove { container, .. } => {
                let _turn = turn(&self.stops).await;
                self.runtime.remove(container).await?;
                Ok(Some(container.clone()))
            }
        }
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
        testing::{id, instance, owner},
    };

    #[tokio::test(start_paused = true)]
    async fn slow_stops_do_not_keep_starts_waiting() {
        let fake = Fake::default();
        fake.add_image("web:1");
        fake.delay(Call::Stop, Duration::from_secs(10));
        fake.delay(Call::Start, Duration::from_millis(300));
        let mut worker = Worker::new(Arc::new(fake.clone()), owner());
        for n in 0..20 {
            let container = fake.run(&owner(), &instance(&format!("old-{n}-{n}")));
            worker.begin(Step::Stop {
                instance: id(&format!("old-{n}-{n}")),
                container,
                grace: windlass_api::duration::Span::from_secs(10),
            });
        }
        for n in 0..16 {
            worker.begin(Step::Launch(instance(&format!("web-{n}-{n}"))));
        }
        let start = Instant::now();
        for _ in 0..16 {
            let outcome = worker.next().await.unwrap();
            assert!(matches!(outcome.step, Step::Launch(_)));
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
        worker.begin(Step::Stop {
            instance: id("web-0-1"),
            container,
            grace: windlass_api::duration::Span::from_secs(600),
        });
        assert!(worker.next().now_or_never().is_none());
        let start = Instant::now();
        worker.finish(Duration::from_secs(5)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
