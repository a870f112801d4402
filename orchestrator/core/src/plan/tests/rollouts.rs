//! Rollouts: the order, failures, canaries, and what operators and users do meanwhile.

use serde_json::json;
use windlass_api::{
    ids::RevisionNumber,
    resource::{Goal, RolloutAction, RolloutState},
    spec::UpdateOrder,
    status::Phase,
};

use super::world::{Faults, World, key};
use crate::command;

/// A cluster of two nodes with four instances of a good revision.
pub(super) fn rolled_out() -> World {
    let mut world = World::new(2);
    world.apply("web", spec("nginx", json!({})));
    world.come_to_rest();
    assert_eq!(world.state("web"), RolloutState::Completed);
    world
}

pub(super) fn spec(image: &str, update: serde_json::Value) -> serde_json::Value {
    json!({ "image": image, "replicas": 4, "update": update })
}

/// How many instances there are of a revision, and are to run.
pub(super) fn count(world: &World, revision: u32) -> usize {
    let of_it = |i: &&crate::record::InstanceRecord| i.revision.0 == revision;
    let live = world.live();
    live.into_iter()
        .filter(of_it)
        .filter(|i| i.goal == Goal::Run)
        .count()
}

fn events(world: &World) -> Vec<&str> {
    let subject = windlass_api::event::Subject::workload(&key("web"));
    world
        .cluster
        .events_about(&subject)
        .map(|e| e.reason.as_str())
        .collect()
}

#[test]
fn an_image_that_exits_at_once_is_rolled_back_with_its_last_words() {
    let mut world = rolled_out();
    world.apply("web", spec("crash", json!({})));
    world.run_agents();
    assert_eq!(
        world.state("web"),
        RolloutState::Progressing,
        "once may be bad luck"
    );
    world.run_agents();
    let state = world.state("web");
    let RolloutState::RolledBack { reason } = &state else {
        panic!("{state:?}");
    };
    assert!(
        reason.contains("exit code 1\n  cannot open config"),
        "{reason}"
    );
    let status = world.status("web");
    assert_eq!((status.revision, status.ready), (RevisionNumber(1), 4));
    assert_eq!(status.rollout.unwrap().to, RevisionNumber(2));
    assert!(events(&world).ends_with(&["RolloutFailed", "RolledBack"]));
    world.come_to_rest();
    assert_eq!(count(&world, 1), 4);
    assert!(world.status("web").settled);
}

#[test]
fn what_cannot_be_pulled_or_is_never_ready_fails_after_the_deadline() {
    for (image, why) in [("missing", "no such image"), ("unready", "answered 503")] {
        let mut world = rolled_out();
        world.apply("web", spec(image, json!({ "progressDeadline": "5m" })));
        world.run_agents();
        let report = world.act(|_| ());
        let deadline = world.now + jiff::SignedDuration::from_secs(300);
        assert_eq!(report.wake, Some(deadline), "nothing else wakes the server");
        world.wait(299);
        assert_eq!(world.state("web"), RolloutState::Progressing);
        world.wait(1);
        let state = world.state("web");
        let reason = state.reason().unwrap();
        assert!(
            reason.contains("no progress for 5m") && reason.contains(why),
            "{reason}"
        );
        world.come_to_rest();
        assert_eq!(count(&world, 1), 4, "{image}");
        assert_eq!(world.state("web").name(), "RolledBack");
    }
}

#[test]
fn what_needs_more_memory_than_any_node_has_fails_and_says_so() {
    let mut world = rolled_out();
    let mut big = spec("nginx:2", json!({ "progressDeadline": "5m" }));
    big["resources"] = json!({ "memory": "64Gi" });
    world.apply("web", big);
    world.wait(300);
    let state = world.state("web");
    assert!(
        state.reason().unwrap().contains("without enough memory"),
        "{state:?}"
    );
    world.come_to_rest();
    assert_eq!(count(&world, 1), 4);
}

#[test]
fn what_turns_unhealthy_after_the_rollout_is_not_its_failure() {
    let mut world = rolled_out();
    world.faults = Faults::Stopped;
    world.apply("web", spec("unready", json!({})));
    world.come_to_rest();
    assert_eq!(world.state("web"), RolloutState::Completed);
    world.faults = Faults::Happen;
    world.run_agents();
    world.wait(3_000);
    let status = world.status("web");
    assert_eq!((status.revision, status.ready), (RevisionNumber(2), 0));
    assert_eq!(world.state("web"), RolloutState::Completed);
}

#[test]
fn what_turns_unhealthy_within_min_ready_is() {
    let mut world = rolled_out();
    world.faults = Faults::Stopped;
    let update = json!({ "minReady": "10m", "progressDeadline": "11m" });
    world.apply("web", spec("crash", update));
    world.run_agents();
    world.wait(300);
    world.faults = Faults::Happen;
    world.run_agents();
    world.run_agents();
    assert_eq!(world.state("web").name(), "RollingBack");
    // The old ones, too, have to be ready for so long.
    world.wait(600);
    assert_eq!(world.state("web").name(), "RolledBack");
}

