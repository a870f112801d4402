//! Daemons: one instance for each node.

use std::collections::BTreeMap;

use serde_json::json;
use windlass_api::{
    ids::{NodeName, Slot},
    resource::{DrainRequest, Goal, NodePatch, RolloutState},
};

use super::{
    deeds::Deed,
    world::{World, node_name},
};
use crate::command;

fn daemon(world: &mut World, spec: serde_json::Value) {
    world.apply_kind("Daemon", "web", spec);
}

/// Which slot each node has.
fn slots(world: &World) -> BTreeMap<NodeName, Slot> {
    let live = world.live().into_iter();
    live.filter_map(|i| Some((i.node.clone()?, i.slot)))
        .collect()
}

fn patch(world: &mut World, node: u32, patch: serde_json::Value) {
    let patch: NodePatch = serde_json::from_value(patch).unwrap();
    world.act(|txn| command::patch_node(txn, &node_name(node), &patch, None).unwrap());
}

#[test]
fn every_node_has_one_and_keeps_its_slot() {
    let mut world = World::new(2);
    daemon(&mut world, json!({ "image": "nginx" }));
    world.come_to_rest();
    assert!(world.status("web").settled);
    assert_eq!(world.status("web").wanted, 2);
    let before = slots(&world);
    world.join(3);
    world.come_to_rest();
    let after = slots(&world);
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|(node, slot)| after[node] == *slot));
}

#[test]
fn it_follows_labels_and_taints() {
    let mut world = World::new(3);
    let require = json!({ "require": ["node.labels.gpu == yes"] });
    daemon(
        &mut world,
        json!({ "image": "nginx", "placement": require }),
    );
    assert_eq!(world.live().len(), 0);
    patch(&mut world, 2, json!({ "labels": { "gpu": "yes" } }));
    patch(&mut world, 3, json!({ "labels": { "gpu": "yes" } }));
    world.come_to_rest();
    assert_eq!(
        slots(&world).into_keys().collect::<Vec<_>>(),
        [node_name(2), node_name(3)]
    );
    patch(&mut world, 2, json!({ "labels": { "gpu": null } }));
    patch(&mut world, 3, json!({ "taints": ["dedicated"] }));
    world.come_to_rest();
    assert!(world.cluster.instances.is_empty());
}

#[test]
fn a_node_without_room_says_so_and_gets_one_when_there_is() {
    let mut world = World::new(2);
    let big = json!({ "image": "nginx", "replicas": 1, "resources": { "memory": "3Gi" } });
    world.apply("db", big);
    world.come_to_rest();
    let spec = json!({ "image": "nginx", "resources": { "memory": "2Gi" } });
    daemon(&mut world, spec);
    world.come_to_rest();
    let status = world.status("web");
    assert_eq!((status.wanted, status.ready), (2, 1));
    assert!(
        status.reasons[0].starts_with("does not fit on node n1"),
        "{:?}",
        status.reasons
    );
    world.act(|txn| command::delete(txn, &super::world::key("db"), None).unwrap());
    world.come_to_rest();
    assert!(world.status("web").settled);
}

#[test]
fn a_lost_node_is_not_replaced_and_keeps_what_it_has() {
    let mut world = World::new(3);
    daemon(&mut world, json!({ "image": "nginx" }));
    world.come_to_rest();
    let before: Vec<_> = world.cluster.instances.keys().cloned().collect();
    world.lose(1);
    world.come_to_rest();
    world.join(1);
    world.come_to_rest();
    let after: Vec<_> = world.cluster.instances.keys().cloned().collect();
    assert_eq!(after, before);
}

#[test]
fn a_cordoned_node_keeps_what_it_has_and_gets_nothing_new() {
    let mut world = World::new(2);
    patch(&mut world, 2, json!({ "scheduling": "Cordoned" }));
    daemon(&mut world, json!({ "image": "nginx" }));
    world.come_to_rest();
    assert_eq!(slots(&world).len(), 1);
    patch(&mut world, 1, json!({ "scheduling": "Cordoned" }));
    daemon(&mut world, json!({ "image": "nginx:2" }));
    world.come_to_rest();
    assert_eq!(world.live()[0].revision.0, 1);
    patch(&mut world, 1, json!({ "scheduling": "Enabled" }));
    world.come_to_rest();
    assert_eq!(world.live()[0].revision.0, 2);
}

