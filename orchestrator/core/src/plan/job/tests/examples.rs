use super::*;

#[test]
fn a_job_runs_once_and_keeps_what_it_led_to() {
    let mut works = Works::new(2);
    works.job("load", json!({}));
    let before = works.status("load");
    assert_eq!((before.wanted, before.settled), (1, false));
    works.finish_all("load", 0);
    works.wait(3600);
    let status = works.status("load");
    assert!(
        status.settled && status.wanted == 0 && status.reasons.is_empty(),
        "{status:?}"
    );
    let job = status.job.unwrap();
    assert_eq!((job.succeeded, job.failed, job.active), (1, 0, 0));
    assert!(matches!(job.state, JobState::Completed { .. }));
    assert_eq!(works.live("load").len(), 0);
    // Its instance is there for its log, and uses nothing.
    assert_eq!(works.world.cluster.instances_of(&key("load")).count(), 1);
    let events = works.events("load");
    assert_eq!(events, ["Created", "Started", "Completed"]);
}

#[test]
fn the_lowest_indices_run_first_and_no_more_than_may_run_together() {
    let mut works = Works::new(3);
    works.job("load", json!({ "completions": 5, "parallelism": 2 }));
    assert_eq!(works.slots("load"), [0, 1]);
    works.sync_all();
    let first = works.live("load").remove(0);
    works.finish(&first.id, 0);
    works.sync_all();
    assert_eq!(works.slots("load"), [1, 2]);
    works.finish_all("load", 0);
    works.finish_all("load", 0);
    let job = works.job_status("load");
    assert!(matches!(job.state, JobState::Completed { .. }));
    let codes: Vec<_> = job
        .indices
        .iter()
        .map(|i| (i.index.0, i.code, i.completed))
        .collect();
    assert_eq!(codes, (0..5).map(|i| (i, 0, true)).collect::<Vec<_>>());
}

#[test]
fn a_failure_is_followed_by_a_fresh_instance_after_a_wait_that_doubles() {
    let mut works = Works::new(1);
    works.job("load", json!({}));
    for wait in [10, 20, 40] {
        works.finish_all("load", 3);
        assert_eq!(works.slots("load"), [0; 0]);
        works.wait(wait - 1);
        assert_eq!(works.slots("load"), [0; 0]);
        works.wait(1);
        assert_eq!(works.slots("load"), [0]);
    }
    works.finish_all("load", 0);
    let job = works.job_status("load");
    assert_eq!((job.succeeded, job.failed), (1, 3));
    let index = &job.indices[0];
    assert_eq!((index.code, index.failures, index.completed), (0, 3, true));
}

#[test]
fn the_plan_says_when_to_look_again() {
    let mut works = Works::new(1);
    works.job(
        "load",
        json!({ "activeDeadline": "1h", "ttlAfterFinished": "2h" }),
    );
    let wake = |works: &Works| {
        let mut txn = Transaction::new(&works.world.cluster, works.world.now);
        let wake = super::super::super::plan(&mut txn, &super::super::super::Scope::All).wake;
        wake.unwrap().duration_since(works.world.now).as_secs()
    };
    assert_eq!(wake(&works), 3600);
    works.finish_all("load", 1);
    assert_eq!(wake(&works), 10);
    works.wait(10);
    works.finish_all("load", 0);
    assert_eq!(wake(&works), 7200);
    works.wait(7199);
    assert!(find_workload(&works.world.cluster, &key("load")).is_some());
    works.wait(1);
    assert!(find_workload(&works.world.cluster, &key("load")).is_none());
    works.sync_all();
    let cluster = &works.world.cluster;
    assert!(cluster.instances.is_empty() && cluster.jobs.is_empty() && cluster.indices.is_empty());
}

#[test]
fn too_many_failures_fail_the_job_and_stop_what_still_runs() {
    let mut works = Works::new(1);
    works.job(
        "load",
        json!({ "completions": 2, "parallelism": 2, "backoffLimit": 1 }),
    );
    works.sync_all();
    for _ in 0..2 {
        let failing = works
            .live("load")
            .into_iter()
            .find(|i| i.slot == Slot(0))
            .unwrap();
        works.finish(&failing.id, 42);
        works.sync_all();
        works.wait(10);
        works.sync_all();
    }
    let reason = works.failure("load");
    assert!(
        reason.starts_with("2 failures, which is more than `backoffLimit` (1) allows"),
        "{reason}"
    );
    assert!(reason.contains("exit code 42\n  ended with 42"), "{reason}");
    assert_eq!(works.job_status("load").indices[0].code, 42);
    works.sync_all();
    assert_eq!(works.live("load").len(), 0);
    assert!(works.status("load").settled);
    works.wait(100_000);
    assert_eq!(works.live("load").len(), 0);
}

