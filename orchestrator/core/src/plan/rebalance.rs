//! Which running instances have clearly a better place on another node, and asking them to move.
//!
//! Only services that are at rest are looked at: every slot has an available instance of the
//! wanted revision, and nothing else is there. What could only be stopped first stays.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use windlass_api::{
    event::{Severity, Subject},
    ids::{NodeName, WorkloadKey},
    rebalance::PlannedMove,
    spec::{Kind, Rebalance, WorkloadSpec},
    status::NodeState,
};

use super::service;
use crate::{
    cluster::Cluster,
    command::Refusal,
    leaving::Leaving,
    record::{InstanceRecord, Relocation, RevisionKey, WorkloadRecord},
    scheduler::{Better, Group, Scheduler},
    transaction::Transaction,
};

/// How long an instance of a service with `rebalance: auto` stays where it was started before the
/// server moves it, and after a move that came to nothing.
const AUTO_EVERY: SignedDuration = SignedDuration::from_mins(10);
/// How long a node has to be there before the server moves something to it by itself: one that
/// comes and goes gets nothing.
const NODE_SETTLES: SignedDuration = SignedDuration::from_mins(1);
/// The most instances that the server itself has on the move at a time: it is in no hurry.
const AUTO_MOVES_MAX: usize = 4;

/// The moves that even out the load of the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The moves, in the order in which they were found.
    pub moves: Vec<PlannedMove>,
    /// Whether there may be more than were asked for.
    pub more: bool,
}

/// The moves that even out the load of the nodes, of the services in `only` or of all if it is
/// empty; at most `limit`. Each gains something on top of those before it.
#[must_use]
pub fn propose(
    cluster: &Cluster,
    only: &BTreeSet<WorkloadKey>,
    now: Timestamp,
    limit: usize,
) -> Proposal {
    let mut scheduler = Scheduler::new(cluster, now);
    let mut candidates: Vec<(&WorkloadRecord, Vec<&InstanceRecord>)> = Vec::new();
    for (key, workload) in &cluster.workloads {
        if only.is_empty() || only.contains(key) {
            candidates.extend(at_rest(cluster, workload, now).map(|rest| (&**workload, rest)));
        }
    }
    let mut moves = Vec::new();
    loop {
        let before = moves.len();
        for (workload, instances) in &mut candidates {
            while let Some(step) = best_move(&mut scheduler, cluster, workload, instances) {
                if moves.len() == limit {
                    return Proposal { moves, more: true };
                }
                moves.push(step);
            }
        }
        // What has moved may have made room for others.
        if moves.len() == before {
            return Proposal { moves, more: false };
        }
    }
}

/// The instances of a service that is at rest, one for each slot, if they can move at all.
fn at_rest<'a>(
    cluster: &'a Cluster,
    workload: &'a WorkloadRecord,
    now: Timestamp,
) -> Option<Vec<&'a InstanceRecord>> {
    if workload.manifest.kind != Kind::Service {
        return None;
    }
    let fleet = service::fleet(cluster, workload, now);
    let over = fleet
        .rollout()
        .is_none_or(|rollout| rollout.state.is_over());
    if !over || !fleet.bounds.moves_beside() || !fleet.is_quiet() {
        return None;
    }
    let only = |held: &super::fleet::Held<'a>| match held.current.as_slice() {
        [only] if held.is_alone() && fleet.is_available(only) => Some(*only),
        _ => None,
    };
    fleet.slots.values().map(|(_, held)| only(held)).collect()
}

/// The move of one of the instances that gains most. It is taken out of them.
fn best_move(
    scheduler: &mut Scheduler,
    cluster: &Cluster,
    workload: &WorkloadRecord,
    instances: &mut Vec<&InstanceRecord>,
) -> Option<PlannedMove> {
    let key = workload.manifest.key();
    let revision = RevisionKey {
        workload: key.clone(),
        number: workload.revision,
    };
    let revision = cluster.revisions.get(&revision)?;
    let group = Group {
        workload: &key,
        revision: workload.revision,
        placement: workload.manifest.spec.instance().placement,
        template: &revision.template,
    };
    // Those on one node are alike.
    let mut nodes = BTreeSet::new();
    let mut best: Option<(usize, Better)> = None;
    for (at, instance) in instances.iter().enumerate() {
        if !nodes.insert(&instance.node) {
            continue;
        }
        if let Some(better) = scheduler.better_for(&group, instance)
            && best
                .as_ref()
                .is_none_or(|(_, best)| best.gain.rank() < better.gain.rank())
        {
            best = Some((at, better));
        }
    }
    let (at, Better { to, gain }) = best?;
    let instance = instances.remove(at);
    scheduler.relocate(instance, &to);
    Some(PlannedMove {
        workload: key.clone(),
        slot: instance.slot,
        instance: instance.id.clone(),
        from: instance.node.clone()?,
        to,
        reason: gain.to_string(),
    })
}

