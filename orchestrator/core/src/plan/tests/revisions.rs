//! Revisions: going back to one, which are kept, and what is told of them.

use serde_json::json;
use windlass_api::{
    ids::RevisionNumber,
    resource::{RolloutAction, RolloutState},
};

use super::{
    rollouts::{count, rolled_out, spec},
    world::key,
};
use crate::view;

#[test]
fn undo_goes_back_and_a_change_goes_on_from_what_the_user_wrote() {
    let mut world = rolled_out();
    world.apply("web", spec("nginx:2", json!({})));
    world.come_to_rest();
    world
        .rollout("web", RolloutAction::Undo { to: None })
        .unwrap();
    world.come_to_rest();
    assert_eq!(
        (count(&world, 1), world.state("web")),
        (4, RolloutState::Completed)
    );
    // The manifest is what it was, so that applying it again changes nothing ...
    world.apply("web", spec("nginx:2", json!({})));
    world.come_to_rest();
    assert_eq!(count(&world, 1), 4);
    // ... and writing what runs is no revision, but another change is.
    world.apply("web", spec("nginx", json!({})));
    assert_eq!(world.status("web").revision, RevisionNumber(1));
    world.apply("web", spec("nginx:3", json!({})));
    world.come_to_rest();
    assert_eq!(count(&world, 3), 4);
}

#[test]
fn undo_says_why_it_cannot() {
    let mut world = rolled_out();
    let mut undo = |to: Option<u32>| {
        let to = to.map(RevisionNumber);
        let refused = world.rollout("web", RolloutAction::Undo { to });
        refused.unwrap_err().to_string()
    };
    assert!(undo(None).contains("there is nothing to undo: no kept revision"));
    assert!(undo(Some(1)).contains("revision 1 of default/web is wanted already"));
    assert_eq!(
        undo(Some(7)),
        "there is no revision 7 of default/web, only 1"
    );
    // Who applied again what was there first can go back to what came after it.
    for image in ["nginx:2", "nginx"] {
        world.apply("web", spec(image, json!({})));
        world.come_to_rest();
    }
    let refused = world.rollout("web", RolloutAction::Undo { to: None });
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.ends_with("was good; a later one has to be named: 2"),
        "{refused}"
    );
}

#[test]
fn revisions_are_shown_with_what_changed() {
    let mut world = rolled_out();
    world.apply("web", spec("crash", json!({})));
    let revisions = view::revisions(&world.cluster, &key("web"));
    let [first, second] = &revisions[..] else {
        panic!("{revisions:?}");
    };
    assert!(first.good && !first.wanted && first.changes.is_empty());
    assert!(!second.good && second.wanted);
    assert_eq!(second.changes[0].path, "containers[0].image");
    assert_eq!((first.instances, second.instances), (4, 1));
}

#[test]
fn the_last_good_revision_is_kept_however_many_follow() {
    let mut world = rolled_out();
    for i in 0..20 {
        let mut next = spec("unready", json!({}));
        next["env"] = json!({ "N": i });
        world.apply("web", next);
        world.run_agents();
    }
    let numbers: Vec<_> = view::revisions(&world.cluster, &key("web"))
        .iter()
        .map(|r| r.number.0)
        .collect();
    assert_eq!(numbers.len(), super::super::REVISIONS_MAX);
    assert_eq!((numbers[0], numbers[1]), (1, 13));
    world.rollout("web", RolloutAction::Abort).unwrap();
    world.come_to_rest();
    assert_eq!(count(&world, 1), 4);
}
