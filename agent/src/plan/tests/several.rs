//! Instances of several containers.

use serde_json::{Value, json};
use windlass_api::status::{ContainerPhase, Readiness};

use super::*;
use crate::{
    history::{Halt, Role},
    probe::{Health, Start, Verdict},
    runtime::StopRank,
};

/// An init container, a sidecar and a main container.
fn several(change: impl FnOnce(&mut Value)) -> AssignedInstance {
    let mut template = json!({
        "kind": "Service", "restart": "Always", "stopGracePeriod": "10s",
        "initContainers": [{ "name": "setup", "image": "web:1" }],
        "containers": [
            { "name": "web", "image": "web:1" },
            { "name": "proxy", "image": "web:1", "sidecar": true },
        ],
    });
    change(&mut template);
    AssignedInstance {
        template: Arc::new(serde_json::from_value(template).unwrap()),
        ..instance("web-0-1")
    }
}

fn part(text: &str) -> Part {
    text.parse().unwrap()
}

/// What is done next, shortly: `launch web`.
fn next(world: &World, now: Timestamp) -> Vec<String> {
    let steps = world.plan(now).steps;
    let shortly = |step: &Step| {
        let verb = match &step.action {
            Action::Fetch { .. } => "fetch",
            Action::Launch(_) => "launch",
            Action::Start { .. } => "start",
            Action::Halt { .. } => "halt",
            Action::Stop { .. } => "stop",
            Action::Remove { .. } => "remove",
        };
        format!("{verb} {}", step.member.part)
    };
    steps.iter().map(shortly).collect()
}

fn go_on(world: &mut World, now: Timestamp) {
    for step in world.plan(now).steps {
        world.carry_out(&step, now);
    }
    world.look(now);
}

fn end(world: &mut World, name: &str, code: i64, now: Timestamp) {
    let mut containers = world.containers.iter_mut();
    let container = containers.find(|c| c.part == part(name)).unwrap();
    let ContainerState::Running { started_at } = container.state else {
        panic!("{name} does not run")
    };
    container.state = ended(started_at, code, now);
    world.look(now);
}

fn secs(n: i64) -> Timestamp {
    NOW + SignedDuration::from_secs(n)
}

/// Everything runs, the init container is done.
fn running_world(assigned: AssignedInstance) -> World {
    let mut world = World::of(vec![assigned]);
    world.look(NOW);
    go_on(&mut world, NOW);
    go_on(&mut world, NOW);
    end(&mut world, "setup", 0, NOW);
    go_on(&mut world, NOW);
    go_on(&mut world, NOW);
    assert!(world.phase("web-0-1").is_running());
    world
}

#[test]
fn it_starts_stage_by_stage() {
    let mut world = World::of(vec![several(|_| ())]);
    for (expected, init_ends) in [
        (vec!["launch _pause"], false),
        (vec!["launch setup"], false),
        (vec![], true),
        (vec!["launch proxy"], false),
        (vec!["launch web"], false),
        (vec![], false),
    ] {
        assert_eq!(next(&world, NOW), expected);
        go_on(&mut world, NOW);
        if init_ends {
            assert_eq!(world.phase("web-0-1"), Phase::Starting);
            end(&mut world, "setup", 0, NOW);
        }
    }
    let status = &world.plan(NOW).statuses[&id("web-0-1")];
    let names: Vec<_> = status.containers.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["setup", "web", "proxy"]);
    assert_eq!(status.containers[0].state, ContainerPhase::Exited);
    assert!(status.phase.is_running() && status.readiness.is_ready());
    assert_eq!((status.restarts, &status.last_exit), (0, &None));
}

#[test]
fn one_that_fails_disturbs_no_other() {
    let mut world = running_world(several(|_| ()));
    end(&mut world, "proxy", 1, secs(5));
    assert_eq!(next(&world, secs(5)), ["start proxy"]);
    go_on(&mut world, secs(5));
    end(&mut world, "proxy", 1, secs(6));
    // It waits now, and the other one restarts meanwhile.
    assert_eq!(next(&world, secs(6)), Vec::<String>::new());
    let phase = world.plan(secs(6)).statuses[&id("web-0-1")].phase.clone();
    assert_eq!(phase.reason(), Some("proxy: exit code 1"));
    end(&mut world, "web", 2, secs(6));
    assert_eq!(next(&world, secs(6)), ["start web"]);
}

