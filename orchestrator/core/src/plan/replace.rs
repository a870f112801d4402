//! Brings the slots of a workload to what they should hold, within the bounds of its update.

use std::collections::BTreeSet;

use jiff::Timestamp;
use windlass_api::{
    ids::{RevisionNumber, Slot},
    resource::{Goal, RolloutState},
    spec::{OnReturn, UpdateOrder},
    status::Phase,
};

use super::{
    fleet::{Fleet, GivenUp, Rule, Stage},
    moves::{Move, Moves, Place, Spot},
    relocation::{Claim, relocations},
    slot::SlotView,
};
use crate::record::{Gate, InstanceRecord};

/// What is to be done for the fleet.
pub(super) fn moves(fleet: &Fleet<'_>, surplus: &str) -> Moves {
    let mut replacing = Replacing::new(fleet);
    for instance in &fleet.surplus {
        replacing.moves.stop(instance, surplus);
    }
    let (mut waiting, mut changes) = (Vec::new(), Vec::new());
    for (slot, (seat, held)) in &fleet.slots {
        if replacing.expel(held) {
            // It is looked at again when they are on their way out.
            continue;
        }
        let seat = SlotView::of(fleet, *slot, seat, held, &mut replacing.moves);
        let relocations = relocations(fleet, &seat, held, &mut replacing.moves);
        if !relocations.is_empty() {
            changes.extend(relocations);
            continue;
        }
        match seat.stage {
            Stage::Hold => replacing.hold(&seat),
            Stage::Replace | Stage::Canary => match (seat.current, seat.outdated) {
                (None, None) => replacing.fill(&seat),
                (None, Some(old)) => waiting.push((replacing.rank(*slot, old), seat)),
                (Some(new), None) => replacing.settle(&seat, new),
                (Some(new), Some(old)) => replacing.go_on(&seat, new, old),
            },
        }
    }
    // What serves nobody is replaced first, since nothing is lost by that.
    waiting.sort_by_key(|(rank, seat)| (*rank, seat.slot));
    for (_, seat) in waiting {
        if let Some(old) = seat.outdated {
            replacing.begin(&seat, old);
        }
    }
    // An update that waits for a move could fail because of it; so moves have what is left.
    replacing.relocate(changes);
    let wakes = [deadline(fleet), fleet.drain_deadline()];
    for at in wakes.into_iter().flatten() {
        replacing.moves.wake_at(at);
    }
    replacing.moves
}

/// When the rollout has failed unless something happens until then.
fn deadline(fleet: &Fleet<'_>) -> Option<Timestamp> {
    let rollout = fleet.rollout()?;
    match rollout.state {
        RolloutState::Progressing | RolloutState::Canary if rollout.gate == Gate::Open => {
            fleet.survey(rollout).deadline
        }
        RolloutState::Progressing
        | RolloutState::Canary
        | RolloutState::Paused { .. }
        | RolloutState::RollingBack { .. }
        | RolloutState::RolledBack { .. }
        | RolloutState::Completed => None,
    }
}

pub(super) struct Replacing<'a> {
    pub(super) fleet: &'a Fleet<'a>,
    pub(super) moves: Moves,
    /// How many more slots may be replaced now.
    updates_left: u32,
    /// How many more instances may run beside those that they replace.
    surge_left: u32,
    /// How many instances run, or are to run, beside those that they replace beyond what may: a
    /// lost node is back, with instances whose successors wait for a node.
    excess: u32,
    /// How many more instances may be moved now.
    pub(super) moves_left: u32,
    /// How many more may run beside those that they replace on another node.
    pub(super) surge_of_moves_left: u32,
    /// The slots that have an available instance, as far as nothing here stops it.
    available: BTreeSet<Slot>,
    /// The slots in which the new revision has failed, while there are others to go on with.
    passed_over: BTreeSet<Slot>,
}