#[test]
fn an_index_that_fails_too_often_is_given_up_and_the_others_go_on() {
    let mut works = Works::new(1);
    works.job(
        "load",
        json!({ "completions": 3, "parallelism": 3, "backoffLimit": 0, "backoffLimitPerIndex": 1 }),
    );
    for _ in 0..2 {
        works.sync_all();
        for instance in works.live("load") {
            if instance.slot != Slot(2) {
                works.finish(&instance.id, 9);
            }
        }
        works.sync_all();
        assert_eq!(works.slots("load"), [2]);
        works.wait(10);
    }
    assert_eq!(works.slots("load"), [2]);
    works.finish_all("load", 0);
    let reason = works.failure("load");
    assert!(reason.starts_with("2 of 3 indices given up"), "{reason}");
    assert_eq!(works.job_status("load").succeeded, 1);
    let events = works.events("load");
    let given_up = events.iter().filter(|e| *e == "IndexGivenUp");
    assert_eq!(given_up.count(), 2);
}

#[test]
fn another_index_runs_while_one_waits() {
    let mut works = Works::new(1);
    works.job("load", json!({ "completions": 2 }));
    works.finish_all("load", 1);
    assert_eq!(works.slots("load"), [1]);
    works.finish_all("load", 0);
    assert_eq!(works.slots("load"), [0; 0]);
    works.wait(10);
    assert_eq!(works.slots("load"), [0]);
}

#[test]
fn a_job_that_takes_too_long_fails() {
    let mut works = Works::new(1);
    works.job("load", json!({ "activeDeadline": "10m" }));
    works.sync_all();
    works.wait(599);
    assert_eq!(works.slots("load"), [0]);
    works.wait(1);
    assert!(works.failure("load").starts_with("deadline exceeded"));
    assert_eq!(works.live("load").len(), 0);
}

#[test]
fn restarts_by_the_agent_count_towards_the_limit() {
    let mut works = Works::new(1);
    works.job("load", json!({ "restart": "OnFailure", "backoffLimit": 2 }));
    works.sync_all();
    let id = works.live("load")[0].id.clone();
    for failure in 0..3 {
        assert_eq!(works.job_status("load").failed, failure);
        let (until, finished_at) = (works.world.now, works.world.now);
        let status = &mut works.containers.get_mut(&id).unwrap().1;
        status.phase = Phase::BackingOff {
            until,
            reason: "exit code 5".to_owned(),
        };
        status.last_exit = Some(Exit {
            code: 5,
            oom_killed: false,
            reason: None,
            finished_at,
        });
        works.sync(1);
        assert_eq!(works.job_status("load").failed, failure + 1);
        let started_at = works.world.now;
        if let Some((_, status)) = works.containers.get_mut(&id) {
            status.phase = Phase::Running { started_at };
            status.restarts += 1;
        }
        works.sync(1);
    }
    assert!(works.failure("load").contains("exit code 5"));
    assert_eq!(works.live("load").len(), 0);
}

#[test]
fn an_image_that_cannot_be_had_is_no_failure() {
    let mut works = Works::new(1);
    works.job("load", json!({ "backoffLimit": 0 }));
    works.sync_all();
    let id = works.live("load")[0].id.clone();
    let until = works.world.now;
    works.containers.get_mut(&id).unwrap().1 = InstanceStatus::new(Phase::BackingOff {
        until,
        reason: "no such image".to_owned(),
    });
    works.sync_all();
    let status = works.status("load");
    assert_eq!(status.reasons, ["no such image"]);
    assert_eq!(status.job.unwrap().failed, 0);
}

