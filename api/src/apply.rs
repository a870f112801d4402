//! Applying many resources at once, and the plan that a dry run returns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{InstanceId, NodeName, RevisionNumber, Slot, Version, WorkloadKey},
    resource::{Manifest, Workload},
    spec::Kind,
};

/// Resources to apply together: all of them, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The resources.
    pub resources: Vec<Manifest>,
}

/// What became of an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyResponse {
    /// The version of the state after it.
    pub version: Version,
    /// Each resource, in the order of the request.
    pub results: Vec<ApplyResult>,
    /// What will follow from it; only in answer to a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
}

/// What became of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyResult {
    /// The resource's kind.
    pub kind: Kind,
    /// The resource's full name.
    pub key: WorkloadKey,
    /// What was done.
    pub outcome: Outcome,
    /// The fields that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<FieldChange>,
    /// The resource after it.
    pub workload: Workload,
}

/// What was done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It did not exist.
    Created,
    /// It changed.
    Updated,
    /// It was as asked for.
    Unchanged,
}

/// A field that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// The path of the field, like `spec.env.LOG`.
    pub path: String,
    /// The value before; absent if the field was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<serde_json::Value>,
    /// The value after; absent if the field is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<serde_json::Value>,
}

/// What the server is about to do, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// What is done.
    pub action: Action,
    /// The workload.
    pub workload: WorkloadKey,
    /// The slot.
    pub slot: Slot,
    /// The instance.
    pub instance: InstanceId,
    /// The instance's revision.
    pub revision: RevisionNumber,
    /// The node, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Why.
    pub reason: String,
}

/// What is done to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It is placed on a node and started.
    Start,
    /// Its image is fetched to a node where its predecessor still runs.
    Prepare,
    /// It waits, since no node fits.
    Wait,
    /// It is stopped and removed.
    Stop,
}
