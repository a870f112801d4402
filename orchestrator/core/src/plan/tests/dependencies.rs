//! What waits for what.

use serde_json::json;
use windlass_api::{ids::Uid, resource::Manifest, status::Phase};

use super::world::{Faults, World, key, node_name};
use crate::command::{self, Refusal};

fn web(condition: &str) -> serde_json::Value {
    json!({ "image": "nginx", "dependsOn": [{ "workload": "db", "condition": condition }] })
}

#[test]
fn nothing_is_started_before_what_it_depends_on_is_so_far() {
    let mut world = World::new(1);
    world.apply("web", web("ready"));
    assert_eq!(
        world.status("web").reasons,
        ["waits for workload db, which does not exist"]
    );
    world.apply("db", json!({ "image": "unready" }));
    world.run_agents();
    assert_eq!(
        world.status("web").reasons,
        ["waits for workload db to be ready"]
    );
    // The wait is not the rollout's, however long it takes.
    world.wait(10_000);
    assert_eq!(world.state("web").name(), "Progressing");
    world.faults = Faults::Stopped;
    world.run_agents();
    assert_eq!(world.live().iter().filter(|i| i.node.is_some()).count(), 2);
    world.come_to_rest();
    assert!(world.status("web").settled && world.status("db").settled);
}

#[test]
fn started_is_enough_where_that_is_asked_for() {
    let mut world = World::new(1);
    world.apply("db", json!({ "image": "unready" }));
    world.apply("web", web("started"));
    world.run_agents();
    world.run_agents();
    assert_eq!(world.status("web").ready, 1);
}

#[test]
fn what_never_completes_is_not_waited_for_in_silence() {
    let mut world = World::new(1);
    world.apply("db", json!({ "image": "nginx" }));
    world.apply("web", web("completed"));
    let reason = &world.status("web").reasons[0];
    assert!(reason.contains("which a Service never does"), "{reason}");
}

#[test]
fn what_runs_goes_on_without_what_it_depended_on_and_a_full_stop_waits_again() {
    let mut world = World::new(2);
    world.apply("db", json!({ "image": "nginx" }));
    world.apply("web", web("ready"));
    world.come_to_rest();
    world.act(|txn| command::delete(txn, &key("db"), None).unwrap());
    world.come_to_rest();
    assert_eq!(world.status("web").ready, 1);
    world.act(|txn| command::scale(txn, &key("web"), 3, None).unwrap());
    world.come_to_rest();
    assert_eq!(world.status("web").ready, 3, "it is no first start");
    world.act(|txn| command::scale(txn, &key("web"), 0, None).unwrap());
    world.come_to_rest();
    world.act(|txn| command::scale(txn, &key("web"), 1, None).unwrap());
    assert_eq!(
        world.status("web").reasons,
        ["waits for workload db, which does not exist"]
    );
}

/// Found by the histories: the rollout of a service without copies waited for what nobody waits for.
#[test]
fn of_what_no_copy_is_wanted_nothing_waits() {
    let mut world = World::new(1);
    let mut none = web("ready");
    none["replicas"] = json!(0);
    world.apply("web", none);
    assert_eq!(world.state("web").name(), "Completed");
    assert!(world.status("web").settled);
    // Once one is wanted, it waits.
    world.act(|txn| command::scale(txn, &key("web"), 1, None).unwrap());
    world.come_to_rest();
    let status = world.status("web");
    assert_eq!(
        status.reasons,
        ["waits for workload db, which does not exist"]
    );
    assert!(!status.settled);
    world.apply("db", json!({ "image": "nginx" }));
    world.come_to_rest();
    assert_eq!(world.status("web").ready, 1);
}

#[test]
fn a_lost_node_does_not_make_its_instances_wait() {
    let mut world = World::new(2);
    world.apply("db", json!({ "image": "nginx" }));
    world.apply("web", web("ready"));
    world.come_to_rest();
    world.act(|txn| command::delete(txn, &key("db"), None).unwrap());
    let on = world.live().iter().find_map(|i| i.node.clone()).unwrap();
    world.lose(if on == node_name(1) { 1 } else { 2 });
    world.run_agents();
    assert_eq!(world.status("web").ready, 1);
}

#[test]
fn circles_are_refused_and_named_whoever_closes_them() {
    let service = |name: &str, on: &str| {
        let spec = json!({ "image": "nginx", "dependsOn": [{ "workload": on }] });
        Manifest::from_json(json!({ "kind": "Service", "name": name, "spec": spec })).unwrap()
    };
    let uids = [Uid(uuid::Uuid::nil()); 3];
    let mut world = World::new(1);
    world.act(|txn| drop(command::apply(txn, &[service("web", "api")], &uids[..1]).unwrap()));
    let closing = [service("api", "db"), service("db", "web")];
    let mut refused = None;
    world.act(|txn| refused = command::apply(txn, &closing, &uids[..2]).err());
    let Some(Refusal::Invalid(errors)) = refused else {
        panic!("it was accepted");
    };
    assert_eq!(errors[0].path, "resources[0].spec.dependsOn");
    assert!(
        errors[0].message.ends_with("api -> db -> web -> api"),
        "{}",
        errors[0].message
    );
}

/// A report that only tells of one instance lets another workload start, which takes room that a
/// third one was told of. [`World::act`] compares each pass with one over everything.
#[test]
fn what_waits_for_room_is_told_of_what_was_let_in() {
    let mut world = World::new(1);
    world.apply("db", json!({ "image": "nginx" }));
    let depends = json!([{ "workload": "db", "condition": "ready" }]);
    let resources = json!({ "cpu": "1" });
    world.apply(
        "api",
        json!({ "image": "nginx", "resources": resources, "dependsOn": depends }),
    );
    world.apply(
        "big",
        json!({ "image": "nginx", "resources": { "cpu": "100" } }),
    );
    let of = |world: &World, name: &str| {
        let key = key(name);
        world.cluster.instances_of(&key).last().unwrap().clone()
    };
    let why = |world: &World| of(world, "big").status.phase.reason().map(str::to_owned);
    let before = why(&world);
    assert_eq!(of(&world, "api").node, None);
    let (db, started_at) = (of(&world, "db").id.clone(), world.now);
    // The first report tells which image it is, too, and that may mean more.
    world.set_phase(&db, Phase::Starting);
    world.set_phase(&db, Phase::Running { started_at });
    assert!(of(&world, "api").node.is_some());
    assert_ne!(why(&world), before);
}
