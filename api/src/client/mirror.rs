//! A list that is kept up to date by a watch.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{self, Instant};

use super::{Client, Error, Resource, Selection, Watch};
use crate::{ids::Version, list::WatchEvent, problem::Code};

/// How long the server may be away before a mirror gives up: ample for it to be restarted.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// The pause between two attempts to find the server again.
const PAUSE: Duration = Duration::from_millis(500);

/// The objects that are selected, as they are now. It survives restarts of the server.
#[derive(Debug)]
pub struct Mirror<T> {
    client: Client,
    selection: Selection,
    items: BTreeMap<String, T>,
    /// All changes up to this version are in `items`: where a new watch begins.
    complete: Version,
    /// The version of the last change. More of the same version may follow, since one commit
    /// can change many objects.
    latest: Version,
    watch: Option<Watch<T>>,
    /// Since when the server is away.
    away_since: Option<Instant>,
}

/// What changed in a [`Mirror`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The object with this full name was made or changed.
    Put(String),
    /// The object with this full name is gone.
    Delete(String),
    /// Changes were missed, and everything was listed again.
    Relisted,
}

impl<T: Resource> Mirror<T> {
    /// Lists what is selected.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn open(client: &Client, selection: Selection) -> Result<Self, Error> {
        let mut mirror = Self {
            client: client.clone(),
            selection,
            items: BTreeMap::new(),
            complete: Version::default(),
            latest: Version::default(),
            watch: None,
            away_since: None,
        };
        mirror.list().await?;
        Ok(mirror)
    }

    /// The objects by their full names.
    #[must_use]
    pub fn items(&self) -> &BTreeMap<String, T> {
        &self.items
    }

    /// Waits for the next change. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`Error`]; a server that is away is looked for during a minute.
    pub async fn changed(&mut self) -> Result<Change, Error> {
        loop {
            let error = match self.advance().await {
                Ok(None) => continue,
                Ok(Some(change)) => return Ok(change),
                Err(error) => error,
            };
            self.watch = None;
            let away_since = *self.away_since.get_or_insert_with(Instant::now);
            if !error.is_unreachable() || away_since.elapsed() >= OUTAGE_MAX {
                return Err(error);
            }
            time::sleep(PAUSE).await;
        }
    }

    async fn list(&mut self) -> Result<(), Error> {
        let list = self.client.list::<T>(&self.selection).await?;
        self.complete = list.version;
        self.latest = list.version;
        self.items = list
            .items
            .into_iter()
            .map(|item| (item.full_name(), item))
            .collect();
        Ok(())
    }

    async fn relist(&mut self) -> Result<Option<Change>, Error> {
        self.watch = None;
        self.list().await?;
        Ok(Some(Change::Relisted))
    }

    /// One step: opens the watch, or takes one event from it.
    async fn advance(&mut self) -> Result<Option<Change>, Error> {
        let Some(watch) = &mut self.watch else {
            return match self.client.watch(&self.selection, self.complete).await {
                Ok(watch) => {
                    self.watch = Some(watch);
                    self.away_since = None;
                    Ok(None)
                }
                Err(error) if error.code() == Some(Code::Gone) => self.relist().await,
                Err(error) => Err(error),
            };
        };
        match watch.next().await? {
            Some(WatchEvent::Put { version, object }) => {
                self.reach(version);
                let name = object.full_name();
                self.items.insert(name.clone(), object);
                Ok(Some(Change::Put(name)))
            }
            Some(WatchEvent::Delete { version, name }) => {
                self.reach(version);
                self.items.remove(&name);
                Ok(Some(Change::Delete(name)))
            }
            Some(WatchEvent::Bookmark { version }) => {
                self.complete = version;
                self.latest = version;
                Ok(None)
            }
            Some(WatchEvent::Gone { .. }) => self.relist().await,
            None => {
                // The server is shutting down, or ends watches now and then.
                self.watch = None;
                time::sleep(PAUSE).await;
                Ok(None)
            }
        }
    }

    /// Notes that a change of `version` came, so that all earlier versions are complete.
    fn reach(&mut self, version: Version) {
        if version > self.latest {
            self.complete = self.latest;
            self.latest = version;
        }
    }
}
