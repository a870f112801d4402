use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_api::{
    ids::Uid,
    resource::{Manifest, RunJob, ScheduleStatus},
    spec::Zone,
};

use super::{
    super::job::tests::{Works, key},
    *,
};
use crate::command;

/// A cluster whose clock stands at this time, with a schedule that was just applied.
fn works(at: &str, spec: Value) -> Works {
    let mut works = Works::new(1);
    works.world.now = at.parse().unwrap();
    works.sync_all();
    apply(&mut works, spec);
    works
}

fn apply(works: &mut Works, spec: Value) {
    works.try_apply("CronJob", "backup", spec).unwrap();
}

fn set_clock(works: &mut Works, at: &str) {
    works.world.now = at.parse().unwrap();
    works.act(|_| ());
}

fn schedule(works: &Works) -> ScheduleStatus {
    works.status("backup").schedule.unwrap()
}

/// For which moments there are jobs.
fn made(works: &Works) -> Vec<String> {
    let key = key("backup");
    let owned = works.world.cluster.owned_by(&key);
    let minute = |job: &WorkloadKey| {
        let (_, minute) = job.name.as_str().rsplit_once('-').unwrap();
        let second = minute.parse::<i64>().unwrap() * 60;
        Timestamp::from_second(second).unwrap().to_string()
    };
    owned.map(minute).collect()
}

fn active(works: &Works) -> usize {
    schedule(works).active.len()
}

/// Lets all jobs of the schedule end.
fn finish(works: &mut Works, code: i64) {
    for name in schedule(works).active {
        works.finish_all(name.as_str(), code);
    }
}

#[test]
fn a_job_is_made_when_it_is_due_and_not_before() {
    let mut works = works("2026-05-01T12:00:00Z", json!({ "schedule": "30 3 * * *" }));
    assert_eq!(
        schedule(&works).next.unwrap().to_string(),
        "2026-05-02T03:30:00Z"
    );
    set_clock(&mut works, "2026-05-02T03:29:59Z");
    assert_eq!(made(&works), [""; 0]);
    set_clock(&mut works, "2026-05-02T03:30:00Z");
    assert_eq!(made(&works), ["2026-05-02T03:30:00Z"]);
    let status = schedule(&works);
    assert_eq!(status.last.unwrap().to_string(), "2026-05-02T03:30:00Z");
    assert_eq!(status.next.unwrap().to_string(), "2026-05-03T03:30:00Z");
    assert_eq!(status.active.len(), 1);
    assert!(works.status("backup").settled);
    let job = &works.world.cluster.workloads[&key(status.active[0].as_str())];
    assert_eq!(job.meta.owner.as_ref().unwrap().as_str(), "backup");
    assert_ne!(
        job.meta.uid,
        works.world.cluster.workloads[&key("backup")].meta.uid
    );
    finish(&mut works, 0);
    assert_eq!(active(&works), 0);
    assert_eq!(works.events("backup"), ["Created", "Scheduled"]);
}

#[test]
fn the_plan_wakes_at_the_next_due_moment() {
    let works = works("2026-05-01T12:00:00Z", json!({ "schedule": "30 3 * * *" }));
    let mut txn = Transaction::new(&works.world.cluster, works.world.now);
    let wake = super::super::plan(&mut txn, &super::super::Scope::All).wake;
    assert_eq!(wake.unwrap().to_string(), "2026-05-02T03:30:00Z");
}

#[test]
fn of_what_was_missed_only_the_last_is_made_up_for() {
    let mut works = works("2026-05-01T12:00:00Z", json!({ "schedule": "0 * * * *" }));
    set_clock(&mut works, "2026-05-01T17:10:00Z");
    assert_eq!(made(&works), ["2026-05-01T17:00:00Z"]);
    let message = works.last_event("backup", "Missed");
    assert!(
        message.starts_with("4 due times before 2026-05-01T17:00:00Z"),
        "{message}"
    );
}