#[test]
fn the_first_revision_has_nothing_to_go_back_to_and_is_tried_on() {
    let mut world = World::new(2);
    world.apply("web", spec("crash", json!({})));
    world.run_agents();
    world.run_agents();
    world.wait(3_600);
    assert_eq!(world.state("web"), RolloutState::Progressing);
    assert_eq!(events(&world), ["Created", "RolloutFailing"]);
    let subject = windlass_api::event::Subject::workload(&key("web"));
    let event = world.cluster.events_about(&subject).last().unwrap();
    assert_eq!(
        event.message,
        "revision 1: web-0-1: exit code 1; no revision before it was good, so it is tried on\n  \
         cannot open config"
    );
    let rollout = world.status("web").rollout.unwrap();
    assert_eq!(
        rollout.failure.as_deref(),
        Some("web-0-1: exit code 1\n  cannot open config")
    );
    assert_eq!(world.status("web").reasons, ["exit code 1 (4 instances)"]);
    world.faults = Faults::Stopped;
    world.come_to_rest();
    assert_eq!(world.state("web"), RolloutState::Completed);
    assert_eq!(world.status("web").rollout.unwrap().failure, None);
}

/// What has no readiness probe is ready whenever it runs, if only for a moment.
#[test]
fn a_first_revision_that_ends_again_and_again_is_never_settled() {
    let mut world = World::new(1);
    world.apply("web", json!({ "image": "nginx" }));
    let id = world.live()[0].id.clone();
    for _ in 0..20 {
        let started_at = world.now;
        world.set_phase(&id, Phase::Running { started_at });
        assert_eq!(world.status("web").ready, 1);
        assert!(!world.status("web").settled, "ready for a moment");
        world.wait(1);
        assert!(!world.status("web").settled, "ready for a second");
        let reason = "exit code 1".to_owned();
        let until = world.now;
        world.set_phase(&id, Phase::BackingOff { until, reason });
        world.wait(60);
        assert!(!world.status("web").settled, "it backs off");
        assert_eq!(world.state("web"), RolloutState::Progressing);
    }
    world.come_to_rest();
    assert!(world.status("web").settled, "once it stays");
}

#[test]
fn a_failure_pauses_where_that_is_asked_for_and_resume_tries_again() {
    let mut world = rolled_out();
    world.apply("web", spec("crash", json!({ "onFailure": "pause" })));
    world.run_agents();
    world.run_agents();
    let status = world.status("web");
    assert_eq!(status.rollout.unwrap().state.name(), "Paused");
    assert!(
        status.reasons[0].starts_with("paused: web-0-5: exit code 1"),
        "{:?}",
        status.reasons
    );
    world.wait(3_600);
    assert_eq!((count(&world, 1), count(&world, 2)), (4, 1));
    world.faults = Faults::Stopped;
    world.rollout("web", RolloutAction::Resume).unwrap();
    world.come_to_rest();
    assert_eq!(count(&world, 2), 4);
}

#[test]
fn a_failure_is_passed_over_where_that_is_asked_for_within_the_bounds() {
    let mut world = rolled_out();
    let update = json!({ "onFailure": "continue" });
    world.apply("web", spec("crash", update));
    for _ in 0..30 {
        world.run_agents();
        assert!(world.status("web").ready >= 4, "an old one was given up");
        world.wait(10);
    }
    let rollout = world.cluster.workloads[&key("web")]
        .rollout
        .clone()
        .unwrap();
    assert_eq!(rollout.passed_over.len(), 4, "all were tried");
    world.faults = Faults::Stopped;
    world.come_to_rest();
    assert_eq!(
        (count(&world, 2), world.state("web")),
        (4, RolloutState::Completed)
    );
}

#[test]
fn canaries_run_beside_the_old_ones_until_they_are_promoted() {
    let mut world = rolled_out();
    world.apply("web", spec("nginx:2", json!({ "canary": 2 })));
    world.come_to_rest();
    assert_eq!(world.state("web"), RolloutState::Canary);
    assert_eq!((count(&world, 1), count(&world, 2)), (4, 2));
    world.wait(100_000);
    assert_eq!(
        world.state("web"),
        RolloutState::Canary,
        "nobody hurries the operator"
    );
    world.rollout("web", RolloutAction::Promote).unwrap();
    world.come_to_rest();
    assert_eq!((count(&world, 1), count(&world, 2)), (0, 4));
    assert_eq!(world.state("web"), RolloutState::Completed);
}

#[test]
fn aborted_canaries_go_and_the_old_ones_were_never_touched() {
    let mut world = rolled_out();
    let before: Vec<_> = world.live().iter().map(|i| i.id.clone()).collect();
    // As many canaries as replicas: blue and green.
    world.apply("web", spec("nginx:2", json!({ "canary": 4 })));
    world.come_to_rest();
    assert_eq!((count(&world, 1), count(&world, 2)), (4, 4));
    world.rollout("web", RolloutAction::Abort).unwrap();
    world.come_to_rest();
    let after: Vec<_> = world.live().iter().map(|i| i.id.clone()).collect();
    assert_eq!(after, before);
    assert_eq!(world.state("web").name(), "RolledBack");
}