#[test]
fn only_the_last_ended_instances_are_kept() {
    let mut works = Works::new(1);
    works.job("load", json!({ "completions": 25, "parallelism": 5 }));
    for _ in 0..5 {
        works.finish_all("load", 0);
        works.wait(1);
    }
    works.sync_all();
    assert_eq!(works.job_status("load").succeeded, 25);
    let kept: Vec<_> = works.world.cluster.instances_of(&key("load")).collect();
    assert_eq!(kept.len(), JOB_ENDED_KEPT);
    assert!(kept.iter().all(|i| i.slot.0 >= 15));
}

#[test]
fn what_has_ended_leaves_room_for_others() {
    let mut works = Works::new(1);
    let big = json!({ "completions": 4, "resources": { "memory": "3Gi" } });
    works.job("load", big);
    for _ in 0..4 {
        works.finish_all("load", 0);
    }
    assert!(matches!(
        works.job_status("load").state,
        JobState::Completed { .. }
    ));
}

#[test]
fn a_job_that_fits_nowhere_says_so_and_may_be_changed() {
    let mut works = Works::new(1);
    works.job("load", json!({ "resources": { "memory": "40Gi" } }));
    let status = works.status("load");
    assert!(status.reasons[0].contains("0 of 1 nodes"), "{status:?}");
    works.job("load", json!({ "resources": { "memory": "1Gi" } }));
    works.finish_all("load", 0);
    assert!(matches!(
        works.job_status("load").state,
        JobState::Completed { .. }
    ));
}

#[test]
fn a_job_that_has_begun_is_not_changed_but_its_limits_are() {
    let mut works = Works::new(1);
    works.job("load", json!({ "completions": 3 }));
    works.sync_all();
    for spec in [
        json!({ "completions": 4 }),
        json!({ "completions": 3, "args": ["x"] }),
    ] {
        let refused = works.try_apply("Job", "load", spec).unwrap_err();
        let Refusal::Invalid(errors) = refused else {
            panic!("{refused:?}")
        };
        assert!(errors[0].message.contains("windlass job run"), "{errors:?}");
    }
    works.job(
        "load",
        json!({ "completions": 3, "parallelism": 3, "backoffLimit": 1 }),
    );
    assert_eq!(works.slots("load"), [0, 1, 2]);
    works.job(
        "load",
        json!({ "completions": 3, "parallelism": 1, "backoffLimit": 1 }),
    );
    assert_eq!(works.slots("load"), [0]);
    works.finish_all("load", 0);
    assert_eq!(works.slots("load"), [1]);
}

#[test]
fn a_job_made_again_under_its_name_begins_anew() {
    let mut works = Works::new(1);
    works.job("load", json!({}));
    works.finish_all("load", 0);
    works.act(|txn| command::delete(txn, &key("load"), None).unwrap());
    works.job("load", json!({}));
    let job = works.job_status("load");
    assert_eq!((job.state, job.succeeded), (JobState::Running, 0));
    works.finish_all("load", 0);
    assert_eq!(works.job_status("load").succeeded, 1);
}

#[test]
fn a_job_begins_once_what_it_depends_on_is_there() {
    let mut works = Works::new(1);
    works.job("migrate", json!({}));
    works.job(
        "load",
        json!({ "activeDeadline": "1m", "dependsOn": [{ "workload": "migrate", "condition": "completed" }] }),
    );
    works.wait(600);
    assert!(works.status("load").reasons[0].contains("waits for workload migrate"));
    works.finish_all("migrate", 0);
    works.finish_all("load", 0);
    assert!(matches!(
        works.job_status("load").state,
        JobState::Completed { .. }
    ));
}

#[test]
fn the_failed_indices_are_told_of_first() {
    let mut works = Works::new(4);
    works.job(
        "load",
        json!({ "completions": 120, "parallelism": 120, "backoffLimitPerIndex": 0 }),
    );
    works.sync_all();
    for instance in works.live("load") {
        works.finish(&instance.id, i64::from(instance.slot == Slot(119)) * 77);
    }
    works.sync_all();
    let indices = works.job_status("load").indices;
    assert_eq!(indices.len(), windlass_api::resource::JOB_INDICES_MAX);
    let failed: Vec<&IndexStatus> = indices.iter().filter(|i| !i.completed).collect();
    assert_eq!(
        failed
            .iter()
            .map(|i| (i.index.0, i.code))
            .collect::<Vec<_>>(),
        [(119, 77)]
    );
}