impl<'a> Replacing<'a> {
    fn new(fleet: &'a Fleet<'a>) -> Self {
        let bounds = &fleet.bounds;
        let passed_over = passed_over(fleet);
        let (mut in_hand, mut moving) = (0, 0);
        let (mut beside, mut moved_beside) = (0, 0);
        let mut available = BTreeSet::new();
        for (slot, (seat, held)) in &fleet.slots {
            let is_up = fleet.any_available(&held.current);
            let claim = Claim::of(fleet, held, fleet.stage(*slot, seat.rule));
            // One that was not available before it was to move is not on that account.
            let moves_up = fleet.any_available(&held.moving);
            let comes = match moves_up {
                true => !held.current.is_empty() && !claim.waits_for_room,
                false => !held.current.is_empty() || !held.moving.is_empty(),
            };
            let comes = comes && !is_up;
            // What is to go at once leaves a slot to fill, which is then in hand, too.
            let comes = comes || !held.expelled.is_empty();
            in_hand += u32::from(comes && !passed_over.contains(slot));
            moving += u32::from(claim.under_way);
            beside += claim.beside;
            moved_beside += claim.moved_beside;
            if is_up || held.predecessors().any(|i| fleet.is_available(i)) {
                available.insert(*slot);
            }
        }
        #[cfg(feature = "mutants")]
        let (in_hand, beside) = match windlass_api::mutants::Mutant::ForgottenSurge.is_on() {
            true => (0, 0),
            false => (in_hand, beside),
        };
        Self {
            fleet,
            moves: Moves::default(),
            updates_left: bounds.parallelism.saturating_sub(in_hand),
            surge_left: bounds.surge.saturating_sub(beside),
            excess: u32::saturating_sub(beside, bounds.surge),
            moves_left: bounds.parallelism.saturating_sub(moving),
            surge_of_moves_left: bounds.surge_of_moves.saturating_sub(moved_beside),
            available,
            passed_over,
        }
    }

    /// In which order slots are begun: what serves nobody first, what failed last.
    fn rank(&self, slot: Slot, old: &InstanceRecord) -> (bool, bool, bool) {
        let tried = self.passed_over.contains(&slot);
        (tried, old.serves(), old.status.phase.is_running())
    }

    /// A slot in which nothing is, as far as anybody can see.
    fn fill(&mut self, slot: &SlotView<'_>) {
        let Some(why) = self.reason_to_fill(slot) else {
            return;
        };
        let revision = self.revision_to_fill();
        self.place(slot, revision, None, after(self.fleet, slot), why);
    }

    /// Why a slot in which nothing can be seen is to be filled; `None` if it is not, for now.
    fn reason_to_fill(&mut self, slot: &SlotView<'_>) -> Option<String> {
        if !self.is_given_up(slot) {
            return None;
        }
        match slot.unseen.first().and_then(|i| i.node.as_ref()) {
            Some(node) => Some(format!("node {node} is lost")),
            None => Some(format!("slot {} is empty", slot.slot)),
        }
    }

    /// Why nothing may run in the slot because of what nobody can see there, if it is so: what is
    /// exclusive has to be fenced, and is then told to stop for good, since it must not come back.
    fn awaits_fence(&mut self, slot: &SlotView<'_>) -> Option<String> {
        let wanted = self.fleet.workload.manifest.spec.is_exclusive();
        if !wanted
            && !slot
                .unseen
                .iter()
                .any(|i| self.fleet.is_exclusive(i.revision))
        {
            return None;
        }
        if !self.is_given_up(slot) {
            let awaited = slot.unseen.first();
            return awaited.map(|i| format!("{} may still run on its lost node", i.id));
        }
        for instance in slot.unseen {
            self.moves.stop(instance, "its node is lost");
        }
        None
    }

    /// Whether what nobody can see in the slot may be replaced now. If only time is missing, it is
    /// looked at again.
    fn is_given_up(&mut self, slot: &SlotView<'_>) -> bool {
        let given_up = self.fleet.given_up(slot.unseen);
        if let GivenUp::From(at) = given_up {
            self.moves.wake_at(at);
        }
        given_up == GivenUp::Now
    }

    /// The wanted revision, or the last good one while enough slots try the new one.
    fn revision_to_fill(&mut self) -> RevisionNumber {
        // It may be empty because its old instance was stopped a moment ago.
        let left = self.updates_left;
        self.updates_left = left.saturating_sub(1);
        let wanted = self.fleet.workload.revision;
        let Some(rollout) = self.fleet.rollout() else {
            return wanted;
        };
        match rollout.state {
            RolloutState::Progressing | RolloutState::Canary if left == 0 => {
                rollout.from.unwrap_or(wanted)
            }
            RolloutState::Progressing
            | RolloutState::Canary
            | RolloutState::Paused { .. }
            | RolloutState::RollingBack { .. }
            | RolloutState::RolledBack { .. }
            | RolloutState::Completed => wanted,
        }
    }

