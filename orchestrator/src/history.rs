//! The last commits, for watches: each with the state before and after it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;
use windlass_api::ids::Version;
use windlass_core::{cluster::Cluster, record::Change};

/// How many commits are kept. At ten commits a second they reach back almost two minutes, and an
/// idle cluster's reach back for days.
const COMMITS_MAX: usize = 1_024;
/// The most memory that the commits hold, in bytes, as [`Commit::cost`] estimates it: what a
/// server may take in all is a few times as much.
const BYTES_MAX: usize = 4 << 20;
/// What a change costs beside its record, in bytes. States share what did not change, but a record
/// lies in a node of a map, which is copied with it: 64 places, half of them filled, each with a key
/// of two strings and a pointer, are 2.5 KB, and a record is in two or three maps.
const CHANGE_BYTES: usize = 6 << 10;
/// How many commits a watcher may be behind before it has to begin again.
const BACKLOG_MAX: usize = 256;

/// A commit: durable before anybody saw it.
#[derive(Debug)]
pub struct Commit {
    /// The state before.
    pub before: Cluster,
    /// The state after.
    pub after: Cluster,
    /// What changed, in order.
    pub changes: Vec<Change>,
    /// The size of the changed records, in bytes, as they were stored.
    pub bytes: u64,
}

impl Commit {
    /// About what keeping it costs, in bytes: the records that it replaced, or that a later one
    /// will, and its part of the maps.
    fn cost(&self) -> usize {
        let records = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        records.saturating_add(self.changes.len() * CHANGE_BYTES)
    }
}

/// The last commits, and those to come.
#[derive(Debug)]
pub struct History {
    kept: Mutex<Kept>,
    new: broadcast::Sender<Arc<Commit>>,
}

#[derive(Debug)]
struct Kept {
    commits: VecDeque<Arc<Commit>>,
    /// What they cost.
    bytes: usize,
    /// The version from which a watch can begin.
    oldest: Version,
}

/// The commits since a version, and those to come.
pub type Since = (Vec<Arc<Commit>>, broadcast::Receiver<Arc<Commit>>);

/// A watch cannot begin at that version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// What followed it is forgotten.
    Past {
        /// The oldest version from which a watch can begin.
        oldest: Version,
    },
    /// It has not happened: the client saw a state that this server has not (a restored backup).
    Future {
        /// The newest version.
        newest: Version,
    },
}

impl History {
    /// A history that begins after `version`.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let kept = Kept {
            commits: VecDeque::new(),
            bytes: 0,
            oldest: version,
        };
        Self {
            kept: Mutex::new(kept),
            new: broadcast::Sender::new(BACKLOG_MAX),
        }
    }

    /// Adds a commit and tells everybody who watches.
    pub fn push(&self, commit: Arc<Commit>) {
        let mut kept = self.lock();
        kept.bytes = kept.bytes.saturating_add(commit.cost());
        kept.commits.push_back(Arc::clone(&commit));
        while kept.commits.len() > COMMITS_MAX || (kept.bytes > BYTES_MAX && kept.commits.len() > 1)
        {
            if let Some(forgotten) = kept.commits.pop_front() {
                kept.bytes = kept.bytes.saturating_sub(forgotten.cost());
                kept.oldest = forgotten.after.version;
            }
        }
        // Sent under the lock, so that a watch that begins now misses none and sees none twice.
        // That nobody watches is no error.
        let _nobody_watches = self.new.send(commit);
    }

    /// The commits since a version, and those to come.
    ///
    /// # Errors
    /// If the version is too old, or has not happened.
    pub fn since(&self, from: Version) -> Result<Since, Unknown> {
        let kept = self.lock();
        let newest = kept.commits.back().map_or(kept.oldest, |c| c.after.version);
        if from < kept.oldest {
            return Err(Unknown::Past {
                oldest: kept.oldest,
            });
        }
        if from > newest {
            return Err(Unknown::Future { newest });
        }
        let past = kept
            .commits
            .iter()
            .filter(|c| c.after.version > from)
            .cloned()
            .collect();
        Ok((past, self.new.subscribe()))
    }

    /// The oldest version from which a watch can begin.
    #[must_use]
    pub fn oldest(&self) -> Version {
        self.lock().oldest
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it is held, and every state of it is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use windlass_api::ids::ClusterId;

    use super::*;

    fn commit(version: u64) -> Arc<Commit> {
        let mut before = Cluster::new(ClusterId(uuid::Uuid::nil()));
        before.version = Version(version - 1);
        let mut after = before.clone();
        after.version = Version(version);
        Arc::new(Commit {
            before,
            after,
            changes: Vec::new(),
            bytes: 0,
        })
    }

    #[test]
    fn a_watch_has_no_gap() {
        let history = History::new(Version(5));
        (6..=8).for_each(|v| history.push(commit(v)));
        let (past, mut new) = history.since(Version(6)).unwrap();
        history.push(commit(9));
        let versions: Vec<_> = past.iter().map(|c| c.after.version.0).collect();
        assert_eq!(versions, [7, 8]);
        assert_eq!(new.try_recv().unwrap().after.version, Version(9));
    }

    #[test]
    fn large_records_are_kept_for_a_shorter_time() {
        let history = History::new(Version(5));
        let large = |version: u64| {
            let mut commit = Arc::into_inner(commit(version)).unwrap();
            commit.bytes = (BYTES_MAX / 4) as u64;
            Arc::new(commit)
        };
        (6..=105).for_each(|version| history.push(large(version)));
        assert_eq!(history.oldest(), Version(101));
        // One that is larger than all that may be kept is kept alone.
        let mut huge = Arc::into_inner(commit(106)).unwrap();
        huge.bytes = u64::MAX;
        history.push(Arc::new(huge));
        assert_eq!(history.oldest(), Version(105));
        history.push(commit(107));
        assert_eq!(history.oldest(), Version(106));
    }

    #[test]
    fn what_is_forgotten_or_has_not_happened_is_said() {
        let history = History::new(Version(5));
        (6..6 + COMMITS_MAX as u64 + 1).for_each(|v| history.push(commit(v)));
        assert_eq!(
            history.since(Version(5)).unwrap_err(),
            Unknown::Past { oldest: Version(6) }
        );
        let newest = Version(6 + COMMITS_MAX as u64);
        assert_eq!(
            history.since(Version(10_000)).unwrap_err(),
            Unknown::Future { newest }
        );
        assert!(history.since(newest).unwrap().0.is_empty());
    }
}
