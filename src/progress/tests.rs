//! Progress, as it is decided and as it is shown.

use jiff::SignedDuration;
use serde_json::json;
use windlass_api::{
    client::Resource,
    ids::RevisionNumber,
    resource::Goal,
    spec::WorkloadSpec,
    status::{Phase, Readiness},
};

use super::{display::area, *};
use crate::fixtures::{self, RUNNING};

/// Workloads and instances that a test can change.
#[derive(Default)]
struct World {
    workloads: BTreeMap<String, Workload>,
    instances: BTreeMap<String, Instance>,
    /// How long after [`fixtures::NOW`] it is, in seconds.
    after: i64,
}

impl World {
    fn with(workloads: Vec<Workload>, instances: Vec<Instance>) -> Self {
        Self {
            workloads: workloads.into_iter().map(|w| (w.full_name(), w)).collect(),
            instances: instances.into_iter().map(|i| (i.full_name(), i)).collect(),
            after: 0,
        }
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            workloads: &self.workloads,
            instances: &self.instances,
            now: fixtures::NOW + SignedDuration::from_secs(self.after),
        }
    }

    /// A workload of three instances in a rollout whose state the JSON describes.
    fn rolling(state: serde_json::Value) -> Self {
        let mut workload = fixtures::workload("web", 3, 3);
        workload.status.revision = RevisionNumber(2);
        workload.status.updated = 1;
        workload.status.settled = false;
        workload.status.rollout = Some(fixtures::rollout(state));
        Self::with(vec![workload], Vec::new())
    }

    fn standing(&self, until: Until) -> Standing {
        standing::of(&target(), until, &self.scene())
    }

    fn shown(&self, until: Until, rows: usize) -> Vec<String> {
        area(&[target()], until, &self.scene(), "*", rows)
            .into_iter()
            .map(|l| l.text)
            .collect()
    }
}

/// How long an instance has to be ready unless its workload says otherwise, in seconds.
const MIN_READY: i64 = 2;

/// An instance that has just become ready.
fn ready_now(name: &str) -> Instance {
    let mut instance = fixtures::instance(name, RUNNING);
    instance.ready_since = Some(fixtures::NOW);
    instance
}

fn target() -> Target {
    Target::of(&fixtures::workload("web", 0, 1))
}

#[test]
fn settled_is_when_workload_and_instances_agree() {
    let workload = fixtures::workload("web", 1, 1);
    let behind = World::with(
        vec![workload.clone()],
        vec![fixtures::instance("web-0-1", Phase::Starting)],
    );
    assert_eq!(behind.standing(Until::Settled), Standing::Underway);
    let done = World::with(
        vec![workload.clone()],
        vec![fixtures::instance("web-0-1", RUNNING)],
    );
    assert_eq!(done.standing(Until::Settled), Standing::Reached);
    let left_over = World::with(
        vec![workload],
        vec![
            fixtures::instance("web-0-1", RUNNING),
            fixtures::instance("web-0-2", RUNNING),
        ],
    );
    assert_eq!(left_over.standing(Until::Settled), Standing::Underway);
    assert_eq!(World::default().standing(Until::Settled), Standing::Gone);
}

/// Regression: with a lost node nothing that had been there was ever settled, or deleted.
#[test]
fn what_is_on_lost_nodes_is_not_waited_for() {
    let lost = |name: &str, goal| {
        let mut instance = fixtures::instance(name, RUNNING);
        instance.node_lost = true;
        instance.goal = goal;
        instance
    };
    let replacement = fixtures::instance("web-0-2", RUNNING);
    let mut workload = fixtures::workload("web", 1, 1);
    workload.status.reasons = vec!["node edge-2 is lost".to_owned()];
    let instances = vec![replacement.clone(), lost("web-0-1", Goal::Stop)];
    let replaced = World::with(vec![workload.clone()], instances.clone());
    for until in [Until::Settled, Until::Done, Until::RolledBack] {
        assert_eq!(replaced.standing(until), Standing::Reached, "{until:?}");
    }
    // A daemon has nothing in its place.
    workload.status.wanted = 2;
    let daemon = World::with(
        vec![workload],
        vec![replacement, lost("web-1-1", Goal::Run)],
    );
    assert_eq!(daemon.standing(Until::Settled), Standing::Reached);

    let deleted = World::with(Vec::new(), instances);
    assert_eq!(deleted.standing(Until::Deleted), Standing::Underway);
    let deleted = World::with(Vec::new(), vec![lost("web-0-1", Goal::Stop)]);
    assert_eq!(deleted.standing(Until::Deleted), Standing::Reached);
    assert_eq!(
        standing::describe(&target(), Until::Deleted, &deleted.scene()),
        "web: gone, but for 1 on lost nodes: stopped when these are back"
    );
}

