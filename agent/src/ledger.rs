//! The assignment that the agent holds, on disk, so that it goes on with it while the server is
//! away and after its own restart.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use windlass_api::{
    ids::{ClusterId, Epoch},
    wire::{Assignment, AssignmentFrame},
};

#[cfg(feature = "simulation")]
use crate::simulation;
use crate::state_file::{self, Content};

pub(crate) use accept::{Rejection, Verdict};
pub(crate) use assembler::{Assembler, Error as AssemblyError};

mod accept;
mod assembler;

/// The assignment that an agent holds, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Held {
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// The epoch of the cluster's state.
    pub(crate) epoch: Epoch,
    /// What is to run.
    pub(crate) assignment: Assignment,
}

/// A frame did not become the assignment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It must not.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It could not be written down, and what is not written down is not acted on: after a restart
    /// the agent would undo it.
    #[error("the assignment cannot be written down")]
    NotWritten(#[from] state_file::Error),
}

/// The one place that changes what an agent holds.
#[derive(Debug)]
pub(crate) struct Ledger {
    shelf: Shelf,
    /// Held while a frame is judged and written, so that no two are at once.
    writing: Mutex<()>,
    held: watch::Sender<Option<Arc<Held>>>,
}

impl Ledger {
    /// Reads the ledger at `path`. A broken one is set aside: then nothing is known of what is to
    /// run, and nothing is touched until the server has spoken.
    pub(crate) fn open(path: PathBuf) -> Result<Self, state_file::Error> {
        let held = match state_file::read::<Held>(&path)? {
            Content::Absent => None,
            Content::Whole(held) => Some(Arc::new(held)),
            Content::Broken { reason } => {
                let aside = state_file::set_aside(&path)?;
                tracing::error!(
                    reason,
                    kept_as = %aside.display(),
                    "the ledger is broken; no container is touched until the server answers"
                );
                None
            }
        };
        Ok(Self::new(Shelf::File(path), held))
    }

    /// The ledger on a simulated disk.
    #[cfg(feature = "simulation")]
    pub(crate) fn on(disk: simulation::Disk) -> Self {
        let held = disk.read::<Held>(simulation::Disk::LEDGER).map(Arc::new);
        Self::new(Shelf::Simulated(disk), held)
    }

    fn new(shelf: Shelf, held: Option<Arc<Held>>) -> Self {
        Self {
            shelf,
            writing: Mutex::new(()),
            held: watch::Sender::new(held),
        }
    }

    /// What is held, and every change to it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Held>>> {
        self.held.subscribe()
    }

    /// What is held.
    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.held.borrow().clone()
    }

    /// Judges a whole frame from the server of `cluster`, and if it is accepted writes it down and
    /// then publishes it. Blocks for the disk.
    pub(crate) fn accept(
        &self,
        cluster: ClusterId,
        frame: AssignmentFrame,
    ) -> Result<Verdict, Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = accept::accept(self.held().as_deref(), cluster, frame)?;
        if let Verdict::Replaced { held, .. } = &verdict {
            self.shelf.write(held)?;
            self.held.send_replace(Some(Arc::clone(held)));
        }
        Ok(verdict)
    }
}

/// Where the ledger lies.
#[derive(Debug)]
enum Shelf {
    File(PathBuf),
    #[cfg(feature = "simulation")]
    Simulated(simulation::Disk),
}

impl Shelf {
    fn write(&self, held: &Held) -> Result<(), state_file::Error> {
        match self {
            Self::File(path) => state_file::write(path, held),
            #[cfg(feature = "simulation")]
            Self::Simulated(disk) => disk.write(simulation::Disk::LEDGER, held),
        }
    }
}

#[cfg(test)]
mod tests {
    use windlass_api::ids::Generation;

    use super::*;
    use crate::testing::{cluster, instance, whole};

    #[test]
    fn what_was_accepted_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        let ledger = Ledger::open(path.clone()).unwrap();
        assert_eq!(ledger.held(), None);
        let mut seen = ledger.subscribe();
        ledger
            .accept(cluster(), whole(3, vec![instance("web-0-1")]))
            .unwrap();
        assert!(seen.has_changed().unwrap());
        let held = seen.borrow_and_update().clone();
        assert_eq!(Ledger::open(path).unwrap().held(), held);
        assert_eq!(held.unwrap().assignment.generation, Generation(3));
    }

    #[test]
    fn a_torn_ledger_is_set_aside_and_nothing_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        let ledger = Ledger::open(path.clone()).unwrap();
        ledger
            .accept(cluster(), whole(3, vec![instance("web-0-1")]))
            .unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert_eq!(Ledger::open(path.clone()).unwrap().held(), None);
        assert!(!path.exists());
        assert!(dir.path().join("ledger.json.corrupt").exists());
    }

    #[test]
    fn what_cannot_be_written_is_not_acted_on() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let ledger = Ledger::open(data.join("ledger.json")).unwrap();
        let mut seen = ledger.subscribe();
        // In the place of the directory, so that it cannot be made again either.
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::write(&data, "").unwrap();
        let error = ledger.accept(cluster(), whole(3, vec![])).unwrap_err();
        assert!(matches!(error, Error::NotWritten(_)), "{error}");
        assert!(!seen.has_changed().unwrap());
        assert_eq!(*seen.borrow_and_update(), None);
    }
}
