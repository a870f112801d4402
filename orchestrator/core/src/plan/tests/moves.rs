//! What leaves its node: drains, removed nodes, and instances that were asked to move.

use serde_json::json;
use windlass_api::{
    ids::NodeName,
    resource::{DrainRequest, Goal, NodePatch, Scheduling, SchedulingChange},
    status::Phase,
};

use super::world::{World, key, node_name, status};
use crate::{
    command::{self, Force, Refusal},
    record::InstanceRecord,
    view,
};

impl World {
    pub(super) fn drain(&mut self, n: u32, deadline: Option<&str>) {
        let deadline = deadline.map(|text| text.parse().unwrap());
        let request = DrainRequest { deadline };
        self.act(|txn| command::drain(txn, &node_name(n), &request, None).unwrap());
    }

    pub(super) fn uncordon(&mut self, n: u32) {
        let patch = NodePatch {
            scheduling: Some(SchedulingChange::Enabled),
            ..NodePatch::default()
        };
        self.act(|txn| drop(command::patch_node(txn, &node_name(n), &patch, None)));
    }

    pub(super) fn remove(&mut self, n: u32, force: Force) -> Result<(), Refusal> {
        let mut result = Ok(());
        self.act(|txn| result = command::remove_node(txn, &node_name(n), force, None));
        result
    }

    fn on(&self, n: u32) -> usize {
        self.cluster.instances_on(&node_name(n)).count()
    }

    fn is_drained(&self, n: u32) -> bool {
        let drained = |scheduling| {
            matches!(
                scheduling,
                Scheduling::Draining {
                    drained_at: Some(_),
                    ..
                }
            )
        };
        drained(self.cluster.nodes[&node_name(n)].scheduling)
    }

    fn nodes_of(&self, workload: &str) -> Vec<NodeName> {
        let live = self
            .live()
            .into_iter()
            .filter(|i| i.workload == key(workload));
        live.filter_map(|i| i.node.clone()).collect()
    }

    fn only(&self, workload: &str) -> &InstanceRecord {
        let mut live = self
            .live()
            .into_iter()
            .filter(|i| i.workload == key(workload));
        let only = live.next().unwrap();
        assert!(live.next().is_none(), "there are several");
        only
    }
}

#[test]
fn a_drain_moves_one_after_the_other_and_loses_no_available_one() {
    let mut world = World::new(3);
    world.apply("web", json!({ "image": "nginx", "replicas": 6 }));
    world.come_to_rest();
    let before = world.cluster.workloads[&key("web")].clone();
    assert_eq!(world.on(2), 2);
    world.drain(2, None);
    for _ in 0..40 {
        assert!(world.status("web").ready >= 6, "fewer than before");
        assert!(world.live().len() <= 7, "more than one at a time moves");
        world.run_agents();
        world.wait(1);
    }
    assert!(world.is_drained(2));
    assert_eq!((world.on(1), world.on(2), world.on(3)), (3, 0, 3));
    assert!(world.status("web").settled);
    // It is no rollout.
    assert_eq!(world.cluster.workloads[&key("web")], before);
    let drained = |e: &&std::sync::Arc<windlass_api::event::Event>| e.reason == "Drained";
    assert_eq!(world.cluster.events.values().filter(drained).count(), 1);
    // Back in service it is used again.
    world.uncordon(2);
    world.apply("new", json!({ "image": "nginx" }));
    assert_eq!(world.nodes_of("new"), [node_name(2)]);
}

#[test]
fn what_has_room_nowhere_else_stays_and_says_why() {
    let mut world = World::new(2);
    let spec = json!({ "image": "nginx", "placement": { "require": ["node.name == n1"] } });
    world.apply("web", spec);
    world.come_to_rest();
    world.drain(1, None);
    world.run_agents();
    world.wait(3_600);
    let status = world.status("web");
    assert_eq!((status.ready, status.settled), (1, false));
    let why = "0 of 2 nodes fit: 1 draining, 1 not meeting `node.name == n1`";
    assert_eq!(status.reasons, [why]);
    let leaving = view::node(&world.cluster, &world.cluster.nodes[&node_name(1)]);
    assert_eq!(leaving.status.leaving, 1);
    // As soon as there is room, it moves.
    world.apply("web", json!({ "image": "nginx" }));
    world.come_to_rest();
    assert!(world.is_drained(1));
    assert_eq!(world.nodes_of("web"), [node_name(2)]);
}

