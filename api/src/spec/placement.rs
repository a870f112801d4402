//! Where the copies of a workload may run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::expression::{NodeAttribute, Requirement, Toleration};

/// Which nodes may run the copies of a workload, and which of those to prefer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placement {
    /// Expressions that a node must meet, all of them, like `node.labels.zone == eu`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
    /// Taints that do not keep the workload off a node: `key` or `key=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerate: Vec<Toleration>,
    /// The most copies of this workload on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_per_node: Option<u32>,
    /// Spread the copies evenly over the values of these, the first one before the second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<NodeAttribute>,
    /// Fill nodes evenly (`Spread`, the default) or one after the other (`BinPack`).
    #[serde(default)]
    pub strategy: Strategy,
}

impl Placement {
    /// Whether nothing is said about placement.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Who decides that a running copy moves to a node where it is better placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Rebalance {
    /// An operator, with `windlass rebalance`.
    #[default]
    Manual,
    /// The server too, one copy at a time, and each at most every ten minutes.
    Auto,
}

impl Rebalance {
    /// Whether only an operator decides.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        *self == Self::Manual
    }
}

/// Which of the nodes that fit is best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// The emptiest.
    #[default]
    Spread,
    /// The fullest.
    BinPack,
}
