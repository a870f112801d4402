//! Evening out: what is worth a move, and that it ends.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;
use windlass_api::{
    event::Subject,
    ids::{Slot, WorkloadName},
    rebalance::PlannedMove,
    resource::DrainRequest,
    status::Phase,
};

use super::world::{World, hello, key, node_name};
use crate::{
    command,
    plan::rebalance::{Proposal, ask, propose},
};

/// More than there is to move in any of these.
const MANY: usize = 1_000;

impl World {
    fn proposal(&self) -> Proposal {
        propose(&self.cluster, &BTreeSet::new(), self.now, MANY)
    }

    pub(super) fn rebalance(&mut self) -> Vec<PlannedMove> {
        let moves = self.proposal().moves;
        self.act(|txn| ask(txn, &moves));
        moves
    }

    fn counts(&self, nodes: u32) -> Vec<usize> {
        let on = |n| self.cluster.instances_on(&node_name(n)).count();
        (1..=nodes).map(on).collect()
    }

    fn events(&self, reason: &str) -> usize {
        let events = self.cluster.events.values();
        events.filter(|event| event.reason == reason).count()
    }
}

fn moved(moves: &[PlannedMove]) -> Vec<(&str, &str)> {
    let nodes = moves.iter().map(|m| (m.from.as_str(), m.to.as_str()));
    nodes.collect()
}

#[test]
fn copies_move_to_a_node_that_came_back_and_then_nothing_more() {
    let mut world = World::new(2);
    world.apply("web", json!({ "image": "nginx", "replicas": 6 }));
    world.come_to_rest();
    assert_eq!(world.proposal(), Proposal::default());
    world.join(3);
    let moves = world.rebalance();
    assert_eq!(moved(&moves), [("n1", "n3"), ("n2", "n3")]);
    assert_eq!(moves[0].reason, "3 copies on its node and 0 on that one");
    for _ in 0..30 {
        assert!(world.status("web").ready >= 6, "fewer than before");
        assert!(world.live().len() <= 7, "more than one at a time moves");
        world.run_agents();
        world.wait(1);
    }
    assert_eq!(world.counts(3), [2, 2, 2]);
    assert!(world.status("web").settled);
    assert_eq!(world.proposal(), Proposal::default());
}

#[test]
fn the_load_of_services_with_one_copy_is_evened_out() {
    let mut world = World::new(2);
    for name in ["a", "b", "c", "d", "e", "f"] {
        world.apply(
            name,
            json!({ "image": "nginx", "resources": { "memory": "512Mi" } }),
        );
    }
    world.come_to_rest();
    assert_eq!(world.counts(2), [3, 3]);
    world.join(3);
    let moves = world.rebalance();
    assert_eq!(moves[0].reason, "its node is 37 % full and that one 0 %");
    world.come_to_rest();
    assert_eq!(world.counts(3), [2, 2, 2]);
    assert_eq!(world.proposal(), Proposal::default());
}

#[test]
fn a_small_difference_is_worth_no_move() {
    let mut world = World::new(1);
    world.apply(
        "a",
        json!({ "image": "nginx", "resources": { "cpu": "50m" } }),
    );
    world.come_to_rest();
    world.join(2);
    assert_eq!(world.proposal(), Proposal::default());
}

#[test]
fn domains_come_before_nodes() {
    let mut world = World::new(0);
    // Zone z1 has the nodes 1 and 3, zone z0 gets node 2 later.
    world.join(1);
    world.join(3);
    let placement = json!({ "spread": ["node.labels.zone"] });
    let spec = json!({ "image": "nginx", "replicas": 4, "placement": placement });
    world.apply("web", spec);
    world.come_to_rest();
    world.join(2);
    let moves = world.rebalance();
    assert!(moves[0].reason.contains("by node.labels.zone"), "{moves:?}");
    world.come_to_rest();
    assert_eq!(world.counts(3), [1, 2, 1]);
    assert_eq!(world.proposal(), Proposal::default());
}

