//! The data directory of a simulated agent.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::state_file;

pub(crate) const IDENTITY: &str = "agent.json";
pub(crate) const HISTORIES: &str = "instances.json";
pub(crate) const HEALTH: &str = "health.json";
pub(crate) const CONTACT: &str = "contact.json";

/// A disk, which outlives the agent that uses it. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    files: BTreeMap<&'static str, Vec<u8>>,
    full: bool,
}

impl Disk {
    pub(crate) const LEDGER: &str = "ledger.json";

    /// Removes everything, as somebody does who deletes the directory.
    pub fn wipe(&self) {
        self.lock().files.clear();
    }

    /// Leaves no space for anything.
    pub fn fill(&self) {
        self.lock().full = true;
    }

    /// Gives space again.
    pub fn free(&self) {
        self.lock().full = false;
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let content = self.lock();
        let bytes = content.files.get(name)?;
        Some(serde_json::from_slice(bytes).expect("what was written is read"))
    }

    /// Replaces a file. On an error the old content is still there.
    pub(crate) fn write<T: Serialize>(
        &self,
        name: &'static str,
        value: &T,
    ) -> Result<(), state_file::Error> {
        let mut content = self.lock();
        if content.full {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(state_file::failed("write", name.as_ref())(full));
        }
        let bytes = serde_json::to_vec(value).expect("state has only string keys");
        content.files.insert(name, bytes);
        Ok(())
    }

    /// Replaces a file that the agent can do without.
    pub(crate) fn keep<T: Serialize>(&self, name: &'static str, value: &T) {
        // The real one logs it, and writes again with the next change.
        let _written = self.write(name, value);
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