#[test]
fn uncordon_ends_a_drain_and_what_waited_for_room_is_gone() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx", "replicas": 2 }));
    world.come_to_rest();
    let before: Vec<_> = world.live().iter().map(|i| i.id.clone()).collect();
    world.drain(1, None);
    assert_eq!(world.live().len(), 3, "one waits for room");
    world.uncordon(1);
    world.come_to_rest();
    let after: Vec<_> = world.live().iter().map(|i| i.id.clone()).collect();
    assert_eq!(after, before);
    assert!(world.status("web").settled);
}

#[test]
fn at_the_deadline_what_is_left_is_stopped() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx" }));
    world.come_to_rest();
    world.drain(1, Some("10m"));
    world.wait(598);
    world.run_agents();
    assert_eq!(world.status("web").ready, 1);
    world.wait(2);
    assert_eq!(world.status("web").ready, 0);
    world.run_agents();
    assert!(world.is_drained(1));
    assert!(world.only("web").node.is_none(), "it waits for a node");
    world.join(2);
    assert_eq!(world.nodes_of("web"), [node_name(2)]);
}

#[test]
fn the_planner_wakes_at_the_deadline() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx" }));
    world.come_to_rest();
    let request = DrainRequest {
        deadline: Some("10m".parse().unwrap()),
    };
    let now = world.now;
    let report = world.act(|txn| command::drain(txn, &node_name(1), &request, None).unwrap());
    let in_ten_minutes = now + jiff::SignedDuration::from_mins(10);
    assert_eq!(report.wake, Some(in_ten_minutes));
}

#[test]
fn the_only_copy_with_a_host_port_starts_elsewhere_first() {
    let mut world = World::new(2);
    let ports = json!([{ "container": 80, "host": 8080 }]);
    world.apply("web", json!({ "image": "nginx", "ports": ports }));
    world.come_to_rest();
    world.drain(1, None);
    assert_eq!(world.live().len(), 2);
    assert!(world.live().iter().all(|i| i.goal == Goal::Run));
    for _ in 0..10 {
        assert!(world.status("web").ready >= 1);
        world.run_agents();
        world.wait(1);
    }
    assert_eq!(world.nodes_of("web"), [node_name(2)]);
}

#[test]
fn what_must_not_run_twice_is_stopped_first_once_the_image_is_there() {
    let mut world = World::new(2);
    let update = json!({ "order": "stopFirst" });
    world.apply("db", json!({ "image": "redis", "update": update }));
    world.come_to_rest();
    let old = world.only("db").id.clone();
    let from = world.only("db").node.clone().unwrap();
    let n = u32::from(from == node_name(2)) + 1;
    world.drain(n, None);
    let prepared = world.live().into_iter().find(|i| i.goal == Goal::Prepare);
    let new = prepared.expect("its successor gets ready").id.clone();
    for _ in 0..10 {
        let runs = |id| world.running.values().any(|ids| ids.contains(id));
        assert!(!(runs(&old) && runs(&new)), "both run");
        world.run_agents();
        world.wait(1);
    }
    assert_eq!(world.only("db").id, new);
    assert!(world.is_drained(n));
}

