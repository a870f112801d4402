//! The clock is set forward by a day, or back by an hour, while something is under way: as much time is
//! left for it as was.

use jiff::SignedDuration;
use serde_json::{Value, json};
use windlass_api::resource::{JobState, RolloutState};

use super::world::{World, key};
use crate::command;

/// In seconds.
const DAY_FORWARD: i64 = 24 * 3600;
const HOUR_BACK: i64 = -3600;

impl World {
    /// Sets the clock.
    pub(super) fn set_clock(&mut self, seconds: i64) {
        let by = SignedDuration::from_secs(seconds);
        self.now += by;
        self.act(|txn| command::clock::set(txn, by));
    }
}

fn spec(image: &str, update: Value) -> Value {
    json!({ "image": image, "replicas": 2, "update": update })
}

#[test]
fn an_update_does_not_fail_because_a_day_seems_to_have_passed() {
    let mut world = World::new(2);
    world.apply("web", spec("nginx", json!({})));
    world.come_to_rest();
    let update = json!({ "progressDeadline": "10m" });
    world.apply("web", spec("unready", update));
    world.run_agents();
    world.wait(300);
    for by in [DAY_FORWARD, HOUR_BACK] {
        world.set_clock(by);
        world.wait(140);
        assert_eq!(world.state("web"), RolloutState::Progressing, "{by}");
    }
    world.wait(21);
    let state = world.state("web");
    assert!(
        state.is_over() && state != RolloutState::Completed,
        "{state:?}"
    );
}

#[test]
fn what_is_ready_for_long_enough_counts_though_the_clock_is_put_back() {
    let mut world = World::new(2);
    world.apply("web", spec("nginx", json!({})));
    world.come_to_rest();
    world.apply("web", spec("nginx:2", json!({ "minReady": "20s" })));
    for _ in 0..30 {
        world.run_agents();
        world.wait(1);
        if world.status("web").updated == 1 {
            break;
        }
    }
    world.wait(10);
    world.set_clock(HOUR_BACK);
    for _ in 0..60 {
        world.run_agents();
        world.wait(1);
    }
    assert_eq!(world.state("web"), RolloutState::Completed);
}

#[test]
fn the_original_is_still_the_original() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx" }));
    world.come_to_rest();
    let original = world.live()[0].id.clone();
    world.join(2);
    world.set_clock(HOUR_BACK);
    world.lose(1);
    world.run_agents();
    world.wait(20);
    world.join(1);
    world.come_to_rest();
    assert_eq!(world.live().len(), 1);
    assert_eq!(world.live()[0].id, original);
}

#[test]
fn a_slot_may_move_as_soon_again_as_it_could_have() {
    let mut world = World::new(5);
    world.apply("web", json!({ "image": "nginx" }));
    world.come_to_rest();
    let node = |world: &World| {
        let live = world.live();
        let newest = live.into_iter().max_by_key(|i| i.id.clone());
        newest.and_then(|i| i.node.clone()).unwrap()
    };
    let first = node(&world);
    world.act(|txn| command::agent::lose(txn, &first));
    world.run_agents();
    let second = node(&world);
    assert_ne!(second, first);
    world.wait(50);
    world.set_clock(DAY_FORWARD);
    world.act(|txn| command::agent::lose(txn, &second));
    assert_eq!(node(&world), second, "it moved 50 s ago");
    world.wait(11);
    assert_ne!(node(&world), second);
}

#[test]
fn a_drain_leaves_as_much_time_as_it_did() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx" }));
    world.come_to_rest();
    world.drain(1, Some("10m"));
    world.wait(300);
    for by in [DAY_FORWARD, HOUR_BACK] {
        world.set_clock(by);
        world.wait(149);
        assert_eq!(world.status("web").ready, 1, "{by}");
    }
    world.wait(2);
    assert_eq!(world.status("web").ready, 0);
}

#[test]
fn a_job_has_as_much_time_as_it_had_and_is_kept_for_as_long() {
    let mut world = World::new(1);
    let limits = json!({
        "image": "nginx", "activeDeadline": "10m", "backoffLimit": 0, "ttlAfterFinished": "10m",
    });
    world.apply_kind("Job", "load", limits);
    world.run_agents();
    let state = |world: &World| world.status("load").job.map(|job| job.state);
    world.wait(300);
    world.set_clock(DAY_FORWARD);
    world.wait(298);
    assert_eq!(state(&world), Some(JobState::Running));
    world.wait(3);
    assert!(matches!(state(&world), Some(JobState::Failed { .. })));
    world.run_agents();
    world.set_clock(DAY_FORWARD);
    world.wait(590);
    assert!(world.cluster.workloads.contains_key(&key("load")));
    world.wait(15);
    assert!(!world.cluster.workloads.contains_key(&key("load")));
}

#[test]
fn an_index_that_failed_is_tried_again_as_soon_as_it_would_have_been() {
    let mut world = World::new(1);
    world.apply_kind("Job", "load", json!({ "image": "failing" }));
    // It starts, and fails.
    world.run_agents();
    world.run_agents();
    let waits = |world: &World| world.live().is_empty();
    assert!(waits(&world));
    for by in [DAY_FORWARD, HOUR_BACK] {
        world.set_clock(by);
        world.wait(4);
        assert!(waits(&world), "{by}");
    }
    world.wait(3);
    assert!(!waits(&world));
}

#[test]
fn it_is_said_that_the_clock_was_set() {
    let mut world = World::new(1);
    world.set_clock(HOUR_BACK);
    let events = world.cluster.events.values();
    let told: Vec<_> = events.filter(|e| e.reason == "ClockSet").collect();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].message.contains("back by 1h"),
        "{}",
        told[0].message
    );
}
