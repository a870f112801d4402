//! The cluster as a whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Epoch, Generation, NodeName, Version};

/// The cluster as a whole, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// Its identity.
    pub id: ClusterId,
    /// The server's version.
    pub server_version: String,
    /// The version of the state.
    pub version: Version,
    /// The epoch of the state.
    pub epoch: Epoch,
    /// How many nodes are in each state.
    pub nodes: BTreeMap<String, u64>,
    /// The nodes whose agents keep to an assignment that is not the newest.
    pub rejecting: Vec<NodeName>,
    /// How many agents are connected.
    pub agents: u64,
    /// How many workloads are as they should be (`settled`), and how many are not (`unsettled`).
    pub workloads: BTreeMap<String, u64>,
    /// How many instances are in each phase.
    pub instances: BTreeMap<String, u64>,
    /// Whether the store takes writes.
    pub store: StoreState,
    /// Whether instances on lost nodes are replaced.
    #[serde(default)]
    pub evictions: Evictions,
    /// When the state last may have gone back, and whether an operator accepted that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// Whether instances on lost nodes are replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Evictions {
    /// They are, as each workload says.
    #[default]
    Allowed,
    /// They are not: so many nodes went dark at once that the server is more likely to be cut off
    /// than they are to be gone.
    Stopped {
        /// Since when.
        since: Timestamp,
    },
}

/// Whether the store takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StoreState {
    /// It does.
    Writable,
    /// The server's disk is full. Reads and heartbeats go on.
    Full,
}

/// That the state of the server may have gone back. Until an operator accepts it, agents remove
/// nothing on its word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// When that was noticed.
    pub at: Timestamp,
    /// How.
    pub cause: RestoreCause,
    /// When an operator accepted it; absent while nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
}

/// How it was noticed that the state may have gone back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum RestoreCause {
    /// It was restored from an export.
    Export,
    /// An agent has seen what is not in it.
    Behind {
        /// The agent's node.
        node: NodeName,
        /// The epoch that it has seen.
        epoch: Epoch,
        /// The generation of its assignment that it has seen in it.
        generation: Generation,
    },
}
