//! What is done now and then beside the containers: asking the engine about its machine and its
//! images, and removing networks and volumes that nothing uses.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;
use windlass_api::ids::{InstanceId, Namespace};

use super::state::InUse;
use crate::runtime::{EngineInfo, Owner, Result, Runtime};

/// How often the engine is asked about its machine: it may have been updated, or replaced, so
/// quickly that nobody saw it missing. To tell takes it some hundredths of a second.
const INFO_INTERVAL: Duration = Duration::from_secs(300);

/// How often images are listed that somebody else may have pulled or removed.
const IMAGES_INTERVAL: Duration = Duration::from_secs(60);

/// How often volumes are looked for whose instance is gone. Usually they go with it, or after an
/// agent that was killed in between was started again.
const VOLUMES_INTERVAL: Duration = Duration::from_secs(3600);

/// How long to wait before networks or volumes are removed again after that failed.
const PRUNE_RETRY: Duration = Duration::from_secs(600);

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chore {
    /// Ask about the machine.
    Info,
    /// List the images.
    Images,
    /// Remove networks, but not those of these namespaces.
    PruneNetworks(BTreeSet<Namespace>),
    /// Remove volumes, but not those of these instances.
    PruneVolumes(BTreeSet<InstanceId>),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    Info(Result<EngineInfo>),
    Images(Result<BTreeSet<String>>),
    NetworksPruned(BTreeSet<Namespace>, Result<()>),
    VolumesPruned(Result<()>),
}

/// Knows what is due.
#[derive(Debug)]
pub(super) struct Chores {
    info_at: Instant,
    images_at: Instant,
    volumes_at: Instant,
    prune_at: Instant,
    pruned: Option<BTreeSet<Namespace>>,
}

impl Chores {
    /// Everything is due.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            info_at: now,
            images_at: now,
            volumes_at: now,
            prune_at: now,
            pruned: None,
        }
    }

    /// The engine answers again, and may be another one.
    pub(super) fn engine_is_back(&mut self, now: Instant) {
        self.info_at = now;
    }

    /// An image was made ready, and may be a new one.
    pub(super) fn images_changed(&mut self, now: Instant) {
        self.images_at = now;
    }

    /// Volumes may be left of an instance that is gone.
    pub(super) fn volumes_left(&mut self, now: Instant) {
        self.volumes_at = now;
    }

    /// The next thing to do. `in_use` is what is in use if nothing else is being done.
    pub(super) fn next(&mut self, now: Instant, in_use: Option<InUse>) -> Option<Chore> {
        if now >= self.info_at {
            self.info_at = now + INFO_INTERVAL;
            return Some(Chore::Info);
        }
        if now >= self.images_at {
            self.images_at = now + IMAGES_INTERVAL;
            return Some(Chore::Images);
        }
        let in_use = in_use?;
        if now >= self.volumes_at {
            self.volumes_at = now + VOLUMES_INTERVAL;
            return Some(Chore::PruneVolumes(in_use.instances));
        }
        let namespaces = Some(in_use.namespaces).filter(|_| now >= self.prune_at)?;
        (self.pruned.as_ref() != Some(&namespaces)).then_some(Chore::PruneNetworks(namespaces))
    }

    /// Something was done, or could not be. Whether the engine answers at all is another's business.
    pub(super) fn finished(&mut self, done: &Done, now: Instant) {
        match done {
            Done::Info(Ok(_)) | Done::Images(_) | Done::VolumesPruned(Ok(())) => {}
            Done::Info(Err(_)) => self.info_at = now,
            Done::VolumesPruned(Err(_)) => self.volumes_at = now + PRUNE_RETRY,
            Done::NetworksPruned(kept, Ok(())) => self.pruned = Some(kept.clone()),
            Done::NetworksPruned(_, Err(_)) => self.prune_at = now + PRUNE_RETRY,
        }
    }
}

/// Does it.
pub(super) async fn carry_out<R: Runtime>(runtime: Arc<R>, owner: Owner, chore: Chore) -> Done {
    match chore {
        Chore::Info => Done::Info(runtime.info().await),
        Chore::Images => Done::Images(runtime.images().await),
        Chore::PruneNetworks(keep) => {
            let result = runtime.prune_networks(&owner, &keep).await;
            Done::NetworksPruned(keep, result)
        }
        Chore::PruneVolumes(keep) => {
            Done::VolumesPruned(runtime.prune_volumes(&owner, &keep).await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found with a pretended engine: Docker was updated between two lists, and its new version
    /// was not asked for.
    #[test]
    fn an_engine_that_was_never_missed_is_asked_about_its_machine_again() {
        let start = Instant::now();
        let mut chores = Chores::new(start);
        let mut next = |at| chores.next(at, None);
        assert_eq!(next(start), Some(Chore::Info));
        assert_eq!(next(start), Some(Chore::Images));
        assert_eq!(next(start + IMAGES_INTERVAL / 2), None);
        assert_eq!(next(start + INFO_INTERVAL), Some(Chore::Info));
        assert_eq!(next(start + INFO_INTERVAL), Some(Chore::Images));
        assert_eq!(next(start + INFO_INTERVAL), None);
    }
}
