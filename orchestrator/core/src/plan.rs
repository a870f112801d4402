//! What follows from the state: instances to make, place, run and stop.
//!
//! Planning is level-triggered. It compares what every slot of a workload holds with what it
//! should hold, whatever happened before; so it can be interrupted and repeated at any point,
//! and a second pass over its own result finds nothing to do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use windlass_api::{
    apply::{Action, PlannedStep},
    event::{Severity, Subject},
    ids::{InstanceId, NodeName, Slot, WorkloadKey},
    resource::Goal,
    spec::WorkloadSpec,
    status::{InstanceStatus, Phase},
};

use crate::{
    cluster::Cluster,
    record::{Change, InstanceRecord, RevisionKey, WorkloadRecord},
    scheduler::{Group, Scheduler},
    transaction::Transaction,
};

mod slots;
#[cfg(test)]
mod tests;

use slots::Move;

/// How long an instance must run before it counts as available, and its predecessor is stopped:
/// long enough to see a container that exits at once, short enough to wait for.
pub const MIN_READY: SignedDuration = SignedDuration::from_secs(2);

/// The most revisions of a workload that are kept for going back.
pub const REVISIONS_MAX: usize = 10;

/// Which workloads a pass looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those that something happened to.
    Workloads(BTreeSet<WorkloadKey>),
}

/// What a pass decided, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// When to plan again although nothing happens until then.
    pub wake: Option<Timestamp>,
}

/// Plans, and makes the resulting changes in `txn`.
pub fn plan(txn: &mut Transaction, scope: &Scope) -> Report {
    let keys = match scope {
        Scope::All => txn.cluster().workload_keys(),
        Scope::Workloads(keys) => keys.clone(),
    };
    let mut pass = Pass {
        txn,
        report: Report::default(),
        touched: BTreeSet::new(),
    };
    let mut wanted = Vec::new();
    for key in keys {
        let (moves, wake) = slots::compare(pass.txn.cluster(), &key, pass.txn.now());
        pass.report.wake = [pass.report.wake, wake].into_iter().flatten().min();
        for step in moves {
            match step {
                Move::Stop { id, why } => pass.stop(&id, why),
                Move::Run { id } => pass.run(&id),
                Move::Place(place) => wanted.push((key.clone(), place)),
            }
        }
        pass.forget_revisions(&key);
    }
    pass.place_all(wanted);
    for node in std::mem::take(&mut pass.touched) {
        pass.txn.bump_generation(&node);
    }
    pass.report
}

/// An instance that needs a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    slot: Slot,
    /// The record that waits for a node; `None` if there is none yet.
    waiting: Option<InstanceId>,
    /// The running instance that this one is to replace.
    predecessor: Option<InstanceId>,
    why: String,
}

/// What was found for an instance.
enum Found {
    Node(NodeName, Goal),
    Nothing(String),
}

struct Pass<'a> {
    txn: &'a mut Transaction,
    report: Report,
    /// The nodes whose assignment changes.
    touched: BTreeSet<NodeName>,
}

