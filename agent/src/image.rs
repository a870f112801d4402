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
use windlass_api::{ids::NodeName, image::ImageRef, spec::PullPolicy, wire::ResolvedImage};

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
    node: NodeName,
    pulls: Arc<Semaphore>,
    /// The pulls that are under way, by the image's full name. Only those that wait for one keep
    /// it going: when the last of them is dropped, so is the pull.
    under_way: Mutex<BTreeMap<String, WeakPull>>,
}

impl<R: Runtime> Images<R> {
    /// Pulls with `runtime` on the node of that name.
    pub(crate) fn new(runtime: Arc<R>, node: NodeName) -> Self {
        Self {
            runtime,
            node,
            pulls: Arc::new(Semaphore::new(PULLS_AT_ONCE)),
            under_way: Mutex::new(BTreeMap::new()),
        }
    }

    /// Makes sure that the node has an image, as `policy` says, or the very one that `pin` says.
    /// Pulls that are asked for while the image is being pulled are that pull.
    pub(crate) async fn ensure(
        &self,
        image: &ImageRef,
        pin: Option<&ResolvedImage>,
        policy: PullPolicy,
    ) -> Result<()> {
        let Some(pin) = pin else {
            return self.ensure_named(image, policy).await;
        };
        if self.runtime.image_id(image).await?.as_ref() == Some(&pin.id) {
            return Ok(());
        }
        if let Some(digest) = digest(pin)? {
            // What it stands for cannot have changed.
            let policy = match policy {
                PullPolicy::Always | PullPolicy::IfNotPresent => PullPolicy::IfNotPresent,
                PullPolicy::Never => PullPolicy::Never,
            };
            return self.ensure_named(&digest, policy).await;
        }
        self.ensure_named(image, policy).await?;
        self.pinned(image, pin).await.map(drop)
    }

    /// What to run for an image: its own name (`None`), or the name that means the one that is
    /// pinned. Fails if the node has neither, so that the wrong one never runs.
    pub(crate) async fn pinned(
        &self,
        image: &ImageRef,
        pin: &ResolvedImage,
    ) -> Result<Option<ImageRef>> {
        let found = self.runtime.image_id(image).await?;
        if found.as_ref() == Some(&pin.id) {
            return Ok(None);
        }
        if let Some(digest) = digest(pin)? {
            return Ok(Some(digest));
        }
        let node = &self.node;
        Err(match found {
            Some(found) => Error {
                kind: ErrorKind::OtherImage,
                message: format!(
                    "node {node} has another image under the tag `{image}` ({}) than the revision \
                     runs ({})",
                    short(&found),
                    short(&pin.id)
                ),
            },
            None => Error {
                kind: ErrorKind::ImageMissing,
                message: format!("node {node} does not have the image {image}"),
            },
        })
    }

