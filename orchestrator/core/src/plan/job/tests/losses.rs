//! Jobs whose nodes are lost, and come back.

use super::*;

#[test]
fn a_lost_node_is_no_failure_and_the_index_completes_once() {
    let mut works = Works::new(2);
    works.job("load", json!({ "backoffLimit": 0 }));
    works.sync_all();
    let first = works.live("load").remove(0);
    let (lost, other) = if first.node == Some(node(1)) {
        (1, 2)
    } else {
        (2, 1)
    };
    works.lose(lost);
    assert_eq!(works.live("load").len(), 2, "it is replaced at once");
    works.sync(other);
    let second = works
        .live("load")
        .into_iter()
        .find(|i| i.id != first.id)
        .unwrap();
    assert_eq!(second.node, Some(node(other)));
    // Both end; the one that is heard of first counts.
    works.finish(&first.id, 0);
    works.finish(&second.id, 0);
    works.sync(other);
    let job = works.job_status("load");
    assert!(matches!(job.state, JobState::Completed { .. }));
    assert_eq!((job.succeeded, job.failed), (1, 0));
    works.sync_all();
    assert_eq!(works.job_status("load").succeeded, 1);
    let left: Vec<_> = works.world.cluster.instances_of(&key("load")).collect();
    assert_eq!(left.len(), 1, "the surplus one is gone");
}

#[test]
fn what_returned_completes_the_index_and_its_replacement_is_stopped() {
    let mut works = Works::new(2);
    works.job("load", json!({ "completions": 2 }));
    works.sync_all();
    let first = works.live("load").remove(0);
    let lost = if first.node == Some(node(1)) { 1 } else { 2 };
    works.lose(lost);
    works.sync(3 - lost);
    works.finish(&first.id, 0);
    works.sync_all();
    assert_eq!(works.job_status("load").succeeded, 1);
    assert_eq!(works.slots("load"), [1]);
}

#[test]
fn of_two_instances_of_an_index_the_older_one_goes_on() {
    let mut works = Works::new(2);
    works.job("load", json!({}));
    works.sync_all();
    let first = works.live("load").remove(0);
    let lost = if first.node == Some(node(1)) { 1 } else { 2 };
    works.lose(lost);
    works.wait(60);
    works.sync(3 - lost);
    works.sync_all();
    let left: Vec<_> = works.live("load").into_iter().map(|i| i.id).collect();
    assert_eq!(left, [first.id]);
}

#[test]
fn a_lost_instance_does_not_shorten_the_wait_of_the_one_that_replaced_it() {
    let mut works = Works::new(2);
    works.job("load", json!({}));
    works.sync_all();
    let first = works.live("load").remove(0);
    let lost = if first.node == Some(node(1)) { 1 } else { 2 };
    works.lose(lost);
    works.sync(3 - lost);
    let second = works
        .live("load")
        .into_iter()
        .find(|i| i.id != first.id)
        .unwrap();
    works.finish(&second.id, 1);
    works.sync(3 - lost);
    assert_eq!(works.live("load").len(), 1);
    works.wait(10);
    assert_eq!(works.live("load").len(), 2);
}
