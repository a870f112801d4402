//! The directory in which an agent keeps what must outlive it.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use windlass_api::ids::{AgentId, NodeName};

use crate::{
    board::Machine,
    fence::KeptContact,
    history::Histories,
    membership::Membership,
    probe::Memory,
    state_file::{self, Content},
};

/// The file with what makes the machine a node.
const MEMBERSHIP: &str = "membership.json";

/// The directory, locked for this process as long as this value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or locked.
    #[error("cannot use the data directory {}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// Another agent uses it.
    #[error(
        "another agent uses the data directory {}; stop it, or give this one a directory of its own",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another node: its containers carry another name.
    #[error(
        "the data directory {} belongs to node {theirs}, not to {ours}; use that name, or a directory of its own",
        path.display()
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The node that it belongs to.
        theirs: NodeName,
        /// The node that was asked for.
        ours: NodeName,
    },
    /// What makes the machine a node is torn or damaged.
    #[error(
        "{} is broken ({reason}): remove it, and let the node join again with a token that is made \
         for it",
        path.display()
    )]
    Membership {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file in it cannot be read or written.
    #[error("the agent's state is not accessible")]
    File(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<state_file::Error> for DataDirError {
    fn from(error: state_file::Error) -> Self {
        Self::File(Box::new(error))
    }
}

/// Who an agent is. Apart from the ledger, so that it outlives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    /// The agent.
    pub(crate) agent: AgentId,
    /// The node that the directory belongs to.
    pub(crate) node: NodeName,
    /// The machine as its engine last told, so that the agent can introduce itself while the
    /// engine does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) machine: Option<Machine>,
}

/// What tells this boot of the machine from every other one.
pub(crate) fn boot_id() -> String {
    // Without it the file of an earlier boot could be taken for one of this: none is kept then.
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map_or_else(
        |_| Uuid::new_v4().to_string(),
        |boot| boot.trim_end().to_owned(),
    )
}

impl DataDir {
    /// Makes the directory if there is none, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let mut lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DataDirError::Locked {
                    path: path.to_owned(),
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        // The number is for people who look for the process.
        lock.set_len(0).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Self {
            path: fs::canonicalize(path).map_err(failed)?,
            _lock: lock,
        })
    }

    /// Where the ledger is.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.path.join("ledger.json")
    }

    /// Who the agent is; makes a new identity if there is none.
    pub(crate) fn identity(&self, node: &NodeName) -> Result<Identity, DataDirError> {
        if let Some(identity) = self.read::<Identity>("agent.json")? {
            if identity.node != *node {
                return Err(DataDirError::OtherNode {
                    path: self.path.clone(),
                    theirs: identity.node,
                    ours: node.clone(),
                });
            }
            return Ok(identity);
        }
        let identity = Identity {
            agent: AgentId(Uuid::new_v4()),
            node: node.clone(),
            machine: None,
        };
        self.write_identity(&identity)?;
        Ok(identity)
    }

    /// Replaces the identity.
    pub(crate) fn write_identity(&self, identity: &Identity) -> Result<(), state_file::Error> {
        state_file::write(&self.path.join("agent.json"), identity)
    }

    /// What makes the machine a node, if it has joined a cluster. Nothing begins anew without it:
    /// an agent that has joined must not go on as if it had not.
    pub(crate) fn membership(&self) -> Result<Option<Membership>, DataDirError> {
        let path = self.path.join(MEMBERSHIP);
        match state_file::read(&path)? {
            Content::Absent => Ok(None),
            Content::Whole(membership) => Ok(Some(membership)),
            Content::Broken { reason } => Err(DataDirError::Membership { path, reason }),
        }
    }

    /// Replaces what makes the machine a node.
    pub(crate) fn write_membership(
        &self,
        membership: &Membership,
    ) -> Result<(), state_file::Error> {
        state_file::write(&self.path.join(MEMBERSHIP), membership)
    }

    /// What was remembered of instances.
    pub(crate) fn histories(&self) -> Result<Histories, DataDirError> {
        Ok(self.read("instances.json")?.unwrap_or_default())
    }

    /// Replaces what is remembered of instances.
    pub(crate) fn write_histories(&self, histories: &Histories) -> Result<(), state_file::Error> {
        state_file::write(&self.path.join("instances.json"), histories)
    }

    /// What was remembered of the health of containers.
    pub(crate) fn health_memory(&self) -> Result<Memory, DataDirError> {
        Ok(self.read("health.json")?.unwrap_or_default())
    }

    /// Replaces what is remembered of the health of containers.
    pub(crate) fn write_health_memory(&self, memory: &Memory) -> Result<(), state_file::Error> {
        state_file::write(&self.path.join("health.json"), memory)
    }

    /// What was known of the contact with the server.
    pub(crate) fn contact(&self) -> Result<Option<KeptContact>, DataDirError> {
        self.read("contact.json")
    }

    /// Replaces what is known of the contact with the server. It need not survive a power cut.
    pub(crate) fn write_contact(&self, contact: &KeptContact) -> Result<(), state_file::Error> {
        state_file::write_soon(&self.path.join("contact.json"), contact)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DataDirError> {
        let path = self.path.join(name);
        match state_file::read(&path)? {
            Content::Absent => Ok(None),
            Content::Whole(value) => Ok(Some(value)),
            Content::Broken { reason } => {
                let aside = state_file::set_aside(&path)?;
                tracing::error!(name, reason, kept_as = %aside.display(), "a file of the agent is broken; it begins anew");
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node;

    #[test]
    fn two_agents_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, DataDirError::Locked { .. }), "{error}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn an_identity_stays_and_belongs_to_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("a/b")).unwrap();
        let identity = data.identity(&node()).unwrap();
        assert_eq!(data.identity(&node()).unwrap(), identity);
        let other = "n2".parse().unwrap();
        let error = data.identity(&other).unwrap_err();
        assert!(error.to_string().contains("belongs to node n1"), "{error}");
    }

    #[test]
    fn a_broken_memory_of_instances_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        fs::write(dir.path().join("instances.json"), "torn").unwrap();
        assert_eq!(data.histories().unwrap(), Histories::new());
        assert!(dir.path().join("instances.json.corrupt").exists());
    }
}