    async fn ensure_named(&self, image: &ImageRef, policy: PullPolicy) -> Result<()> {
        let is_there = async || Ok::<_, Error>(self.runtime.image_id(image).await?.is_some());
        match policy {
            PullPolicy::Always => self.join(image).await,
            PullPolicy::IfNotPresent if is_there().await? => Ok(()),
            PullPolicy::IfNotPresent => self.join(image).await,
            PullPolicy::Never if is_there().await? => Ok(()),
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

/// The name by which a registry has the pinned image.
fn digest(pin: &ResolvedImage) -> Result<Option<ImageRef>> {
    let digest = pin.digest.as_ref().map(|digest| {
        digest.parse().map_err(|error| Error {
            kind: ErrorKind::Invalid,
            message: format!("the digest of the revision's image is none: {error}"),
        })
    });
    digest.transpose()
}

/// An image's id, as long as people need it.
fn short(id: &str) -> &str {
    const CHARS: usize = "sha256:".len() + 12;
    &id[..id.floor_char_boundary(CHARS)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::{Call, Fake};

    fn image(text: &str) -> ImageRef {
        text.parse().unwrap()
    }

    fn images_of(fake: &Fake) -> Images<Fake> {
        Images::new(Arc::new(fake.clone()), "n1".parse().unwrap())
    }

    fn pin(id: &str, digest: Option<&str>) -> ResolvedImage {
        ResolvedImage {
            id: id.to_owned(),
            digest: digest.map(str::to_owned),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_pinned_by_id_is_run_or_nothing() {
        let fake = Fake::default();
        fake.add_image("web:1");
        let images = images_of(&fake);
        let web = image("web:1");
        let ours = fake.image_id(&web).await.unwrap().unwrap();
        let same = images.pinned(&web, &pin(&ours, None)).await.unwrap();
        assert_eq!(same, None);
        let other = pin("sha256:cdcdcdcdcdcdcdcd", None);
        let error = images.pinned(&web, &other).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::OtherImage);
        assert_eq!(
            error.message,
            format!(
                "node n1 has another image under the tag `web:1` ({}) than the revision runs \
                 (sha256:cdcdcdcdcdcd)",
                short(&ours)
            )
        );
        let policy = PullPolicy::IfNotPresent;
        let error = images.ensure(&web, Some(&other), policy).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::OtherImage);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_pinned_by_digest_is_pulled_unless_it_is_there_by_name() {
        let digest = format!("web@sha256:{}", "c".repeat(64));
        let fake = Fake::default();
        fake.add_image("web:1");
        fake.add_remote_image(&digest);
        let images = images_of(&fake);
        let web = image("web:1");
        let ours = fake.image_id(&web).await.unwrap().unwrap();
        // It came without its registry, and is the same.
        let same = pin(&ours, Some(&digest));
        images
            .ensure(&web, Some(&same), PullPolicy::Always)
            .await
            .unwrap();
        assert_eq!(fake.count(Call::Pull), 0);
        assert_eq!(images.pinned(&web, &same).await.unwrap(), None);
        let other = pin("sha256:cd", Some(&digest));
        images
            .ensure(&web, Some(&other), PullPolicy::Always)
            .await
            .unwrap();
        assert_eq!(fake.count(Call::Pull), 1);
        let run = images.pinned(&web, &other).await.unwrap();
        assert_eq!(run, Some(image(&digest)));
    }

    #[tokio::test(start_paused = true)]
    async fn ten_that_wait_for_an_image_pull_it_once() {
        let fake = Fake::default();
        fake.add_remote_image("web:1");
        fake.delay(Call::Pull, Duration::from_secs(5));
        let images = images_of(&fake);
        let web = image("web:1");
        let pulls = (0..10).map(|_| images.ensure(&web, None, PullPolicy::IfNotPresent));
        let results = futures_util::future::join_all(pulls).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(fake.count(Call::Pull), 1);
        // What comes later is another pull.
        images
            .ensure(&web, None, PullPolicy::IfNotPresent)
            .await
            .unwrap();
        assert_eq!(fake.count(Call::Pull), 1);
        images.ensure(&web, None, PullPolicy::Always).await.unwrap();
        assert_eq!(fake.count(Call::Pull), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_see_the_failure_and_the_next_tries_again() {
        let fake = Fake::default();
        fake.delay(Call::Pull, Duration::from_secs(5));
        let images = images_of(&fake);
        let web = image("web:1");
        let pulls = (0..3).map(|_| images.ensure(&web, None, PullPolicy::IfNotPresent));
        for result in futures_util::future::join_all(pulls).await {
            assert_eq!(result.unwrap_err().kind, ErrorKind::ImageMissing);
        }
        assert_eq!(fake.count(Call::Pull), 1);
        fake.add_remote_image("web:1");
        images
            .ensure(&web, None, PullPolicy::IfNotPresent)
            .await
            .unwrap();
        assert_eq!(fake.count(Call::Pull), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn never_means_never() {
        let fake = Fake::default();
        fake.add_remote_image("web:1");
        let images = images_of(&fake);
        let web = image("web:1");
        let error = images
            .ensure(&web, None, PullPolicy::Never)
            .await
            .unwrap_err();
        assert!(error.message.contains("imagePullPolicy is Never"));
        assert_eq!(fake.count(Call::Pull), 0);
        fake.add_image("web:1");
        images.ensure(&web, None, PullPolicy::Never).await.unwrap();
    }
}