#[test]
fn what_could_only_be_stopped_first_is_left_alone() {
    let mut world = World::new(1);
    let update = json!({ "order": "stopFirst" });
    let spec = json!({ "image": "nginx", "replicas": 4, "update": update });
    world.apply("db", spec);
    world.come_to_rest();
    world.join(2);
    assert_eq!(world.proposal(), Proposal::default());
}

#[test]
fn the_only_copy_with_a_host_port_moves_unless_the_port_is_taken_there() {
    let mut world = World::new(1);
    let service = |host: u16| {
        json!({ "image": "nginx", "resources": { "memory": "1Gi" },
                "ports": [{ "container": 80, "host": host }] })
    };
    world.apply("a", service(8080));
    world.apply("b", service(8081));
    world.come_to_rest();
    // Its agent drives the same engine, which has the ports.
    let mut beside = hello(2);
    beside.info.engine_id = "engine-1".to_owned();
    world.act(|txn| command::agent::hello(txn, &beside).unwrap());
    assert_eq!(world.proposal(), Proposal::default());
    world.join(3);
    let moves = world.rebalance();
    assert_eq!(moved(&moves), [("n1", "n3")]);
    world.come_to_rest();
    assert!(world.status("a").settled && world.status("b").settled);
}

#[test]
fn what_no_longer_fits_where_it_was_to_go_stays() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx", "replicas": 4 }));
    world.come_to_rest();
    world.join(2);
    let moves = world.proposal().moves;
    let request = DrainRequest::default();
    world.act(|txn| command::drain(txn, &node_name(2), &request, None).unwrap());
    world.act(|txn| ask(txn, &moves));
    assert_eq!(world.events("MoveGivenUp"), moves.len());
    world.come_to_rest();
    assert_eq!(world.counts(2), [4, 0]);
    assert!(world.status("web").settled);
}

#[test]
fn a_successor_that_fails_leaves_the_instance_where_it_is() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx", "replicas": 2 }));
    world.come_to_rest();
    let before: BTreeSet<_> = world.cluster.instances.keys().cloned().collect();
    world.join(2);
    assert_eq!(world.rebalance().len(), 1);
    let new = world.live().into_iter().find(|i| !before.contains(&i.id));
    let new = new.unwrap().id.clone();
    let reason = "exit code 1".to_owned();
    world.set_phase(&new, Phase::Failed { reason });
    world.run_agent(&node_name(1));
    assert_eq!(world.events("MoveGivenUp"), 1);
    world.come_to_rest();
    let after: BTreeSet<_> = world.cluster.instances.keys().cloned().collect();
    assert_eq!(after, before);
    assert!(world.status("web").settled);
}

#[test]
fn an_update_makes_a_move_that_was_asked_for_moot() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx", "replicas": 4 }));
    world.come_to_rest();
    world.join(2);
    world.rebalance();
    world.apply("web", json!({ "image": "nginx:2", "replicas": 4 }));
    world.come_to_rest();
    let status = world.status("web");
    assert!(status.settled && status.revision.0 == 2, "{status:?}");
}

fn auto(replicas: u32, memory: u64) -> serde_json::Value {
    json!({
        "image": "nginx", "replicas": replicas, "rebalance": "auto",
        "resources": { "memory": format!("{memory}Mi") },
    })
}

#[test]
fn the_server_moves_what_may_be_moved_once_a_node_has_settled() {
    let mut world = World::new(1);
    world.apply("web", auto(2, 64));
    world.apply("by-hand", json!({ "image": "nginx", "replicas": 2 }));
    world.come_to_rest();
    world.wait(3_600);
    world.join(2);
    assert_eq!(world.counts(2), [4, 0]);
    world.wait(59);
    assert_eq!(world.counts(2), [4, 0], "it has not settled");
    world.wait(1);
    assert_eq!(world.counts(2), [4, 1]);
    world.come_to_rest();
    assert_eq!(world.counts(2), [3, 1]);
    assert!(world.status("web").settled);
}

