//! What is to be remembered of what is seen.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use windlass_api::{
    ids::InstanceId,
    wire::{AssignedInstance, Assignment},
};

use super::{Activity, assigned, by_instance, seat::roles, wanted};
use crate::{
    history::{Histories, InstanceHistory, Member, News, Role},
    runtime::{Container, ContainerId, Part, shares_network},
};

/// Looks at the containers of what is wanted, and forgets what is neither wanted nor there. Returns
/// the containers that have failed since the last look.
pub(crate) fn observe(
    histories: &mut Histories,
    assignment: &Assignment,
    containers: &[Container],
    busy: &BTreeMap<Member, Activity>,
    now: Timestamp,
) -> Vec<(Member, ContainerId)> {
    let containers = by_instance(containers, Some(assignment));
    let busy_instances: BTreeSet<&InstanceId> = busy.keys().map(|m| &m.instance).collect();
    histories.retain(|id, _| {
        assigned(Some(assignment), id).is_some()
            || containers.contains_key(id)
            || busy_instances.contains(id)
    });
    let mut failed = Vec::new();
    for assigned in wanted(Some(assignment)) {
        let id = &assigned.id;
        let found = containers.get(id).map_or(&[][..], Vec::as_slice);
        let history = histories.entry(id.clone()).or_default();
        observe_network(history, assigned, found, busy);
        for (part, role) in roles(&assigned.template) {
            let member = Member {
                instance: id.clone(),
                part,
            };
            // What is being done changes the container; its outcome is still to come.
            if busy.contains_key(&member) {
                continue;
            }
            let kept = found.iter().copied().find(|c| c.part == member.part);
            let of_it = history.part_mut(&member.part);
            let news = of_it.observe(&member, role, kept, now);
            if let (News::Failed, Some(kept)) = (news, kept.filter(|_| role != Role::Pause)) {
                failed.push((member, kept.id.clone()));
            }
        }
    }
    failed
}

/// Notes whether the network that an instance shares is gone, unless the pause container is being
/// started or stopped.
fn observe_network(
    history: &mut InstanceHistory,
    assigned: &AssignedInstance,
    found: &[&Container],
    busy: &BTreeMap<Member, Activity>,
) {
    let pause = Member {
        instance: assigned.id.clone(),
        part: Part::Pause,
    };
    if shares_network(&assigned.template) && !busy.contains_key(&pause) {
        let pause = found.iter().copied().find(|c| c.part == Part::Pause);
        let others: Vec<_> = found
            .iter()
            .copied()
            .filter(|c| c.part != Part::Pause)
            .collect();
        history.observe_network(pause, &others);
    }
}