#[test]
fn what_is_later_than_its_deadline_is_left_out() {
    let spec = json!({ "schedule": "0 * * * *", "startingDeadline": "5m" });
    let mut works = works("2026-05-01T12:00:00Z", spec);
    set_clock(&mut works, "2026-05-01T15:05:01Z");
    assert_eq!(made(&works), [""; 0]);
    let message = works.last_event("backup", "Missed");
    assert!(message.starts_with("3 due times were missed"), "{message}");
    assert_eq!(schedule(&works).last, None);
    set_clock(&mut works, "2026-05-01T16:05:00Z");
    assert_eq!(made(&works), ["2026-05-01T16:00:00Z"]);
}

#[test]
fn a_clock_that_jumps_years_ahead_costs_one_job() {
    let mut works = works("2026-05-01T12:00:30Z", json!({ "schedule": "* * * * *" }));
    set_clock(&mut works, "2036-05-01T12:00:30Z");
    assert_eq!(made(&works), ["2036-05-01T12:00:00Z"]);
    let message = works.last_event("backup", "Missed");
    assert!(message.starts_with("more than 999 due times"), "{message}");
    // Also one that is due often, but rarely.
    let spec = json!({ "schedule": "*/2 3 1 1 *", "timeZone": "Europe/Berlin" });
    let mut works = self::works("2000-05-01T12:00:30Z", spec);
    set_clock(&mut works, "2100-05-01T12:00:30Z");
    assert_eq!(made(&works), ["2100-01-01T02:58:00Z"]);
}

#[test]
fn a_clock_that_jumps_a_day_ahead_and_back_makes_nothing_run_twice() {
    let mut works = works(
        "2026-05-01T12:00:00Z",
        json!({ "schedule": "0 * * * *", "concurrency": "Allow" }),
    );
    set_clock(&mut works, "2026-05-01T13:00:00Z");
    set_clock(&mut works, "2026-05-02T13:30:00Z");
    let before = made(&works);
    assert_eq!(before, ["2026-05-01T13:00:00Z", "2026-05-02T13:00:00Z"]);
    for at in [
        "2026-05-02T12:30:00Z",
        "2026-05-02T13:00:00Z",
        "2026-05-02T13:59:59Z",
    ] {
        set_clock(&mut works, at);
        assert_eq!(made(&works), before);
    }
    set_clock(&mut works, "2026-05-02T14:00:00Z");
    assert_eq!(made(&works).len(), 3);
}

#[test]
fn while_one_runs_the_next_is_left_out_or_started_or_replaces_it() {
    for (concurrency, jobs, running, event) in [
        ("Forbid", 1, 1, "Skipped"),
        ("Allow", 2, 2, "Scheduled"),
        ("Replace", 1, 1, "Replaced"),
    ] {
        let spec = json!({ "schedule": "0 * * * *", "concurrency": concurrency });
        let mut works = works("2026-05-01T12:30:00Z", spec);
        set_clock(&mut works, "2026-05-01T13:00:00Z");
        works.sync_all();
        let first = made(&works);
        set_clock(&mut works, "2026-05-01T14:00:00Z");
        works.sync_all();
        assert_eq!(made(&works).len(), jobs, "{concurrency}");
        assert_eq!(active(&works), running, "{concurrency}");
        assert!(
            works.events("backup").contains(&event.to_owned()),
            "{concurrency}"
        );
        assert_eq!(made(&works).contains(&first[0]), concurrency != "Replace");
        // What was left out is not made up for.
        finish(&mut works, 0);
        set_clock(&mut works, "2026-05-01T14:59:59Z");
        assert_eq!(active(&works), 0, "{concurrency}");
    }
}

#[test]
fn what_is_due_while_it_is_suspended_is_left_out() {
    let spec = |suspend: bool| json!({ "schedule": "0 * * * *", "suspend": suspend });
    let mut works = works("2026-05-01T12:30:00Z", spec(false));
    apply(&mut works, spec(true));
    assert_eq!(schedule(&works).next, None);
    set_clock(&mut works, "2026-05-01T15:30:00Z");
    apply(&mut works, spec(false));
    assert_eq!(made(&works), [""; 0]);
    assert_eq!(
        schedule(&works).next.unwrap().to_string(),
        "2026-05-01T16:00:00Z"
    );
    set_clock(&mut works, "2026-05-01T16:00:00Z");
    assert_eq!(made(&works), ["2026-05-01T16:00:00Z"]);
    let events = works.events("backup");
    assert!(events.contains(&"Suspended".to_owned()) && events.contains(&"Resumed".to_owned()));
}

