//! Finds nodes for what needs one, and writes down what was found.

use std::collections::BTreeMap;

use windlass_api::{
    apply::Action,
    event::{Severity, Subject},
    ids::{NodeName, WorkloadKey},
    resource::Goal,
    status::{InstanceStatus, Phase},
};

use super::{
    Pass,
    moves::{Place, Spot},
};
use crate::{
    record::{Accounted, InstanceRecord, RevisionKey, WorkloadRecord},
    scheduler::{Group, Scheduler},
};

/// What needs a node, together with what is made from the same revision.
type Groups = BTreeMap<RevisionKey, Vec<Place>>;

/// What was found for an instance.
enum Found {
    Node(NodeName, Goal),
    Nothing(String),
}

impl Pass<'_> {
    /// Finds nodes for all that needs one.
    pub(super) fn place_all(&mut self) {
        let mut groups: Groups = BTreeMap::new();
        for (workload, places) in std::mem::take(&mut self.wanted) {
            for place in places {
                let revision = RevisionKey {
                    workload: workload.clone(),
                    number: place.revision,
                };
                groups.entry(revision).or_default().push(place);
            }
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
        groups: Groups,
        place: impl Fn(&mut Self, &mut Scheduler, &Group<'_>, Vec<Place>) -> Vec<Place>,
    ) -> Groups {
        let mut left = BTreeMap::new();
        if groups.is_empty() {
            return left;
        }
        let mut scheduler = Scheduler::new(self.txn.cluster(), self.txn.now());
        for (key, places) in groups {
            let Some(workload) = self.txn.cluster().workloads.get(&key.workload).cloned() else {
                continue;
            };
            let Some(revision) = self.txn.cluster().revisions.get(&key).cloned() else {
                continue;
            };
            let group = Group {
                workload: &key.workload,
                placement: workload.manifest.spec.instance().placement,
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
            .partition(|place| place.spot == Spot::Free);
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
        let predecessor = match &place.spot {
            Spot::Free => return None,
            Spot::BesideOrInstead(id) => self.txn.cluster().instances.get(id)?,
        };
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
            None => self.new_instance(&workload, &place),
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

    fn new_instance(&mut self, workload: &WorkloadRecord, place: &Place) -> InstanceRecord {
        let now = self.txn.now();
        InstanceRecord {
            id: self
                .txn
                .next_instance_id(&workload.manifest.name, place.slot),
            workload: workload.manifest.key(),
            slot: place.slot,
            revision: place.revision,
            node: None,
            goal: Goal::Run,
            stop_generation: None,
            created_at: now,
            phase_since: now,
            status: InstanceStatus::new(Phase::Pending {
                reason: String::new(),
            }),
            accounted: Accounted::default(),
            version: self.txn.version(),
        }
    }
}
