//! Services: slots, updates and lost nodes.

use serde_json::json;
use windlass_api::{
    apply::Action,
    duration::Span,
    resource::Goal,
    status::Phase,
    wire::{Observed, Scope as ReportScope},
};

use super::{
    super::{REVISIONS_MAX, Report},
    world::{World, key, node_name},
};
use crate::{
    command,
    view::{self, find_workload},
};

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

/// Regression: what ended again and again passed for scaled, since it was ready for a moment.
#[test]
fn a_copy_more_is_available_when_it_has_been_ready_for_long_enough_and_anew_after_each_end() {
    let mut world = World::new(1);
    world.apply(
        "web",
        json!({ "image": "nginx", "update": { "minReady": "5s" } }),
    );
    world.come_to_rest();
    world.act(|txn| command::scale(txn, &key("web"), 2, None).unwrap());
    let id = world.live()[1].id.clone();
    let min_ready = Span::from_secs(5);
    // As the API shows it, and as updates and moves count it.
    let available_at = |world: &World| {
        let record = &world.cluster.instances[&id];
        let shown = view::instance(&world.cluster, record);
        let told = shown
            .status
            .available_at(shown.phase_since, shown.ready_since, min_ready);
        assert_eq!(told, record.available_at(min_ready));
        told
    };
    for _ in 0..3 {
        let started_at = world.now;
        world.set_phase(&id, Phase::Running { started_at });
        assert!(world.status("web").settled, "at this moment");
        let from = started_at + min_ready.as_signed();
        assert_eq!(available_at(&world), Some(from));
        world.wait(4);
        let reason = "exit code 1".to_owned();
        let until = world.now;
        world.set_phase(&id, Phase::BackingOff { until, reason });
        assert_eq!(available_at(&world), None);
        world.wait(60);
    }
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