#[test]
fn running_does_not_mind_what_else_runs() {
    let mut workload = fixtures::workload("web", 2, 1);
    workload.status.settled = false;
    let world = World::with(vec![workload], Vec::new());
    assert_eq!(world.standing(Until::Running), Standing::Reached);
    assert_eq!(world.standing(Until::Settled), Standing::Underway);
}

#[test]
fn deleted_is_when_the_last_instance_is_gone() {
    let running = vec![fixtures::instance("web-0-1", RUNNING)];
    let world = World::with(vec![fixtures::workload("web", 1, 1)], running.clone());
    assert_eq!(world.standing(Until::Deleted), Standing::Underway);
    let stopping = World::with(Vec::new(), running.clone());
    assert_eq!(stopping.standing(Until::Deleted), Standing::Underway);
    assert_eq!(stopping.shown(Until::Deleted, 10)[0], "web: 1 left to stop");
    assert_eq!(World::default().standing(Until::Deleted), Standing::Reached);
    // Made again by somebody else meanwhile: the old one is gone all the same.
    let mut another = fixtures::workload("web", 1, 1);
    another.meta.uid = "00000000-0000-0000-0000-000000000009".parse().unwrap();
    let again = World::with(vec![another], running);
    assert_eq!(again.standing(Until::Deleted), Standing::Reached);
    assert_eq!(again.standing(Until::Settled), Standing::Gone);
}

#[test]
fn the_area_shows_what_is_not_as_it_should_be() {
    let mut workload = fixtures::workload("web", 1, 3);
    workload.status.reasons = vec!["exit code 1".to_owned()];
    let backing_off = Phase::BackingOff {
        until: fixtures::NOW,
        reason: "exit\x1b[2J code 1".to_owned(),
    };
    let mut old = fixtures::instance("web-2-9", RUNNING);
    old.goal = Goal::Stop;
    let world = World::with(
        vec![workload],
        vec![
            fixtures::instance("web-0-1", RUNNING),
            fixtures::instance("web-1-2", backing_off),
            fixtures::instance("web-2-3", Phase::Pulling),
            old,
        ],
    );
    assert_eq!(
        world.shown(Until::Settled, 10),
        [
            "web: 1/3 ready, exit code 1",
            "  web-1-2 backs off on edge-1: exit [2J code 1",
            "  web-2-3 pulls nginx:1.27 on edge-1",
            "  web-2-9 is to stop on edge-1",
        ]
    );
    assert_eq!(
        world.shown(Until::Settled, 2),
        ["web: 1/3 ready, exit code 1", "and 3 more"]
    );
}

#[test]
fn a_rollout_shows_how_many_are_new() {
    let mut workload = fixtures::workload("web", 3, 3);
    workload.status.updated = 1;
    workload.status.revision = RevisionNumber(2);
    workload.status.settled = false;
    let world = World::with(vec![workload], Vec::new());
    assert_eq!(
        world.shown(Until::Settled, 10),
        ["web: 3/3 ready, 1 of them revision 2"]
    );
}

#[test]
fn what_runs_and_cannot_serve_is_not_there_yet() {
    let mut instance = fixtures::instance("web-0-1", RUNNING);
    instance.status.readiness = Readiness::NotReady {
        reason: Some("readiness: http 503".to_owned()),
    };
    let mut workload = fixtures::workload("web", 1, 1);
    workload.status.ready = 0;
    workload.status.updated = 0;
    workload.status.settled = false;
    let world = World::with(vec![workload], vec![instance]);
    assert_eq!(world.standing(Until::Running), Standing::Reached);
    assert_eq!(world.standing(Until::Ready), Standing::Underway);
    assert_eq!(
        world.shown(Until::Done, 10),
        [
            "web: 0/1 ready",
            "  web-0-1 not ready on edge-1: readiness: http 503"
        ]
    );
}

