//! Lost nodes: what is replaced, when, and which of two stays.

use serde_json::{Value, json};
use windlass_api::{
    ids::InstanceId,
    resource::{Evictions, Goal, RolloutAction, RolloutState},
    status::Phase,
    wire::{Observed, ObservedInstance, Scope},
};

use super::world::{World, key, node_name, status};
use crate::command::{self, Force};

/// The default grace period and the margin of a fence, with what a clock may be slow.
const FENCED: i64 = 16;

impl World {
    /// What is to run and is not known to have gone, as its node's number.
    fn placed(&self) -> Vec<String> {
        let live = self.live().into_iter();
        let mut nodes: Vec<_> = live
            .filter_map(|i| i.node.as_ref().map(ToString::to_string))
            .collect();
        nodes.sort();
        nodes
    }

    fn id_on(&self, n: u32) -> InstanceId {
        let live = self.live().into_iter();
        let found = live.filter(|i| i.node.as_ref() == Some(&node_name(n)));
        found.map(|i| i.id.clone()).next().unwrap()
    }

    fn wait_with_agents(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.run_agents();
            self.wait(1);
        }
    }
}

/// Two nodes, with `web` on the first.
fn one_copy(fields: Value) -> World {
    let mut spec = json!({ "image": "nginx" });
    spec.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let mut world = World::new(1);
    world.apply("web", spec);
    world.come_to_rest();
    world.join(2);
    world
}

#[test]
fn the_original_stays_once_it_serves_after_its_node_is_back() {
    let mut world = one_copy(json!({}));
    let original = world.id_on(1);
    world.lose(1);
    assert_eq!(world.placed(), ["n1", "n2"]);
    world.wait_with_agents(20);
    world.join(1);
    assert_eq!(world.placed(), ["n1", "n2"]);
    world.wait_with_agents(20);
    assert_eq!(world.placed(), ["n1"]);
    assert_eq!(world.id_on(1), original);
    assert!(world.status("web").settled);
    assert_eq!(world.cluster.instances.len(), 1);
}

#[test]
fn what_is_begun_after_a_lost_node_was_waited_for_has_its_own_time() {
    let web = |image: &str| {
        json!({
            "image": image, "update": { "progressDeadline": "30s" },
            "disconnect": { "lostAfter": "40s" },
        })
    };
    let mut world = World::new(1);
    world.apply("web", web("nginx"));
    world.come_to_rest();
    world.apply("web", web("other"));
    world.join(2);
    world.lose(1);
    let mut waited = 0;
    while !world.placed().contains(&"n2".to_owned()) {
        world.wait(1);
        waited += 1;
    }
    assert_eq!(waited, 40);
    assert_eq!(world.state("web"), RolloutState::Progressing);
    world.wait(29);
    assert_eq!(world.state("web"), RolloutState::Progressing);
    world.wait(1);
    assert_ne!(world.state("web"), RolloutState::Progressing);
}

#[test]
fn an_original_that_does_not_serve_in_time_gives_way() {
    let mut world = one_copy(json!({}));
    let original = world.id_on(1);
    world.lose(1);
    world.wait_with_agents(20);
    let replacement = world.id_on(2);
    world.join(1);
    let broken = Phase::BackingOff {
        until: "2026-01-01T01:00:00Z".parse().unwrap(),
        reason: "exit code 1".to_owned(),
    };
    let report = Observed {
        scope: Scope::Full,
        instances: vec![ObservedInstance {
            id: original,
            status: status(broken),
        }],
        gone: Vec::new(),
        generation: world.cluster.generation(&node_name(1)),
    };
    world.act(|txn| command::agent::observed(txn, &node_name(1), &report));
    for _ in 0..29 {
        world.wait(1);
        assert_eq!(world.placed(), ["n1", "n2"]);
        assert_eq!(world.cluster.instances[&replacement].goal, Goal::Run);
    }
    world.wait(2);
    assert_eq!(world.placed(), ["n2"]);
}

#[test]
fn the_replacement_stays_where_that_is_wanted() {
    let mut world = one_copy(json!({ "disconnect": { "onReturn": "keepReplacement" } }));
    world.lose(1);
    world.wait_with_agents(20);
    let replacement = world.id_on(2);
    world.join(1);
    world.wait_with_agents(20);
    assert_eq!(world.placed(), ["n2"]);
    assert_eq!(world.id_on(2), replacement);
    assert_eq!(world.cluster.instances.len(), 1);
}