/// Whether the workloads can be asked to even out.
///
/// # Errors
/// If one does not exist, or is no service.
pub fn check(cluster: &Cluster, keys: &[WorkloadKey]) -> Result<(), Refusal> {
    for key in keys {
        let Some(workload) = cluster.workloads.get(key) else {
            let what = format!("workload {key}");
            return Err(Refusal::NotFound { what });
        };
        if workload.manifest.kind != Kind::Service {
            let kind = workload.manifest.kind;
            let why = format!("{key} is a {kind}, and only a Service is moved");
            return Err(Refusal::Conflict(why));
        }
    }
    Ok(())
}

/// Asks instances to move. What is no longer as it was when that was proposed stays.
pub fn ask(txn: &mut Transaction, moves: &[PlannedMove]) {
    for step in moves {
        let cluster = txn.cluster();
        let Some(instance) = cluster.instances.get(&step.instance).cloned() else {
            continue;
        };
        let there = instance.node.as_ref() == Some(&step.from);
        if !there || !instance.serves() || cluster.leaving(&instance).is_some() {
            continue;
        }
        let relocation = Relocation {
            to: step.to.clone(),
            reason: step.reason.clone(),
            asked_at: txn.now(),
            given_up_at: None,
        };
        let message = format!("from {} to {}: {}", step.from, step.to, step.reason);
        let subject = Subject::instance(&instance.workload, &instance.id);
        txn.event(subject, Severity::Normal, "MoveAsked", message);
        txn.update_instance(&step.instance, |instance| {
            instance.relocation = Some(Box::new(relocation));
        });
    }
}

/// Asks instances of services with `rebalance: auto` to move, as an operator would. It is no part of
/// planning, and is done before everything is looked at.
pub fn by_itself(txn: &mut Transaction) {
    let cluster = txn.cluster().clone();
    let now = txn.now();
    let auto: Vec<_> = cluster.workloads.values().filter(|w| is_auto(w)).collect();
    // What is on the move counts on both nodes, so that nothing can be said until it is there.
    let asked = |i: &Arc<InstanceRecord>| matches!(cluster.leaving(i), Some(Leaving::Asked(_)));
    if auto.is_empty() || cluster.instances.values().any(asked) {
        return;
    }
    let mut candidates = Vec::new();
    for workload in auto {
        let rest = at_rest(&cluster, workload, now);
        let ripe = rest.into_iter().flatten().filter(|i| is_ripe(i, now));
        let ripe: Vec<_> = ripe.collect();
        if !ripe.is_empty() {
            candidates.push((workload, ripe));
        }
    }
    if candidates.is_empty() {
        return;
    }
    let mut scheduler = Scheduler::new(&cluster, now);
    // The copies of a workload move one after the other, however many of them might.
    let moves = candidates
        .into_iter()
        .filter_map(|(workload, mut ripe)| best_move(&mut scheduler, &cluster, workload, &mut ripe))
        .filter(|step| has_settled(&cluster, &step.to, now));
    let moves: Vec<_> = moves.take(AUTO_MOVES_MAX).collect();
    ask(txn, &moves);
}

fn is_auto(workload: &WorkloadRecord) -> bool {
    matches!(
        &workload.manifest.spec,
        WorkloadSpec::Service(spec) if spec.rebalance == Rebalance::Auto
    )
}

/// Whether the server may move an instance by itself. One that has moved is new where it is, so
/// that no slot moves more often than that.
fn is_ripe(instance: &InstanceRecord, now: Timestamp) -> bool {
    let given_up_at = instance.relocation.as_deref().and_then(|r| r.given_up_at);
    let since = given_up_at.unwrap_or(instance.created_at);
    now.duration_since(since) >= AUTO_EVERY
}

fn has_settled(cluster: &Cluster, node: &NodeName, now: Timestamp) -> bool {
    cluster.nodes.get(node).is_some_and(|node| {
        node.state == NodeState::Ready && now.duration_since(node.state_since) >= NODE_SETTLES
    })
}
