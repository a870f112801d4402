//! What must hold whatever happens. [`World`] checks after every deed that a second pass finds
//! nothing, that nothing is over capacity, that updates keep their bounds, and that a server which
//! starts anew knows all that the old one knew.

use std::sync::Arc;

use proptest::prelude::*;
use windlass_api::{
    ids::Generation,
    resource::{Goal, RolloutState, Scheduling},
    spec::WorkloadSpec,
    status::Phase,
    wire::{Observed, ObservedInstance, RuntimeHealth, Scope as ReportScope},
};

use super::{
    super::{Scope, plan},
    bounds::{Seat, Wanted},
    deeds::{NODES, deed},
    world::{Faults, World, node_name, status},
};
use crate::{
    command,
    record::{InstanceRecord, WorkloadRecord},
    transaction::Transaction,
    view::workload_status,
};

/// Longer than a job waits before it tries an index again.
const RETRY_SECONDS: i64 = 301;

/// Lets everything be well again, and everything come to rest. Operators leave nodes as they are.
fn recover(world: &mut World) {
    world.faults = Faults::Stopped;
    for node in 1..=NODES + 1 {
        if world.cluster.nodes.contains_key(&node_name(node)) {
            world.join(node);
        }
        world.heartbeat(node, &RuntimeHealth::Healthy);
    }
    // Every index of a job can be waiting for its next attempt.
    for _ in 0..3 {
        world.come_to_rest();
        world.wait(RETRY_SECONDS);
    }
    world.come_to_rest();
}

/// Why a workload is not what it should be although all is well, if that is for an operator to
/// mend: it waits for one, or there is no room, or what it depends on is not there.
fn excused(world: &World, workload: &WorkloadRecord) -> bool {
    let rollout = workload.rollout.as_ref().map(|r| &r.state);
    if let Some(RolloutState::Paused { .. } | RolloutState::Canary) = rollout {
        return true;
    }
    // What has no room for all its copies has none to lose for an update.
    let fits_nowhere = |i: &Arc<InstanceRecord>| i.node.is_none();
    let key = workload.manifest.key();
    world.cluster.instances_of(&key).any(fits_nowhere)
}

/// What has to be so once all is well.
fn is_as_it_should_be(world: &World, workload: &WorkloadRecord) -> Result<(), TestCaseError> {
    let key = workload.manifest.key();
    let instances = || world.cluster.instances_of(&key);
    let status = workload_status(&world.cluster, workload);
    if excused(world, workload) {
        return Ok(());
    }
    let over = workload.rollout.as_ref().is_none_or(|r| r.state.is_over());
    prop_assert!(over, "{key}: {:?}", workload.rollout);
    match &workload.manifest.spec {
        WorkloadSpec::Service(_) | WorkloadSpec::Job(_) => {
            let all: Vec<_> = instances().collect();
            prop_assert!(status.settled, "{key}: {status:?} {all:#?}");
        }
        WorkloadSpec::Daemon(_) => {
            let running = instances().filter(|i| i.goal == Goal::Run && i.serves());
            let on: Vec<_> = running
                .filter_map(|i| i.node.clone().map(Seat::Node))
                .collect();
            let wanted = Wanted::of(&world.cluster, workload).present;
            let mut sorted = on.clone();
            sorted.sort();
            prop_assert_eq!(sorted, Vec::from_iter(wanted), "one on each node: {}", key);
        }
        WorkloadSpec::CronJob(_) => {}
    }
    Ok(())
}

/// Everything has left the nodes that drain, or it says why it cannot, and nothing is left on those
/// that were removed.
fn drains_have_ended(world: &World) -> Result<(), TestCaseError> {
    for node in world.cluster.nodes.values() {
        let leaves = matches!(node.scheduling, Scheduling::Draining { .. }) || node.is_removed();
        for instance in world.cluster.to_leave(node).filter(|_| leaves) {
            let mut of_workload = world.cluster.instances_of(&instance.workload);
            let says_why = of_workload.any(|i| {
                i.node.is_none() && i.status.phase.reason().is_some_and(|why| !why.is_empty())
            });
            prop_assert!(
                says_why && !node.is_removed(),
                "{}: {instance:#?}",
                node.name
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// When all is well again, everything that fits runs, nothing else is left, every job and every
    /// rollout has come to an end or waits for an operator, and every daemon is on each of its
    /// nodes once.
    #[test]
    fn whatever_happens_the_cluster_comes_to_rest(deeds in proptest::collection::vec(deed(), 1..60)) {
        let mut world = World::new(NODES);
        deeds.iter().for_each(|deed| world.do_deed(deed));
        recover(&mut world);
        for workload in world.cluster.workloads.values() {
            is_as_it_should_be(&world, workload)?;
        }
        drains_have_ended(&world)?;
    }

    /// The same input gives the same plan.
    #[test]
    fn planning_is_deterministic(deeds in proptest::collection::vec(deed(), 1..20)) {
        let (mut a, mut b) = (World::new(NODES), World::new(NODES));
        for deed in &deeds {
            a.do_deed(deed);
            b.do_deed(deed);
        }
        prop_assert_eq!(a.cluster, b.cluster);
    }

    /// Reports about different instances lead to the same state in whatever order they come.
    #[test]
    fn the_order_of_reports_does_not_matter(
        deeds in proptest::collection::vec(deed(), 1..20),
        order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut world = World::new(NODES);
        deeds.iter().for_each(|deed| world.do_deed(deed));
        let reports: Vec<_> = world
            .cluster
            .instances
            .values()
            .filter(|i| i.node.is_some() && i.goal == Goal::Run)
            .take(8)
            .map(|i| i.id.clone())
            .collect();
        let after = |order: &mut dyn Iterator<Item = usize>| {
            let mut txn = Transaction::new(&world.cluster, world.now);
            for id in order.filter_map(|n| reports.get(n)) {
                let node = world.cluster.instances[id].node.clone().unwrap();
                let status = status(Phase::Running { started_at: world.now });
                let report = Observed {
                    scope: ReportScope::Delta,
                    instances: vec![ObservedInstance { id: id.clone(), status }],
                    gone: Vec::new(),
                    generation: Generation(0),
                };
                command::agent::observed(&mut txn, &node, &report);
            }
            let report = plan(&mut txn, &Scope::All);
            let cluster = txn.finish().0;
            (report.steps, cluster.instances, cluster.generations)
        };
        prop_assert_eq!(after(&mut (0..8)), after(&mut order.into_iter()));
    }
}