#[test]
fn a_copy_is_waited_for_as_long_as_its_service_says() {
    let mut world = one_copy(json!({ "disconnect": { "lostAfter": "30s" } }));
    world.lose(1);
    for _ in 0..29 {
        world.wait(1);
        assert_eq!(world.placed(), ["n1"]);
    }
    world.wait(1);
    assert_eq!(world.placed(), ["n1", "n2"]);
}

/// Regression: whoever applied a change waited for what is left on a lost node, without an end.
#[test]
fn a_service_is_settled_when_what_is_on_a_lost_node_has_been_replaced() {
    let mut world = one_copy(json!({}));
    world.lose(1);
    assert!(!world.status("web").settled, "its only copy is not seen");
    world.come_to_rest();
    assert_eq!(world.placed(), ["n1", "n2"], "it may still be there");
    let spec = json!({ "image": "nginx:2" });
    for what in ["as it is", "updated"] {
        let status = world.status("web");
        assert_eq!((status.updated, status.settled), (1, true), "{what}");
        assert_eq!(status.reasons, ["node n1 is lost"], "and says so: {what}");
        world.apply("web", spec.clone());
        world.come_to_rest();
    }
    world.join(1);
    world.come_to_rest();
    let status = world.status("web");
    assert!(status.settled && status.reasons.is_empty(), "{status:?}");
}

#[test]
fn a_copy_that_is_not_to_be_replaced_is_waited_for() {
    let mut world = one_copy(json!({ "disconnect": { "replace": false } }));
    let original = world.id_on(1);
    world.lose(1);
    for _ in 0..100 {
        world.wait(100);
        assert_eq!(world.placed(), ["n1"]);
        assert!(!world.status("web").settled, "nothing is in its place");
    }
    world.join(1);
    world.come_to_rest();
    assert_eq!(world.id_on(1), original);
}

#[test]
fn what_is_exclusive_is_replaced_only_when_it_is_fenced() {
    let mut world = one_copy(json!({ "exclusive": true }));
    world.lose(1);
    for _ in 0..FENCED - 1 {
        world.wait(1);
        assert_eq!(world.placed(), ["n1"]);
        assert_eq!(world.running[&node_name(1)].len(), 1);
    }
    world.wait_with_agents(2);
    assert_eq!(world.placed(), ["n2"]);
    assert!(world.running[&node_name(1)].is_empty());
    assert!(world.cluster.instances.values().any(|i| i.serves()));
    // The one that was fenced is never run again.
    world.join(1);
    world.come_to_rest();
    assert_eq!(world.placed(), ["n2"]);
    assert_eq!(world.cluster.instances.len(), 1);
}

/// Regression: it was, when a change that is not exclusive came while it waited for its predecessor.
/// [`World::act`] checks that no two run.
#[test]
fn what_is_exclusive_and_no_longer_wanted_is_not_placed_beside_its_predecessor_either() {
    let mut world = World::new(2);
    world.apply("web", json!({ "image": "crash", "exclusive": true }));
    world.run_agents();
    let first = world.live()[0].node.clone().unwrap();
    let waits = json!([{ "workload": "api", "condition": "started" }]);
    world.apply(
        "web",
        json!({ "image": "nginx", "exclusive": true, "dependsOn": waits }),
    );
    let second = world.live()[0].id.clone();
    world.apply("web", json!({ "image": "nginx", "replicas": 2 }));
    assert_eq!(world.cluster.instances[&second].goal, Goal::Prepare);
    let other = world
        .cluster
        .nodes
        .keys()
        .find(|node| **node != first)
        .cloned();
    world.run_agent(&other.unwrap());
    world.come_to_rest();
    assert!(world.status("web").settled);
}

#[test]
fn an_exclusive_revision_that_is_wanted_again_starts_beside_nothing() {
    let mut world = one_copy(json!({ "exclusive": true }));
    world.apply("web", json!({ "image": "other" }));
    world.come_to_rest();
    let undo = RolloutAction::Undo { to: None };
    world.rollout("web", undo).unwrap();
    let goals: Vec<_> = world.live().into_iter().map(|i| i.goal).collect();
    assert_eq!(goals, [Goal::Run, Goal::Prepare]);
    world.come_to_rest();
    assert_eq!(world.placed().len(), 1);
}

