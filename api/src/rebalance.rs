//! Moving running instances so that the load of the nodes is more even.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, NodeName, Slot, WorkloadKey};

/// The most moves that one call asks for: enough for a small cluster, and few enough that the
/// next call sees what came of them.
pub const MOVES_MAX: usize = 32;

/// A request to even out the load of the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RebalanceRequest {
    /// The services to move instances of; all, if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadKey>,
}

/// What moves because of it, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebalanceResponse {
    /// The moves, in the order in which they were found; at most [`MOVES_MAX`].
    pub moves: Vec<PlannedMove>,
    /// Whether there is more to be gained by asking again when these are done.
    pub more: bool,
}

/// An instance that is to move to another node: its successor starts there, and when that is
/// available, it stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMove {
    /// The workload.
    pub workload: WorkloadKey,
    /// The slot.
    pub slot: Slot,
    /// The instance.
    pub instance: InstanceId,
    /// Where it is.
    pub from: NodeName,
    /// Where its successor is to be.
    pub to: NodeName,
    /// What is gained.
    pub reason: String,
}