#[test]
fn what_was_started_a_moment_ago_is_not_moved_by_the_server() {
    let mut world = World::new(1);
    world.apply("web", auto(2, 64));
    world.run_agents();
    world.join(2);
    world.wait(300);
    assert_eq!(world.counts(2), [2, 0]);
    world.wait(300);
    assert_eq!(world.counts(2), [2, 1]);
}

#[derive(Debug, Clone)]
enum Fate {
    Apply(usize, u32, u64),
    Join(u32),
    Lose(u32),
    Wait(i64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => (0..4_usize, 0..5_u32, 1..9_u64).prop_map(|(n, replicas, m)| Fate::Apply(n, replicas, m * 100)),
        1 => (1..=4_u32).prop_map(Fate::Join),
        1 => (1..=4_u32).prop_map(Fate::Lose),
        4 => (1..400_i64).prop_map(Fate::Wait),
    ]
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the nodes do, the server moves no slot twice within ten minutes.
    #[test]
    fn no_slot_is_moved_by_the_server_twice_in_ten_minutes(
        fates in proptest::collection::vec(fate(), 1..40),
    ) {
        let mut world = World::new(2);
        let mut asked: BTreeMap<(WorkloadName, Slot), Timestamp> = BTreeMap::new();
        for fate in fates {
            match fate {
                Fate::Apply(n, replicas, memory) => drop(world.apply(NAMES[n], auto(replicas, memory))),
                Fate::Join(n) => world.join(n),
                Fate::Lose(n) if world.cluster.nodes.contains_key(&node_name(n)) => world.lose(n),
                Fate::Lose(_) => {}
                Fate::Wait(seconds) => {
                    world.wait(seconds);
                    world.run_agents();
                    world.wait(3);
                    world.run_agents();
                }
            }
            for instance in world.cluster.instances.values() {
                let Some(relocation) = instance.relocation.as_deref() else {
                    continue;
                };
                let slot = (instance.workload.name.clone(), instance.slot);
                let before = asked.insert(slot, relocation.asked_at);
                let between = before.map(|before| relocation.asked_at.duration_since(before));
                let far = |t: SignedDuration| t.is_zero() || t >= SignedDuration::from_mins(10);
                prop_assert!(between.is_none_or(far), "after {:?}", between);
            }
        }
    }

    /// Evening out by hand ends: what was proposed happens, and then there is nothing to propose.
    #[test]
    fn evening_out_comes_to_an_end(
        services in proptest::collection::vec((0..5_u32, 0..9_u64, 0..3_u8), 1..5),
        joins in 1..4_u32,
    ) {
        let mut world = World::new(1);
        for ((replicas, memory, spread), name) in services.iter().zip(NAMES) {
            let spread: &[&str] = match spread {
                0 => &[],
                1 => &["node.labels.zone"],
                _ => &["node.labels.zone", "node.name"],
            };
            let spec = json!({
                "image": "nginx", "replicas": replicas, "placement": { "spread": spread },
                "resources": { "memory": format!("{}Mi", memory * 64) },
            });
            world.apply(name, spec);
        }
        world.come_to_rest();
        (2..2 + joins).for_each(|n| world.join(n));
        let mut rounds = 0;
        while !world.rebalance().is_empty() {
            world.come_to_rest();
            prop_assert_eq!(world.events("MoveGivenUp"), 0);
            rounds += 1;
            prop_assert!(rounds <= 3, "it goes on and on");
        }
    }
}

#[test]
fn one_call_asks_for_so_many_and_says_that_there_is_more() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx", "replicas": 6 }));
    world.come_to_rest();
    world.join(2);
    let two = propose(&world.cluster, &BTreeSet::new(), world.now, 2);
    assert_eq!((two.moves.len(), two.more), (2, true));
    let other = BTreeSet::from([key("other")]);
    assert_eq!(
        propose(&world.cluster, &other, world.now, 2),
        Proposal::default()
    );
    let about = |m: &PlannedMove| Subject::instance(&m.workload, &m.instance);
    assert_ne!(about(&two.moves[0]), about(&two.moves[1]));
}