#[test]
fn what_is_exclusive_runs_on_if_its_node_is_back_before_it_is_fenced() {
    let mut world = one_copy(json!({ "exclusive": true }));
    let original = world.id_on(1);
    world.lose(1);
    world.wait(FENCED - 2);
    world.join(1);
    world.come_to_rest();
    assert_eq!(world.id_on(1), original);
    assert_eq!(world.cluster.instances.len(), 1);
}

#[test]
fn what_is_exclusive_is_fenced_also_on_a_lost_node_that_is_removed() {
    let mut world = one_copy(json!({ "exclusive": true }));
    world.lose(1);
    world.remove(1, Force::Yes).unwrap();
    for _ in 0..FENCED - 1 {
        world.wait(1);
        assert_eq!(world.cluster.instances.len(), 1);
    }
    world.wait_with_agents(2);
    assert_eq!(world.placed(), ["n2"]);
    assert_eq!(world.cluster.instances.len(), 1);
}

#[test]
fn nothing_is_replaced_while_most_nodes_are_dark() {
    let mut world = World::new(5);
    world.apply("web", json!({ "image": "nginx", "replicas": 5 }));
    world.come_to_rest();
    // That more are dark than are lost yet is told before the first of them is replaced.
    world.act(|txn| {
        command::agent::lose(txn, &node_name(1));
        command::agent::judge_darkness(txn, 3);
    });
    world.lose(2);
    world.lose(3);
    let stopped =
        |world: &World| matches!(world.cluster.record.evictions, Evictions::Stopped { .. });
    assert!(stopped(&world));
    world.wait_with_agents(100);
    assert_eq!(world.cluster.instances.len(), 5);
    // A link that is mended moved nothing.
    world.join(1);
    world.wait(1);
    assert!(!stopped(&world));
    world.wait_with_agents(20);
    assert_eq!(world.cluster.instances.len(), 7);
    let told = |reason: &str| {
        let mut events = world.cluster.events.values();
        events.any(|event| event.reason == reason)
    };
    assert!(told("EvictionsStopped") && told("EvictionsResumed"));
}

#[test]
fn of_two_nodes_one_may_fail() {
    let mut world = one_copy(json!({}));
    world.lose(1);
    world.wait(1);
    assert_eq!(world.cluster.record.evictions, Evictions::Allowed);
    assert_eq!(world.placed(), ["n1", "n2"]);
}

#[test]
fn a_slot_moves_once_a_minute_at_most_however_often_its_node_is_lost() {
    let mut world = one_copy(json!({}));
    let mut moves = Vec::new();
    for second in 0..600_i64 {
        let before = world.cluster.record.next_instance;
        // It is lost for three seconds, and back for three.
        match second % 6 {
            0 => world.lose(1),
            3 => world.join(1),
            _ => {}
        }
        world.wait_with_agents(1);
        if world.cluster.record.next_instance > before {
            moves.push(second);
        }
    }
    assert!(!moves.is_empty());
    let gaps = moves.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap >= 60), "{moves:?}");
    assert!(world.cluster.workloads.contains_key(&key("web")));
}

/// Whoever takes the name of a lost node runs what it had, so that nothing exclusive may run there still.
#[test]
fn the_name_of_a_lost_node_is_free_once_what_is_exclusive_on_it_is_gone() {
    let mut world = one_copy(json!({ "exclusive": true, "disconnect": { "replace": false } }));
    let mut other = super::world::hello(1);
    other.info.agent_id = windlass_api::ids::AgentId(uuid::Uuid::from_u128(7));
    other.info.boot_id = "another".to_owned();
    let comes = |world: &mut World| {
        let mut result = Ok(());
        world.act(|txn| result = txn.attempt(|txn| command::agent::hello(txn, &other)));
        result
    };
    assert!(comes(&mut world).is_err());
    world.lose(1);
    for _ in 0..FENCED {
        assert!(comes(&mut world).is_err(), "it may still run there");
        world.wait(1);
    }
    world.wait(1);
    comes(&mut world).unwrap();
}
