//! The state of the cluster, in persistent maps: a clone costs nothing, so that every reader has
//! a snapshot of its own.

use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, OrdSet};
use windlass_api::{
    event::{Event, EventId, Subject},
    ids::{ClusterId, Epoch, Generation, InstanceId, NodeName, TokenId, Version, WorkloadKey},
    resource::{Evictions, Scheduling},
    status::NodeState,
    template::InstanceTemplate,
    wire::{AssignedInstance, Assignment},
};

use crate::{
    lease,
    record::{
        AdmissionRecord, Change, ClusterRecord, IdempotencyRecord, IndexKey, IndexRecord,
        InstanceRecord, JobRecord, NodeRecord, RevisionKey, RevisionRecord, ScheduleRecord,
        TokenRecord, WorkloadRecord,
    },
};

mod job;
mod whole;

/// The state of the cluster at one version.
///
/// The maps are public to read; [`Cluster::apply`] alone changes them, and keeps the indices that
/// are derived from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// What belongs to the cluster as a whole.
    pub record: Arc<ClusterRecord>,
    /// The number of the commit that led to this state.
    pub version: Version,
    /// The workloads.
    pub workloads: OrdMap<WorkloadKey, Arc<WorkloadRecord>>,
    /// How far each job is.
    pub jobs: OrdMap<WorkloadKey, Arc<JobRecord>>,
    /// What their indices led to.
    pub indices: OrdMap<IndexKey, Arc<IndexRecord>>,
    /// What each schedule has done.
    pub schedules: OrdMap<WorkloadKey, Arc<ScheduleRecord>>,
    /// Their revisions, also of a workload that is gone while instances of it are left.
    pub revisions: OrdMap<RevisionKey, Arc<RevisionRecord>>,
    /// The instances.
    pub instances: OrdMap<InstanceId, Arc<InstanceRecord>>,
    /// The nodes.
    pub nodes: OrdMap<NodeName, Arc<NodeRecord>>,
    /// The generation of each node's assignment.
    pub generations: OrdMap<NodeName, Generation>,
    /// The images that each node has.
    pub images: OrdMap<NodeName, Arc<Vec<String>>>,
    /// The events.
    pub events: OrdMap<EventId, Arc<Event>>,
    /// The tokens.
    pub tokens: OrdMap<TokenId, Arc<TokenRecord>>,
    /// By which join each node is in.
    pub admissions: OrdMap<NodeName, Arc<AdmissionRecord>>,
    /// The answers to requests with idempotency keys.
    pub idempotency: OrdMap<String, Arc<IdempotencyRecord>>,
    by_workload: OrdMap<WorkloadKey, OrdSet<InstanceId>>,
    by_node: OrdMap<NodeName, OrdSet<InstanceId>>,
    by_subject: OrdMap<Subject, OrdSet<EventId>>,
    unplaced: OrdSet<InstanceId>,
    /// The nodes that drain.
    draining: OrdSet<NodeName>,
    /// By the workload that made them.
    owned: OrdMap<WorkloadKey, OrdSet<WorkloadKey>>,
    /// By a workload: those that wait for it before they are started.
    dependents: OrdMap<WorkloadKey, OrdSet<WorkloadKey>>,
}

impl Cluster {
    /// A cluster in which nothing is.
    #[must_use]
    pub fn new(id: ClusterId) -> Self {
        let record = ClusterRecord {
            id,
            epoch: Epoch(1),
            next_instance: 1,
            next_event: 1,
            evictions: Evictions::default(),
            restore: None,
            generation_floor: Generation(0),
        };
        Self {
            record: Arc::new(record),
            version: Version(0),
            workloads: OrdMap::new(),
            jobs: OrdMap::new(),
            indices: OrdMap::new(),
            schedules: OrdMap::new(),
            revisions: OrdMap::new(),
            instances: OrdMap::new(),
            nodes: OrdMap::new(),
            generations: OrdMap::new(),
            images: OrdMap::new(),
            events: OrdMap::new(),
            tokens: OrdMap::new(),
            admissions: OrdMap::new(),
            idempotency: OrdMap::new(),
            by_workload: OrdMap::new(),
            by_node: OrdMap::new(),
            by_subject: OrdMap::new(),
            unplaced: OrdSet::new(),
            draining: OrdSet::new(),
            owned: OrdMap::new(),
            dependents: OrdMap::new(),
        }
    }

