//! What the cluster's state consists of. Each record is stored as one value.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_api::{
    apply::Outcome,
    event::{Event, EventId},
    expression::{NodeFacts, Taint},
    ids::{
        ClusterId, Epoch, Generation, InstanceId, NodeName, RevisionNumber, Slot, Uid, Version,
        WorkloadKey,
    },
    resource::{Capacity, Goal, Manifest, Meta, NodeInfo, Scheduling},
    status::{InstanceStatus, NodeState},
    template::InstanceTemplate,
};

mod job;

pub use job::{
    Accounted, End, IndexKey, IndexRecord, IndexState, JobRecord, ScheduleRecord, Suspension,
};

/// What belongs to the cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The cluster's identity.
    pub id: ClusterId,
    /// How often the state was restored from an export, from 1.
    pub epoch: Epoch,
    /// The serial number of the next instance. It is never used twice.
    pub next_instance: u64,
    /// The number of the next event.
    pub next_event: u64,
}

/// A workload: what its user wrote, and which revision that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadRecord {
    /// What the user wrote.
    pub manifest: Manifest,
    /// What the system keeps about it.
    pub meta: Meta,
    /// The revision that is wanted.
    pub revision: RevisionNumber,
    /// How often a restart was asked for.
    pub restarts_asked: u32,
}

/// A revision's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RevisionKey {
    /// The workload.
    pub workload: WorkloadKey,
    /// The number.
    pub number: RevisionNumber,
}

/// A revision: it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// Its full name.
    pub key: RevisionKey,
    /// What its instances are made from.
    pub template: Arc<InstanceTemplate>,
    /// When it was made.
    pub created_at: Timestamp,
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
    /// What its agent last saw.
    pub status: InstanceStatus,
    /// What its job, if it is of one, has already taken into account of that.
    #[serde(default, skip_serializing_if = "Accounted::is_nothing")]
    pub accounted: Accounted,
    /// The version of its last change.
    pub version: Version,
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
    /// Whether new instances may be placed on it.
    pub scheduling: Scheduling,
    /// Whether it can be given work.
    pub state: NodeState,
    /// When the state last changed.
    pub state_since: Timestamp,
    /// The machine and its software.
    pub info: NodeInfo,
    /// What instances may use in all.
    pub capacity: Capacity,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// The version of its last change.
    pub version: Version,
}

impl NodeRecord {
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

    /// The identity of the workload.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.meta.uid
    }
}
