//! What must hold whatever users ask for, agents report and nodes do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;
use windlass_api::{
    apply::Action,
    ids::{AgentId, ClusterId, Generation, NodeName, Slot, Uid, WorkloadKey},
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, Goal, Manifest, NodeInfo},
    status::{InstanceStatus, Phase, Readiness},
    wire::{Hello, Observed, ObservedInstance, PROTOCOL, RuntimeHealth, Scope as ReportScope},
};

use super::*;
use crate::{
    command,
    view::{find_workload, workload_status},
};

/// A cluster with agents that do what they are told when they are let.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) now: Timestamp,
    /// What exists on each node, whatever the server knows of it.
    running: BTreeMap<NodeName, BTreeSet<InstanceId>>,
}

impl World {
    pub(crate) fn new(nodes: u32) -> Self {
        let mut world = Self {
            cluster: Cluster::new(ClusterId(Uuid::nil())),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            running: BTreeMap::new(),
        };
        for n in 1..=nodes {
            world.join(n);
        }
        world
    }

    /// Makes a change, plans, and checks what must hold at every step.
    pub(crate) fn act(&mut self, change: impl FnOnce(&mut Transaction)) -> Report {
        let mut txn = Transaction::new(&self.cluster, self.now);
        change(&mut txn);
        let report = plan(&mut txn, &Scope::All);
        self.cluster = txn.finish().0;
        self.check();
        report
    }

    pub(crate) fn join(&mut self, n: u32) {
        let hello = hello(n);
        self.act(|txn| command::agent::hello(txn, &hello).unwrap());
    }

    pub(crate) fn apply(&mut self, name: &str, spec: serde_json::Value) -> Report {
        let manifest =
            Manifest::from_json(json!({ "kind": "Service", "name": name, "spec": spec })).unwrap();
        self.act(|txn| {
            command::apply(txn, &[manifest], &[Uid(Uuid::nil())]).unwrap();
        })
    }

    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.act(|_| ());
    }

    /// Lets a node's agent carry out its assignment and report it, if the node is not lost.
    pub(crate) fn run_agent(&mut self, node: &NodeName) {
        if self.cluster.nodes[node].is_lost() {
            return;
        }
        let assignment = self.cluster.assignment(node);
        let started_at = self.now;
        let known = &self.cluster.instances;
        let instances = assignment
            .instances
            .values()
            .map(|assigned| {
                let phase = match (&known[&assigned.id].status.phase, assigned.goal) {
                    (running @ Phase::Running { .. }, _) => running.clone(),
                    (_, Goal::Prepare) => Phase::Prepared,
                    _ => Phase::Running { started_at },
                };
                ObservedInstance {
                    id: assigned.id.clone(),
                    status: status(phase),
                }
            })
            .collect();
        let ran = assignment
            .instances
            .values()
            .filter(|i| i.goal == Goal::Run);
        self.running
            .insert(node.clone(), ran.map(|i| i.id.clone()).collect());
        let report = Observed {
            scope: ReportScope::Full,
            instances,
            gone: Vec::new(),
            generation: assignment.generation,
        };
        self.act(|txn| command::agent::observed(txn, node, &report));
    }

    pub(crate) fn run_agents(&mut self) {
        let nodes: Vec<NodeName> = self.cluster.nodes.keys().cloned().collect();
        nodes.iter().for_each(|node| self.run_agent(node));
    }

    /// Lets everything come to rest.
    pub(crate) fn come_to_rest(&mut self) {
        for _ in 0..60 {
            self.run_agents();
            self.wait(3);
        }
    }

    pub(crate) fn set_phase(&mut self, id: &InstanceId, phase: Phase) {
        let Some(node) = self.cluster.instances[id].node.clone() else {
            return;
        };
        let report = Observed {
            scope: ReportScope::Delta,
            instances: vec![ObservedInstance {
                id: id.clone(),
                status: status(phase),
            }],
            gone: Vec::new(),
            generation: Generation(0),
        };
        self.act(|txn| command::agent::observed(txn, &node, &report));
    }

    fn check(&self) {
        let mut again = Transaction::new(&self.cluster, self.now);
        let report = plan(&mut again, &Scope::All);
        assert_eq!(report.steps, [], "a second pass found something to do");
        assert!(
            again.is_empty(),
            "a second pass changed {:?}",
            again.changes()
        );
        assert_eq!(self.cluster.inconsistencies(), [""; 0]);
        for node in self.cluster.nodes.values() {
            let used = crate::view::node(&self.cluster, node).status.allocated;
            assert!(
                used.memory <= node.capacity.memory,
                "{}: {used:?}",
                node.name
            );
            assert!(used.cpu <= node.capacity.cpu, "{}: {used:?}", node.name);
        }
        let mut holders: BTreeMap<(WorkloadKey, Slot), u32> = BTreeMap::new();
        let seen = self
            .live()
            .into_iter()
            .filter(|i| !self.cluster.is_out_of_sight(i));
        for instance in seen {
            *holders
                .entry((instance.workload.clone(), instance.slot))
                .or_default() += 1;
        }
        // One that is wanted, and one that it replaces. On lost nodes there may be more.
        assert!(holders.values().all(|n| *n <= 2), "{holders:?}");
    }

    fn status(&self, name: &str) -> windlass_api::resource::WorkloadStatus {
        workload_status(&self.cluster, &self.cluster.workloads[&key(name)])
    }

    fn live(&self) -> Vec<&InstanceRecord> {
        self.cluster
            .instances
            .values()
            .map(|i| &**i)
            .filter(|i| i.goal != Goal::Stop)
            .collect()
    }

    fn lose(&mut self, n: u32) {
        let name = node_name(n);
        self.act(|txn| command::agent::lose(txn, &name));
    }
}