#[test]
fn a_drain_during_an_update_uses_the_update() {
    let mut world = World::new(3);
    world.apply("web", json!({ "image": "nginx", "replicas": 3 }));
    world.come_to_rest();
    world.apply("web", json!({ "image": "nginx:2", "replicas": 3 }));
    world.drain(1, None);
    world.come_to_rest();
    assert!(world.status("web").settled);
    assert!(world.is_drained(1));
    let revisions = world.live().into_iter().map(|i| i.revision.0);
    assert_eq!(revisions.collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn a_paused_update_does_not_keep_a_drain_from_its_end() {
    let mut world = World::new(3);
    let spec = |image: &str| json!({ "image": image, "replicas": 3 });
    world.apply("web", spec("nginx"));
    world.come_to_rest();
    world.apply("web", spec("nginx:2"));
    world.run_agents();
    world
        .rollout("web", windlass_api::resource::RolloutAction::Pause)
        .unwrap();
    for n in 1..=2 {
        world.drain(n, None);
    }
    world.come_to_rest();
    assert!(world.is_drained(1) && world.is_drained(2));
    assert_eq!(world.on(3), world.live().len());
    // Each slot still has what it had: those that were not updated are of the old revision.
    let old = world.live().into_iter().filter(|i| i.revision.0 == 1);
    assert!(old.count() >= 2);
    world
        .rollout("web", windlass_api::resource::RolloutAction::Resume)
        .unwrap();
    world.come_to_rest();
    assert!(world.status("web").settled);
}

#[test]
fn a_move_without_room_neither_holds_up_an_update_nor_fails_it() {
    let mut world = World::new(2);
    // Each copy takes a whole node, so that nothing can move.
    let spec = |image: &str| {
        json!({
            "image": image, "replicas": 2, "resources": { "memory": "3Gi" },
            "update": { "order": "stopFirst", "progressDeadline": "1m" },
        })
    };
    world.apply("web", spec("nginx"));
    world.come_to_rest();
    world.drain(1, None);
    world.wait(300);
    world.apply("other", json!({ "image": "nginx", "replicas": 2 }));
    world.come_to_rest();
    world.apply("other", json!({ "image": "nginx:2", "replicas": 2 }));
    world.come_to_rest();
    assert!(world.status("other").settled);
    assert_eq!(world.status("web").ready, 2);
}

#[test]
fn a_job_runs_to_its_end_while_its_node_drains() {
    let mut world = World::new(2);
    world.apply_kind("Job", "load", json!({ "image": "app" }));
    world.run_agents();
    let only = world.only("load").clone();
    let n = u32::from(only.node == Some(node_name(2))) + 1;
    world.drain(n, Some("10m"));
    world.wait(590);
    assert_eq!(world.only("load").id, only.id);
    world.set_phase(&only.id, Phase::Succeeded);
    assert!(
        world.is_drained(n),
        "what has ended is only there for its log"
    );
    assert_eq!(world.status("load").job.unwrap().failed, 0);
}

#[test]
fn a_job_that_a_drain_stops_goes_on_elsewhere_and_has_not_failed() {
    let mut world = World::new(2);
    world.apply_kind("Job", "load", json!({ "image": "app", "backoffLimit": 0 }));
    world.run_agents();
    let only = world.only("load").clone();
    let n = u32::from(only.node == Some(node_name(2))) + 1;
    world.drain(n, Some("1m"));
    world.wait(60);
    // Its agent stops it, which ends it with a code of its own.
    let mut killed = status(Phase::Stopping);
    killed.last_exit = Some(windlass_api::status::Exit {
        code: 137,
        oom_killed: false,
        reason: None,
        finished_at: world.now,
    });
    world.run_agents();
    let next = world.only("load");
    assert_ne!(next.id, only.id);
    assert_ne!(next.node, only.node);
    assert_eq!(world.status("load").job.unwrap().failed, 0);
}

#[test]
fn a_daemon_stays_on_a_node_that_drains_and_leaves_one_that_is_removed() {
    let mut world = World::new(2);
    world.apply_kind("Daemon", "logs", json!({ "image": "nginx" }));
    world.come_to_rest();
    world.drain(1, None);
    world.come_to_rest();
    assert_eq!(world.nodes_of("logs").len(), 2);
    assert!(world.is_drained(1));
    // It can be removed as it is.
    world.remove(1, Force::No).unwrap();
    world.come_to_rest();
    assert_eq!(world.nodes_of("logs"), [node_name(2)]);
    assert_eq!(world.status("logs").wanted, 1);
    assert_eq!(world.cluster.instances.len(), 1);
}

#[test]
fn a_node_with_instances_is_not_removed_without_force() {
    let mut world = World::new(2);
    world.apply("web", json!({ "image": "nginx", "replicas": 2 }));
    world.come_to_rest();
    let Err(Refusal::Conflict(why)) = world.remove(1, Force::No) else {
        panic!("it has an instance");
    };
    assert!(why.contains("drain it first"), "{why}");
    world.remove(1, Force::Yes).unwrap();
    world.come_to_rest();
    assert_eq!(world.nodes_of("web"), vec![node_name(2); 2]);
    assert!(world.status("web").settled);
}

#[test]
fn the_instances_of_a_lost_node_that_is_removed_are_forgotten_and_never_come_back() {
    let mut world = World::new(2);
    world.apply("web", json!({ "image": "nginx", "replicas": 2 }));
    world.come_to_rest();
    world.lose(1);
    let generation = world.cluster.generation(&node_name(1));
    world.remove(1, Force::No).unwrap();
    assert_eq!(world.on(1), 0);
    assert!(world.cluster.generation(&node_name(1)) > generation);
    world.come_to_rest();
    assert!(world.status("web").settled);
    // Its agent comes back: it is let in, and told to run nothing.
    world.join(1);
    world.apply("web", json!({ "image": "nginx", "replicas": 4 }));
    world.come_to_rest();
    assert!(world.cluster.assignment(&node_name(1)).instances.is_empty());
    assert_eq!(world.nodes_of("web"), vec![node_name(2); 4]);
    assert!(world.running[&node_name(1)].is_empty());
    let refused = |world: &mut World| {
        let mut result = Ok(());
        let request = DrainRequest::default();
        world.act(|txn| result = command::drain(txn, &node_name(1), &request, None));
        result
    };
    assert!(matches!(refused(&mut world), Err(Refusal::Conflict(_))));
}

#[test]
fn another_machine_joins_anew_under_the_name_of_a_removed_node() {
    let mut world = World::new(2);
    let mut other = super::world::hello(1);
    other.info.agent_id = windlass_api::ids::AgentId(uuid::Uuid::from_u128(99));
    world.apply("web", json!({ "image": "nginx", "replicas": 2 }));
    world.come_to_rest();
    world.remove(1, Force::Yes).unwrap();
    // The old one still has something to stop.
    world.act(|txn| {
        assert!(matches!(
            command::agent::hello(txn, &other),
            Err(Refusal::Conflict(_))
        ));
    });
    world.run_agents();
    let generation = world.cluster.generation(&node_name(1));
    world.act(|txn| command::agent::hello(txn, &other).unwrap());
    let node = &world.cluster.nodes[&node_name(1)];
    assert_eq!(node.scheduling, Scheduling::Enabled);
    assert_eq!(node.created_at, world.now);
    assert!(world.cluster.generation(&node_name(1)) >= generation);
    world.apply("web", json!({ "image": "nginx", "replicas": 4 }));
    world.come_to_rest();
    assert_eq!(world.on(1), 2);
}

#[test]
fn what_moves_while_canaries_are_tried_needs_no_more_room_than_it_had() {
    let web = |image: &str, cpu: &str| {
        json!({
            "image": image, "resources": { "cpu": cpu }, "update": { "canary": 1 },
        })
    };
    let filler = json!({ "image": "a", "resources": { "cpu": "3" } });
    let mut world = World::new(1);
    world.apply("web", web("a", "500m"));
    world.come_to_rest();
    world.apply("first", filler.clone());
    world.come_to_rest();
    // It finds no room, and is still there when the next one is tried beside the old one.
    world.apply("web", web("b", "2"));
    world.apply("web", web("c", "500m"));
    world.join(2);
    world.apply("second", filler);
    world.drain(1, None);
    world.wait(1);
    let revisions = world
        .live()
        .into_iter()
        .filter(|i| i.workload == key("web"));
    let there = revisions.filter(|i| i.node == Some(node_name(2)));
    let there: Vec<u32> = there.map(|i| i.revision.0).collect();
    assert_eq!(there, [3, 1]);
}