#[test]
fn an_update_that_failed_ends_the_wait_for_it() {
    let failed = json!({ "state": "RolledBack", "reason": "exit code 1\nlast line" });
    let world = World::rolling(failed);
    assert_eq!(world.standing(Until::Done), Standing::Stopped);
    assert_eq!(
        world.shown(Until::Done, 10),
        ["web: 3/3 ready, 1 of them revision 2, rolled back: exit code 1"]
    );
    let going_back = World::rolling(json!({ "state": "RollingBack", "reason": "exit code 1" }));
    assert_eq!(going_back.standing(Until::Done), Standing::Underway);
    let paused = World::rolling(json!({ "state": "Paused", "reason": "asked for" }));
    assert_eq!(paused.standing(Until::Done), Standing::Stopped);
    // Who waits until it is settled may wait for somebody to mend it.
    assert_eq!(paused.standing(Until::Settled), Standing::Underway);
}

/// Regression: a copy more of what ends again and again ended the wait of `scale`, since it was ready
/// for a moment, and no rollout has to prove more.
#[test]
fn what_is_scaled_is_settled_when_all_have_been_ready_for_long_enough() {
    let workload = fixtures::workload("web", 2, 2);
    let instances = vec![fixtures::instance("web-0-1", RUNNING), ready_now("web-1-2")];
    let mut world = World::with(vec![workload], instances);
    for until in [Until::Settled, Until::Done, Until::RolledBack] {
        world.after = MIN_READY - 1;
        assert_eq!(world.standing(until), Standing::Underway, "{until:?}");
        let next = standing::next_available(&[target()], until, &world.scene());
        let available = fixtures::NOW + SignedDuration::from_secs(MIN_READY);
        assert_eq!(next, Some(available), "and nothing changes until then");
        world.after = MIN_READY;
        assert_eq!(world.standing(until), Standing::Reached, "{until:?}");
    }
}

/// A container without a readiness probe is ready as soon as it runs, also if it ends at once.
#[test]
fn a_first_deployment_that_is_ready_for_a_moment_is_not_there_yet() {
    let mut workload = fixtures::workload("web", 1, 1);
    workload.status.settled = false;
    workload.status.rollout = Some(fixtures::rollout(json!({ "state": "Progressing" })));
    let instances = vec![fixtures::instance("web-0-1", RUNNING)];
    let mut world = World::with(vec![workload], instances);
    for until in [Until::Done, Until::Settled] {
        assert_eq!(world.standing(until), Standing::Underway);
    }
    // The workload may be seen as settled before its instance is seen to have ended again.
    let workload = world.workloads.get_mut("default/web").unwrap();
    workload.status.settled = true;
    workload.status.rollout = Some(fixtures::rollout(json!({ "state": "Completed" })));
    let backs_off = Phase::BackingOff {
        until: fixtures::NOW,
        reason: "exit code 1".to_owned(),
    };
    let again = fixtures::instance("web-0-1", backs_off);
    world.instances.insert(again.full_name(), again);
    for until in [Until::Done, Until::Settled] {
        assert_eq!(world.standing(until), Standing::Underway);
    }
}

#[test]
fn canaries_that_are_ready_end_the_wait() {
    let mut world = World::rolling(json!({ "state": "Canary" }));
    let workload = world.workloads.get_mut("default/web").unwrap();
    let WorkloadSpec::Service(spec) = &mut workload.manifest.spec else {
        panic!("it is a service");
    };
    spec.update.canary = 2;
    assert_eq!(world.standing(Until::Done), Standing::Underway);
    let workload = world.workloads.get_mut("default/web").unwrap();
    workload.status.updated = 2;
    for (name, revision) in [("web-0-4", 2), ("web-1-5", 2), ("web-2-3", 1)] {
        let mut instance = ready_now(name);
        instance.revision = RevisionNumber(revision);
        world.instances.insert(instance.full_name(), instance);
    }
    world.after = MIN_READY;
    assert_eq!(world.standing(Until::Done), Standing::Reached);
    assert_eq!(world.standing(Until::Settled), Standing::Underway);
}

/// Regression: canaries that ended again and again ended the wait, since they were ready for a
/// moment.
#[test]
fn canaries_that_are_ready_for_a_moment_do_not_end_the_wait() {
    let mut world = World::rolling(json!({ "state": "Canary" }));
    let workload = world.workloads.get_mut("default/web").unwrap();
    let WorkloadSpec::Service(spec) = &mut workload.manifest.spec else {
        panic!("it is a service");
    };
    spec.update.canary = 1;
    let mut canary = ready_now("web-0-4");
    canary.revision = RevisionNumber(2);
    // The old ones have nothing to do with it, however long they are there.
    let old = (0..3).map(|i| fixtures::instance(&format!("web-{i}-{i}"), RUNNING));
    for instance in old.chain([canary]) {
        world.instances.insert(instance.full_name(), instance);
    }
    for after in [0, MIN_READY - 1] {
        world.after = after;
        assert_eq!(world.standing(Until::Done), Standing::Underway, "{after}");
    }
    let proven = fixtures::NOW + SignedDuration::from_secs(MIN_READY);
    let next = standing::next_available(&[target()], Until::Done, &world.scene());
    assert_eq!(next, Some(proven), "and nothing changes until then");
    world.after = MIN_READY;
    assert_eq!(world.standing(Until::Done), Standing::Reached);
}

