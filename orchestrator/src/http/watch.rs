//! Watches: what happens to the objects of a collection, as server-sent events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration, vec};

use axum::response::{IntoResponse, Response, Sse, sse::Event};
use serde::Serialize;
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        broadcast::{self, error::RecvError},
    },
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};
use windlass_api::{ids::Version, list::WatchEvent, problem::Code};
use windlass_core::cluster::Cluster;

use super::{Api, WATCHES_MAX, collection::Collection, list::Selection};
use crate::{
    controller::Handle,
    error::Error,
    history::{Commit, History, Since, Unknown},
};

/// How often a quiet watch says how far it is. Also what finds out that a client has gone.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);

/// Answers with a watch from a version, or with one that begins with all that exists.
pub(super) fn open<C: Collection>(
    api: &Arc<Api>,
    selection: Selection,
    from: Option<Version>,
) -> Result<Response, Error> {
    let permit = Arc::clone(&api.watches).try_acquire_owned().map_err(|_| {
        let detail = format!("{WATCHES_MAX} watches are open, which is the most: try again later");
        Error::new(Code::Overloaded, detail)
    })?;
    let watch = Watch::<C>::begin(api, selection, from, permit)?;
    let shutdown = api.shutdown.clone();
    let events = futures_util::stream::unfold(watch, move |mut watch| {
        let shutdown = shutdown.clone();
        async move {
            // Cancelled only at the very end, so that nothing needs to be kept.
            let next = shutdown.run_until_cancelled(watch.next()).await.flatten();
            next.map(|event| (Ok::<_, Infallible>(event), watch))
        }
    });
    Ok(Sse::new(events).into_response())
}

/// A watch of some of the objects of a collection.
struct Watch<C: Collection> {
    handle: Handle,
    selection: Selection,
    stage: Stage<C>,
    /// The commits that had happened when the watch began, and are not told yet.
    past: VecDeque<Arc<Commit>>,
    new: broadcast::Receiver<Arc<Commit>>,
    /// Everything up to this version has been told.
    told: Version,
    bookmark: Interval,
    _permit: OwnedSemaphorePermit,
}

/// What a watch is about to tell.
enum Stage<C: Collection> {
    /// What exists in this state, after this key.
    Existing(Box<Cluster>, Option<C::Key>),
    /// What one commit changed.
    Committed(Telling<C>),
    /// What comes next.
    Waiting,
    /// Nothing more: changes were missed.
    Gone,
}

/// The changes of one commit, one at a time: thousands of objects as text would be a lot of
/// memory for a slow reader.
struct Telling<C: Collection> {
    commit: Arc<Commit>,
    left: vec::IntoIter<C::Key>,
    /// The next change, made ahead to know whether it is the last.
    next: Option<WatchEvent<C::Object>>,
}

impl<C: Collection> Watch<C> {
    fn begin(
        api: &Api,
        selection: Selection,
        from: Option<Version>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, Error> {
        let state = api.handle.state();
        let told = from.unwrap_or(state.version);
        let (past, new) = since(api.handle.history(), told, state.version)?;
        let mut bookmark = interval_at(Instant::now() + BOOKMARK_INTERVAL, BOOKMARK_INTERVAL);
        bookmark.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            handle: api.handle.clone(),
            selection,
            stage: if from.is_none() {
                Stage::Existing(Box::new(state), None)
            } else {
                Stage::Waiting
            },
            past: past.into(),
            new,
            told,
            bookmark,
            _permit: permit,
        })
    }

    /// The next event; `None` if the watch has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            // A long history in which nothing is wanted must not hold the thread.
            tokio::task::coop::consume_budget().await;
            let event = match &mut self.stage {
                Stage::Existing(..) => Some(self.tell_existing()),
                Stage::Committed(telling) => {
                    let (event, resume) = telling.next(&self.selection);
                    if resume == Resume::Here {
                        self.told = telling.commit.after.version;
                        self.stage = Stage::Waiting;
                    }
                    event.map(|event| message(&event, resume))
                }
                Stage::Waiting => match self.past.pop_front() {
                    Some(commit) => self.take(commit),
                    None => self.wait().await?,
                },
                Stage::Gone => return None,
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// The next object that exists, or that these are all.
    fn tell_existing(&mut self) -> Event {
        if let Stage::Existing(cluster, after) = &mut self.stage {
            let version = cluster.version;
            let found = C::keys(cluster, after.as_ref())
                .find_map(|key| Some((key.clone(), self.selection.find::<C>(cluster, key)?)));
            if let Some((key, object)) = found {
                *after = Some(key);
                return message(&WatchEvent::Put { version, object }, Resume::No);
            }
        }
        self.stage = Stage::Waiting;
        self.bookmark()
    }

    /// Waits for a commit, or until it is time for a sign of life. The outer `None` is the end.
    async fn wait(&mut self) -> Option<Option<Event>> {
        // Cancel-safe, both: a commit is received or stays.
        let commit = tokio::select! {
            _ = self.bookmark.tick() => return Some(Some(self.bookmark())),
            commit = self.new.recv() => commit,
        };
        match commit {
            Ok(commit) => Some(self.take(commit)),
            Err(RecvError::Lagged(_)) => Some(Some(self.gone(self.handle.history().oldest()))),
            Err(RecvError::Closed) => None,
        }
    }

    /// Begins to tell of a commit, or says that it cannot be told.
    fn take(&mut self, commit: Arc<Commit>) -> Option<Event> {
        let version = commit.after.version;
        if version <= self.told {
            return None;
        }
        if commit.changes.is_empty() {
            // The state was read anew, and nobody can tell what changed.
            return Some(self.gone(version));
        }
        self.stage = Stage::Committed(Telling::new(commit, &self.selection));
        None
    }

    fn bookmark(&self) -> Event {
        message(
            &WatchEvent::<C::Object>::Bookmark { version: self.told },
            Resume::Here,
        )
    }

    fn gone(&mut self, oldest: Version) -> Event {
        self.stage = Stage::Gone;
        message(&WatchEvent::<C::Object>::Gone { oldest }, Resume::No)
    }
}