#[test]
fn a_changed_schedule_counts_from_the_change() {
    let mut works = works("2026-05-01T12:30:00Z", json!({ "schedule": "0 13 * * *" }));
    set_clock(&mut works, "2026-05-01T12:50:00Z");
    // The new one was due before, when it was not there.
    apply(&mut works, json!({ "schedule": "45 * * * *" }));
    assert_eq!(made(&works), [""; 0]);
    set_clock(&mut works, "2026-05-01T13:45:00Z");
    assert_eq!(made(&works), ["2026-05-01T13:45:00Z"]);
    // Another image is no other schedule.
    apply(
        &mut works,
        json!({ "schedule": "45 * * * *", "args": ["x"] }),
    );
    assert_eq!(
        schedule(&works).next.unwrap().to_string(),
        "2026-05-01T14:45:00Z"
    );
}

#[test]
fn the_newest_finished_jobs_are_kept() {
    let spec = json!({ "schedule": "0 * * * *", "history": { "completed": 2, "failed": 1 }, "backoffLimit": 0 });
    let mut works = works("2026-05-01T00:30:00Z", spec);
    for hour in 1..=8 {
        set_clock(&mut works, &format!("2026-05-01T{hour:02}:00:00Z"));
        finish(&mut works, i64::from(hour % 3 == 0));
    }
    assert_eq!(
        made(&works),
        [
            "2026-05-01T06:00:00Z",
            "2026-05-01T07:00:00Z",
            "2026-05-01T08:00:00Z"
        ]
    );
    works.sync_all();
    assert_eq!(works.world.cluster.instances.len(), 3);
}

#[test]
fn deleting_a_schedule_deletes_its_jobs() {
    let mut works = works("2026-05-01T12:30:00Z", json!({ "schedule": "0 * * * *" }));
    set_clock(&mut works, "2026-05-01T13:00:00Z");
    works.sync_all();
    works.act(|txn| command::delete(txn, &key("backup"), None).unwrap());
    works.sync_all();
    let cluster = &works.world.cluster;
    assert!(cluster.workloads.is_empty() && cluster.instances.is_empty());
    assert!(cluster.schedules.is_empty() && cluster.jobs.is_empty());
}

#[test]
fn a_schedule_can_be_run_by_hand() {
    let mut works = works(
        "2026-05-01T12:30:00Z",
        json!({ "schedule": "0 0 1 1 *", "suspend": true }),
    );
    works.act(|txn| {
        let uid = Uid(Uuid::from_u128(1));
        command::job::run(txn, &key("backup"), &RunJob::default(), uid).unwrap();
    });
    assert_eq!(schedule(&works).active[0].as_str(), "backup-run-1");
    assert_eq!(schedule(&works).last, None);
    finish(&mut works, 0);
    assert_eq!(active(&works), 0);
}

#[test]
fn a_name_that_is_taken_is_told_and_nothing_is_overwritten() {
    let mut works = works("2026-05-01T12:30:00Z", json!({ "schedule": "0 * * * *" }));
    let due: Timestamp = "2026-05-01T13:00:00Z".parse().unwrap();
    let name = format!("backup-{}", due.as_second() / 60);
    works.try_apply("Service", &name, json!({})).unwrap();
    set_clock(&mut works, "2026-05-01T13:00:00Z");
    assert_eq!(made(&works), [""; 0]);
    assert!(works.last_event("backup", "Skipped").contains(&name));
    assert_eq!(
        works.world.cluster.workloads[&key(&name)].manifest.kind,
        Kind::Service
    );
}

#[test]
fn a_long_name_makes_jobs_with_names_that_are_short_enough() {
    let mut works = Works::new(1);
    let name = "a-rather-long-name-of-a-nightly-backup-1";
    works
        .try_apply("CronJob", name, json!({ "schedule": "* * * * *" }))
        .unwrap();
    works.wait(60);
    assert_eq!(works.world.cluster.owned_by(&key(name)).count(), 1);
}

