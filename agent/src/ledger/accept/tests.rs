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
        Verdict::NotNeeded { .. } => panic!("not needed"),
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
    let gone = ["web-9-9"];
    for (frame, gone) in [
        (whole(7, vec![instance("web-0-1")]), &[][..]),
        (delta(6, 7, vec![instance("web-0-1")], &gone), &gone[..]),
    ] {
        let dropped = gone.iter().map(|text| id(text)).collect();
        assert_eq!(
            accept(Some(&ours), cluster(), frame),
            Ok(Verdict::NotNeeded { dropped })
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

/// From a server whose state may have gone back.
fn withheld(epoch: u64, frame: AssignmentFrame) -> AssignmentFrame {
    AssignmentFrame {
        removals: Removals::Withheld,
        ..in_epoch(epoch, frame)
    }
}

#[test]
fn a_restored_server_takes_nothing_away_until_it_is_accepted() {
    let ours = held(7, vec![instance("web-0-1"), instance("web-1-2")]);
    let changed = |change: fn(&mut AssignedInstance)| {
        let mut other = instance("web-1-2");
        change(&mut other);
        vec![instance("web-0-1"), other]
    };
    for instances in [
        vec![],
        vec![instance("web-0-1")],
        vec![instance("web-0-1"), instance("web-2-3")],
        changed(|i| i.revision = RevisionNumber(2)),
        changed(|i| i.goal = Goal::Prepare),
        changed(|i| i.slot.0 += 1),
    ] {
        for (epoch, generation) in [(2, 5), (2, 7), (2, 20), (1, 20)] {
            let frame = withheld(epoch, whole(generation, instances.clone()));
            assert_eq!(rejected(&ours, frame.clone()), Rejection::Withheld);
            let accepted_later = in_epoch(
                3,
                AssignmentFrame {
                    removals: Removals::Allowed,
                    ..frame
                },
            );
            let (new, _) = accepted(&ours, accepted_later);
            assert_eq!(new.assignment.generation, Generation(generation));
        }
    }
    let error = Rejection::Withheld.to_string();
    assert!(error.contains("windlass cluster accept-restore"), "{error}");
}

#[test]
fn a_restored_server_that_takes_nothing_away_goes_on() {
    let ours = held(7, vec![instance("web-0-1"), instance("web-1-2")]);
    let both = || vec![instance("web-0-1"), instance("web-1-2")];
    for generation in [5, 7, 8] {
        let (same, dropped) = accepted(&ours, withheld(2, whole(generation, both())));
        assert_eq!((same.epoch, dropped.len()), (Epoch(2), 0));
    }
    let mut more = both();
    more.push(instance("web-2-3"));
    let (more, dropped) = accepted(&ours, withheld(2, whole(8, more)));
    assert_eq!((ids(&more).len(), dropped.len()), (3, 0));
}

#[test]
fn without_a_ledger_nothing_is_begun_with_a_restored_server() {
    for instances in [vec![], vec![instance("web-0-1")]] {
        let frame = withheld(2, whole(7, instances));
        assert_eq!(accept(None, cluster(), frame), Err(Rejection::Withheld));
    }
}

#[test]
fn only_what_cannot_follow_from_what_was_seen_tells_of_another_state() {
    let ours = held(7, vec![instance("web-0-1")]);
    for (frame, expected) in [
        (whole(6, vec![]), true),
        (whole(7, vec![]), true),
        (in_epoch(0, whole(9, vec![])), true),
        (withheld(2, whole(9, vec![])), false),
        (delta(8, 9, vec![], &[]), false),
    ] {
        assert_eq!(rejected(&ours, frame).is_divergence(), expected);
    }
}
