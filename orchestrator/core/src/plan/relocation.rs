//! Moves instances to other nodes: those whose node drains or was removed, and those that were
//! asked to move. It is no rollout, and keeps the bounds of one.

use jiff::{SignedDuration, Timestamp};
use windlass_api::{
    event::{Severity, Subject},
    ids::InstanceId,
    resource::Goal,
};

use super::{
    fleet::{Fleet, Held, Stage},
    moves::{Moves, Spot},
    replace::Replacing,
    service,
    slot::{SlotView, best},
};
use crate::{
    leaving::Leaving,
    record::{InstanceRecord, Relocation, WorkloadRecord},
    transaction::Transaction,
};

/// How long an instance waits for its turn to move before what was found to be better is too old
/// to act on.
const ASKED_FOR_MAX: SignedDuration = SignedDuration::from_hours(1);

/// What the moves of a slot take of the bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// Whether something is to move there and nothing has room for its successor, which has a
    /// record and no node.
    pub(super) waits_for_room: bool,
    /// Whether a successor has a node, and is not available yet.
    pub(super) under_way: bool,
    /// How many instances run beside those that they replace.
    pub(super) beside: u32,
    /// The same, of those that a move has put there.
    pub(super) moved_beside: u32,
}

impl Claim {
    /// What the slot takes. Where an update is held, what it has put there is nothing to a move,
    /// which may not wait until an operator goes on.
    pub(super) fn of(fleet: &Fleet<'_>, held: &Held<'_>, stage: Stage) -> Self {
        let has_node = |i: &&InstanceRecord| i.node.is_some();
        let runs = |i: &&InstanceRecord| i.goal == Goal::Run;
        let (leaves, stays): (Vec<_>, Vec<_>) = held.outdated.iter().partition(|i| fleet.leaves(i));
        let placed = held.current.iter().any(&has_node);
        let waits_for_room = !held.current.is_empty() && !placed && !held.moving.is_empty();
        let count = |of: &[&InstanceRecord]| {
            let there = of
                .iter()
                .filter(|i| runs(i) && (has_node(i) || !waits_for_room));
            u32::try_from(there.count()).unwrap_or(u32::MAX)
        };
        // One revision after the other: what stays of it, and what leaves.
        let revisions = [(&held.current, &held.moving), (&stays, &leaves)];
        let comes =
            |stays: &[&InstanceRecord]| stays.iter().any(&has_node) && !fleet.any_available(stays);
        let moves_come = revisions.iter().any(|(s, l)| comes(s) && !l.is_empty());
        let all = revisions
            .map(|(s, l)| count(s) + count(l))
            .iter()
            .sum::<u32>();
        let beside = all.saturating_sub(1);
        let moved = |(stays, leaves): &(&Vec<_>, &Vec<_>)| count(stays).min(count(leaves));
        match stage {
            Stage::Replace => Self {
                waits_for_room,
                under_way: moves_come
                    || comes(&held.current) && held.predecessors().next().is_some(),
                beside,
                moved_beside: beside,
            },
            Stage::Canary | Stage::Hold => Self {
                waits_for_room,
                under_way: moves_come,
                beside,
                moved_beside: revisions.iter().map(moved).sum(),
            },
        }
    }
}

/// An instance that is to move.
pub(super) struct Change<'a> {
    slot: SlotView<'a>,
    /// What takes its place, if there is something.
    new: Option<&'a InstanceRecord>,
    old: &'a InstanceRecord,
}

/// What is to move in a slot. Where an update goes on, that is what an update would not replace
/// anyway. Where it is held, each revision keeps what it has.
pub(super) fn relocations<'a>(
    fleet: &Fleet<'a>,
    slot: &SlotView<'a>,
    held: &'a Held<'a>,
    moves: &mut Moves,
) -> Vec<Change<'a>> {
    let change = |new, old: Option<&'a InstanceRecord>| {
        Some(Change {
            slot: slot.clone(),
            new,
            old: old?,
        })
    };
    match slot.stage {
        Stage::Replace => {
            let moves = |i: &&InstanceRecord| held.moving.iter().any(|m| m.id == i.id);
            let old = slot.outdated.filter(moves);
            change(slot.current, old).into_iter().collect()
        }
        Stage::Canary | Stage::Hold => {
            let outdated = held.outdated.iter().filter(|i| fleet.leaves(i)).copied();
            let outdated: Vec<_> = outdated.collect();
            let why = "another instance of the slot moves";
            let moving = best(fleet, &held.moving, why, moves);
            let outdated = best(fleet, &outdated, why, moves);
            // What waits for a node takes the place of what is of its revision only: of two that are
            // both to be replaced, the other one may need more than there is.
            let of_another = |stays: &InstanceRecord| {
                stays.node.is_none() && outdated.is_some_and(|old| old.revision != stays.revision)
            };
            let changes = [
                change(slot.current, moving),
                change(slot.outdated.filter(|i| !of_another(i)), outdated),
            ];
            changes.into_iter().flatten().collect()
        }
    }
}

impl<'a> Replacing<'a> {
    /// Stops what is to leave its node at once. Returns whether there was something.
    pub(super) fn expel(&mut self, held: &Held<'_>) -> bool {
        for (instance, leaving) in &held.expelled {
            self.moves.stop(instance, leaving.to_string());
        }
        !held.expelled.is_empty()
    }

