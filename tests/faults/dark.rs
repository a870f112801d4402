//! Most hosts are dark: it looks like a link, so nothing on them is replaced until enough are back.

use std::{thread, time::Duration};

use crate::{
    harness::demo,
    lab::{
        Lab,
        network::Fault,
        slots::{healed, runs_elsewhere},
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// How often something happened to the cluster as a whole.
fn told(lab: &Lab, reason: &str) -> usize {
    let events = lab.list("events").into_iter();
    events.filter(|event| event["reason"] == reason).count()
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn nothing_is_replaced_while_most_hosts_are_dark_and_it_goes_on_when_enough_are_back() {
    let lab = Lab::start(4);
    lab.apply(&demo("web", "replicas: 4"));
    lab.after_grace();
    let settled = lab.recorder().mark();
    let dark = ["h1", "h2", "h3"];
    for host in dark {
        lab.network.harm(host, Fault::Cut);
    }
    lab.eventually("they are lost", |lab| {
        dark.iter().all(|host| lab.state(host) == "Lost")
    });
    lab.eventually("it is said", |lab| told(lab, "EvictionsStopped") == 1);
    // By now it would have been done three times over.
    thread::sleep(20 * SECOND);
    lab.untouched_since(settled);
    assert_eq!(told(&lab, "EvictionsResumed"), 0, "{}", lab.story());

    // Half of them are back: what the other half had is replaced, and nothing else.
    lab.network.heal("h1");
    lab.eventually("what is dark is replaced", |lab| {
        runs_elsewhere(lab, &["h2", "h3"]) == 4
    });
    assert_eq!(told(&lab, "EvictionsResumed"), 1, "{}", lab.story());
    assert_eq!(lab.recorder().runs("web").len(), 6, "{}", lab.story());

    lab.network.heal("h2");
    lab.network.heal("h3");
    healed(&lab, 4);
    assert_eq!(lab.recorder().runs("web").len(), 6, "{}", lab.story());
    assert_eq!(lab.recorder().most_in_a_slot("web", settled), 2);
}