/// Regression: what ended again and again was waited for until it was ready for a moment.
#[test]
fn ready_is_when_as_many_as_are_wanted_have_been_so_for_long_enough() {
    let workload = fixtures::workload("web", 2, 2);
    let mut gone = ready_now("web-1-2");
    let instances = vec![fixtures::instance("web-0-1", RUNNING), gone.clone()];
    let mut world = World::with(vec![workload], instances);
    assert_eq!(world.standing(Until::Ready), Standing::Underway);
    world.after = MIN_READY;
    assert_eq!(world.standing(Until::Ready), Standing::Reached);
    let next = standing::next_available(&[target()], Until::Ready, &world.scene());
    assert_eq!(next, None);
    // One that nobody hears from is not counted, nor is one that is to stop.
    gone.node_lost = true;
    world.instances.insert(gone.full_name(), gone.clone());
    assert_eq!(world.standing(Until::Ready), Standing::Underway);
    gone.node_lost = false;
    gone.goal = Goal::Stop;
    world.instances.insert(gone.full_name(), gone);
    assert_eq!(world.standing(Until::Ready), Standing::Underway);
}

#[test]
fn going_back_is_there_when_what_ran_before_runs_again() {
    let back = |workload: Workload| {
        let instances = (0..3).map(|i| fixtures::instance(&format!("web-{i}-{i}"), RUNNING));
        World::with(vec![workload], instances.collect()).standing(Until::RolledBack)
    };
    let mut workload = fixtures::workload("web", 3, 3);
    let rolling_back = json!({ "state": "RollingBack", "reason": "aborted" });
    workload.status.rollout = Some(fixtures::rollout(rolling_back));
    assert_eq!(back(workload.clone()), Standing::Underway);
    let rolled_back = json!({ "state": "RolledBack", "reason": "aborted" });
    workload.status.rollout = Some(fixtures::rollout(rolled_back));
    assert_eq!(back(workload), Standing::Reached);
}

#[test]
fn a_job_is_there_when_it_has_ended_well() {
    let of = |state| World::with(vec![fixtures::job("web", state)], Vec::new());
    let target = Target {
        key: "default/web".parse().unwrap(),
        uid: None,
    };
    let standing = |world: &World, until| standing::of(&target, until, &world.scene());
    let running = of(json!({ "state": "Running" }));
    assert_eq!(standing(&running, Until::Done), Standing::Underway);
    assert_eq!(
        standing::describe(&target, Until::Done, &running.scene()),
        "web: 2/5 completed, 1 on their way, 1 failed"
    );
    let completed = of(json!({ "state": "Completed", "finishedAt": fixtures::NOW }));
    for until in [Until::Done, Until::Settled, Until::Completed] {
        assert_eq!(standing(&completed, until), Standing::Reached);
    }
    let failed = json!({ "state": "Failed", "finishedAt": fixtures::NOW, "reason": "exit code 3" });
    let failed = of(failed);
    assert_eq!(standing(&failed, Until::Settled), Standing::Reached);
    for until in [Until::Done, Until::Completed] {
        assert_eq!(standing(&failed, until), Standing::Stopped);
    }
}

#[test]
fn as_little_is_watched_as_is_needed() {
    let of = |key: &str| Target {
        key: key.parse().unwrap(),
        uid: None,
    };
    let (workloads, instances) = selections(&[of("shop/web")]);
    assert_eq!(workloads.fields.to_string(), "name=web");
    assert_eq!(instances.fields.to_string(), "workload=web");
    let shop = Selection::of(&"shop".parse().unwrap());
    assert_eq!(
        selections(&[of("shop/web"), of("shop/db")]),
        (shop.clone(), shop)
    );
    assert_eq!(
        selections(&[of("shop/web"), of("a/db")]).0,
        Selection::all()
    );
}
