//! Events: what happened to an object, and how often.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, Namespace, NodeName, Version, WorkloadKey, WorkloadName};

/// What an event is about.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum Subject {
    /// The cluster as a whole.
    Cluster,
    /// A workload.
    Workload {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: WorkloadName,
    },
    /// An instance.
    Instance {
        /// Its namespace.
        namespace: Namespace,
        /// Its workload.
        workload: WorkloadName,
        /// Its id.
        name: InstanceId,
    },
    /// A node.
    Node {
        /// Its name.
        name: NodeName,
    },
}

impl Subject {
    /// The workload `key`.
    #[must_use]
    pub fn workload(key: &WorkloadKey) -> Self {
        Self::Workload {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }

    /// The instance `id` of the workload `key`.
    #[must_use]
    pub fn instance(key: &WorkloadKey, id: &InstanceId) -> Self {
        Self::Instance {
            namespace: key.namespace.clone(),
            workload: key.name.clone(),
            name: id.clone(),
        }
    }

    /// A node.
    #[must_use]
    pub fn node(name: &NodeName) -> Self {
        Self::Node { name: name.clone() }
    }

    /// The namespace, of what has one.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Workload { namespace, .. } | Self::Instance { namespace, .. } => Some(namespace),
            Self::Cluster | Self::Node { .. } => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.pad("cluster"),
            Self::Workload { name, .. } => f.pad(&format!("workload/{name}")),
            Self::Instance { name, .. } => f.pad(&format!("instance/{name}")),
            Self::Node { name } => f.pad(&format!("node/{name}")),
        }
    }
}

/// Whether an event is news or trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// What was to be expected.
    Normal,
    /// What somebody may want to look at.
    Warning,
}

/// Something that happened to an object. Repetitions are counted, not repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The number of the event in the cluster.
    pub id: EventId,
    /// What it is about.
    pub subject: Subject,
    /// Whether it is news or trouble.
    pub severity: Severity,
    /// A stable word for what happened, like `Scheduled`.
    pub reason: String,
    /// What happened, for people.
    pub message: String,
    /// How often it happened.
    pub count: u32,
    /// When it first happened.
    pub first_at: Timestamp,
    /// When it last happened.
    pub last_at: Timestamp,
    /// The version of the last change.
    pub version: Version,
}

/// The number of an event.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct EventId(pub u64);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventId {
    type Err = std::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}
