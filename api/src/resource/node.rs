//! Nodes, as they are shown and changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Span,
    expression::Taint,
    ids::{AgentId, Generation, NodeName, Version},
    quantity::{CpuMillis, MemoryBytes},
    status::NodeState,
};

/// A node as it is shown: a machine that runs an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The name, unique in the cluster.
    pub name: NodeName,
    /// The node's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What keeps workloads off it that do not tolerate it.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Whether new instances may be placed on it.
    #[serde(flatten)]
    pub scheduling: Scheduling,
    /// The version of its last change, which is also the `ETag`.
    pub version: Version,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// What its agent last said of it.
    pub status: NodeStatus,
}

/// Whether new instances may be placed on a node, and whether those that are there stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "scheduling", rename_all_fields = "camelCase")]
pub enum Scheduling {
    /// They may.
    #[default]
    Enabled,
    /// An operator said no. What runs there runs on.
    Cordoned,
    /// They may not, and what is there leaves: a service moves, a job runs to its end, a daemon
    /// stays.
    Draining {
        /// When that was asked for.
        drain_since: Timestamp,
        /// When what is still there is stopped; absent: never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drain_deadline: Option<Timestamp>,
        /// When all had left; absent while something is still there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drained_at: Option<Timestamp>,
    },
    /// An operator took the node out of the cluster. If its agent is there, it is told to run
    /// nothing.
    Removed {
        /// When.
        removed_at: Timestamp,
    },
}

impl Scheduling {
    /// The name, as it is shown and selected by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Cordoned => "Cordoned",
            Self::Draining { .. } => "Draining",
            Self::Removed { .. } => "Removed",
        }
    }
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Whether it can be given work.
    #[serde(flatten)]
    pub state: NodeState,
    /// When the state last changed.
    pub state_since: Timestamp,
    /// The machine and its software.
    pub info: NodeInfo,
    /// What instances may use in all.
    pub capacity: Capacity,
    /// What instances have set aside.
    #[serde(default)]
    pub allocated: Capacity,
    /// How many instances are assigned to it.
    #[serde(default)]
    pub instances: u32,
    /// How many of them are still to leave it, if it drains or was removed.
    #[serde(default)]
    pub leaving: u32,
    /// The generation of its assignment.
    pub generation: Generation,
    /// Why its agent keeps to an assignment that is not the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
}

/// CPU and memory of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// CPU time.
    pub cpu: CpuMillis,
    /// Memory.
    pub memory: MemoryBytes,
}

/// What an agent says of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// The agent's identity.
    pub agent_id: AgentId,
    /// The agent's version.
    pub agent_version: String,
    /// The Docker engine's own id. A machine that was copied has that of the original.
    pub engine_id: String,
    /// What tells this run of the machine's kernel from every other one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// The Docker engine's version.
    pub engine_version: String,
    /// The operating system, as Docker names it.
    pub os: String,
    /// The processor architecture, as Docker names it.
    pub arch: String,
}

impl NodeInfo {
    /// What tells its engine from every other one, as long as the machine runs. Nodes that share an
    /// engine share its host ports.
    #[must_use]
    pub fn engine(&self) -> (&str, &str) {
        (&self.engine_id, &self.boot_id)
    }
}

/// A change to a node that an operator asks for. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePatch {
    /// Allow or refuse new instances. Either ends a drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<SchedulingChange>,
    /// Labels to set; `null` removes one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// The taints, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<Taint>>,
}

/// Whether new instances may be placed on a node, as it can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SchedulingChange {
    /// They may.
    Enabled,
    /// They may not. What runs there runs on.
    Cordoned,
}

/// A request to have everything leave a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainRequest {
    /// How long it may take until what is still there is stopped. Default: as long as it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
}
