//! A container: what it runs, what it needs, and how it is watched.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    probe::{PreStop, Probes},
    scalar::ScalarText,
};
use crate::{
    ids::{ContainerName, PortName, VolumeName},
    image::ImageRef,
    quantity::{CpuMillis, MemoryBytes},
};

/// One of the containers of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerSpec {
    /// The name, unique among the containers and init containers of the workload.
    pub name: ContainerName,
    /// The image to run, like `nginx:1.27` or `registry.site:5000/team/app@sha256:...`.
    pub image: ImageRef,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Replaces the image's command; the arguments to the entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Environment variables. Numbers and booleans are taken as they are written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, ScalarText>,
    /// The directory in which the command starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The user to run as: a name or number, optionally `:group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<ScalarText>,
    /// The ports that the container listens on. Names and host ports are unique in the workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// What the container needs (for placement), and may use at most (enforced).
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// The signal that asks the container to stop, like `SIGQUIT`. Default: the image's, or `SIGTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// When to pull the image. Default `IfNotPresent`.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// Where the workload's volumes appear in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// How to tell whether the container has started, can serve, and lives. Default: by the
    /// image's own `HEALTHCHECK`, if it has one.
    #[serde(default, skip_serializing_if = "Probes::is_empty")]
    pub probes: Probes,
    /// What to do before the container is asked to stop, within its grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<PreStop>,
    /// Whether the container only accompanies the others: it starts before them, stops after them,
    /// and its end does not matter to a job. If it has a startup probe, the others wait for that.
    /// Not of an init container.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sidecar: bool,
    /// How often an init container is tried again before the instance fails. Default: without
    /// end, or not at all where `restart` is `Never`. Of init containers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A volume of a workload, in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// The volume's name.
    pub volume: VolumeName,
    /// The absolute path in the container.
    pub path: String,
    /// Whether the container may only read it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

/// A volume that the containers of an instance share. It has exactly one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// The name, unique in the workload.
    pub name: VolumeName,
    /// An empty directory that lives as long as the instance, through restarts of containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Scratch>,
}

/// An empty directory. Nothing can be said about it yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scratch {}

/// A port that a container listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// A name, by which other parts of the manifest can refer to the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PortName>,
    /// The port inside the container.
    #[schemars(range(min = 1))]
    pub container: u16,
    /// The port on the node that leads to it. Absent: reachable by the container's address only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub host: Option<u16>,
    /// The transport protocol. Default `tcp`.
    #[serde(default)]
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What one copy needs and may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// The CPU that is set aside for one copy: cores like `0.5`, or thousandths like `250m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMillis>,
    /// The memory that is set aside for one copy, like `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryBytes>,
    /// What one copy may use at most.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

impl Resources {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Upper bounds that the kernel enforces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// CPU: the container is throttled above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMillis>,
    /// Memory: the container is killed above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryBytes>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// When to pull an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Before every new container.
    Always,
    /// Only where the node does not have it.
    #[default]
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}