    /// Gets on with what is to move: what serves nobody first, since nothing is lost by that.
    pub(super) fn relocate(&mut self, mut changes: Vec<Change<'a>>) {
        changes.sort_by_key(|change| {
            let old = change.old;
            let serves = (old.serves(), old.status.phase.is_running());
            (serves, change.slot.slot, old.revision)
        });
        for Change { slot, new, old } in &changes {
            match new {
                Some(new) if new.node.is_some() => {
                    self.hand_over(slot, new, old);
                    if let Some(Leaving::Asked(_)) = self.fleet.cluster.leaving(old) {
                        self.moves.wake_at(successor_deadline(self.fleet, new));
                    }
                }
                Some(_) | None => self.begin_move(slot, *new, old),
            }
        }
    }

    /// An instance is to move, and its successor has no node yet: it is placed, if it is its turn.
    fn begin_move(
        &mut self,
        slot: &SlotView<'_>,
        new: Option<&InstanceRecord>,
        old: &InstanceRecord,
    ) {
        let Some(leaving) = self.fleet.cluster.leaving(old) else {
            return;
        };
        let runs = old.status.phase.is_running();
        let moves_beside =
            self.fleet.bounds.moves_beside() && !self.fleet.is_exclusive(old.revision);
        let beside = runs && moves_beside;
        if self.moves_left == 0 || beside && self.surge_of_moves_left == 0 {
            if let Some(new) = new {
                let reason = "other instances move first".to_owned();
                let why = String::new();
                self.place(slot, old.revision, Some(new), Spot::Nowhere(reason), why);
            }
            return;
        }
        self.moves_left -= 1;
        self.surge_of_moves_left = self.surge_of_moves_left.saturating_sub(u32::from(beside));
        let spot = match leaving {
            Leaving::Asked(Relocation { to, .. }) => Spot::At {
                node: to.clone(),
                instead_of: old.id.clone(),
            },
            Leaving::Drain { .. } | Leaving::Removed { .. } => {
                if moves_beside {
                    Spot::Free
                } else {
                    // Never where that one is, since nothing new goes there.
                    Spot::Instead(old.id.clone())
                }
            }
        };
        // It is stopped when its successor has a node, also if it serves nobody: an empty slot would
        // be filled with what an update wants, which may be held.
        let why = format!("replaces {}: {leaving}", old.id);
        self.place(slot, old.revision, new, spot, why);
    }
}

/// Drops what was asked of instances and makes no sense any more.
pub(super) fn advance(txn: &mut Transaction, workload: &WorkloadRecord) {
    let fleet = service::fleet(txn.cluster(), workload, txn.now());
    let asked = fleet.slots.values().flat_map(|(_, held)| {
        let moving = held.predecessors();
        moving.filter_map(|i| Some((i.id.clone(), obstacle(&fleet, held, i)?)))
    });
    for (id, reason) in asked.collect::<Vec<_>>() {
        give_up(txn, &id, &reason);
    }
}

/// Why an instance that was asked to move stays where it is.
fn obstacle(fleet: &Fleet<'_>, held: &Held<'_>, instance: &InstanceRecord) -> Option<String> {
    let Some(Leaving::Asked(relocation)) = fleet.cluster.leaving(instance) else {
        return None;
    };
    if instance.revision != fleet.workload.revision {
        return Some("an update replaces it".to_owned());
    }
    if !instance.serves() {
        return Some("it does not serve, so nothing is gained".to_owned());
    }
    if !fleet.bounds.moves_beside() {
        return Some("it would have to stop first".to_owned());
    }
    if let Some(new) = held.current.iter().find(|i| i.node.is_some()) {
        let failed = fleet
            .cluster
            .template_of(new)
            .is_some_and(|template| new.has_crashed(template, relocation.asked_at));
        let late = !fleet.is_available(new) && successor_deadline(fleet, new) <= fleet.now;
        return (failed || late).then(|| format!("{} did not become available", new.id));
    }
    let too_old = relocation.asked_at.saturating_add(ASKED_FOR_MAX);
    let too_old = too_old.unwrap_or(Timestamp::MAX) <= fleet.now;
    too_old.then(|| "it did not get its turn in time".to_owned())
}

/// When the successor of an instance that was asked to move has to be available.
fn successor_deadline(fleet: &Fleet<'_>, new: &InstanceRecord) -> Timestamp {
    let deadline = fleet.bounds.progress_deadline;
    let at = new.created_at.saturating_add(deadline);
    at.unwrap_or(Timestamp::MAX)
}

/// An instance that was asked to move stays where it is.
pub(super) fn give_up(txn: &mut Transaction, id: &InstanceId, reason: &str) {
    let Some(instance) = txn.cluster().instances.get(id).cloned() else {
        return;
    };
    let now = txn.now();
    if let Some(relocation) = instance.relocation.as_deref() {
        let message = format!("stays, and does not move to {}: {reason}", relocation.to);
        let subject = Subject::instance(&instance.workload, id);
        txn.event(subject, Severity::Warning, "MoveGivenUp", message);
    }
    txn.update_instance(id, |instance| {
        if let Some(relocation) = &mut instance.relocation {
            relocation.given_up_at = Some(now);
        }
    });
}
