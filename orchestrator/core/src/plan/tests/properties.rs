//! What must hold whatever happens. [`World`] checks after every deed that a second pass finds
//! nothing, that nothing is over capacity, that updates keep their bounds, and that a server which
//! starts anew knows all that the old one knew.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use windlass_api::{
    ids::{Generation, RevisionNumber, Uid},
    resource::{Goal, Manifest, RolloutAction, RolloutState},
    status::Phase,
    wire::{Observed, ObservedInstance, Scope as ReportScope},
};

use super::{
    super::{Scope, plan},
    world::{Faults, World, key, node_name, status},
};
use crate::{command, record::InstanceRecord, transaction::Transaction, view::workload_status};

#[derive(Debug, Clone)]
enum Deed {
    Apply {
        name: usize,
        replicas: u32,
        image: usize,
        host: Option<u16>,
        memory: u64,
        update: serde_json::Value,
    },
    Scale {
        name: usize,
        replicas: u32,
    },
    Restart {
        name: usize,
    },
    Rollout {
        name: usize,
        action: RolloutAction,
    },
    Delete {
        name: usize,
    },
    Lose(u32),
    Return(u32),
    Agent(u32),
    Break {
        index: usize,
    },
    Wait(i64),
}

/// What people write about updates, and what they do not.
fn update() -> impl Strategy<Value = serde_json::Value> {
    let order = proptest::option::of(prop_oneof![Just("startFirst"), Just("stopFirst")]);
    let on_failure = prop_oneof![Just("rollback"), Just("pause"), Just("continue")];
    let bound = || proptest::option::of(0..3_u32);
    (order, 1..3_u32, bound(), bound(), on_failure, 0..3_u32).prop_map(
        |(order, parallelism, surge, unavailable, on_failure, canary)| {
            let mut update = json!({
                "parallelism": parallelism, "onFailure": on_failure, "canary": canary,
                "progressDeadline": "1m",
            });
            let said = [
                ("order", order.map(Into::into)),
                ("maxSurge", surge.map(Into::into)),
                ("maxUnavailable", unavailable.map(Into::into)),
            ];
            for (field, value) in said {
                if let Some(value) = value {
                    let value: serde_json::Value = value;
                    update[field] = value;
                }
            }
            update
        },
    )
}

fn action() -> impl Strategy<Value = RolloutAction> {
    let to = proptest::option::of((1..6_u32).prop_map(RevisionNumber));
    prop_oneof![
        Just(RolloutAction::Promote),
        Just(RolloutAction::Abort),
        Just(RolloutAction::Pause),
        Just(RolloutAction::Resume),
        to.prop_map(|to| RolloutAction::Undo { to }),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let name = 0..3_usize;
    let host = proptest::option::of(8080..8082_u16);
    let apply = (name.clone(), 0..5_u32, 0..5_usize, host, 0..3_u64, update());
    prop_oneof![
        3 => apply.prop_map(|(name, replicas, image, host, memory, update)| Deed::Apply {
            name,
            replicas,
            image,
            host,
            memory,
            update,
        }),
        1 => (name.clone(), 0..6_u32).prop_map(|(name, replicas)| Deed::Scale { name, replicas }),
        1 => name.clone().prop_map(|name| Deed::Restart { name }),
        2 => (name.clone(), action()).prop_map(|(name, action)| Deed::Rollout { name, action }),
        1 => name.prop_map(|name| Deed::Delete { name }),
        1 => (1..=3_u32).prop_map(Deed::Lose),
        1 => (1..=3_u32).prop_map(Deed::Return),
        4 => (1..=3_u32).prop_map(Deed::Agent),
        2 => (0..8_usize).prop_map(|index| Deed::Break { index }),
        3 => (1..40_i64).prop_map(Deed::Wait),
    ]
}

impl World {
    fn do_deed(&mut self, deed: &Deed) {
        let name = |n: &usize| ["web", "db", "api"][*n];
        match deed {
            Deed::Apply {
                name: n,
                replicas,
                image,
                host,
                memory,
                update,
            } => {
                let image = ["nginx", "nginx:2", "crash", "missing", "unready"][*image];
                let mut spec = json!({
                    "image": image, "replicas": replicas, "update": update,
                    "resources": { "memory": format!("{memory}Gi") },
                });
                if let Some(host) = host {
                    spec["ports"] = json!([{ "container": 80, "host": host }]);
                }
                self.try_to_apply(name(n), spec);
            }
            // Refused where there is no such workload, which changes nothing.
            Deed::Scale { name: n, replicas } => {
                self.act(|txn| drop(command::scale(txn, &key(name(n)), *replicas, None)));
            }
            Deed::Restart { name: n } => {
                self.act(|txn| drop(command::restart(txn, &key(name(n)), None)));
            }
            Deed::Rollout { name: n, action } => drop(self.rollout(name(n), *action)),
            Deed::Delete { name: n } => {
                self.act(|txn| drop(command::delete(txn, &key(name(n)), None)));
            }
            Deed::Lose(n) => self.lose(*n),
            Deed::Return(n) => self.join(*n),
            Deed::Agent(n) => self.run_agent(&node_name(*n)),
            Deed::Break { index } => {
                let Some(id) = self.cluster.instances.keys().nth(*index).cloned() else {
                    return;
                };
                let reason = "it broke".to_owned();
                self.set_phase(
                    &id,
                    Phase::BackingOff {
                        until: self.now,
                        reason,
                    },
                );
            }
            Deed::Wait(seconds) => self.wait(*seconds),
        }
    }

    /// Applies what makes sense; some of what is drawn does not.
    fn try_to_apply(&mut self, name: &str, spec: serde_json::Value) {
        let manifest = json!({ "kind": "Service", "name": name, "spec": spec });
        let manifest = Manifest::from_json(manifest).unwrap();
        self.act(|txn| {
            let uid = Uid(uuid::Uuid::nil());
            drop(txn.attempt(|txn| command::apply(txn, &[manifest], &[uid])));
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// When all is well again, everything that fits runs, nothing else is left, and every rollout
    /// has come to an end or waits for an operator.
    #[test]
    fn whatever_happens_the_cluster_comes_to_rest(deeds in proptest::collection::vec(deed(), 1..40)) {
        let mut world = World::new(3);
        deeds.iter().for_each(|deed| world.do_deed(deed));
        world.faults = Faults::Stopped;
        (1..=3).for_each(|n| world.join(n));
        world.come_to_rest();
        for workload in world.cluster.workloads.values() {
            let status = workload_status(&world.cluster, workload);
            let rollout = workload.rollout.as_ref().unwrap();
            let waits = matches!(
                rollout.state,
                RolloutState::Paused { .. } | RolloutState::Canary
            );
            let key = workload.manifest.key();
            // What has no room for all its copies has none to lose for an update.
            let fits_nowhere = |i: &Arc<InstanceRecord>| i.node.is_none();
            let short = world.cluster.instances_of(&key).any(fits_nowhere);
            prop_assert!(
                status.settled || waits || short,
                "{key}: {status:?} {:#?}", world.cluster.instances_of(&key).collect::<Vec<_>>()
            );
            prop_assert!(waits || short || rollout.state.is_over(), "{key}: {rollout:?}");
        }
    }

    /// The same input gives the same plan.
    #[test]
    fn planning_is_deterministic(deeds in proptest::collection::vec(deed(), 1..20)) {
        let (mut a, mut b) = (World::new(3), World::new(3));
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
        let mut world = World::new(3);
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
