//! The whole state, record by record.

use std::sync::Arc;

use imbl::OrdMap;

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
            tokens,
            admissions,
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
        std::iter::once(Change::Cluster(Arc::clone(record)))
            .chain(each(workloads, Change::Workload))
            .chain(each(jobs, Change::Job))
            .chain(each(indices, Change::Index))
            .chain(each(schedules, Change::Schedule))
            .chain(each(revisions, Change::Revision))
            .chain(each(instances, Change::Instance))
            .chain(each(nodes, Change::Node))
            .chain(each(generations, Change::Assignment))
            .chain(each(images, Change::Images))
            .chain(each(events, Change::Event))
            .chain(each(tokens, Change::Token))
            .chain(each(admissions, Change::Admission))
            .chain(each(idempotency, Change::Idempotency))
    }
}

/// What puts each record of a map where it is.
fn each<K: Ord + Clone, V: Clone>(
    map: &OrdMap<K, V>,
    put: impl Fn(K, Option<V>) -> Change,
) -> impl Iterator<Item = Change> {
    map.iter()
        .map(move |(key, record)| put(key.clone(), Some(record.clone())))
}
