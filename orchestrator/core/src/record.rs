//! What the cluster's state consists of. Each record is stored as one value.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_api::{
    apply::Outcome,
    event::{Event, EventId},
    expression::{NodeFacts, Taint},
    ids::{
        ClusterId, ContainerName, Epoch, Generation, InstanceId, NodeName, RevisionNumber, Slot,
        TokenId, Uid, Version, WorkloadKey,
    },
    resource::{
        Capacity, Evictions, Goal, Manifest, Meta, NodeInfo, RestoreCause, RolloutState, Scheduling,
    },
    status::{InstanceStatus, NodeState},
    template::InstanceTemplate,
    wire::ResolvedImage,
};

mod access;
mod job;

pub use access::{AdmissionRecord, TokenRecord};
pub use job::{
    Accounted, End, IndexKey, IndexRecord, IndexState, JobRecord, ScheduleRecord, Suspension,
};

/// What belongs to the cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The cluster's identity.
    pub id: ClusterId,
    /// How often the state may have gone back, from 1; see [`crate::command::restore`].
    pub epoch: Epoch,
    /// The serial number of the next instance. It is never used twice.
    pub next_instance: u64,
    /// The number of the next event.
    pub next_event: u64,
    /// Whether instances on lost nodes are replaced.
    #[serde(default)]
    pub evictions: Evictions,
    /// When the state last may have gone back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreRecord>,
    /// The highest generation of a node that was forgotten. A node that comes begins after it, so
    /// that no agent ever sees a generation go back.
    #[serde(default)]
    pub generation_floor: Generation,
}

impl ClusterRecord {
    /// Whether the state may be older than what agents have seen, and nobody has accepted that.
    #[must_use]
    pub fn awaits_acceptance(&self) -> bool {
        let restore = self.restore.as_ref();
        restore.is_some_and(|restore| restore.accepted_at.is_none())
    }
}

/// That the state may have gone back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// When that was noticed.
    pub at: Timestamp,
    /// How.
    pub cause: RestoreCause,
    /// When an operator accepted it.
    pub accepted_at: Option<Timestamp>,
}

/// A workload: what its user wrote, and which revision is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadRecord {
    /// What the user wrote.
    pub manifest: Manifest,
    /// What the system keeps about it.
    pub meta: Meta,
    /// The revision that is wanted. After a rollback or `undo` it is not what the user wrote.
    pub revision: RevisionNumber,
    /// How often a restart was asked for.
    pub restarts_asked: u32,
    /// The revision with which all instances were last available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<RevisionNumber>,
    /// The last change of revision, of a kind that rolls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutRecord>,
}

/// A change of revision: all that a server needs to go on with it where another one stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// The last good revision before, if there was another one.
    pub from: Option<RevisionNumber>,
    /// The revision that was asked for.
    pub to: RevisionNumber,
    /// How far it is.
    pub state: RolloutState,
    /// Whether it stops at its canaries.
    pub canaries: Canaries,
    /// Whether it waits for other workloads.
    pub gate: Gate,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last got further, or was told to go on.
    pub progressed_at: Timestamp,
    /// How far it has been at best.
    pub progress: Progress,
    /// What failed of it before this time is forgiven: an operator told it to go on.
    pub judged_from: Timestamp,
    /// What failed although it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The slots that are tried again after all others, since the new revision failed in them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub passed_over: BTreeSet<Slot>,
}

/// Whether a rollout stops at its canaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Canaries {
    /// It has none, or was promoted.
    Promoted,
    /// It replaces nothing before an operator promotes it.
    Awaited,
}

/// Whether a workload waits for others before it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gate {
    /// It does not.
    Open,
    /// It does, and the time that passes is not its own.
    Closed,
}

/// How far a rollout is. What is further is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Progress {
    /// How many slots have an available instance of the new revision.
    pub available: u32,
    /// How many slots have one at all.
    pub begun: u32,
}