/// The commits since `from`, and those to come; `newest` is the version of the newest state.
fn since(history: &History, from: Version, newest: Version) -> Result<Since, Error> {
    match history.since(from) {
        // A state is published a moment before its commit is in the history. The watch then gets
        // that commit and passes over it.
        Err(Unknown::Future { newest: in_history }) if from <= newest => {
            Ok(history.since(in_history)?)
        }
        result => Ok(result?),
    }
}

impl<C: Collection> Telling<C> {
    fn new(commit: Arc<Commit>, selection: &Selection) -> Self {
        let keys: Vec<C::Key> = C::touched(&commit).into_iter().collect();
        let mut telling = Self {
            commit,
            left: keys.into_iter(),
            next: None,
        };
        telling.next = telling.advance(selection);
        telling
    }

    /// The next change, and whether a watch can go on after it.
    fn next(&mut self, selection: &Selection) -> (Option<WatchEvent<C::Object>>, Resume) {
        let event = self.next.take();
        self.next = self.advance(selection);
        (
            event,
            if self.next.is_some() {
                Resume::No
            } else {
                Resume::Here
            },
        )
    }

    fn advance(&mut self, selection: &Selection) -> Option<WatchEvent<C::Object>> {
        let commit = &self.commit;
        let version = commit.after.version;
        self.left.find_map(|key| {
            let before = selection.find::<C>(&commit.before, &key);
            let after = selection.find::<C>(&commit.after, &key);
            match (before, after) {
                (before, Some(object)) if before.as_ref() != Some(&object) => {
                    Some(WatchEvent::Put { version, object })
                }
                (Some(object), None) => Some(WatchEvent::Delete {
                    version,
                    name: C::name(&object),
                }),
                (_, Some(_)) | (None, None) => None,
            }
        })
    }
}

/// Whether a watch that breaks off after an event can go on from its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resume {
    /// More of the same version may follow.
    No,
    Here,
}

fn message<T: Serialize>(event: &WatchEvent<T>, resume: Resume) -> Event {
    let (kind, version) = match event {
        WatchEvent::Put { version, .. } => ("put", version),
        WatchEvent::Delete { version, .. } => ("delete", version),
        WatchEvent::Bookmark { version } => ("bookmark", version),
        WatchEvent::Gone { oldest } => ("gone", oldest),
    };
    let message = Event::default()
        .event(kind)
        .json_data(event)
        .expect("the API's types are valid JSON, which has no line breaks");
    match resume {
        Resume::Here => message.id(version.to_string()),
        Resume::No => message,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use windlass_api::ids::ClusterId;

    use super::*;

    #[test]
    fn a_state_that_is_not_in_the_history_yet_can_be_watched_from() {
        let history = History::new(Version(5));
        let unknown = since(&history, Version(6), Version(5));
        assert_eq!(
            unknown.err(),
            Some(Error::from(Unknown::Future { newest: Version(5) }))
        );

        let (past, mut new) = since(&history, Version(6), Version(6)).unwrap();
        assert!(past.is_empty());
        let mut after = Cluster::new(ClusterId(Uuid::nil()));
        after.version = Version(6);
        let (before, changes) = (after.clone(), Vec::new());
        history.push(Arc::new(Commit {
            before,
            after,
            changes,
            bytes: 0,
        }));
        assert_eq!(
            new.try_recv().unwrap().after.version,
            Version(6),
            "to be passed over"
        );
    }
}