    /// Makes one change. The same changes in the same order lead to the same state.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Cluster(record) => self.record = Arc::clone(record),
            Change::Workload(key, record) => self.apply_workload(key, record.as_ref()),
            Change::Job(key, record) => put(&mut self.jobs, key, record.as_ref()),
            Change::Index(key, record) => put(&mut self.indices, key, record.as_ref()),
            Change::Schedule(key, record) => put(&mut self.schedules, key, record.as_ref()),
            Change::Revision(key, record) => put(&mut self.revisions, key, record.as_ref()),
            Change::Instance(id, record) => self.apply_instance(id, record.as_ref()),
            Change::Node(name, record) => self.apply_node(name, record.as_ref()),
            Change::Assignment(name, generation) => {
                put(&mut self.generations, name, generation.as_ref());
            }
            Change::Images(name, images) => put(&mut self.images, name, images.as_ref()),
            Change::Event(id, event) => self.apply_event(*id, event.as_ref()),
            Change::Token(id, record) => put(&mut self.tokens, id, record.as_ref()),
            Change::Admission(name, record) => put(&mut self.admissions, name, record.as_ref()),
            Change::Idempotency(key, record) => put(&mut self.idempotency, key, record.as_ref()),
        }
    }

    fn apply_workload(&mut self, key: &WorkloadKey, record: Option<&Arc<WorkloadRecord>>) {
        if let Some(old) = self.workloads.get(key).cloned() {
            for other in old.dependencies() {
                remove_from(&mut self.dependents, &other, key);
            }
            if let Some(owner) = old.owner() {
                remove_from(&mut self.owned, &owner, key);
            }
        }
        put(&mut self.workloads, key, record);
        let Some(new) = record else {
            return;
        };
        for other in new.dependencies() {
            let dependents = self.dependents.entry(other).or_default();
            dependents.insert(key.clone());
        }
        if let Some(owner) = new.owner() {
            self.owned.entry(owner).or_default().insert(key.clone());
        }
    }

    fn apply_node(&mut self, name: &NodeName, record: Option<&Arc<NodeRecord>>) {
        put(&mut self.nodes, name, record);
        match record.map(|node| node.scheduling) {
            Some(Scheduling::Draining { .. }) => self.draining.insert(name.clone()),
            Some(Scheduling::Enabled | Scheduling::Cordoned | Scheduling::Removed { .. })
            | None => self.draining.remove(name),
        };
    }

    fn apply_instance(&mut self, id: &InstanceId, record: Option<&Arc<InstanceRecord>>) {
        if let Some(old) = self.instances.get(id).cloned() {
            remove_from(&mut self.by_workload, &old.workload, id);
            self.unplaced.remove(id);
            if let Some(node) = &old.node {
                remove_from(&mut self.by_node, node, id);
            }
        }
        put(&mut self.instances, id, record);
        if let Some(new) = record {
            self.by_workload
                .entry(new.workload.clone())
                .or_default()
                .insert(id.clone());
            match &new.node {
                Some(node) => {
                    self.by_node
                        .entry(node.clone())
                        .or_default()
                        .insert(id.clone());
                }
                None => {
                    self.unplaced.insert(id.clone());
                }
            }
        }
    }

    fn apply_event(&mut self, id: EventId, event: Option<&Arc<Event>>) {
        if let Some(old) = self.events.get(&id).cloned() {
            remove_from(&mut self.by_subject, &old.subject, &id);
        }
        put(&mut self.events, &id, event);
        if let Some(new) = event {
            self.by_subject
                .entry(new.subject.clone())
                .or_default()
                .insert(id);
        }
    }

    /// The instances of a workload, whether or not the workload still exists.
    pub fn instances_of(&self, key: &WorkloadKey) -> impl Iterator<Item = &Arc<InstanceRecord>> {
        self.by_workload
            .get(key)
            .into_iter()
            .flatten()
            .filter_map(|id| self.instances.get(id))
    }

    /// The instances on a node, those that are to stop included.
    pub fn instances_on(&self, node: &NodeName) -> impl Iterator<Item = &Arc<InstanceRecord>> {
        self.by_node
            .get(node)
            .into_iter()
            .flatten()
            .filter_map(|id| self.instances.get(id))
    }

    /// The instances for which no node was found.
    pub fn unplaced(&self) -> impl Iterator<Item = &Arc<InstanceRecord>> {
        self.unplaced.iter().filter_map(|id| self.instances.get(id))
    }

    /// The nodes that drain.
    pub fn draining(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.draining.iter().filter_map(|name| self.nodes.get(name))
    }

    /// The workloads that wait for this one before they are started, whether or not it exists.
    pub fn dependents(&self, key: &WorkloadKey) -> impl Iterator<Item = &WorkloadKey> {
        self.dependents.get(key).into_iter().flatten()
    }

    /// The workloads that exist or of which something is left.
    #[must_use]
    pub fn workload_keys(&self) -> BTreeSet<WorkloadKey> {
        let left = self
            .by_workload
            .keys()
            .chain(self.revisions.keys().map(|r| &r.workload));
        self.workloads.keys().chain(left).cloned().collect()
    }

    /// The events about a subject, the oldest first.
    pub fn events_about(&self, subject: &Subject) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.by_subject
            .get(subject)
            .into_iter()
            .flatten()
            .filter_map(|id| self.events.get(id))
    }

    /// What an instance is made from.
    #[must_use]
    pub fn template_of(&self, instance: &InstanceRecord) -> Option<&Arc<InstanceTemplate>> {
        let key = RevisionKey {
            workload: instance.workload.clone(),
            number: instance.revision,
        };
        self.revisions.get(&key).map(|revision| &revision.template)
    }

    /// Whether an instance's node is lost or removed, or its agent has not told yet what became of
    /// it, so that nobody can tell how it is.
    #[must_use]
    pub fn is_out_of_sight(&self, instance: &InstanceRecord) -> bool {
        let unseen = |node: &NodeName| self.nodes.get(node).is_none_or(|n| n.is_out_of_sight());
        instance.node.as_ref().is_some_and(unseen)
    }

    /// Whether an instance may still run, or run again, although nobody can tell how it is: one that
    /// is exclusive and not fenced yet.
    #[must_use]
    pub fn may_still_run(&self, instance: &InstanceRecord) -> bool {
        let Some(node) = instance.node.as_ref().and_then(|node| self.nodes.get(node)) else {
            return false;
        };
        match node.state {
            NodeState::Lost { waited, .. } => !lease::is_fenced(self, instance, waited),
            NodeState::Ready | NodeState::RuntimeUnhealthy { .. } => true,
        }
    }

    /// The generation of a node's assignment.
    #[must_use]
    pub fn generation(&self, node: &NodeName) -> Generation {
        let known = self.generations.get(node).copied();
        known.unwrap_or(self.record.generation_floor)
    }

    /// What a node is to run.
    #[must_use]
    pub fn assignment(&self, node: &NodeName) -> Assignment {
        let instances = self
            .instances_on(node)
            .filter_map(|instance| Some((instance.id.clone(), self.assigned(instance)?)))
            .collect();
        Assignment {
            generation: self.generation(node),
            instances,
        }
    }

    /// How an instance stands in its node's assignment; `None` if it is not in it.
    #[must_use]
    pub fn assigned(&self, instance: &InstanceRecord) -> Option<AssignedInstance> {
        use windlass_api::resource::Goal;
        match instance.goal {
            Goal::Stop => None,
            Goal::Prepare | Goal::Run => Some(AssignedInstance {
                id: instance.id.clone(),
                workload: instance.workload.clone(),
                slot: instance.slot,
                revision: instance.revision,
                goal: instance.goal,
                template: Arc::clone(self.template_of(instance)?),
                images: instance.images.clone(),
            }),
        }
    }

    /// What is wrong with the state, if anything: what must hold whatever happened.
    #[must_use]
    pub fn inconsistencies(&self) -> Vec<String> {
        let mut found = Vec::new();
        for instance in self.instances.values() {
            if self.template_of(instance).is_none() {
                found.push(format!(
                    "{} has no revision {}",
                    instance.id, instance.revision
                ));
            }
        }
        for workload in self.workloads.values() {
            for number in workload.revisions() {
                let key = RevisionKey {
                    workload: workload.manifest.key(),
                    number,
                };
                if !self.revisions.contains_key(&key) {
                    found.push(format!("{} has no revision {}", key.workload, key.number));
                }
            }
        }
        found
    }
}

fn put<K: Ord + Clone, V: Clone>(map: &mut OrdMap<K, V>, key: &K, value: Option<&V>) {
    match value {
        Some(value) => map.insert(key.clone(), value.clone()),
        None => map.remove(key),
    };
}

fn remove_from<K: Ord + Clone, V: Ord + Clone>(
    index: &mut OrdMap<K, OrdSet<V>>,
    key: &K,
    value: &V,
) {
    if let Some(set) = index.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            index.remove(key);
        }
    }
}