/// A revision's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RevisionKey {
    /// The workload.
    pub workload: WorkloadKey,
    /// The number.
    pub number: RevisionNumber,
}

/// A revision. Its template never changes; what is found out about it is added once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// Its full name.
    pub key: RevisionKey,
    /// What its instances are made from.
    pub template: Arc<InstanceTemplate>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When all instances were first available with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_since: Option<Timestamp>,
    /// Which image each container's name stood for when it was first run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ContainerName, ResolvedImage>,
}

/// An instance: what the server chose, and what its agent last saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its id.
    pub id: InstanceId,
    /// Its workload.
    pub workload: WorkloadKey,
    /// The slot that it fills.
    pub slot: Slot,
    /// Its revision.
    pub revision: RevisionNumber,
    /// The only node that it may run on: each instance of a daemon has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<NodeName>,
    /// The node that was chosen for it; it never changes once it is set.
    pub node: Option<NodeName>,
    /// What the server wants of it.
    pub goal: Goal,
    /// The assignment from which on it is to stop. A report about an older one does not tell
    /// whether it is gone.
    pub stop_generation: Option<Generation>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its phase last changed.
    pub phase_since: Timestamp,
    /// Since when it is ready, on the server's clock; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Timestamp>,
    /// What its agent last saw.
    pub status: InstanceStatus,
    /// What its job, if it is of one, has already taken into account of that.
    #[serde(default, skip_serializing_if = "Accounted::is_nothing")]
    pub accounted: Accounted,
    /// When its slot last moved because a node was lost: to it, or away from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<Timestamp>,
    /// Which images it is to run, as far as that was known when its node was chosen. It never
    /// changes, since its agent was told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ContainerName, ResolvedImage>,
    /// Where it was asked to move. Its successor is started there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relocation: Option<Box<Relocation>>,
    /// The version of its last change.
    pub version: Version,
}

/// A running instance was asked to move to another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocation {
    /// Where its successor is to be.
    pub to: NodeName,
    /// What is gained.
    pub reason: String,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Since when it is not to move after all, if it is not. The server does not ask it again soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up_at: Option<Timestamp>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What its agent last asked to have it registered with. An operator's changes to the labels
    /// and taints win.
    #[serde(default)]
    pub declared: Declared,
    /// Whether new instances may be placed on it.
    #[serde(flatten)]
    pub scheduling: Scheduling,
    /// Whether it can be given work.
    pub state: NodeState,
    /// When the state last changed.
    pub state_since: Timestamp,
    /// The machine and its software.
    pub info: NodeInfo,
    /// What instances may use in all.
    pub capacity: Capacity,
    /// Why its agent keeps to an assignment that is not the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
    /// Whether its agent has told what there is since the node was last lost.
    #[serde(default)]
    pub sight: Sight,
    /// When it last came back after it had been lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_at: Option<Timestamp>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// The version of its last change.
    pub version: Version,
}

/// What an agent was started with for its node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The taints.
    pub taints: Vec<Taint>,
}

/// Whether a node's agent has told what there is since the node was last lost. Before that, what is
/// written down of its instances may be long past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sight {
    /// It has.
    #[default]
    Clear,
    /// It has not.
    Awaited,
}

impl NodeRecord {
    /// That the node has not all that its agent was started with, if so: labels and taints of a
    /// node that is known are an operator's.
    #[must_use]
    pub fn unheeded(&self) -> Option<String> {
        let labels = self.declared.labels.iter();
        let labels = labels
            .filter(|(key, value)| self.labels.get(*key) != Some(*value))
            .map(|(key, value)| format!("--label {key}={value}"));
        let taints = self.declared.taints.iter();
        let taints = taints
            .filter(|taint| !self.taints.contains(taint))
            .map(|taint| format!("--taint {taint}"));
        let options: Vec<String> = labels.chain(taints).collect();
        let name = &self.name;
        (!options.is_empty()).then(|| {
            format!(
                "the node was registered before, so this changes nothing: {}; use `windlass node \
                 label {name}` or `windlass node taint {name}`",
                options.join(" ")
            )
        })
    }

