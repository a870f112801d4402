//! A slot as an update sees it: the best of what it holds.

use windlass_api::ids::{NodeName, Slot};

use super::{
    fleet::{Fleet, Held, Returned, Rule, Seat, Stage},
    moves::Moves,
};
use crate::record::InstanceRecord;

/// A slot, with the best of what it holds.
#[derive(Clone)]
pub(super) struct SlotView<'a> {
    pub(super) slot: Slot,
    pub(super) pinned: Option<&'a NodeName>,
    pub(super) rule: Rule,
    pub(super) stage: Stage,
    pub(super) current: Option<&'a InstanceRecord>,
    /// What is to be replaced.
    pub(super) outdated: Option<&'a InstanceRecord>,
    pub(super) unseen: &'a [&'a InstanceRecord],
    /// An instance that is to stop and is not gone yet.
    pub(super) stopping: Option<&'a InstanceRecord>,
}

impl<'a> SlotView<'a> {
    /// Looks at a slot, and stops what it has too many of.
    pub(super) fn of(
        fleet: &Fleet<'a>,
        slot: Slot,
        seat: &'a Seat,
        held: &'a Held<'a>,
        moves: &mut Moves,
    ) -> Self {
        let stage = fleet.stage(slot, seat.rule);
        let outdated: Vec<_> = match stage {
            Stage::Replace => held.predecessors().collect(),
            // There each revision keeps its own: see `relocations`.
            Stage::Canary | Stage::Hold => {
                let stay = held.outdated.iter().filter(|i| !fleet.leaves(i));
                stay.copied().collect()
            }
        };
        let current = match fleet.returned(&held.current) {
            Some(Returned::Keep(kept)) => {
                for instance in held.current.iter().filter(|i| i.id != kept.id) {
                    moves.stop(instance, format!("{} serves again", kept.id));
                }
                Some(kept)
            }
            Some(Returned::KeepBothUntil(at)) => {
                moves.wake_at(at);
                held.current.iter().copied().min_by_key(|i| worth(fleet, i))
            }
            None => best(
                fleet,
                &held.current,
                "another instance fills the slot",
                moves,
            ),
        };
        Self {
            slot,
            pinned: seat.pinned.as_ref(),
            rule: seat.rule,
            stage,
            current,
            outdated: best(fleet, &outdated, "a newer instance fills the slot", moves),
            unseen: &held.unseen,
            stopping: fleet.stopping.get(&slot).copied(),
        }
    }
}

/// The one that is best worth keeping; the others are stopped.
pub(super) fn best<'a>(
    fleet: &Fleet<'a>,
    instances: &[&'a InstanceRecord],
    why: &str,
    moves: &mut Moves,
) -> Option<&'a InstanceRecord> {
    let best = *instances.iter().min_by_key(|i| worth(fleet, i))?;
    for instance in instances.iter().filter(|i| i.id != best.id) {
        moves.stop(instance, why);
    }
    Some(best)
}

/// What of two instances of a slot is better worth keeping is smaller.
fn worth<'a>(fleet: &Fleet<'_>, instance: &'a InstanceRecord) -> impl Ord + use<'a> {
    (
        !fleet.is_available(instance),
        !instance.serves(),
        !instance.status.phase.is_running(),
        instance.node.is_none(),
        instance.created_at,
        &instance.id,
    )
}
