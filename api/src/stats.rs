//! What nodes and instances use at the moment, measured when somebody asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{InstanceId, Namespace, NodeName},
    quantity::{CpuMillis, MemoryBytes},
    resource::Capacity,
};

/// What the nodes that were asked use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The nodes, by name.
    pub nodes: Vec<NodeStats>,
}

/// What a node uses, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    /// The node.
    pub node: NodeName,
    /// What it said.
    #[serde(flatten)]
    pub answer: NodeAnswer,
}

/// What a node said when it was asked what it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum NodeAnswer {
    /// What it uses.
    Measured {
        /// What it uses.
        usage: NodeUsage,
    },
    /// It did not say.
    Unreachable {
        /// What happened instead.
        reason: String,
    },
}

/// What a node and its instances use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeUsage {
    /// The whole machine, everything that runs on it included; of the network, the traffic of its
    /// instances.
    pub machine: Usage,
    /// What the machine has.
    pub capacity: Capacity,
    /// The instances that run.
    pub instances: Vec<InstanceUsage>,
}

/// What an instance uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceUsage {
    /// The instance.
    pub name: InstanceId,
    /// Its namespace.
    pub namespace: Namespace,
    /// All its containers together.
    pub usage: Usage,
}

/// What something uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time.
    pub cpu: CpuMillis,
    /// Memory that cannot be given back: without the page cache.
    pub memory: MemoryBytes,
    /// What came over the network.
    pub received: Traffic,
    /// What went over the network.
    pub sent: Traffic,
}

/// What went over a network in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Since the containers were started.
    pub bytes: u64,
    /// While it was measured.
    pub bytes_per_second: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: CpuMillis(self.cpu.0.saturating_add(other.cpu.0)),
            memory: MemoryBytes(self.memory.0.saturating_add(other.memory.0)),
            received: self.received.plus(other.received),
            sent: self.sent.plus(other.sent),
        }
    }
}

impl Traffic {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            bytes_per_second: self.bytes_per_second.saturating_add(other.bytes_per_second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_did_not_answer_says_so() {
        let stats = NodeStats {
            node: "n1".parse().unwrap(),
            answer: NodeAnswer::Unreachable {
                reason: "it sleeps".to_owned(),
            },
        };
        let json = serde_json::to_string(&stats).unwrap();
        assert_eq!(
            json,
            r#"{"node":"n1","state":"unreachable","reason":"it sleeps"}"#
        );
        assert_eq!(serde_json::from_str::<NodeStats>(&json).unwrap(), stats);
    }
}
