//! How far a workload is: its instances, its rollout, its job, its schedule.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{RevisionNumber, Slot, WorkloadName},
    spec::UpdateOrder,
};

/// How far a workload is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The revision that is wanted.
    pub revision: RevisionNumber,
    /// How many instances are wanted.
    pub wanted: u32,
    /// How many instances of any revision run.
    pub running: u32,
    /// How many instances of any revision are ready.
    pub ready: u32,
    /// How many instances of the wanted revision are ready.
    pub updated: u32,
    /// How many instances are to leave their node: it drains, say, or they were asked to move.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moving: u32,
    /// Whether all that is wanted is ready at this moment, and nothing else is there; of a job, whether
    /// it has ended. How long an instance has been ready is in its `readySince`. What nothing can be
    /// done about is not waited for: what is left on lost nodes, and a daemon's instances there and on
    /// nodes that take nothing new.
    pub settled: bool,
    /// What is wrong with it, the most frequent reason first. Of what is settled, this is only about
    /// what is not waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The last change of revision, of a kind that rolls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// How far a job is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
    /// What a schedule did last, and does next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How far a change of revision is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The last good revision before; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RevisionNumber>,
    /// The revision that was asked for.
    pub to: RevisionNumber,
    /// How far it is.
    #[serde(flatten)]
    pub state: RolloutState,
    /// What failed although it goes on, with the last lines of the log below it: no revision before was
    /// good, or `onFailure` says `continue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Which of two instances of a slot comes first.
    pub order: UpdateOrder,
    /// Why that order, where the manifest does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_reason: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last made progress.
    pub progressed_at: Timestamp,
}

/// How far a change of revision is. Each variant says what is then true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum RolloutState {
    /// Instances are being replaced.
    Progressing,
    /// The canaries are being started beside the old instances, or run and wait to be promoted or
    /// aborted.
    Canary,
    /// Nothing is replaced until an operator goes on.
    Paused {
        /// Why: an operator, or what failed.
        reason: String,
    },
    /// Instances of the last good revision are coming back.
    RollingBack {
        /// What failed.
        reason: String,
    },
    /// The last good revision runs. What was asked for is still what the user wrote.
    RolledBack {
        /// What failed.
        reason: String,
    },
    /// All instances are of the revision that was asked for, and available.
    Completed,
}

impl RolloutStatus {
    /// What failed, with the last lines of the log below it, or who paused it.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.state.reason().or(self.failure.as_deref())
    }
}

impl RolloutState {
    /// The state's name, as it is shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Progressing => "Progressing",
            Self::Canary => "Canary",
            Self::Paused { .. } => "Paused",
            Self::RollingBack { .. } => "RollingBack",
            Self::RolledBack { .. } => "RolledBack",
            Self::Completed => "Completed",
        }
    }

    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::RolledBack { .. } | Self::Completed)
    }

    /// Why, where the state tells.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Paused { reason }
            | Self::RollingBack { reason }
            | Self::RolledBack { reason } => Some(reason),
            Self::Progressing | Self::Canary | Self::Completed => None,
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// How far it is.
    #[serde(flatten)]
    pub state: JobState,
    /// How many instances are on their way.
    pub active: u32,
    /// How many indices have completed.
    pub succeeded: u32,
    /// How many instances have failed.
    pub failed: u32,
    /// How many indices have to complete.
    pub completions: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How each index ended, as far as it has: the first [`JOB_INDICES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indices: Vec<IndexStatus>,
}

/// The most indices that the status of a job tells of one by one.
pub const JOB_INDICES_MAX: usize = 100;

/// How an index of a job ended, or last failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexStatus {
    /// The index.
    pub index: Slot,
    /// The exit code of its last instance.
    pub code: i64,
    /// When that ended.
    pub finished_at: Timestamp,
    /// How many of its instances have failed.
    pub failures: u32,
    /// Whether it has completed.
    pub completed: bool,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum JobState {
    /// Some of it is still to be done.
    Running,
    /// Every index has completed.
    Completed {
        /// When the last one had.
        finished_at: Timestamp,
    },
    /// It was given up.
    Failed {
        /// When.
        finished_at: Timestamp,
        /// Why.
        reason: String,
    },
}

impl JobState {
    /// The state's name, as it is shown and selected by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Completed { .. } => "Completed",
            Self::Failed { .. } => "Failed",
        }
    }

    /// When it ended, if it has.
    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        match self {
            Self::Running => None,
            Self::Completed { finished_at } | Self::Failed { finished_at, .. } => {
                Some(*finished_at)
            }
        }
    }
}

/// What a schedule did last, and does next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// The last moment at which it was due and a job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// The next moment at which it is due; absent if it is suspended or never due again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Its jobs that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<WorkloadName>,
}
