//! The whole state, record by record.

use std::sync::Arc;

use super::Cluster;
use crate::record::Change;

impl Cluster {
    /// The changes that lead from an empty cluster to this state: one for each record.
    pub fn whole(&self) -> impl Iterator<Item = Change> {
        let Self {
            record,
            version: _,
            workloads,
            jobs,
            indices,
            schedules,
            revisions,
            instances,
            nodes,
            generations,
            images,
            events,
            idempotency,
            // Derived from those.
            by_workload: _,
            by_node: _,
            by_subject: _,
            unplaced: _,
            draining: _,
            owned: _,
            dependents: _,
        } = self;
        let workloads = workloads
            .iter()
            .map(|(key, record)| Change::Workload(key.clone(), Some(Arc::clone(record))));
        let jobs = jobs
            .iter()
            .map(|(key, record)| Change::Job(key.clone(), Some(Arc::clone(record))));
        let indices = indices
            .iter()
            .map(|(key, record)| Change::Index(key.clone(), Some(Arc::clone(record))));
        let schedules = schedules
            .iter()
            .map(|(key, record)| Change::Schedule(key.clone(), Some(Arc::clone(record))));
        let revisions = revisions
            .iter()
            .map(|(key, record)| Change::Revision(key.clone(), Some(Arc::clone(record))));
        let instances = instances
            .iter()
            .map(|(id, record)| Change::Instance(id.clone(), Some(Arc::clone(record))));
        let nodes = nodes
            .iter()
            .map(|(name, record)| Change::Node(name.clone(), Some(Arc::clone(record))));
        let generations = generations
            .iter()
            .map(|(name, generation)| Change::Assignment(name.clone(), Some(*generation)));
        let images = images
            .iter()
            .map(|(name, images)| Change::Images(name.clone(), Some(Arc::clone(images))));
        let events = events
            .iter()
            .map(|(id, event)| Change::Event(*id, Some(Arc::clone(event))));
        let idempotency = idempotency
            .iter()
            .map(|(key, record)| Change::Idempotency(key.clone(), Some(Arc::clone(record))));
        std::iter::once(Change::Cluster(Arc::clone(record)))
            .chain(workloads)
            .chain(jobs)
            .chain(indices)
            .chain(schedules)
            .chain(revisions)
            .chain(instances)
            .chain(nodes)
            .chain(generations)
            .chain(images)
            .chain(events)
            .chain(idempotency)
    }
}