#[test]
fn an_init_container_is_tried_again_as_often_as_it_may() {
    let assigned = several(|t| t["initContainers"][0]["retries"] = json!(1));
    let mut world = World::of(vec![assigned]);
    go_on(&mut world, NOW);
    go_on(&mut world, NOW);
    end(&mut world, "setup", 3, NOW);
    assert_eq!(next(&world, NOW), ["start setup"]);
    go_on(&mut world, NOW);
    end(&mut world, "setup", 3, secs(1));
    let reason = "init container `setup`: exit code 3, 2 times".to_owned();
    assert_eq!(world.phase("web-0-1"), Phase::Failed { reason });
    assert_eq!(next(&world, secs(900)), ["halt _pause"]);
    go_on(&mut world, secs(900));
    assert_eq!(next(&world, secs(1900)), Vec::<String>::new());
}

#[test]
fn an_init_container_that_was_cleared_away_is_not_run_again() {
    let mut world = running_world(several(|_| ()));
    world.containers.retain(|c| c.part != part("setup"));
    world.look(secs(1));
    assert_eq!(next(&world, secs(1)), Vec::<String>::new());
    end(&mut world, "web", 1, secs(2));
    assert_eq!(next(&world, secs(2)), ["start web"]);
}

#[test]
fn without_its_network_the_whole_instance_starts_anew() {
    let mut world = running_world(several(|_| ()));
    end(&mut world, "_pause", 137, secs(5));
    for (expected, init_ends) in [
        (vec!["halt web"], false),
        (vec!["halt proxy"], false),
        (vec!["start _pause"], false),
        (vec!["start setup"], false),
        (vec![], true),
        (vec!["start proxy"], false),
        (vec!["start web"], false),
        (vec![], false),
    ] {
        assert_eq!(next(&world, secs(6)), expected);
        go_on(&mut world, secs(6));
        if init_ends {
            end(&mut world, "setup", 0, secs(6));
        }
    }
    let plan = world.plan(secs(7));
    assert!(plan.statuses[&id("web-0-1")].phase.is_running());
}

#[test]
fn containers_that_were_made_for_a_pause_container_that_is_gone_are_made_anew() {
    let mut world = running_world(several(|_| ()));
    world.containers.retain(|c| c.part != Part::Pause);
    world.look(secs(5));
    for expected in [
        vec!["halt web"],
        vec!["halt proxy"],
        vec!["remove setup", "remove proxy", "remove web"],
        vec!["launch _pause"],
        vec!["launch setup"],
    ] {
        assert_eq!(next(&world, secs(6)), expected);
        go_on(&mut world, secs(6));
    }
}

#[test]
fn what_was_restarted_by_somebody_else_gets_its_network_back() {
    let mut world = running_world(several(|_| ()));
    let pauses = world
        .containers
        .iter_mut()
        .filter(|c| c.part == Part::Pause);
    for pause in pauses {
        pause.state = ContainerState::Running {
            started_at: secs(9),
        };
    }
    world.look(secs(9));
    assert_eq!(next(&world, secs(9)), ["halt proxy", "halt web"]);
}

#[test]
fn a_job_is_over_when_its_main_containers_are() {
    let job = several(|t| {
        t["kind"] = json!("Job");
        t["restart"] = json!("Never");
    });
    let mut world = running_world(job);
    end(&mut world, "web", 0, secs(5));
    assert_eq!(world.phase("web-0-1"), Phase::Succeeded);
    assert_eq!(next(&world, secs(5)), ["halt proxy"]);
    go_on(&mut world, secs(5));
    assert_eq!(next(&world, secs(5)), ["halt _pause"]);
    go_on(&mut world, secs(5));
    assert_eq!(next(&world, secs(500)), Vec::<String>::new());
    let status = &world.plan(secs(500)).statuses[&id("web-0-1")];
    assert_eq!(status.phase, Phase::Succeeded);
    assert_eq!(status.last_exit.as_ref().unwrap().code, 0);
}

/// Somebody removes what does not run (`docker container prune`), and the agent is started anew.
fn prune(world: &mut World, now: Timestamp) {
    world
        .containers
        .retain(|c| matches!(c.state, ContainerState::Running { .. }));
    let kept = serde_json::to_value(&world.histories).unwrap();
    world.histories = serde_json::from_value(kept).unwrap();
    world.look(now);
}

