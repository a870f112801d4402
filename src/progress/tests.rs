//! Progress, as it is decided and as it is shown.

use windlass_api::{client::Resource, resource::Goal, status::Phase};

use super::{display::area, *};
use crate::fixtures::{self, RUNNING};

/// Workloads and instances that a test can change.
#[derive(Default)]
struct World {
    workloads: BTreeMap<String, Workload>,
    instances: BTreeMap<String, Instance>,
}

impl World {
    fn with(workloads: Vec<Workload>, instances: Vec<Instance>) -> Self {
        Self {
            workloads: workloads.into_iter().map(|w| (w.full_name(), w)).collect(),
            instances: instances.into_iter().map(|i| (i.full_name(), i)).collect(),
        }
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            workloads: &self.workloads,
            instances: &self.instances,
        }
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
            "web: 1/3 running, exit code 1",
            "  web-1-2 backs off on edge-1: exit [2J code 1",
            "  web-2-3 pulls nginx:1.27 on edge-1",
            "  web-2-9 is to stop on edge-1",
        ]
    );
    assert_eq!(
        world.shown(Until::Settled, 2),
        ["web: 1/3 running, exit code 1", "and 3 more"]
    );
}

#[test]
fn a_rollout_shows_how_many_are_new() {
    let mut workload = fixtures::workload("web", 3, 3);
    workload.status.updated = 1;
    workload.status.revision = windlass_api::ids::RevisionNumber(2);
    workload.status.settled = false;
    let world = World::with(vec![workload], Vec::new());
    assert_eq!(
        world.shown(Until::Settled, 10),
        ["web: 3/3 running, 1 of them revision 2"]
    );
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