/// The status of an instance in this phase; it is ready as soon as it runs.
fn status(phase: Phase) -> InstanceStatus {
    let mut status = InstanceStatus::new(phase);
    if status.phase.is_running() {
        status.readiness = Readiness::Ready;
    }
    status
}

fn key(name: &str) -> WorkloadKey {
    format!("default/{name}").parse().unwrap()
}

fn node_name(n: u32) -> NodeName {
    format!("n{n}").parse().unwrap()
}

fn hello(n: u32) -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: node_name(n),
        info: NodeInfo {
            agent_id: AgentId(Uuid::from_u128(n.into())),
            agent_version: "0".to_owned(),
            engine_id: format!("engine-{n}"),
            engine_version: "0".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
        },
        capacity: Capacity {
            cpu: CpuMillis(4_000),
            memory: MemoryBytes(4 << 30),
        },
        labels: BTreeMap::from([("zone".to_owned(), format!("z{}", n % 2))]),
        taints: Vec::new(),
        cluster: None,
        seen: None,
        runtime: RuntimeHealth::Healthy,
    }
}

fn actions(report: &Report) -> Vec<Action> {
    report.steps.iter().map(|s| s.action).collect()
}

#[test]
fn every_slot_is_filled_at_once() {
    let mut world = World::new(2);
    let report = world.apply("web", json!({ "image": "nginx", "replicas": 4 }));
    assert_eq!(actions(&report), [Action::Start; 4]);
    world.run_agents();
    world.wait(2);
    let status = world.status("web");
    assert!(status.settled && status.running == 4, "{status:?}");
    assert_eq!(world.cluster.instances_on(&node_name(1)).count(), 2);
}

#[test]
fn scaling_down_stops_the_highest_slots_and_makes_no_revision() {
    let mut world = World::new(2);
    world.apply("web", json!({ "image": "nginx", "replicas": 10 }));
    world.run_agents();
    world.act(|txn| command::scale(txn, &key("web"), 3, None).unwrap());
    world.come_to_rest();
    let slots: Vec<_> = world.live().iter().map(|i| i.slot.0).collect();
    assert_eq!(slots, [0, 1, 2]);
    assert_eq!(world.cluster.workloads[&key("web")].revision.0, 1);
    assert_eq!(world.cluster.instances.len(), 3);
}

#[test]
fn an_update_starts_the_new_instance_before_it_stops_the_old_one() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx", "replicas": 3 }));
    world.run_agents();
    world.apply(
        "web",
        json!({ "image": "nginx", "replicas": 3, "env": { "A": "1" } }),
    );
    for _ in 0..40 {
        assert!(
            world.status("web").running >= 3,
            "fewer than wanted while it is updated"
        );
        assert!(
            world.live().len() <= 4,
            "more than one at a time is updated"
        );
        world.run_agents();
        world.wait(1);
    }
    let status = world.status("web");
    assert!(
        status.settled && status.updated == 3 && status.revision.0 == 2,
        "{status:?}"
    );
}

