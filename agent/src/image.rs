//! Makes images ready: one pull of an image at a time, however many instances wait for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::sync::Semaphore;
use windlass_api::{image::ImageRef, spec::PullPolicy};

use crate::runtime::{Error, ErrorKind, Result, Runtime};

/// How many images are pulled at a time. An engine loads three layers at a time whatever it is
/// asked for, so more pulls only take turns on the same line and disk.
const PULLS_AT_ONCE: usize = 3;

type Pull = Shared<BoxFuture<'static, Result<()>>>;
type WeakPull = WeakShared<BoxFuture<'static, Result<()>>>;

/// Makes images ready.
#[derive(Debug)]
pub(crate) struct Images<R> {
    runtime: Arc<R>,
    pulls: Arc<Semaphore>,
    /// The pulls that are under way, by the image's full name. Only those that wait for one keep
    /// it going: when the last of them is dropped, so is the pull.
    under_way: Mutex<BTreeMap<String, WeakPull>>,
}

impl<R: Runtime> Images<R> {
    /// Pulls with `runtime`.
    pub(crate) fn new(runtime: Arc<R>) -> Self {
        Self {
            runtime,
            pulls: Arc::new(Semaphore::new(PULLS_AT_ONCE)),
            under_way: Mutex::new(BTreeMap::new()),
        }
    }

    /// Makes sure that the node has an image, as `policy` says. Pulls that are asked for while the
    /// image is being pulled are that pull.
    pub(crate) async fn ensure(&self, image: &ImageRef, policy: PullPolicy) -> Result<()> {
        match policy {
            PullPolicy::Always => self.join(image).await,
            PullPolicy::IfNotPresent if self.runtime.has_image(image).await? => Ok(()),
            PullPolicy::IfNotPresent => self.join(image).await,
            PullPolicy::Never if self.runtime.has_image(image).await? => Ok(()),
            PullPolicy::Never => Err(Error {
                kind: ErrorKind::ImageMissing,
                message: format!(
                    "the node does not have the image {image}, and imagePullPolicy is Never"
                ),
            }),
        }
    }

    /// The pull of the image that is under way, or a new one.
    fn join(&self, image: &ImageRef) -> Pull {
        let name = image.with_tag();
        let mut under_way = self.under_way();
        under_way.retain(|_, pull| pull.upgrade().is_some());
        if let Some(pull) = under_way.get(&name).and_then(WeakShared::upgrade) {
            return pull;
        }
        let pull = self.begin(image);
        let weak = pull.downgrade();
        under_way.insert(name, weak.expect("it was not waited for yet"));
        pull
    }

    fn begin(&self, image: &ImageRef) -> Pull {
        let (runtime, pulls, image) = (
            Arc::clone(&self.runtime),
            Arc::clone(&self.pulls),
            image.clone(),
        );
        async move {
            let _turn = pulls.acquire().await.expect("it is never closed");
            tracing::info!(%image, "pulling");
            runtime.pull(&image).await
        }
        .boxed()
        .shared()
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<String, WeakPull>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::{Call, Fake};

    fn image(text: &str) -> ImageRef {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn ten_that_wait_for_an_image_pull_it_once() {
        let fake = Fake::default();
        fake.add_remote_image("web:1");
        fake.delay(Call::Pull, Duration::from_secs(5));
        let images = Images::new(Arc::new(fake.clone()));
        let web = image("web:1");
        let pulls = (0..10).map(|_| images.ensure(&web, PullPolicy::IfNotPresent));
        let results = futures_util::future::join_all(pulls).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(fake.count(Call::Pull), 1);
        // What comes later is another pull.
        images.ensure(&web, PullPolicy::IfNotPresent).await.unwrap();
        assert_eq!(fake.count(Call::Pull), 1);
        images.ensure(&web, PullPolicy::Always).await.unwrap();
        assert_eq!(fake.count(Call::Pull), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_see_the_failure_and_the_next_tries_again() {
        let fake = Fake::default();
        fake.delay(Call::Pull, Duration::from_secs(5));
        let images = Images::new(Arc::new(fake.clone()));
        let web = image("web:1");
        let pulls = (0..3).map(|_| images.ensure(&web, PullPolicy::IfNotPresent));
        for result in futures_util::future::join_all(pulls).await {
            assert_eq!(result.unwrap_err().kind, ErrorKind::ImageMissing);
        }
        assert_eq!(fake.count(Call::Pull), 1);
        fake.add_remote_image("web:1");
        images.ensure(&web, PullPolicy::IfNotPresent).await.unwrap();
        assert_eq!(fake.count(Call::Pull), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn never_means_never() {
        let fake = Fake::default();
        fake.add_remote_image("web:1");
        let images = Images::new(Arc::new(fake.clone()));
        let web = image("web:1");
        let error = images.ensure(&web, PullPolicy::Never).await.unwrap_err();
        assert!(error.message.contains("imagePullPolicy is Never"));
        assert_eq!(fake.count(Call::Pull), 0);
        fake.add_image("web:1");
        images.ensure(&web, PullPolicy::Never).await.unwrap();
    }
}