/// Clocks of Berlin are put forward on 2026-03-29 at 01:00 and back on 2026-10-25 at 01:00 in UTC.
#[test]
fn both_changes_of_the_clocks_give_each_day_one_job() {
    let spec = json!({
        "schedule": "30 2 * * *", "timeZone": "Europe/Berlin",
        "history": { "completed": 100 },
    });
    for (from, expected) in [
        (
            "2026-03-28T00:00:00Z",
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z",
            ],
        ),
        (
            "2026-10-24T00:00:00Z",
            [
                "2026-10-24T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z",
            ],
        ),
    ] {
        let mut works = works(from, spec.clone());
        for _ in 0..(3 * 24 * 2) {
            works.wait(1_800);
            finish(&mut works, 0);
        }
        assert_eq!(made(&works), expected);
    }
}

/// The jobs of a schedule over a year in which somebody looks every `step` seconds, and whose
/// history keeps nothing: their due moments.
fn year(text: &str, zone: &str, step: i64) -> Vec<Timestamp> {
    let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let until: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
    let manifest = Manifest::from_json(json!({ "kind": "CronJob", "name": "backup", "spec": {
        "image": "busybox", "schedule": text, "timeZone": zone, "concurrency": "Replace",
    }}))
    .unwrap();
    let mut cluster = Works::new(0).world.cluster;
    let mut txn = Transaction::new(&cluster, from);
    command::apply(&mut txn, &[manifest], &[Uid(Uuid::nil())]).unwrap();
    cluster = txn.finish().0;
    let mut made = Vec::new();
    let mut now = from;
    while now < until {
        now += SignedDuration::from_secs(step);
        let mut txn = Transaction::new(&cluster, now);
        let workload = Arc::clone(&cluster.workloads[&key("backup")]);
        advance(&mut txn, &workload);
        cluster = txn.finish().0;
        made.extend(cluster.schedules[&key("backup")].last);
        made.dedup();
    }
    made
}

#[test]
fn a_year_gives_each_due_moment_once() {
    for zone in ["Europe/Berlin", "America/New_York"] {
        for (text, step, a_year) in [
            ("30 2 * * *", 18_000, 365),
            ("0 * * * *", 3_300, 8760),
            ("15 1 * * sun", 80_000, 52),
        ] {
            let made = year(text, zone, step);
            assert_eq!(made.len(), a_year, "{text} in {zone}");
            let distinct: BTreeSet<_> = made.iter().collect();
            assert_eq!(distinct.len(), made.len());
            let rules: Zone = zone.parse().unwrap();
            let spread = made.iter().map(|at| at.to_zoned(rules.rules().clone()));
            if text.starts_with("30 2") {
                let days: BTreeSet<_> = spread.map(|at| at.date()).collect();
                assert_eq!(days.len(), 365, "each day has its job");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However irregularly somebody looks, and however often the clock is put back a little: no
    /// moment gets a job twice, each is a due one, and the last before the end has been dealt with.
    #[test]
    fn no_moment_is_dealt_with_twice(
        text in prop_oneof![Just("*/7 * * * *"), Just("0 */2 * * *"), Just("30 2 * * *")],
        berlin in any::<bool>(),
        steps in proptest::collection::vec(-4_000..20_000_i64, 1..60),
    ) {
        let zone = if berlin { "Europe/Berlin" } else { "UTC" };
        let spec = json!({
            "schedule": text, "timeZone": zone, "concurrency": "Replace",
        });
        let mut works = works("2026-10-24T18:00:00Z", spec);
        let mut made = Vec::new();
        let mut latest = works.world.now;
        for step in steps {
            works.wait(step);
            latest = latest.max(works.world.now);
            made.extend(schedule(&works).last);
            made.dedup();
        }
        prop_assert!(made.windows(2).all(|pair| pair[0] < pair[1]), "{made:?}");
        let schedule: windlass_api::spec::Schedule = text.parse().unwrap();
        let zone: Zone = zone.parse().unwrap();
        for at in &made {
            let just_before = *at - SignedDuration::from_secs(1);
            prop_assert_eq!(schedule.next(just_before, zone.rules()), Some(*at));
        }
        let next = self::schedule(&works).next.unwrap();
        prop_assert!(next > latest, "{next} was not dealt with at {latest}");
    }
}
