//! What a user writes: the spec of each kind of workload.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    duration::Span,
    expression::{NodeAttribute, Requirement, Toleration},
    ids::PortName,
    image::ImageRef,
    quantity::{CpuMillis, MemoryBytes},
};

/// The kind of a workload.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Kind {
    /// Kept running, `replicas` times.
    Service,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Service => "Service",
        })
    }
}

/// The spec of a workload of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum WorkloadSpec {
    /// The spec of a [`Kind::Service`].
    Service(ServiceSpec),
}

/// A container, kept running `replicas` times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// How many copies to keep running. Default 1.
    #[serde(default = "one")]
    #[schemars(range(max = 10_000))]
    pub replicas: u32,
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
    /// Docker labels to put on the containers. `windlass.` is reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, ScalarText>,
    /// The ports that the container listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// What one copy needs (for placement), and may use at most (enforced).
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// What to do when the container ends. Default `Always`.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// The signal that asks the container to stop, like `SIGQUIT`. Default: the image's, or `SIGTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How long the container may take to stop before it is killed. Default `10s`.
    #[serde(default = "default_grace")]
    pub stop_grace_period: Span,
    /// When to pull the image. Default `IfNotPresent`.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// Which nodes may run the copies, and which of those to prefer.
    #[serde(default, skip_serializing_if = "Placement::is_empty")]
    pub placement: Placement,
}

fn one() -> u32 {
    1
}

fn default_grace() -> Span {
    Span::from_secs(10)
}

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

/// What to do when a container ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    /// Start it again, whatever its exit code.
    #[default]
    Always,
    /// Start it again if its exit code is not 0.
    OnFailure,
    /// Leave it.
    Never,
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

/// Which of the nodes that fit is best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// The emptiest.
    #[default]
    Spread,
    /// The fullest.
    BinPack,
}

/// Text that may be written as a string, a number or a boolean, and is kept as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ScalarText(pub String);

impl<'de> Deserialize<'de> for ScalarText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // A deserializer that knows this name hands over the source text, so that
        // `1.10` stays `1.10`; any other one hands over its own deserializer.
        d.deserialize_newtype_struct(SCALAR_TEXT, ScalarVisitor)
    }
}

/// The name under which [`ScalarText`] asks a deserializer for a scalar's source text.
pub const SCALAR_TEXT: &str = "ScalarText";

struct ScalarVisitor;

impl<'de> de::Visitor<'de> for ScalarVisitor {
    type Value = ScalarText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a boolean")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<ScalarText, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<ScalarText, E> {
        Ok(ScalarText(v.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<ScalarText, E> {
        Ok(ScalarText(v.to_string()))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<ScalarText, E> {
        Ok(ScalarText(v.to_string()))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<ScalarText, E> {
        Ok(ScalarText(v.to_string()))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<ScalarText, E> {
        Ok(ScalarText(v.to_string()))
    }
}

impl JsonSchema for ScalarText {
    fn schema_name() -> Cow<'static, str> {
        SCALAR_TEXT.into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl From<&str> for ScalarText {
    fn from(s: &str) -> Self {
        Self(s.to_owned())
    }
}

impl fmt::Display for ScalarText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl WorkloadSpec {
    /// The kind that this is the spec of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
        }
    }

    /// How many instances are wanted.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        match self {
            Self::Service(spec) => spec.replicas,
        }
    }

    /// Sets how many instances are wanted.
    pub fn set_replicas(&mut self, replicas: u32) {
        match self {
            Self::Service(spec) => spec.replicas = replicas,
        }
    }
}
