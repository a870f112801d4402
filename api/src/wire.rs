//! What agents and the server say to each other.
//!
//! An agent opens one WebSocket to [`SESSION_PATH`] and keeps it. Each text message is one JSON
//! [`AgentFrame`] or [`ServerFrame`]. The agent begins with [`AgentFrame::Hello`]; the server
//! answers with [`ServerFrame::Welcome`] and a full assignment, or with [`ServerFrame::Refused`].
//! Bulk data (logs, what people type into a container, files) goes over a second WebSocket that the
//! agent opens to [`stream_path`] when the server asks for it: see [`StreamRequest`].

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    expression::Taint,
    ids::{
        ClusterId, ContainerName, Epoch, Generation, InstanceId, NodeName, RevisionNumber, Slot,
        WorkloadKey,
    },
    resource::{Capacity, Goal, NodeInfo},
    status::InstanceStatus,
    template::InstanceTemplate,
};

mod shared;
mod stream;

pub use self::stream::{
    CHUNK_BYTES_MAX, Channel, Control, ExecOptions, FileInfo, FileKind, FilePart, IDLE_AFTER,
    LogOptions, OUTCOME, Outcome, PING_EVERY, SILENT_AFTER, STALLED_AFTER,
    STREAM_MESSAGE_BYTES_MAX, SignalName, StreamRequest, TerminalSize,
};

/// The version of this protocol. The server refuses an agent that speaks another one.
pub const PROTOCOL: u32 = 4;

/// Where an agent opens its session.
pub const SESSION_PATH: &str = "/v1/agent/session";

/// The longest message, in bytes. A large assignment is sent in several frames, with at most
/// [`FRAME_ITEMS_MAX`] instances and [`FRAME_TEMPLATE_BYTES_MAX`] of what they are made from each.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// The most instances in one frame.
pub const FRAME_ITEMS_MAX: usize = 256;

/// The most bytes of templates in one frame, unless it has only one, which is smaller than a
/// request may be (1 MiB).
pub const FRAME_TEMPLATE_BYTES_MAX: usize = 4 << 20;

/// Where an agent opens a stream that the server asked for.
#[must_use]
pub fn stream_path(stream: Uuid) -> String {
    format!("/v1/agent/streams/{stream}")
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum AgentFrame {
    /// The first message: who the agent is.
    Hello(Box<Hello>),
    /// The agent lives. Sent at the interval that [`Welcome`] and each [`Lease`] give, and answered
    /// with a [`Lease`].
    Heartbeat {
        /// Its number on this connection.
        beat: u64,
        /// Whether its Docker engine answers.
        runtime: RuntimeHealth,
    },
    /// What the agent saw. A snapshot, or what changed since the last frame.
    Observed(Observed),
    /// The images that the node has, by name; at most [`IMAGES_MAX`]. Sent when they change.
    Images {
        /// Their names with tags, as Docker lists them.
        images: Vec<String>,
    },
    /// The agent did not accept an assignment; it goes on with the one that it has.
    Rejected {
        /// The generation of the assignment.
        generation: Generation,
        /// Why, for an operator.
        reason: String,
        /// The newest epoch and generation that it has seen, if it cannot have come from them to
        /// the assignment: then the state of the server is not the one that it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<(Epoch, Generation)>,
    },
    /// The agent cannot serve a stream that was asked for.
    StreamFailed {
        /// The stream.
        stream: Uuid,
        /// Why, for a person.
        reason: String,
    },
}

/// The most image names that a node reports: enough for any edge machine, and a bound.
pub const IMAGES_MAX: usize = 512;

/// Who an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The protocol that it speaks.
    pub protocol: u32,
    /// The node's name.
    pub node: NodeName,
    /// The machine and its software.
    pub info: NodeInfo,
    /// What instances may use in all.
    pub capacity: Capacity,
    /// The labels to register the node with. An operator's later changes win.
    pub labels: BTreeMap<String, String>,
    /// The taints to register the node with. An operator's later changes win.
    pub taints: Vec<Taint>,
    /// The cluster whose assignment it holds, if any. A server of another one refuses it.
    pub cluster: Option<ClusterId>,
    /// The newest epoch and generation that it has seen.
    pub seen: Option<(Epoch, Generation)>,
    /// Whether its Docker engine answers.
    pub runtime: RuntimeHealth,
}