    /// A slot with an old instance only: its successor is started, if it is its turn.
    fn begin(&mut self, slot: &SlotView<'_>, old: &InstanceRecord) {
        let bounds = &self.fleet.bounds;
        let tried = self.passed_over.contains(&slot.slot);
        let runs = old.status.phase.is_running();
        let beside = slot.stage == Stage::Canary || bounds.starts_beside();
        let no_room = runs && beside && slot.stage != Stage::Canary && self.surge_left == 0;
        if self.updates_left == 0 || tried || no_room {
            if old.node.is_none() {
                let why = format!("slot {} is empty", slot.slot);
                self.place(slot, old.revision, Some(old), Spot::Free, why);
            }
            return;
        }
        self.updates_left -= 1;
        self.moves_left = self.moves_left.saturating_sub(1);
        let why = format!("replaces {}", old.id);
        let wanted = self.fleet.workload.revision;
        if !runs && slot.stage != Stage::Canary {
            // It serves nobody, so nothing is gained by keeping it until its successor runs.
            self.moves
                .stop(old, "it does not run, and is to be replaced");
            let spot = after_stopping(self.fleet, slot, old);
            self.place(slot, wanted, None, spot, why);
            return;
        }
        if beside {
            self.surge_left = self.surge_left.saturating_sub(1);
            self.surge_of_moves_left = self.surge_of_moves_left.saturating_sub(1);
        }
        self.place(slot, wanted, None, self.spot_for(slot, old), why);
    }

    /// Where the successor of a running instance may go.
    fn spot_for(&self, slot: &SlotView<'_>, old: &InstanceRecord) -> Spot {
        let bounds = &self.fleet.bounds;
        if slot.stage == Stage::Canary {
            Spot::Free
        } else if !bounds.starts_beside() {
            Spot::Instead(old.id.clone())
        } else if bounds.unavailable_in_stead > 0 {
            Spot::BesideOrInstead(old.id.clone())
        } else {
            Spot::Free
        }
    }

    /// A slot with an old instance and its successor.
    fn go_on(&mut self, slot: &SlotView<'_>, new: &InstanceRecord, old: &InstanceRecord) {
        if slot.stage == Stage::Canary {
            if new.node.is_none() {
                let why = format!("is tried beside {}", old.id);
                self.place(slot, new.revision, Some(new), Spot::Free, why);
            }
            return;
        }
        if self.passed_over.contains(&slot.slot) && old.serves() {
            self.moves
                .stop(new, "it failed, and other slots are tried first");
            self.surge_left += u32::from(new.goal == Goal::Run);
            return;
        }
        let why = format!("replaces {}", old.id);
        if !old.status.phase.is_running() {
            self.moves
                .stop(old, "it does not run, and is being replaced");
            if new.node.is_none() {
                let spot = after_stopping(self.fleet, slot, old);
                self.place(slot, new.revision, Some(new), spot, why);
            }
        } else if new.node.is_none() && self.excess > 0 && self.fleet.bounds.starts_beside() {
            self.excess -= 1;
            self.moves.stop(new, "other instances are replaced first");
        } else if new.node.is_none() {
            self.place(slot, new.revision, Some(new), self.spot_for(slot, old), why);
        } else {
            self.hand_over(slot, new, old);
        }
    }

    /// Stops the old instance of a slot once its successor, which has a node, has taken over; at once
    /// if it does not run.
    pub(super) fn hand_over(
        &mut self,
        slot: &SlotView<'_>,
        new: &InstanceRecord,
        old: &InstanceRecord,
    ) {
        if self.fleet.is_available(new) || !old.status.phase.is_running() {
            self.moves.stop(old, format!("replaced by {}", new.id));
        } else if new.goal == Goal::Prepare {
            if new.status.phase == Phase::Prepared && self.may_lose(slot.slot, old) {
                self.available.remove(&slot.slot);
                self.moves.stop(old, format!("replaced by {}", new.id));
            }
        } else {
            self.look_again(new);
        }
    }

    /// Whether enough other slots are available for this one to lose its old instance before it
    /// has a new one.
    fn may_lose(&self, slot: Slot, old: &InstanceRecord) -> bool {
        if !old.serves() {
            return true;
        }
        let wanted = self.fleet.slots.values();
        let wanted = wanted.filter(|(seat, _)| seat.rule != Rule::Absent).count();
        let others = self.available.iter().filter(|s| **s != slot).count();
        let may_be_missing = match self.fleet.bounds.starts_beside() {
            true => self.fleet.bounds.unavailable_in_stead,
            false => self.fleet.bounds.unavailable,
        };
        others + may_be_missing as usize >= wanted
    }

    /// A slot with the wanted instance only.
    fn settle(&mut self, slot: &SlotView<'_>, new: &InstanceRecord) {
        if new.node.is_none() {
            if let Some(why) = self.reason_to_fill(slot) {
                self.place(slot, new.revision, Some(new), after(self.fleet, slot), why);
            }
        } else if new.goal == Goal::Prepare
            && slot.stopping.is_none()
            && self.awaits_fence(slot).is_none()
        {
            self.moves.list.push(Move::Run { id: new.id.clone() });
        }
        let policy = self.fleet.workload.manifest.spec.disconnect();
        let comes_back = |instance: &InstanceRecord| {
            let kept = policy.is_some_and(|p| p.on_return == OnReturn::KeepOriginal);
            kept && instance.revision == new.revision
        };
        if new.serves() {
            for instance in slot.unseen.iter().filter(|i| !comes_back(i)) {
                let why = format!("replaced by {} while its node was lost", new.id);
                self.moves.stop(instance, why);
            }
        }
        self.look_again(new);
    }

