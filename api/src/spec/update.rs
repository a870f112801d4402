//! How a workload gets from one revision to the next, and what it waits for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{duration::Span, ids::WorkloadName};

/// How instances are replaced by those of a new revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdatePolicy {
    /// Whether a new instance starts before the old one stops, or after. Default: `startFirst`,
    /// unless the only copy has a host port or a volume of which there is one; a daemon is
    /// always updated `stopFirst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<UpdateOrder>,
    /// How many instances are replaced at the same time. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub parallelism: u32,
    /// How many instances there may be beyond the wanted number. Default: `parallelism` with
    /// `startFirst`, 0 with `stopFirst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<u32>,
    /// How many of the wanted instances may be unavailable because of the update. Default: 0
    /// with `startFirst`, `parallelism` with `stopFirst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
    /// How long an instance must be ready before it counts as available. Default `2s`.
    #[serde(default = "default_min_ready")]
    pub min_ready: Span,
    /// How long an update may go without progress before it has failed. Default `10m`.
    #[serde(default = "default_progress_deadline")]
    pub progress_deadline: Span,
    /// What to do when an update fails. Default `rollback`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How many new instances to start beside the old ones and then wait for `windlass rollout
    /// promote`. As many as there are replicas is a blue/green update. Default 0: no waiting.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub canary: u32,
}

fn one() -> u32 {
    1
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn default_min_ready() -> Span {
    Span::from_secs(2)
}

fn default_progress_deadline() -> Span {
    Span::from_secs(600)
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            order: None,
            parallelism: one(),
            max_surge: None,
            max_unavailable: None,
            min_ready: default_min_ready(),
            progress_deadline: default_progress_deadline(),
            on_failure: OnFailure::default(),
            canary: 0,
        }
    }
}

impl UpdatePolicy {
    /// Whether nothing but the defaults is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which of two instances of a slot comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UpdateOrder {
    /// The new one starts, and when it is available the old one stops.
    StartFirst,
    /// The old one stops, and when it is gone the new one starts.
    StopFirst,
}

/// What to do when an update fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// Go back to the last good revision, with all instances.
    #[default]
    Rollback,
    /// Stop there, and wait for an operator.
    Pause,
    /// Go on with the next instances.
    Continue,
}

/// Another workload that has to be so far before an instance is first started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// The workload, in the same namespace.
    pub workload: WorkloadName,
    /// How far it has to be. Default `ready`.
    #[serde(default)]
    pub condition: DependencyCondition,
}

/// How far another workload has to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DependencyCondition {
    /// All its instances run.
    Started,
    /// All its instances are ready.
    #[default]
    Ready,
    /// It is a job, and has completed.
    Completed,
}
