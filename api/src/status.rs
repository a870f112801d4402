//! The states that workloads, instances and nodes are in. Only the system writes them.

use std::{fmt, net::IpAddr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{duration::Span, ids::ContainerName};

/// Where an instance is on its way. Each variant says what is then true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "phase", rename_all_fields = "camelCase")]
pub enum Phase {
    /// No node was found for it; nothing runs.
    Pending {
        /// How many nodes failed which filter.
        reason: String,
    },
    /// A node was chosen; its agent has not acted on it yet.
    Assigned,
    /// The agent is getting the image.
    Pulling,
    /// The image is there; the instance waits for its predecessor to make room.
    Prepared,
    /// The init containers run, or the containers are being created or started.
    Starting,
    /// All containers run.
    Running {
        /// When it was started.
        started_at: Timestamp,
    },
    /// The last attempt failed; the agent tries again at the time given.
    BackingOff {
        /// When it tries again.
        until: Timestamp,
        /// What failed.
        reason: String,
    },
    /// The instance is no longer wanted; its container is being stopped.
    Stopping,
    /// The container ended by itself with exit code 0 and is not to be restarted.
    Succeeded,
    /// The container ended with an error and is not to be restarted.
    Failed {
        /// How it ended.
        reason: String,
    },
}

impl Phase {
    /// The phase's name, as it is shown and selected by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "Pending",
            Self::Assigned => "Assigned",
            Self::Pulling => "Pulling",
            Self::Prepared => "Prepared",
            Self::Starting => "Starting",
            Self::Running { .. } => "Running",
            Self::BackingOff { .. } => "BackingOff",
            Self::Stopping => "Stopping",
            Self::Succeeded => "Succeeded",
            Self::Failed { .. } => "Failed",
        }
    }

    /// Why the instance does not run, where the phase tells.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Pending { reason }
            | Self::BackingOff { reason, .. }
            | Self::Failed { reason } => Some(reason),
            Self::Assigned
            | Self::Pulling
            | Self::Prepared
            | Self::Starting
            | Self::Running { .. }
            | Self::Stopping
            | Self::Succeeded => None,
        }
    }

    /// Whether the container runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// Whether an instance or a container can serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum Readiness {
    /// It cannot, or nobody knows.
    NotReady {
        /// What its probe said; absent while it does not run, or was not probed yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It can: its readiness probe passes, or it runs and has none.
    Ready,
}

impl Readiness {
    /// Whether it can serve.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::NotReady { reason: None }
    }
}

/// What an agent last saw of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Where it is on its way. It is `Running` when all its containers run.
    #[serde(flatten)]
    pub phase: Phase,
    /// Whether all its containers are ready.
    #[serde(default)]
    pub readiness: Readiness,
    /// How often its containers were restarted, together.
    #[serde(default)]
    pub restarts: u32,
    /// How one of its containers last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// The last lines that a container wrote before it failed; at most [`LAST_LOG_LINES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_log: Vec<String>,
    /// The address on its node, which its containers share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Its containers, the init containers first, in the order of the manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerStatus>,
}

impl InstanceStatus {
    /// When an instance that is so counts as available, if it goes on as it is: it does what it is
    /// there for, and has done so for `min_ready`. `None` if it does not do that now.
    #[must_use]
    pub fn available_at(
        &self,
        phase_since: Timestamp,
        ready_since: Option<Timestamp>,
        min_ready: Span,
    ) -> Option<Timestamp> {
        match self.phase {
            Phase::Running { .. } => {
                let at = ready_since?.saturating_add(min_ready.as_signed());
                Some(at.unwrap_or(Timestamp::MAX))
            }
            // What has ended well has nothing more to prove.
            Phase::Succeeded => Some(phase_since),
            Phase::Pending { .. }
            | Phase::Assigned
            | Phase::Pulling
            | Phase::Prepared
            | Phase::Starting
            | Phase::BackingOff { .. }
            | Phase::Stopping
            | Phase::Failed { .. } => None,
        }
    }

    /// Whether it has a container, and with it a log.
    #[must_use]
    pub fn has_container(&self) -> bool {
        self.containers
            .iter()
            .any(|container| container.id.is_some())
    }
}

/// The most lines in [`InstanceStatus::last_log`].
pub const LAST_LOG_LINES_MAX: usize = 10;
/// The longest line in [`InstanceStatus::last_log`], in bytes; what is longer is cut.
pub const LAST_LOG_LINE_BYTES_MAX: usize = 200;

/// What an agent last saw of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name in the manifest.
    pub name: ContainerName,
    /// What it does.
    #[serde(flatten)]
    pub state: ContainerPhase,
    /// Whether it can serve.
    #[serde(default)]
    pub readiness: Readiness,
    /// How often it was restarted.
    #[serde(default)]
    pub restarts: u32,
    /// How it last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// The id in Docker, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The id of the image that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// The digest under which a registry has that image, like `nginx@sha256:...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "phase", rename_all_fields = "camelCase")]
pub enum ContainerPhase {
    /// Nothing yet.
    Waiting {
        /// What it waits for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It runs.
    Running {
        /// When it was started.
        started_at: Timestamp,
    },
    /// It ended; `lastExit` says how.
    Exited,
}

impl InstanceStatus {
    /// The status of an instance that nothing else is known of.
    #[must_use]
    pub fn new(phase: Phase) -> Self {
        Self {
            phase,
            readiness: Readiness::default(),
            restarts: 0,
            last_exit: None,
            last_log: Vec::new(),
            address: None,
            containers: Vec::new(),
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code; 128 + n where signal n ended it.
    pub code: i64,
    /// Whether the kernel killed it for its memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Why its agent ended it, if it did so in order to restart it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.oom_killed, self.code) {
            (true, code) => write!(f, "out of memory (exit code {code})"),
            (false, 137) => f.write_str("killed (exit code 137)"),
            (false, 143) => f.write_str("terminated (exit code 143)"),
            (false, code) => write!(f, "exit code {code}"),
        }?;
        match &self.reason {
            Some(reason) => write!(f, ", {reason}"),
            None => Ok(()),
        }
    }
}

/// Whether a node can be given work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum NodeState {
    /// Its agent is heard from and its Docker engine answers.
    Ready,
    /// Its agent is heard from, but its Docker engine does not answer. What runs there runs on.
    RuntimeUnhealthy {
        /// What the engine did, or did not.
        reason: String,
    },
    /// Its agent was not heard from for too long. What runs there may run on, unseen.
    Lost {
        /// When it was declared lost.
        since: Timestamp,
        /// For how long it has been lost at least, on a clock that does not jump. It is counted on
        /// only as far as something waits for it.
        #[serde(default, skip_serializing_if = "Span::is_zero")]
        waited: Span,
    },
}

impl NodeState {
    /// The state's name, as it is shown and selected by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::RuntimeUnhealthy { .. } => "RuntimeUnhealthy",
            Self::Lost { .. } => "Lost",
        }
    }
}