#[test]
fn what_has_ended_is_not_run_again_when_its_container_is_removed() {
    for (restart, code) in [("Never", 0), ("Never", 3), ("OnFailure", 0)] {
        let job = several(|t| t["restart"] = json!(restart));
        let mut world = running_world(job);
        end(&mut world, "web", code, secs(5));
        go_on(&mut world, secs(5));
        go_on(&mut world, secs(5));
        let before = world.plan(secs(9)).statuses[&id("web-0-1")].clone();
        prune(&mut world, secs(9));
        assert_eq!(world.containers, []);
        for at in [secs(9), secs(999)] {
            assert_eq!(next(&world, at), Vec::<String>::new(), "{restart} {code}");
            let now = &world.plan(at).statuses[&id("web-0-1")];
            assert_eq!(
                (&now.phase, &now.last_exit),
                (&before.phase, &before.last_exit)
            );
            assert_eq!(now.containers[1].state, ContainerPhase::Exited);
            assert_eq!(now.restarts, 0);
        }
    }
}

#[test]
fn a_main_container_that_has_ended_and_was_removed_leaves_the_others_alone() {
    let mut world = running_world(several(|t| {
        t["restart"] = json!("OnFailure");
        let other = json!({ "name": "other", "image": "web:1" });
        t["containers"].as_array_mut().unwrap().push(other);
    }));
    end(&mut world, "web", 0, secs(5));
    prune(&mut world, secs(5));
    assert_eq!(next(&world, secs(5)), Vec::<String>::new());
    assert!(world.phase("web-0-1").is_running());
    // One that is to be started again is, also if it was removed.
    end(&mut world, "other", 1, secs(6));
    prune(&mut world, secs(6));
    assert_eq!(next(&world, secs(6)), ["launch other"]);
}

#[test]
fn an_init_container_that_failed_for_good_and_was_removed_is_not_tried_again() {
    let assigned = several(|t| t["restart"] = json!("Never"));
    let mut world = World::of(vec![assigned]);
    go_on(&mut world, NOW);
    go_on(&mut world, NOW);
    end(&mut world, "setup", 3, NOW);
    go_on(&mut world, NOW);
    prune(&mut world, secs(1));
    assert_eq!(world.containers, []);
    assert_eq!(next(&world, secs(999)), Vec::<String>::new());
    let reason = "init container `setup`: exit code 3".to_owned();
    assert_eq!(world.phase("web-0-1"), Phase::Failed { reason });
}

#[test]
fn what_is_not_wanted_stops_in_the_reverse_order() {
    let mut world = running_world(several(|_| ()));
    world.assignment = Some(Assignment::default());
    for container in &mut world.containers {
        container.volumes = vec!["data".parse().unwrap()];
    }
    // The one that ended, with the first.
    assert_eq!(next(&world, NOW), ["stop web", "remove setup"]);
    go_on(&mut world, NOW);
    assert_eq!(next(&world, NOW), ["stop proxy"]);
    go_on(&mut world, NOW);
    let last = world.plan(NOW).steps.remove(0);
    let Action::Stop {
        leaves: Some(leaves),
        ..
    } = last.action
    else {
        panic!("{last:?}")
    };
    assert_eq!((last.member.part, leaves.volumes.len()), (Part::Pause, 1));
}

#[test]
fn the_network_is_not_taken_from_one_that_is_being_started() {
    let mut world = running_world(several(|_| ()));
    world.containers.retain(|c| c.part == Part::Pause);
    world.assignment = Some(Assignment::default());
    let web = Member {
        instance: id("web-0-1"),
        part: part("web"),
    };
    world.busy.insert(web, Activity::Starting);
    assert_eq!(next(&world, NOW), Vec::<String>::new());
}

#[test]
fn one_that_is_not_well_is_restarted_like_one_that_crashed() {
    let mut world = World::of(vec![instance("web-0-1")]);
    go_on(&mut world, NOW);
    let container = world.containers[0].id.clone();
    let reason = "liveness: connection refused".to_owned();
    let health = Health {
        start: Start::Done,
        readiness: Readiness::NotReady {
            reason: Some(reason.clone()),
        },
        verdict: Verdict::Restart {
            reason: reason.clone(),
        },
    };
    for at in [secs(4), secs(5)] {
        world.health.insert(container.clone(), health.clone());
        assert_eq!(next(&world, at), ["halt main"]);
        go_on(&mut world, at);
        world.health.clear();
        if at == secs(4) {
            assert_eq!(next(&world, at), ["start main"]);
            go_on(&mut world, at);
        }
    }
    assert_eq!(next(&world, secs(5)), Vec::<String>::new());
    let phase = world.plan(secs(5)).statuses[&id("web-0-1")].phase.clone();
    assert_eq!(phase.reason(), Some(reason.as_str()));
    assert_eq!(next(&world, secs(7)), ["start main"]);
}

