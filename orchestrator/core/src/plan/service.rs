//! Services: as many instances as the user asks for, each in a slot of its own.

use std::collections::BTreeMap;

use jiff::Timestamp;
use windlass_api::ids::Slot;

use super::{
    fleet::{Fleet, Rule, Seat},
    moves::Moves,
    replace,
};
use crate::{cluster::Cluster, record::WorkloadRecord};

/// A service, slot by slot.
pub(super) fn fleet<'a>(
    cluster: &'a Cluster,
    workload: &'a WorkloadRecord,
    now: Timestamp,
) -> Fleet<'a> {
    let replicas = workload.manifest.spec.replicas().unwrap_or_default();
    let seat = Seat {
        pinned: None,
        rule: Rule::Fill,
    };
    let seats: BTreeMap<_, _> = (0..replicas)
        .map(|slot| (Slot(slot), seat.clone()))
        .collect();
    Fleet::new(cluster, workload, seats, now)
}

/// What is to be done for a service.
pub(super) fn moves(cluster: &Cluster, workload: &WorkloadRecord, now: Timestamp) -> Moves {
    let fleet = fleet(cluster, workload, now);
    replace::moves(&fleet, "the workload was scaled down")
}