#[test]
fn an_update_that_does_not_come_up_leaves_the_old_instances() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx", "replicas": 2 }));
    world.run_agents();
    world.wait(5);
    world.apply("web", json!({ "image": "no-such-image", "replicas": 2 }));
    let new = world
        .live()
        .iter()
        .find(|i| i.revision.0 == 2)
        .unwrap()
        .id
        .clone();
    let reason = "no such image".to_owned();
    world.set_phase(
        &new,
        Phase::BackingOff {
            until: world.now,
            reason,
        },
    );
    world.wait(594);
    let status = world.status("web");
    assert_eq!(
        (status.running, status.updated, status.settled),
        (2, 0, false)
    );
    assert_eq!(status.reasons, ["no such image"]);
    // And a better one replaces the bad one at once, then the old ones.
    world.apply("web", json!({ "image": "nginx:2", "replicas": 2 }));
    world.come_to_rest();
    assert!(world.status("web").settled);
}

#[test]
fn a_host_port_makes_the_successor_wait_until_it_is_free() {
    let mut world = World::new(1);
    let ports = json!([{ "container": 80, "host": 8080 }]);
    world.apply("web", json!({ "image": "nginx", "ports": ports }));
    world.run_agents();
    let report = world.apply("web", json!({ "image": "nginx:2", "ports": ports }));
    assert_eq!(actions(&report), [Action::Prepare]);
    let old = world
        .live()
        .iter()
        .find(|i| i.revision.0 == 1)
        .unwrap()
        .id
        .clone();
    assert_eq!(
        world.cluster.instances[&old].goal,
        Goal::Run,
        "the image is fetched first"
    );
    world.run_agents();
    assert_eq!(world.cluster.instances[&old].goal, Goal::Stop);
    world.come_to_rest();
    let status = world.status("web");
    assert!(status.settled && status.updated == 1, "{status:?}");
}

#[test]
fn what_fits_nowhere_says_why_and_is_placed_when_a_node_comes() {
    let mut world = World::new(1);
    let spec = json!({ "image": "nginx", "placement": { "require": ["node.labels.zone == z0"] } });
    let report = world.apply("web", spec);
    assert_eq!(actions(&report), [Action::Wait]);
    assert!(
        report.steps[0].reason.contains("0 of 1 nodes"),
        "{}",
        report.steps[0].reason
    );
    world.join(2);
    world.come_to_rest();
    assert!(world.status("web").settled);
}

#[test]
fn a_lost_nodes_instances_are_replaced_and_stopped_when_it_returns() {
    let mut world = World::new(2);
    world.apply("web", json!({ "image": "nginx", "replicas": 4 }));
    world.run_agents();
    world.lose(1);
    world.run_agents();
    assert_eq!(world.status("web").running, 4);
    world.join(1);
    world.come_to_rest();
    assert_eq!(world.cluster.instances.len(), 4, "one is left of each slot");
    assert!(world.status("web").settled);
}

#[test]
fn a_lost_node_that_returns_before_it_is_replaced_keeps_its_instances() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx" }));
    world.run_agents();
    let id = world.live()[0].id.clone();
    world.lose(1);
    assert_eq!(world.live().len(), 2, "its successor waits for a node");
    world.join(1);
    world.come_to_rest();
    let left: Vec<_> = world.live().iter().map(|i| i.id.clone()).collect();
    assert_eq!(left, [id]);
}

#[test]
fn deleting_stops_everything_and_leaves_nothing() {
    let mut world = World::new(2);
    world.apply("web", json!({ "image": "nginx", "replicas": 3 }));
    world.run_agents();
    world.act(|txn| command::delete(txn, &key("web"), None).unwrap());
    world.come_to_rest();
    assert!(world.cluster.instances.is_empty() && world.cluster.revisions.is_empty());
    assert_eq!(find_workload(&world.cluster, &key("web")), None);
}