impl Pass<'_> {
    fn stop(&mut self, id: &InstanceId, why: String) {
        let Some(instance) = self.txn.cluster().instances.get(id).cloned() else {
            return;
        };
        self.step(Action::Stop, &instance, why.clone());
        let subject = Subject::instance(&instance.workload, id);
        self.touched.extend(instance.node.clone());
        let Some(node) = instance
            .node
            .as_ref()
            .filter(|_| instance.goal != Goal::Prepare)
        else {
            // No agent was ever told to run it, so nobody has to confirm that it is gone.
            self.txn.put(Change::Instance(id.clone(), None));
            return;
        };
        self.txn.event(subject, Severity::Normal, "Stopping", why);
        let now = self.txn.now();
        let generation = self.txn.cluster().generation(node).next();
        self.txn.update_instance(id, |instance| {
            instance.goal = Goal::Stop;
            instance.stop_generation = Some(generation);
            instance.status.phase = Phase::Stopping;
            instance.phase_since = now;
        });
    }

    fn run(&mut self, id: &InstanceId) {
        let Some(instance) = self.txn.cluster().instances.get(id).cloned() else {
            return;
        };
        self.step(
            Action::Start,
            &instance,
            "its predecessor has made room".to_owned(),
        );
        self.touched.extend(instance.node.clone());
        self.txn
            .update_instance(id, |instance| instance.goal = Goal::Run);
    }

    fn step(&mut self, action: Action, instance: &InstanceRecord, reason: String) {
        self.report.steps.push(PlannedStep {
            action,
            workload: instance.workload.clone(),
            slot: instance.slot,
            instance: instance.id.clone(),
            revision: instance.revision,
            node: instance.node.clone(),
            reason,
        });
    }

    /// Keeps the newest revisions, those in use, and none of a workload that is gone.
    fn forget_revisions(&mut self, key: &WorkloadKey) {
        let cluster = self.txn.cluster();
        let wanted = cluster.workloads.get(key).map(|w| w.revision);
        let running = cluster.instances_of(key).map(|i| i.revision);
        let used: BTreeSet<_> = running.chain(wanted).collect();
        let keep = if cluster.workloads.contains_key(key) {
            REVISIONS_MAX
        } else {
            0
        };
        let numbers = revisions_of(cluster, key);
        let old = numbers.len().saturating_sub(keep);
        let forgotten: Vec<_> = numbers
            .into_iter()
            .take(old)
            .filter(|r| !used.contains(&r.number))
            .collect();
        for revision in forgotten {
            self.txn.put(Change::Revision(revision, None));
        }
    }

    fn place_all(&mut self, wanted: Vec<(WorkloadKey, Place)>) {
        let mut groups: BTreeMap<WorkloadKey, Vec<Place>> = BTreeMap::new();
        for (key, place) in wanted {
            groups.entry(key).or_default().push(place);
        }
        let left = self.place_groups(groups, |pass, scheduler, group, places| {
            pass.place_group(scheduler, group, places)
        });
        // Why something fits nowhere is said once everything has its place, so that it is said
        // of what is so in the end, and a second pass says the same.
        self.place_groups(left, |pass, scheduler, group, places| {
            let placed = scheduler.place(group, places.len());
            let reason = placed.unplaced.map(|e| e.to_string()).unwrap_or_default();
            let mut nodes = placed.nodes.into_iter();
            for place in places {
                let found = match nodes.next() {
                    Some(node) => Found::Node(node, Goal::Run),
                    None => Found::Nothing(reason.clone()),
                };
                pass.settle(group.workload, place, found);
            }
            Vec::new()
        });
    }

    /// Lets `place` find nodes for each workload's instances on the state as it is now. Returns
    /// those that it gives back.
    fn place_groups(
        &mut self,
        groups: BTreeMap<WorkloadKey, Vec<Place>>,
        place: impl Fn(&mut Self, &mut Scheduler, &Group<'_>, Vec<Place>) -> Vec<Place>,
    ) -> BTreeMap<WorkloadKey, Vec<Place>> {
        let mut left = BTreeMap::new();
        if groups.is_empty() {
            return left;
        }
        let mut scheduler = Scheduler::new(self.txn.cluster(), self.txn.now());
        for (key, places) in groups {
            let Some(workload) = self.txn.cluster().workloads.get(&key).cloned() else {
                continue;
            };
            let revision = RevisionKey {
                workload: key.clone(),
                number: workload.revision,
            };
            let Some(revision) = self.txn.cluster().revisions.get(&revision).cloned() else {
                continue;
            };
            let WorkloadSpec::Service(spec) = &workload.manifest.spec;
            let group = Group {
                workload: &key,
                placement: &spec.placement,
                template: &revision.template,
            };
            let unplaced = place(self, &mut scheduler, &group, places);
            if !unplaced.is_empty() {
                left.insert(key, unplaced);
            }
        }
        left
    }

    /// Finds nodes for the instances of one workload: for those of empty slots all at once, then
    /// for each that replaces a running one, next to it or, failing that, in its stead. Returns
    /// those that fit nowhere.
    fn place_group(
        &mut self,
        scheduler: &mut Scheduler,
        group: &Group<'_>,
        places: Vec<Place>,
    ) -> Vec<Place> {
        let (free, replacing): (Vec<_>, Vec<_>) = places
            .into_iter()
            .partition(|place| place.predecessor.is_none());
        let mut left = Vec::new();
        let mut nodes = scheduler.place(group, free.len()).nodes.into_iter();
        for place in free {
            match nodes.next() {
                Some(node) => self.settle(group.workload, place, Found::Node(node, Goal::Run)),
                None => left.push(place),
            }
        }
        for place in replacing {
            match self.find_beside(scheduler, group, &place) {
                Some((node, goal)) => {
                    self.settle(group.workload, place, Found::Node(node, goal));
                }
                None => left.push(place),
            }
        }
        left
    }

    fn find_beside(
        &self,
        scheduler: &mut Scheduler,
        group: &Group<'_>,
        place: &Place,
    ) -> Option<(NodeName, Goal)> {
        if let Some(node) = scheduler.place(group, 1).nodes.pop() {
            return Some((node, Goal::Run));
        }
        let predecessor = self
            .txn
            .cluster()
            .instances
            .get(place.predecessor.as_ref()?)?;
        let node = scheduler.place_instead_of(group, predecessor)?;
        Some((node, Goal::Prepare))
    }

    /// Writes down what was found for an instance, unless that is known already.
    fn settle(&mut self, key: &WorkloadKey, place: Place, found: Found) {
        let Some(workload) = self.txn.cluster().workloads.get(key).cloned() else {
            return;
        };
        let now = self.txn.now();
        let waiting = place
            .waiting
            .as_ref()
            .and_then(|id| self.txn.cluster().instances.get(id));
        let mut instance = match waiting {
            Some(instance) => InstanceRecord::clone(instance),
            None => self.new_instance(&workload, place.slot),
        };
        let subject = Subject::instance(&instance.workload, &instance.id);
        match found {
            Found::Node(node, goal) => {
                let message = match goal {
                    Goal::Prepare => format!("on {node}, once its predecessor has made room"),
                    Goal::Run | Goal::Stop => format!("on {node}: {}", place.why),
                };
                self.txn
                    .event(subject, Severity::Normal, "Placed", message.clone());
                instance.node = Some(node.clone());
                instance.goal = goal;
                instance.status.phase = Phase::Assigned;
                instance.phase_since = now;
                self.touched.insert(node);
                let action = if goal == Goal::Run {
                    Action::Start
                } else {
                    Action::Prepare
                };
                self.step(action, &instance, message);
            }
            Found::Nothing(reason) => {
                let phase = Phase::Pending {
                    reason: reason.clone(),
                };
                if place.waiting.is_some() && instance.status.phase == phase {
                    return;
                }
                self.txn
                    .event(subject, Severity::Warning, "NotPlaced", reason.clone());
                instance.status.phase = phase;
                self.step(Action::Wait, &instance, reason);
            }
        }
        self.txn.put_instance(instance);
    }

    fn new_instance(&mut self, workload: &WorkloadRecord, slot: Slot) -> InstanceRecord {
        let now = self.txn.now();
        InstanceRecord {
            id: self.txn.next_instance_id(&workload.manifest.name, slot),
            workload: workload.manifest.key(),
            slot,
            revision: workload.revision,
            node: None,
            goal: Goal::Run,
            stop_generation: None,
            created_at: now,
            phase_since: now,
            status: InstanceStatus::new(Phase::Pending {
                reason: String::new(),
            }),
            version: self.txn.version(),
        }
    }
}

/// The revisions of a workload, the oldest first.
pub(crate) fn revisions_of(cluster: &Cluster, key: &WorkloadKey) -> Vec<RevisionKey> {
    let from = RevisionKey {
        workload: key.clone(),
        number: Default::default(),
    };
    cluster
        .revisions
        .range(from..)
        .map(|(revision, _)| revision)
        .take_while(|revision| revision.workload == *key)
        .cloned()
        .collect()
}
