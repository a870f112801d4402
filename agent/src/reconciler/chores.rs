//! What is done now and then beside the containers: asking the engine about its machine and its
//! images, and removing networks that nothing uses.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;
use windlass_api::ids::Namespace;

use crate::runtime::{EngineInfo, Owner, Result, Runtime};

/// How often images are listed that somebody else may have pulled or removed.
const IMAGES_INTERVAL: Duration = Duration::from_secs(60);

/// How long to wait before networks are removed again after that failed.
const PRUNE_RETRY: Duration = Duration::from_secs(600);

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chore {
    /// Ask about the machine.
    Info,
    /// List the images.
    Images,
    /// Remove networks, but not those of these namespaces.
    Prune(BTreeSet<Namespace>),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Info(Result<EngineInfo>),
    Images(Result<BTreeSet<String>>),
    Pruned(BTreeSet<Namespace>, Result<()>),
}

/// Knows what is due.
#[derive(Debug)]
pub(super) struct Chores {
    info_due: bool,
    images_at: Instant,
    prune_at: Instant,
    pruned: Option<BTreeSet<Namespace>>,
}

impl Chores {
    /// Everything is due.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            info_due: true,
            images_at: now,
            prune_at: now,
            pruned: None,
        }
    }

    /// The engine answers again, and may be another one.
    pub(super) fn engine_is_back(&mut self) {
        self.info_due = true;
    }

    /// An image was made ready, and may be a new one.
    pub(super) fn images_changed(&mut self, now: Instant) {
        self.images_at = now;
    }

    /// The next thing to do. `in_use` are the namespaces in use if nothing else is being done.
    pub(super) fn next(
        &mut self,
        now: Instant,
        in_use: Option<BTreeSet<Namespace>>,
    ) -> Option<Chore> {
        if self.info_due {
            self.info_due = false;
            return Some(Chore::Info);
        }
        if now >= self.images_at {
            self.images_at = now + IMAGES_INTERVAL;
            return Some(Chore::Images);
        }
        let in_use = in_use.filter(|_| now >= self.prune_at)?;
        (self.pruned.as_ref() != Some(&in_use)).then_some(Chore::Prune(in_use))
    }

    /// Something was done, or could not be. Whether the engine answers at all is another's business.
    pub(super) fn finished(&mut self, done: &Done, now: Instant) {
        match done {
            Done::Info(Ok(_)) | Done::Images(_) => {}
            Done::Info(Err(_)) => self.info_due = true,
            Done::Pruned(kept, Ok(())) => self.pruned = Some(kept.clone()),
            Done::Pruned(_, Err(_)) => self.prune_at = now + PRUNE_RETRY,
        }
    }
}

/// Does it.
pub(super) async fn carry_out<R: Runtime>(runtime: Arc<R>, owner: Owner, chore: Chore) -> Done {
    match chore {
        Chore::Info => Done::Info(runtime.info().await),
        Chore::Images => Done::Images(runtime.images().await),
        Chore::Prune(keep) => {
            let result = runtime.prune_networks(&owner, &keep).await;
            Done::Pruned(keep, result)
        }
    }
}