#[test]
fn where_nothing_is_restarted_one_that_is_not_well_has_failed() {
    let mut world = World::of(vec![restarting("web-0-1", RestartPolicy::Never)]);
    go_on(&mut world, NOW);
    let history = world.histories.entry(id("web-0-1")).or_default();
    history
        .part_mut(&Part::only())
        .halt(NOW, Halt::Unwell("dead".to_owned()));
    end(&mut world, "main", 0, secs(1));
    let reason = "dead".to_owned();
    assert_eq!(world.phase("web-0-1"), Phase::Failed { reason });
}

#[test]
fn what_follows_a_sidecar_waits_for_its_startup_probe() {
    let mut world = World::of(vec![several(|t| {
        t["initContainers"] = json!([]);
        t["containers"][1]["probes"] = json!({ "startup": { "tcp": { "port": 80 } } });
        let second = json!({ "name": "cache", "image": "web:1", "sidecar": true });
        t["containers"].as_array_mut().unwrap().push(second);
    })]);
    go_on(&mut world, NOW);
    go_on(&mut world, NOW);
    let proxy = world.containers.iter().find(|c| c.part == part("proxy"));
    let proxy = proxy.unwrap().id.clone();
    let says = |start| Health {
        start,
        readiness: Readiness::default(),
        verdict: Verdict::Fine,
    };
    // Nobody has asked yet; then it has not started.
    assert_eq!(next(&world, NOW), Vec::<String>::new());
    world.health.insert(proxy.clone(), says(Start::Pending));
    assert_eq!(next(&world, NOW), Vec::<String>::new());
    assert_eq!(world.phase("web-0-1"), Phase::Starting);
    // Whether it is ready is another question: that may depend on a main container.
    world.health.insert(proxy.clone(), says(Start::Done));
    for expected in [vec!["launch cache"], vec!["launch web"], vec![]] {
        assert_eq!(next(&world, NOW), expected);
        go_on(&mut world, NOW);
    }
    assert!(world.phase("web-0-1").is_running());
    // Once main containers were started, they do not wait for a sidecar that starts again.
    world.health.insert(proxy, says(Start::Pending));
    end(&mut world, "web", 1, secs(5));
    assert_eq!(next(&world, secs(5)), ["start web"]);
}

#[test]
fn an_instance_is_as_ready_as_the_least_of_its_containers() {
    let probed = several(|t| {
        t["containers"][0]["probes"] = json!({ "readiness": { "tcp": { "port": 80 } } });
    });
    let mut world = running_world(probed);
    let ready = |world: &World| {
        let status = &world.plan(NOW).statuses[&id("web-0-1")];
        status.readiness.clone()
    };
    // Nobody has asked yet.
    assert_eq!(ready(&world), Readiness::default());
    let web = world.containers.iter().find(|c| c.part == part("web"));
    let web = web.unwrap().id.clone();
    let says = |readiness| Health {
        start: Start::Done,
        readiness,
        verdict: Verdict::Fine,
    };
    let reason = |text: &str| Some(text.to_owned());
    let not_ready = Readiness::NotReady {
        reason: reason("connection refused"),
    };
    world.health.insert(web.clone(), says(not_ready));
    let expected = Readiness::NotReady {
        reason: reason("web: connection refused"),
    };
    assert_eq!(ready(&world), expected);
    world.health.insert(web, says(Readiness::Ready));
    assert_eq!(ready(&world), Readiness::Ready);
}

#[test]
fn all_images_are_prepared() {
    let mut prepared = several(|_| ());
    prepared.goal = Goal::Prepare;
    let mut world = World::of(vec![prepared]);
    let fetches = ["fetch setup", "fetch proxy", "fetch web"];
    assert_eq!(next(&world, NOW), fetches);
    assert_eq!(world.phase("web-0-1"), Phase::Pulling);
    go_on(&mut world, NOW);
    assert_eq!(world.phase("web-0-1"), Phase::Prepared);
    assert_eq!(world.containers, []);
}

#[test]
fn the_roles_of_a_template_are_in_the_order_of_their_start() {
    let assigned = several(|_| ());
    let roles: Vec<_> = crate::plan::seat::roles(&assigned.template).collect();
    let expected = [
        (Part::Pause, Role::Pause),
        (part("setup"), Role::Init),
        (part("proxy"), Role::Sidecar),
        (part("web"), Role::Main),
    ];
    assert_eq!(roles, expected);
    let rank = |name| part(name).stop_rank(&assigned.template);
    assert!(rank("web") < rank("proxy") && rank("proxy") < StopRank::LAST);
}
