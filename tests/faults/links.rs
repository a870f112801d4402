//! Links that are cut, one-way and both ways, that come and go, that lose packets and are slow.

use std::{thread, time::Duration};

use crate::{
    harness::demo,
    lab::{
        Lab,
        network::Fault,
        relay,
        slots::{NOT_LOST_BEFORE, healed, is_whole, replaced, runs_elsewhere},
    },
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root, and makes a lab"]
fn a_cut_of_four_seconds_is_nothing_and_one_of_a_minute_is_replaced_and_heals_to_one() {
    let lab = Lab::start(3);
    lab.apply(&demo("web", "replicas: 3"));
    lab.after_grace();
    let settled = lab.recorder().mark();

    lab.network.harm("h1", Fault::Cut);
    thread::sleep(4 * SECOND);
    lab.network.heal("h1");
    // Longer than a lease, so that one that was not renewed after the cut would be over.
    thread::sleep(12 * SECOND);
    lab.never_lost("h1");
    lab.untouched_since(settled);

    lab.network.harm("h1", Fault::Cut);
    let cut = lab.recorder().mark();
    replaced(&lab, &["h1"], cut);
    assert_eq!(lab.state("h1"), "Lost");
    lab.recorder().mark();
    let replaced = lab.recorder().now();
    thread::sleep((cut + 60 * SECOND).saturating_sub(replaced));
    // It was replaced once, and the original ran on all the time.
    lab.recorder().mark();
    assert_eq!(lab.recorder().running("web").len(), 4, "{}", lab.story());
    assert_eq!(lab.recorder().runs("web").len(), 4, "{}", lab.story());

    lab.network.heal("h1");
    healed(&lab, 3);
    // Two at a time are what a cut costs, and no more; nothing else was started.
    let most = lab.recorder().most_in_a_slot("web", settled);
    assert_eq!(most, 2, "{}", lab.story());
    assert_eq!(lab.recorder().runs("web").len(), 4, "{}", lab.story());
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn a_cluster_of_two_fails_over() {
    let lab = Lab::start(2);
    lab.apply(&demo("web", "replicas: 2"));
    lab.after_grace();
    lab.network.harm("h2", Fault::Cut);
    let cut = lab.recorder().mark();
    replaced(&lab, &["h2"], cut);
    lab.network.heal("h2");
    healed(&lab, 2);
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn a_host_that_is_not_heard_is_replaced_like_one_that_is_cut_off() {
    cut_one_way(Fault::CutFromHost);
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn a_host_that_hears_nothing_is_replaced_like_one_that_is_cut_off() {
    cut_one_way(Fault::CutToHost);
}

fn cut_one_way(fault: Fault) {
    let lab = Lab::start(3);
    lab.apply(&demo("web", "replicas: 3"));
    lab.after_grace();
    let settled = lab.recorder().mark();
    lab.network.harm("h2", fault);
    let cut = lab.recorder().mark();
    lab.always("no node is lost too early", NOT_LOST_BEFORE, |lab| {
        lab.state("h2") != "Lost"
    });
    if fault == Fault::CutFromHost {
        replaced(&lab, &["h2"], cut);
    } else {
        // What the agent says arrives until it gives up for want of an answer, so that it is lost
        // later, and when it hangs on the kernel's patience.
        lab.eventually("it is replaced", |lab| runs_elsewhere(lab, &["h2"]) == 3);
    }
    assert_eq!(lab.state("h2"), "Lost");
    lab.network.heal("h2");
    healed(&lab, 3);
    let most = lab.recorder().most_in_a_slot("web", settled);
    assert_eq!(most, 2, "{}", lab.story());
    assert_eq!(lab.recorder().runs("web").len(), 4, "{}", lab.story());
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn a_link_that_comes_and_goes_moves_each_slot_at_most_once_a_minute() {
    come_and_go(10);
}

#[test]
#[ignore = "needs root, makes a lab, and takes ten minutes"]
fn long_a_link_that_comes_and_goes_a_hundred_times() {
    come_and_go(100);
}

/// Cuts a link for 3 s and mends it for 3 s, so many times.
fn come_and_go(times: usize) {
    let lab = Lab::start(3);
    lab.apply(&demo("web", "replicas: 3"));
    lab.after_grace();
    let settled = lab.recorder().mark();
    for _ in 0..times {
        lab.network.harm("h1", Fault::Cut);
        thread::sleep(3 * SECOND);
        lab.network.heal("h1");
        thread::sleep(3 * SECOND);
    }
    let over = lab.recorder().mark();
    healed(&lab, 3);
    let minutes = usize::try_from((over - settled).as_secs().div_ceil(60)).expect("a few");
    let runs = lab.recorder().runs("web");
    for slot in 0..3 {
        let starts = runs.iter().filter(|run| run.slot == slot).count();
        let moves = starts - 1;
        assert!(
            moves <= minutes,
            "slot {slot} was moved {moves} times in {minutes} minutes\n{}",
            lab.story()
        );
    }
    let most = lab.recorder().most_in_a_slot("web", settled);
    assert!(most <= 2, "{}", lab.story());
    lab.never_lost("h2");
    lab.never_lost("h3");
    eprintln!(
        "a link that came and went {times} times moved {} instances, and was lost {} times",
        runs.len() - 3,
        lab.happened("h1", "Lost")
    );
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn links_that_lose_packets_or_take_a_second_lose_no_node_and_work_is_done() {
    let mut lab = Lab::start(3);
    // One second each way. The agent connects anew, since its connection would not be delayed.
    relay::delay(&lab.host("h3").namespace, SECOND);
    lab.host("h3").kill_agent();
    lab.host("h3").start_agent();
    lab.eventually("it is back", Lab::all_connected);
    lab.apply(&demo("web", "replicas: 3"));
    lab.after_grace();
    let settled = lab.recorder().mark();

    lab.network.harm("h2", Fault::Lossy);
    thread::sleep(40 * SECOND);
    lab.never_lost("h2");
    lab.never_lost("h3");
    lab.untouched_since(settled);
    // Over such links work is done, too, if slowly.
    lab.ok(&["scale", "web", "6", "--timeout", "60s"]);
    lab.network.heal("h2");
    healed(&lab, 6);
    lab.never_lost("h2");
    lab.never_lost("h3");
    assert_eq!(lab.recorder().runs("web").len(), 6, "{}", lab.story());
    assert!(is_whole(&lab, 6));
}