    /// What expressions can ask of the node.
    #[must_use]
    pub fn facts(&self) -> NodeFacts<'_> {
        NodeFacts {
            name: &self.name,
            labels: &self.labels,
            os: &self.info.os,
            arch: &self.info.arch,
        }
    }

    /// Whether an operator took it out of the cluster.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        matches!(self.scheduling, Scheduling::Removed { .. })
    }

    /// Its state by name; how one is that was removed is of interest to nobody.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        if self.is_removed() {
            self.scheduling.name()
        } else {
            self.state.name()
        }
    }

    /// Whether nobody can tell what is there: it is lost, or its agent has not told since.
    #[must_use]
    pub fn is_out_of_sight(&self) -> bool {
        self.is_lost() || self.sight == Sight::Awaited
    }

    /// Whether nobody has heard from it for too long.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self.state, NodeState::Lost { .. })
    }
}

/// What an answered request with an idempotency key led to, so that its repetition is
/// answered alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    /// The key that the client chose.
    pub key: String,
    /// A digest of the request, to tell another request with the same key apart.
    pub request: u64,
    /// What it led to, workload by workload.
    pub results: Vec<(WorkloadKey, Outcome)>,
    /// When it was answered.
    pub at: Timestamp,
}

/// A record that was written or removed. Changes are what is stored, replayed and watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The cluster as a whole.
    Cluster(Arc<ClusterRecord>),
    /// A workload.
    Workload(WorkloadKey, Option<Arc<WorkloadRecord>>),
    /// How far a job is.
    Job(WorkloadKey, Option<Arc<JobRecord>>),
    /// What an index of a job led to.
    Index(IndexKey, Option<Arc<IndexRecord>>),
    /// What a schedule has done.
    Schedule(WorkloadKey, Option<Arc<ScheduleRecord>>),
    /// A revision.
    Revision(RevisionKey, Option<Arc<RevisionRecord>>),
    /// An instance.
    Instance(InstanceId, Option<Arc<InstanceRecord>>),
    /// A node.
    Node(NodeName, Option<Arc<NodeRecord>>),
    /// The generation of a node's assignment. Apart from the node, since it changes more often.
    Assignment(NodeName, Option<Generation>),
    /// The images that a node has. Apart from the node, since they change at other times.
    Images(NodeName, Option<Arc<Vec<String>>>),
    /// An event.
    Event(EventId, Option<Arc<Event>>),
    /// A token.
    Token(TokenId, Option<Arc<TokenRecord>>),
    /// The join by which a node is in.
    Admission(NodeName, Option<Arc<AdmissionRecord>>),
    /// The answer to a request with an idempotency key.
    Idempotency(String, Option<Arc<IdempotencyRecord>>),
}

impl WorkloadRecord {
    /// The workload that made it, if one did.
    #[must_use]
    pub fn owner(&self) -> Option<WorkloadKey> {
        let name = self.meta.owner.clone()?;
        Some(WorkloadKey::new(self.manifest.namespace.clone(), name))
    }

    /// The workloads that it waits for before it is started.
    pub fn dependencies(&self) -> impl Iterator<Item = WorkloadKey> {
        let namespace = &self.manifest.namespace;
        let dependencies = self.manifest.spec.instance().depends_on.iter();
        dependencies.map(|d| WorkloadKey::new(namespace.clone(), d.workload.clone()))
    }

    /// The revisions that it cannot do without.
    #[must_use]
    pub fn revisions(&self) -> BTreeSet<RevisionNumber> {
        let rollout = self.rollout.as_ref();
        let named = [
            Some(self.revision),
            self.last_good,
            rollout.and_then(|r| r.from),
            rollout.map(|r| r.to),
        ];
        named.into_iter().flatten().collect()
    }

    /// The identity of the workload.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.meta.uid
    }
}
