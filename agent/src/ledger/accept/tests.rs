use uuid::Uuid;
use windlass_api::resource::Goal;

use super::*;
use crate::testing::{cluster, delta, held, id, instance, whole};

fn ids(held: &Held) -> Vec<&str> {
    held.assignment
        .instances
        .keys()
        .map(|id| id.as_str())
        .collect()
}

#[track_caller]
fn accepted(ours: &Held, frame: AssignmentFrame) -> (Arc<Held>, Vec<InstanceId>) {
    match accept(Some(ours), cluster(), frame).unwrap() {
        Verdict::Replaced { held, dropped } => (held, dropped),
        Verdict::NotNeeded => panic!("not needed"),
    }
}

#[track_caller]
fn rejected(ours: &Held, frame: AssignmentFrame) -> Rejection {
    accept(Some(ours), cluster(), frame).unwrap_err()
}

fn in_epoch(epoch: u64, frame: AssignmentFrame) -> AssignmentFrame {
    AssignmentFrame {
        epoch: Epoch(epoch),
        ..frame
    }
}

#[test]
fn the_first_assignment_must_be_whole() {
    let frame = whole(7, vec![instance("web-0-1")]);
    let Verdict::Replaced { held, .. } = accept(None, cluster(), frame).unwrap() else {
        panic!("nothing was held");
    };
    assert_eq!(ids(&held), ["web-0-1"]);
    assert_eq!(
        accept(None, cluster(), delta(6, 7, vec![], &[])),
        Err(Rejection::BaseNotHeld {
            ours: None,
            base: Generation(6)
        })
    );
}

#[test]
fn a_newer_generation_replaces_and_tells_what_it_drops() {
    let ours = held(7, vec![instance("web-0-1"), instance("web-1-2")]);
    let (new, dropped) = accepted(&ours, whole(9, vec![instance("web-1-2")]));
    assert_eq!(new.assignment.generation, Generation(9));
    assert_eq!(ids(&new), ["web-1-2"]);
    assert_eq!(dropped, ["web-0-1".parse().unwrap()]);
}

#[test]
fn a_change_to_what_is_held_is_applied() {
    let ours = held(7, vec![instance("web-0-1"), instance("web-1-2")]);
    let (new, dropped) = accepted(&ours, delta(7, 8, vec![instance("web-2-3")], &["web-0-1"]));
    assert_eq!(ids(&new), ["web-1-2", "web-2-3"]);
    assert_eq!(dropped, ["web-0-1".parse().unwrap()]);
}

#[test]
fn what_came_and_went_unseen_is_dropped_too() {
    let ours = held(7, vec![instance("web-0-1")]);
    let frame = delta(7, 9, vec![], &["web-0-1", "web-5-5"]);
    let (_, dropped) = accepted(&ours, frame);
    assert_eq!(dropped, [id("web-0-1"), id("web-5-5")]);
}

#[test]
fn the_same_again_changes_nothing() {
    let ours = held(7, vec![instance("web-0-1")]);
    for frame in [
        whole(7, vec![instance("web-0-1")]),
        delta(6, 7, vec![instance("web-0-1")], &["web-9-9"]),
    ] {
        assert_eq!(
            accept(Some(&ours), cluster(), frame),
            Ok(Verdict::NotNeeded)
        );
    }
}

#[test]
fn what_is_older_is_rejected() {
    let ours = held(7, vec![instance("web-0-1")]);
    for frame in [whole(6, vec![]), delta(5, 6, vec![], &["web-0-1"])] {
        assert_eq!(
            rejected(&ours, frame),
            Rejection::OlderGeneration {
                ours: Generation(7),
                theirs: Generation(6)
            }
        );
    }
    let frame = in_epoch(0, whole(8, vec![]));
    assert!(matches!(
        rejected(&ours, frame),
        Rejection::OlderEpoch { .. }
    ));
}

#[test]
fn other_content_under_the_same_generation_is_rejected() {
    let ours = held(7, vec![instance("web-0-1")]);
    let mut prepared = instance("web-0-1");
    prepared.goal = Goal::Prepare;
    for frame in [
        whole(7, vec![]),
        whole(7, vec![prepared]),
        delta(6, 7, vec![], &["web-0-1"]),
    ] {
        assert!(matches!(
            rejected(&ours, frame),
            Rejection::DifferentContent { .. }
        ));
    }
}

#[test]
fn a_change_to_what_is_not_held_is_rejected() {
    let ours = held(7, vec![]);
    assert_eq!(
        rejected(&ours, delta(8, 9, vec![], &[])),
        Rejection::BaseNotHeld {
            ours: Some(Generation(7)),
            base: Generation(8)
        }
    );
    // A change within another epoch is to another generation 7.
    let frame = in_epoch(2, delta(7, 8, vec![], &[]));
    assert!(matches!(
        rejected(&ours, frame),
        Rejection::BaseNotHeld { .. }
    ));
}

#[test]
fn another_cluster_is_rejected() {
    let ours = held(7, vec![instance("web-0-1")]);
    let other = ClusterId(Uuid::from_u128(99));
    let rejection = accept(Some(&ours), other, whole(8, vec![])).unwrap_err();
    assert!(matches!(rejection, Rejection::OtherCluster { .. }));
}

#[test]
fn a_restored_server_takes_nothing_away() {
    let ours = held(7, vec![instance("web-0-1"), instance("web-1-2")]);
    let both = || vec![instance("web-0-1"), instance("web-1-2")];
    let three = || {
        vec![
            instance("web-0-1"),
            instance("web-1-2"),
            instance("web-2-3"),
        ]
    };
    for frame in [
        whole(5, vec![]),
        whole(5, three()),
        whole(7, three()),
        whole(7, vec![instance("web-0-1")]),
        whole(20, vec![instance("web-0-1"), instance("web-2-3")]),
    ] {
        let rejection = rejected(&ours, in_epoch(2, frame));
        assert!(matches!(rejection, Rejection::Restored { .. }));
        assert!(rejection.to_string().contains("delete ledger.json"));
    }
    // It may go on from what the agent knows.
    let (same, _) = accepted(&ours, in_epoch(2, whole(7, both())));
    assert_eq!(same.epoch, Epoch(2));
    let (more, dropped) = accepted(&ours, in_epoch(2, whole(8, three())));
    assert_eq!((ids(&more).len(), dropped.len()), (3, 0));
}