/// Regression: whoever applied a change waited for nodes that take none, without an end.
#[test]
fn nodes_that_take_nothing_new_or_are_lost_are_not_waited_for() {
    let mut world = World::new(3);
    daemon(&mut world, json!({ "image": "nginx" }));
    world.come_to_rest();
    patch(&mut world, 1, json!({ "scheduling": "Cordoned" }));
    daemon(&mut world, json!({ "image": "nginx:2" }));
    assert!(!world.status("web").settled, "there are two others");
    world.come_to_rest();
    let status = world.status("web");
    assert_eq!((status.wanted, status.ready, status.updated), (3, 3, 2));
    assert!(status.settled, "{status:?}");
    assert_eq!(
        status.reasons,
        ["node n1 is cordoned, and keeps revision 1"]
    );
    world.lose(3);
    let spec = json!({ "image": "nginx", "dependsOn": [{ "workload": "web" }] });
    world.apply("front", spec);
    daemon(&mut world, json!({ "image": "nginx:3" }));
    assert!(!world.status("web").settled, "there is one more");
    world.come_to_rest();
    let status = world.status("web");
    assert_eq!((status.wanted, status.ready, status.updated), (3, 2, 1));
    assert!(status.settled, "{status:?}");
    assert!(
        status.reasons.contains(&"node n3 is lost".to_owned()),
        "{status:?}"
    );
    assert_eq!(world.status("front").ready, 1, "nor by what depends on it");
    world.join(3);
    world.run_agent(&node_name(3));
    assert!(!world.status("web").settled, "it is back");
    patch(&mut world, 1, json!({ "scheduling": "Enabled" }));
    world.come_to_rest();
    let status = world.status("web");
    assert_eq!((status.updated, status.settled), (3, true), "{status:?}");
}

#[test]
fn an_update_goes_node_by_node_and_past_a_lost_one() {
    let mut world = World::new(4);
    daemon(&mut world, json!({ "image": "nginx" }));
    world.come_to_rest();
    world.lose(4);
    daemon(&mut world, json!({ "image": "nginx:2" }));
    for _ in 0..20 {
        let up = world
            .live()
            .iter()
            .filter(|i| i.goal == Goal::Run && i.serves())
            .count();
        // Three nodes are there, and one of them may be without; the lost one is remembered.
        assert!(up >= 3, "{up}");
        world.run_agents();
        world.wait(3);
    }
    assert_eq!(world.state("web"), RolloutState::Completed);
    world.join(4);
    world.come_to_rest();
    assert!(world.live().iter().all(|i| i.revision.0 == 2));
}

#[test]
fn an_update_that_fails_is_taken_back_on_every_node() {
    let mut world = World::new(3);
    daemon(&mut world, json!({ "image": "nginx" }));
    world.come_to_rest();
    daemon(&mut world, json!({ "image": "crash" }));
    world.come_to_rest();
    assert_eq!(world.state("web").name(), "RolledBack");
    assert!(world.status("web").settled);
    assert_eq!(world.live().iter().filter(|i| i.revision.0 == 1).count(), 3);
}

/// The slot that was emptied counted as none to go on with, and the one that was filled counted
/// as one: so it was emptied again, and so on.
#[test]
fn a_slot_is_not_emptied_and_filled_for_ever_while_another_one_fails() {
    let mut world = World::new(2);
    let update = json!({ "onFailure": "continue" });
    daemon(&mut world, json!({ "image": "nginx", "update": update }));
    world.come_to_rest();
    daemon(&mut world, json!({ "image": "crash", "update": update }));
    // The first of them fails with it; the other one, which is to be next, breaks.
    for _ in 0..3 {
        world.run_agent(&node_name(1));
        world.wait(2);
        world.run_agent(&node_name(2));
        for n in 0..2 {
            world.do_deed(&Deed::Break(n));
        }
    }
    assert_eq!(world.live().len(), 2);
}

/// An update that was begun on a node is brought to its end there, or all others would wait for it.
#[test]
fn an_update_goes_on_when_a_node_drains_in_the_middle_of_it() {
    let mut world = World::new(3);
    let spec = |n: u32| json!({ "image": "nginx", "env": { "N": n.to_string() } });
    world.apply_kind("Daemon", "log", spec(1));
    world.come_to_rest();
    world.apply_kind("Daemon", "log", spec(2));
    let begun = world.live().into_iter().find(|i| i.goal == Goal::Prepare);
    let node = begun.and_then(|i| i.node.clone()).unwrap();
    let request = DrainRequest { deadline: None };
    world.act(|txn| command::drain(txn, &node, &request, None).unwrap());
    world.come_to_rest();
    assert_eq!(world.state("log"), RolloutState::Completed);
    let revisions: Vec<_> = world.live().iter().map(|i| i.revision.0).collect();
    assert_eq!(revisions, [2, 2, 2]);
}