#[test]
fn a_canary_that_fails_is_a_failed_rollout() {
    let mut world = rolled_out();
    world.apply("web", spec("crash", json!({ "canary": 1 })));
    world.run_agents();
    world.run_agents();
    world.come_to_rest();
    assert_eq!(world.state("web").name(), "RolledBack");
    assert_eq!(count(&world, 1), 4);
}

#[test]
fn what_was_rolled_back_stays_so_until_a_restart_or_a_change() {
    let mut world = rolled_out();
    world.apply("web", spec("crash", json!({})));
    world.run_agents();
    world.run_agents();
    world.come_to_rest();
    let rolled_back = world.cluster.workloads.clone();
    world.apply("web", spec("crash", json!({})));
    assert_eq!(
        world.cluster.workloads, rolled_back,
        "an apply of the same is no change"
    );
    world.act(|txn| command::scale(txn, &key("web"), 5, None).unwrap());
    world.come_to_rest();
    assert_eq!(
        (world.state("web").name(), count(&world, 1)),
        ("RolledBack", 5)
    );
    world.faults = Faults::Stopped;
    world.act(|txn| command::restart(txn, &key("web"), None).unwrap());
    world.come_to_rest();
    assert_eq!(
        (world.state("web"), count(&world, 3)),
        (RolloutState::Completed, 5)
    );
}

#[test]
fn a_new_apply_supersedes_a_rollout_and_the_last_good_revision_stays_that() {
    let mut world = rolled_out();
    world.apply("web", spec("unready", json!({})));
    world.run_agents();
    world.apply("web", spec("crash", json!({})));
    let rollout = world.status("web").rollout.unwrap();
    assert_eq!(
        (rollout.from, rollout.to),
        (Some(RevisionNumber(1)), RevisionNumber(3))
    );
    world.run_agents();
    world.run_agents();
    world.come_to_rest();
    assert_eq!(count(&world, 1), 4);
    assert_eq!(world.status("web").revision, RevisionNumber(1));
}

#[test]
fn scaling_works_in_the_middle_of_a_rollout_and_new_slots_do_not_all_try_the_new_one() {
    let mut world = rolled_out();
    world.apply("web", spec("unready", json!({})));
    world.run_agents();
    world.act(|txn| command::scale(txn, &key("web"), 8, None).unwrap());
    world.run_agents();
    assert_eq!((count(&world, 1), count(&world, 2)), (8, 1));
    world.act(|txn| command::scale(txn, &key("web"), 2, None).unwrap());
    world.faults = Faults::Stopped;
    world.come_to_rest();
    assert_eq!((count(&world, 1), count(&world, 2)), (0, 2));
}

#[test]
fn actions_that_make_no_sense_are_refused_and_repeated_ones_are_not() {
    let mut world = rolled_out();
    for action in [
        RolloutAction::Promote,
        RolloutAction::Abort,
        RolloutAction::Pause,
    ] {
        world.rollout("web", action).unwrap_err();
    }
    world.rollout("web", RolloutAction::Resume).unwrap();
    world.apply("web", spec("nginx:2", json!({})));
    for _ in 0..2 {
        world.rollout("web", RolloutAction::Pause).unwrap();
    }
    world.come_to_rest();
    assert_eq!((count(&world, 1), count(&world, 2)), (4, 1));
    for _ in 0..2 {
        world.rollout("web", RolloutAction::Resume).unwrap();
    }
    world.come_to_rest();
    assert_eq!(count(&world, 2), 4);
}

#[test]
fn the_order_follows_from_the_manifest_and_says_why() {
    let mut world = World::new(1);
    let ports = json!([{ "container": 80, "host": 8080 }]);
    world.apply("web", json!({ "image": "nginx", "ports": ports }));
    let rollout = world.status("web").rollout.unwrap();
    assert_eq!(rollout.order, UpdateOrder::StopFirst);
    assert_eq!(
        rollout.order_reason.unwrap(),
        "the only copy has the host port 8080"
    );
    world.apply("web", json!({ "image": "nginx", "replicas": 2 }));
    assert_eq!(
        world.status("web").rollout.unwrap().order,
        UpdateOrder::StartFirst
    );
    world.apply(
        "web",
        json!({ "image": "nginx", "update": { "order": "stopFirst" } }),
    );
    let rollout = world.status("web").rollout.unwrap();
    assert_eq!(
        (rollout.order, rollout.order_reason),
        (UpdateOrder::StopFirst, None)
    );
}

#[test]
fn stop_first_waits_until_the_old_one_is_gone() {
    let mut world = World::new(2);
    let update = json!({ "order": "stopFirst" });
    world.apply("web", json!({ "image": "nginx", "update": update }));
    world.come_to_rest();
    world.apply("web", json!({ "image": "nginx:2", "update": update }));
    for _ in 0..6 {
        let running = world
            .running
            .values()
            .map(std::collections::BTreeSet::len)
            .sum::<usize>();
        assert!(running <= 1, "both run");
        world.run_agents();
    }
    world.come_to_rest();
    assert_eq!(count(&world, 2), 1);
}