/// Whether a Docker engine answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum RuntimeHealth {
    /// It does.
    Healthy,
    /// It does not.
    Unhealthy {
        /// What happened instead.
        reason: String,
    },
}

/// What an agent saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Whether this is all, or what changed.
    pub scope: Scope,
    /// The instances that exist on the node, or that it is busy with.
    pub instances: Vec<ObservedInstance>,
    /// The instances of which nothing is left on the node.
    pub gone: Vec<InstanceId>,
    /// The assignment that the agent works on.
    pub generation: Generation,
}

/// Whether a message says everything or what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// Everything: what is not named does not exist.
    Full,
    /// What changed.
    Delta,
}

/// An instance as an agent saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedInstance {
    /// The instance.
    pub id: InstanceId,
    /// Its state.
    pub status: InstanceStatus,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ServerFrame {
    /// The agent is known from now on.
    Welcome(Welcome),
    /// The agent is not let in. It tries again later, since an operator may mend the cause.
    Refused {
        /// Why, for an operator.
        reason: String,
    },
    /// A heartbeat has renewed the node's lease.
    Lease(Lease),
    /// What the node is to run.
    Assignment(AssignmentFrame),
    /// The server wants to be told everything again.
    Resync,
    /// The server wants a stream.
    OpenStream {
        /// The stream's id, for [`stream_path`].
        stream: Uuid,
        /// What it is to carry.
        request: StreamRequest,
    },
}

/// The server's answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The cluster.
    pub cluster: ClusterId,
    /// The epoch of its state.
    pub epoch: Epoch,
    /// How often to send a heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// What whoever reads the agent's log should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
}

/// For how long the server counts on a node. The agent counts it from when it sent the heartbeat,
/// so that for the agent it is over first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The heartbeat that is answered.
    pub beat: u64,
    /// How long the lease is, in milliseconds.
    pub lease_ms: u64,
    /// How often to send a heartbeat from now on, in milliseconds.
    pub heartbeat_ms: u64,
}

/// What a node is to run, or how that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentFrame {
    /// The epoch that the generation belongs to.
    pub epoch: Epoch,
    /// Whether the agent may remove what is not in it.
    pub removals: Removals,
    /// The number of the assignment that this leads to.
    pub generation: Generation,
    /// Whether this is the whole assignment (`None`) or a change to the one of this generation.
    pub base: Option<Generation>,
    /// Whether more frames of the same assignment follow. It takes effect with the last one.
    pub more: bool,
    /// The instances to run or prepare, or those that changed.
    #[serde(with = "shared::list")]
    pub instances: Vec<AssignedInstance>,
    /// The instances that are no longer wanted, and that the agent is to confirm to be gone. In a
    /// whole assignment, too: what is not named there is not wanted, but the server waits for the
    /// word of the agent about these.
    pub removed: Vec<InstanceId>,
}

/// Whether an agent may remove what runs on the word of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Removals {
    /// It may.
    Allowed,
    /// The state of the server may be older than what agents have seen, and no operator has
    /// accepted that yet: an assignment that would take away what an agent holds is not for it.
    Withheld,
}

/// An instance that a node is to run or prepare. In a frame or an assignment it is written without
/// its template, see `wire/shared.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignedInstance {
    /// The instance.
    pub id: InstanceId,
    /// Its workload.
    pub workload: WorkloadKey,
    /// Its slot.
    pub slot: Slot,
    /// Its revision.
    pub revision: RevisionNumber,
    /// `Run` or `Prepare`; an instance that is to stop is not in an assignment.
    pub goal: Goal,
    /// What it is made from.
    pub template: Arc<InstanceTemplate>,
    /// Which image each container's name stands for in this revision, as far as it is known: what
    /// the first instance of the revision ran.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ContainerName, ResolvedImage>,
}

/// Which image a name stood for when it was first run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedImage {
    /// The image's id in Docker. The same content has the same id on every node.
    pub id: String,
    /// The digest under which a registry has it, like `nginx@sha256:...`; absent if it came from
    /// no registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A whole assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Its number.
    pub generation: Generation,
    /// The instances to run or prepare.
    #[serde(with = "shared::map")]
    pub instances: BTreeMap<InstanceId, AssignedInstance>,
}
