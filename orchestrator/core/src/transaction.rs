//! A transaction: changes that become durable, and visible, together.

use std::sync::Arc;

use jiff::Timestamp;
use windlass_api::{
    event::{Event, EventId, Severity, Subject},
    ids::{InstanceId, NodeName, Slot, Version, WorkloadName},
};

use crate::{
    cluster::Cluster,
    record::{Change, ClusterRecord, InstanceRecord},
};

/// The most events about one subject: what `describe` shows, and a bound.
pub const EVENTS_PER_SUBJECT_MAX: usize = 20;
/// The most events in all: about 2 MB in memory.
pub const EVENTS_MAX: usize = 4_096;

/// Changes on top of a state. The state in it is always that with all the changes made.
#[derive(Debug, Clone)]
pub struct Transaction {
    cluster: Cluster,
    changes: Vec<Change>,
    now: Timestamp,
}

impl Transaction {
    /// A transaction that leads from `cluster` to the version after it.
    #[must_use]
    pub fn new(cluster: &Cluster, now: Timestamp) -> Self {
        let mut cluster = cluster.clone();
        cluster.version = cluster.version.next();
        Self {
            cluster,
            changes: Vec::new(),
            now,
        }
    }

    /// The state with the changes so far.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The time at which the changes are made.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The version that the transaction leads to.
    #[must_use]
    pub fn version(&self) -> Version {
        self.cluster.version
    }

    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes so far, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The new state and the changes that lead to it.
    #[must_use]
    pub fn finish(self) -> (Cluster, Vec<Change>) {
        (self.cluster, self.changes)
    }

    /// Does something that may fail half-way: then nothing of it is left.
    ///
    /// # Errors
    /// That of `attempt`.
    pub fn attempt<T, E>(
        &mut self,
        attempt: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = (self.cluster.clone(), self.changes.len());
        attempt(self).inspect_err(|_| {
            self.cluster = before.0;
            self.changes.truncate(before.1);
        })
    }

    /// Makes a change.
    pub fn put(&mut self, change: Change) {
        self.cluster.apply(&change);
        self.changes.push(change);
    }

    /// Writes an instance, with the version of this transaction.
    pub fn put_instance(&mut self, mut instance: InstanceRecord) {
        instance.version = self.version();
        self.put(Change::Instance(
            instance.id.clone(),
            Some(Arc::new(instance)),
        ));
    }

    /// Changes an instance, if it exists.
    pub fn update_instance(&mut self, id: &InstanceId, update: impl FnOnce(&mut InstanceRecord)) {
        if let Some(instance) = self.cluster.instances.get(id) {
            let mut instance = InstanceRecord::clone(instance);
            update(&mut instance);
            self.put_instance(instance);
        }
    }

    /// Gives the node's assignment the next generation.
    pub fn bump_generation(&mut self, node: &NodeName) {
        let next = self.cluster.generation(node).next();
        self.put(Change::Assignment(node.clone(), Some(next)));
    }

    /// An id that no instance has or had.
    pub fn next_instance_id(&mut self, workload: &WorkloadName, slot: Slot) -> InstanceId {
        let serial = self.cluster.record.next_instance;
        let record = ClusterRecord {
            next_instance: serial + 1,
            ..ClusterRecord::clone(&self.cluster.record)
        };
        #[cfg(feature = "mutants")]
        let record = if windlass_api::mutants::Mutant::ReusedInstanceId.is_on() {
            ClusterRecord::clone(&self.cluster.record)
        } else {
            record
        };
        self.put(Change::Cluster(Arc::new(record)));
        InstanceId::new(workload, slot, serial)
    }

    /// Notes that something happened. A repetition of one of the subject's events is counted.
    pub fn event(
        &mut self,
        subject: Subject,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let message = message.into();
        let repeated = self
            .cluster
            .events_about(&subject)
            .rev()
            .find(|e| e.reason == reason && e.message == message)
            .map(|e| Event {
                count: e.count + 1,
                ..Event::clone(e)
            });
        let event = repeated.unwrap_or_else(|| Event {
            id: EventId(self.cluster.record.next_event),
            subject,
            severity,
            reason: reason.to_owned(),
            message,
            count: 1,
            first_at: self.now,
            last_at: self.now,
            version: self.version(),
        });
        let event = Event {
            last_at: self.now,
            version: self.version(),
            ..event
        };
        if event.id.0 == self.cluster.record.next_event {
            let record = ClusterRecord {
                next_event: event.id.0 + 1,
                ..ClusterRecord::clone(&self.cluster.record)
            };
            self.put(Change::Cluster(Arc::new(record)));
        }
        let subject = event.subject.clone();
        self.put(Change::Event(event.id, Some(Arc::new(event))));
        self.forget_events(&subject);
    }

    fn forget_events(&mut self, subject: &Subject) {
        let about = self.cluster.events_about(subject).count();
        let mut oldest: Vec<EventId> = self
            .cluster
            .events_about(subject)
            .take(about.saturating_sub(EVENTS_PER_SUBJECT_MAX))
            .map(|e| e.id)
            .collect();
        let too_many = self
            .cluster
            .events
            .len()
            .saturating_sub(EVENTS_MAX + oldest.len());
        oldest.extend(self.cluster.events.keys().take(too_many).copied());
        for id in oldest {
            self.put(Change::Event(id, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use windlass_api::ids::ClusterId;

    use super::*;

    fn transaction() -> Transaction {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Transaction::new(&Cluster::new(ClusterId(Uuid::nil())), now)
    }

    #[test]
    fn what_fails_half_way_leaves_nothing() {
        let mut txn = transaction();
        let before = txn.cluster().clone();
        let failed: Result<(), &str> = txn.attempt(|txn| {
            txn.event(Subject::Cluster, Severity::Normal, "Half", "done");
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert!(txn.is_empty());
        assert_eq!(*txn.cluster(), before);
    }

    #[test]
    fn repeated_events_are_counted_and_others_bounded() {
        let mut txn = transaction();
        for _ in 0..3 {
            txn.event(Subject::Cluster, Severity::Warning, "Same", "again");
        }
        assert_eq!(txn.cluster().events.values().next().unwrap().count, 3);
        for i in 0..50 {
            txn.event(
                Subject::Cluster,
                Severity::Normal,
                "Other",
                format!("number {i}"),
            );
        }
        let about: Vec<_> = txn.cluster().events_about(&Subject::Cluster).collect();
        assert_eq!(about.len(), EVENTS_PER_SUBJECT_MAX);
        assert_eq!(about.last().unwrap().message, "number 49");
    }

    #[test]
    fn events_are_bounded_over_all_subjects() {
        let mut txn = transaction();
        for i in 0..EVENTS_MAX + 10 {
            let name = format!("n{i}").parse().unwrap();
            txn.event(
                Subject::Node { name },
                Severity::Normal,
                "Seen",
                "first time",
            );
        }
        assert_eq!(txn.cluster().events.len(), EVENTS_MAX);
    }

    #[test]
    fn replaying_the_changes_leads_to_the_same_state() {
        let mut txn = transaction();
        let start = Cluster::new(ClusterId(Uuid::nil()));
        txn.event(Subject::Cluster, Severity::Normal, "A", "a");
        txn.next_instance_id(&"web".parse().unwrap(), Slot(0));
        let (cluster, changes) = txn.finish();
        let mut replayed = start;
        changes.iter().for_each(|c| replayed.apply(c));
        replayed.version = cluster.version;
        assert_eq!(replayed, cluster);
    }
}