    /// A slot that keeps what it has.
    fn hold(&mut self, slot: &SlotView<'_>) {
        match (slot.current, slot.outdated) {
            // Its node takes nothing more, and what was begun there is brought to its end: other
            // slots wait for it.
            (Some(new), Some(old)) if self.fleet.stage(slot.slot, Rule::Fill) == Stage::Replace => {
                if new.node.is_none() {
                    self.moves.stop(new, "its node takes nothing new");
                } else {
                    self.hand_over(slot, new, old);
                }
            }
            // Which of them is to go is for the operator to say.
            (Some(_), Some(_)) => {}
            (Some(only), None) | (None, Some(only)) => self.settle(slot, only),
            (None, None) if slot.rule == Rule::Fill => {
                let workload = self.fleet.workload;
                let good = workload.rollout.as_ref().and_then(|r| r.from);
                let before = slot.unseen.first().map(|i| i.revision);
                let revision = before.or(good).unwrap_or(workload.revision);
                if let Some(why) = self.reason_to_fill(slot) {
                    self.place(slot, revision, None, after(self.fleet, slot), why);
                }
            }
            (None, None) => {}
        }
    }

    /// Looks again when the instance has become available, if it only takes time.
    fn look_again(&mut self, instance: &InstanceRecord) {
        let at = instance.available_at(self.fleet.bounds.min_ready);
        if let Some(at) = at.filter(|at| *at > self.fleet.now) {
            self.moves.wake_at(at);
        }
    }

    /// Where an instance goes that must not run beside what its slot has: the order of updates is
    /// that of the manifest, which says nothing of an exclusive revision that is no longer wanted,
    /// or is wanted again.
    fn alone(&self, slot: &SlotView<'_>, revision: RevisionNumber, spot: Spot) -> Spot {
        let beside = match spot {
            Spot::Free | Spot::BesideOrInstead(_) | Spot::At { .. } => true,
            Spot::Instead(_) | Spot::Nowhere(_) => false,
        };
        let there = [slot.outdated, slot.current, slot.stopping];
        let other = there.into_iter().flatten().find(|i| i.node.is_some());
        match other.filter(|_| beside && self.fleet.is_exclusive(revision)) {
            Some(other) => Spot::Instead(other.id.clone()),
            None => spot,
        }
    }

    pub(super) fn place(
        &mut self,
        slot: &SlotView<'_>,
        revision: RevisionNumber,
        waiting: Option<&InstanceRecord>,
        spot: Spot,
        why: String,
    ) {
        // One that waits is of the revision that it was made of.
        let revision = waiting.map_or(revision, |waiting| waiting.revision);
        let spot = self.alone(slot, revision, spot);
        let spot = self.awaits_fence(slot).map_or(spot, Spot::Nowhere);
        self.moves.list.push(Move::Place(Place {
            slot: slot.slot,
            revision,
            pinned: slot.pinned.cloned(),
            waiting: waiting.map(|i| i.id.clone()),
            lost: slot.unseen.first().map(|i| i.id.clone()),
            spot,
            why,
        }));
    }
}

/// Where an instance goes whose slot is empty: where the old one goes first, only once it is gone.
fn after(fleet: &Fleet<'_>, slot: &SlotView<'_>) -> Spot {
    match (fleet.bounds.order, slot.stopping) {
        (UpdateOrder::StopFirst, Some(stopping)) => Spot::Instead(stopping.id.clone()),
        (UpdateOrder::StopFirst, None) | (UpdateOrder::StartFirst, _) => Spot::Free,
    }
}

/// Where the successor of an instance goes that is told to stop with it.
fn after_stopping(fleet: &Fleet<'_>, slot: &SlotView<'_>, old: &InstanceRecord) -> Spot {
    match fleet.bounds.order {
        UpdateOrder::StopFirst if old.node.is_some() => Spot::Instead(old.id.clone()),
        UpdateOrder::StopFirst | UpdateOrder::StartFirst => after(fleet, slot),
    }
}

/// The slots in which the new revision has failed, as long as there are others to go on with.
fn passed_over(fleet: &Fleet<'_>) -> BTreeSet<Slot> {
    let Some(rollout) = fleet.rollout() else {
        return BTreeSet::new();
    };
    let fresh = fleet.slots.iter().any(|(slot, (seat, held))| {
        fleet.stage(*slot, seat.rule) == Stage::Replace
            && held.current.is_empty()
            && !rollout.passed_over.contains(slot)
    });
    if fresh {
        rollout.passed_over.clone()
    } else {
        BTreeSet::new()
    }
}
