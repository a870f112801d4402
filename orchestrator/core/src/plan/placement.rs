//! Finds nodes for what needs one, and writes down what was found.

use std::collections::{BTreeMap, BTreeSet};

use windlass_api::{
    apply::Action,
    event::{Severity, Subject},
    ids::{ContainerName, NodeName, WorkloadKey},
    resource::Goal,
    status::{InstanceStatus, Phase},
    wire::ResolvedImage,
};

use super::{
    Pass, affected,
    moves::{Place, Spot},
    relocation,
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
    /// It fits nowhere, and this is why.
    Nothing(String),
    /// It is not its turn, and this is why.
    Waits(String),
}

impl Pass<'_> {
    /// Finds nodes for all that needs one. Returns the workloads that this changes something of.
    pub(super) fn place_all(&mut self) -> BTreeSet<WorkloadKey> {
        let (before, from) = (self.txn.cluster().clone(), self.txn.changes().len());
        let mut groups: Groups = BTreeMap::new();
        for (workload, places) in std::mem::take(&mut self.wanted) {
            for place in places {
                if let Spot::Nowhere(reason) = &place.spot {
                    let found = Found::Waits(reason.clone());
                    self.settle(&workload, place, found);
                    continue;
                }
                let revision = RevisionKey {
                    workload: workload.clone(),
                    number: place.revision,
                };
                groups.entry(revision).or_default().push(place);
            }
        }
        self.place_groups(groups);
        affected(&before, self.txn.cluster(), &self.txn.changes()[from..])
    }

    /// Finds nodes for the instances of all groups, and says of the others why they fit nowhere.
    fn place_groups(&mut self, mut groups: Groups) {
        let count = |groups: &Groups| groups.values().map(Vec::len).sum::<usize>();
        while !groups.is_empty() {
            let before = count(&groups);
            let mut scheduler = Scheduler::new(self.txn.cluster(), self.txn.now());
            groups = self.for_each(groups, |pass, group, places| {
                pass.place_group(&mut scheduler, group, places)
            });
            // Why something fits nowhere is said once everything has its place, so that it is said
            // of what is so in the end, and a second pass says the same.
            if count(&groups) == before {
                groups = self.for_each(groups, |pass, group, places| {
                    pass.explain_group(&mut scheduler, group, places);
                    Vec::new()
                });
            }
        }
    }

    /// Does something with each group, and returns what is left of them.
    fn for_each(
        &mut self,
        groups: Groups,
        mut place: impl FnMut(&mut Self, &Group<'_>, Vec<Place>) -> Vec<Place>,
    ) -> Groups {
        let mut left = BTreeMap::new();
        for (key, places) in groups {
            let cluster = self.txn.cluster();
            let workload = cluster.workloads.get(&key.workload).cloned();
            let revision = cluster.revisions.get(&key).cloned();
            let (Some(workload), Some(revision)) = (workload, revision) else {
                continue;
            };
            let group = Group {
                workload: &key.workload,
                revision: key.number,
                placement: workload.manifest.spec.instance().placement,
                template: &revision.template,
            };
            let unplaced = place(self, &group, places);
            if !unplaced.is_empty() {
                left.insert(key, unplaced);
            }
        }
        left
    }

    /// Says why the instances of a group fit nowhere.
    fn explain_group(&mut self, scheduler: &mut Scheduler, group: &Group<'_>, places: Vec<Place>) {
        let (certain, free): (Vec<_>, Vec<_>) = places
            .into_iter()
            .partition(|place| place.only_node().is_some());
        for place in certain {
            let node = place.only_node();
            let why = node.and_then(|node| scheduler.place_on(group, node).err());
            self.settle(
                group.workload,
                place,
                Found::Nothing(why.unwrap_or_default()),
            );
        }
        let why = scheduler.place(group, free.len()).unplaced;
        let reason = why.map(|e| e.to_string()).unwrap_or_default();
        for place in free {
            self.settle(group.workload, place, Found::Nothing(reason.clone()));
        }
    }

    /// Finds nodes for the instances of one revision: for those of empty slots all at once, then
    /// for each other one where it may go. Returns those that fit nowhere.
    fn place_group(
        &mut self,
        scheduler: &mut Scheduler,
        group: &Group<'_>,
        places: Vec<Place>,
    ) -> Vec<Place> {
        let (free, others): (Vec<_>, Vec<_>) = places
            .into_iter()
            .partition(|place| place.spot == Spot::Free && place.pinned.is_none());
        let mut left = Vec::new();
        let mut nodes = scheduler.place(group, free.len()).nodes.into_iter();
        for place in free {
            match nodes.next() {
                Some(node) => self.settle(group.workload, place, Found::Node(node, Goal::Run)),
                None => left.push(place),
            }
        }
        for place in others {
            match self.find(scheduler, group, &place) {
                Some((node, goal)) => {
                    self.settle(group.workload, place, Found::Node(node, goal));
                }
                None => left.push(place),
            }
        }
        left
    }

    /// Where one instance may go, and whether it may run there already.
    fn find(
        &self,
        scheduler: &mut Scheduler,
        group: &Group<'_>,
        place: &Place,
    ) -> Option<(NodeName, Goal)> {
        let anywhere = |scheduler: &mut Scheduler| match place.only_node() {
            Some(node) => scheduler.place_on(group, node).ok().map(|()| node.clone()),
            None => scheduler.place(group, 1).nodes.pop(),
        };
        let instead_of = |scheduler: &mut Scheduler, id| {
            let predecessor = self.txn.cluster().instances.get(id)?;
            scheduler.place_instead_of(group, predecessor)
        };
        match &place.spot {
            Spot::Free | Spot::At { .. } => Some((anywhere(scheduler)?, Goal::Run)),
            Spot::BesideOrInstead(id) => match anywhere(scheduler) {
                Some(node) => Some((node, Goal::Run)),
                None => Some((instead_of(scheduler, id)?, Goal::Prepare)),
            },
            Spot::Instead(id) => {
                let goal = match self.txn.cluster().instances.contains_key(id) {
                    true => Goal::Prepare,
                    false => Goal::Run,
                };
                let node = instead_of(scheduler, id).or_else(|| anywhere(scheduler))?;
                Some((node, goal))
            }
            Spot::Nowhere(_) => None,
        }
    }

    /// Writes down what was found for an instance, unless that is known already.
    fn settle(&mut self, key: &WorkloadKey, place: Place, found: Found) {
        let Some(workload) = self.txn.cluster().workloads.get(key).cloned() else {
            return;
        };
        if let (Spot::At { instead_of, .. }, Found::Nothing(reason)) = (&place.spot, &found) {
            relocation::give_up(self.txn, instead_of, reason);
            return;
        }
        let now = self.txn.now();
        let waiting = place
            .waiting
            .as_ref()
            .and_then(|id| self.txn.cluster().instances.get(id));
        let mut instance = match waiting {
            Some(instance) => InstanceRecord::clone(instance),
            None => self.new_instance(&workload, &place),
        };
        if let (None, Some(lost)) = (&place.waiting, &place.lost) {
            instance.moved_at = Some(now);
            let note = |lost: &mut InstanceRecord| lost.moved_at = Some(now);
            self.txn.update_instance(lost, note);
        }
        let subject = Subject::instance(&instance.workload, &instance.id);
        let word = match found {
            Found::Node(..) => "Placed",
            Found::Nothing(_) => "NotPlaced",
            Found::Waits(_) => "Waiting",
        };
        match found {
            Found::Node(node, goal) => {
                let message = match goal {
                    Goal::Prepare => format!("on {node}, once its predecessor has made room"),
                    Goal::Run | Goal::Stop => format!("on {node}: {}", place.why),
                };
                self.txn
                    .event(subject, Severity::Normal, word, message.clone());
                instance.node = Some(node.clone());
                instance.goal = goal;
                instance.status.phase = Phase::Assigned;
                instance.phase_since = now;
                instance.images = self.images_of(&instance);
                self.touched.insert(node);
                let action = if goal == Goal::Run {
                    Action::Start
                } else {
                    Action::Prepare
                };
                self.step(action, &instance, message);
            }
            Found::Nothing(reason) | Found::Waits(reason) => {
                let phase = Phase::Pending {
                    reason: reason.clone(),
                };
                if place.waiting.is_some() && instance.status.phase == phase {
                    return;
                }
                self.txn
                    .event(subject, Severity::Warning, word, reason.clone());
                instance.status.phase = phase;
                self.step(Action::Wait, &instance, reason);
            }
        }
        self.txn.put_instance(instance);
    }

    /// Which images an instance is to run, as far as others of its revision have found out.
    fn images_of(&self, instance: &InstanceRecord) -> BTreeMap<ContainerName, ResolvedImage> {
        let key = RevisionKey {
            workload: instance.workload.clone(),
            number: instance.revision,
        };
        let revision = self.txn.cluster().revisions.get(&key);
        revision.map(|r| r.images.clone()).unwrap_or_default()
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
            pinned: place.pinned.clone(),
            node: None,
            goal: Goal::Run,
            stop_generation: None,
            created_at: now,
            phase_since: now,
            ready_since: None,
            moved_at: None,
            status: InstanceStatus::new(Phase::Pending {
                reason: String::new(),
            }),
            accounted: Accounted::default(),
            images: BTreeMap::new(),
            relocation: None,
            version: self.txn.version(),
        }
    }
}