#[test]
fn an_instance_is_gone_only_when_its_agent_knew_that_it_should_be() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx" }));
    let before = world.cluster.generation(&node_name(1));
    world.run_agents();
    world.act(|txn| command::delete(txn, &key("web"), None).unwrap());
    let report = |generation| Observed {
        scope: ReportScope::Full,
        instances: Vec::new(),
        gone: Vec::new(),
        generation,
    };
    // A report that was on its way: the agent had not yet started what it was told to start.
    world.act(|txn| command::agent::observed(txn, &node_name(1), &report(before)));
    assert_eq!(world.cluster.instances.len(), 1);
    let now = world.cluster.generation(&node_name(1));
    world.act(|txn| command::agent::observed(txn, &node_name(1), &report(now)));
    assert!(world.cluster.instances.is_empty());
}

#[test]
fn old_revisions_are_forgotten() {
    let mut world = World::new(1);
    for i in 0..30 {
        world.apply("web", json!({ "image": "nginx", "env": { "N": i } }));
        world.come_to_rest();
    }
    assert_eq!(world.cluster.revisions.len(), REVISIONS_MAX);
    assert_eq!(world.cluster.workloads[&key("web")].revision.0, 30);
}

#[derive(Debug, Clone)]
enum Deed {
    Apply {
        name: usize,
        replicas: u32,
        env: u8,
        host: Option<u16>,
        memory: u64,
    },
    Scale {
        name: usize,
        replicas: u32,
    },
    Restart {
        name: usize,
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

fn deed() -> impl Strategy<Value = Deed> {
    let name = 0..3_usize;
    prop_oneof![
        (
            name.clone(),
            0..5_u32,
            0..3_u8,
            proptest::option::of(8080..8082_u16),
            0..3_u64
        )
            .prop_map(|(name, replicas, env, host, memory)| Deed::Apply {
                name,
                replicas,
                env,
                host,
                memory
            }),
        (name.clone(), 0..6_u32).prop_map(|(name, replicas)| Deed::Scale { name, replicas }),
        name.clone().prop_map(|name| Deed::Restart { name }),
        name.prop_map(|name| Deed::Delete { name }),
        (1..=3_u32).prop_map(Deed::Lose),
        (1..=3_u32).prop_map(Deed::Return),
        (1..=3_u32).prop_map(Deed::Agent),
        (0..8_usize).prop_map(|index| Deed::Break { index }),
        (1..8_i64).prop_map(Deed::Wait),
    ]
}

impl World {
    fn do_deed(&mut self, deed: &Deed) {
        let name = |n: &usize| ["web", "db", "api"][*n];
        match deed {
            Deed::Apply {
                name: n,
                replicas,
                env,
                host,
                memory,
            } => {
                let mut spec = json!({
                    "image": "nginx", "replicas": replicas, "env": { "E": env },
                    "resources": { "memory": format!("{memory}Gi") },
                });
                if let Some(host) = host {
                    spec["ports"] = json!([{ "container": 80, "host": host }]);
                }
                self.apply(name(n), spec);
            }
            // Refused where there is no such workload, which changes nothing.
            Deed::Scale { name: n, replicas } => {
                self.act(|txn| drop(command::scale(txn, &key(name(n)), *replicas, None)));
            }
            Deed::Restart { name: n } => {
                self.act(|txn| drop(command::restart(txn, &key(name(n)), None)));
            }
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
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// `check` runs after every deed: a second pass finds nothing, nothing is over capacity.
    /// When all is well again, everything that fits runs, and nothing else is left.
    #[test]
    fn whatever_happens_the_cluster_comes_to_rest(deeds in proptest::collection::vec(deed(), 1..40)) {
        let mut world = World::new(3);
        deeds.iter().for_each(|deed| world.do_deed(deed));
        (1..=3).for_each(|n| world.join(n));
        world.come_to_rest();
        for instance in world.cluster.instances.values() {
            let fits_nowhere = |i: &Arc<InstanceRecord>| i.node.is_none();
            // What has no room for all its copies has none to lose for an update.
            let short = world.cluster.instances_of(&instance.workload).any(fits_nowhere);
            prop_assert!(
                instance.status.phase.is_running() || short,
                "{} is {:?}", instance.id, instance.status.phase
            );
            prop_assert!(
                instance.goal == Goal::Run || short,
                "{} is to {:?}", instance.id, instance.goal
            );
        }
        for workload in world.cluster.workloads.values() {
            let status = workload_status(&world.cluster, workload);
            let waiting = !status.reasons.is_empty();
            prop_assert!(status.settled || waiting, "{}: {status:?}", workload.manifest.name);
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
