//! Engines hang, and are restarted: their node is not lost, and nothing is moved.

use std::time::Duration;

use serde_json::Value;

use crate::{harness::demo, lab::Lab};

const SECOND: Duration = Duration::from_secs(1);

/// The instances of `web`, and where they are.
fn placed(lab: &Lab) -> Vec<(String, String)> {
    let place = |i: &Value| (i["name"].to_string(), i["node"].to_string());
    lab.instances("web").iter().map(place).collect()
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn an_engine_that_hangs_loses_neither_its_node_nor_a_container() {
    let mut lab = Lab::start(2);
    lab.apply(&demo("web", "replicas: 2"));
    lab.after_grace();
    let settled = lab.recorder().mark();

    lab.host("h1").suspend_engine();
    lab.always("a moment of silence is none", 3 * SECOND, |lab| {
        lab.state("h1") == "Ready"
    });
    lab.eventually("it is noticed", |lab| lab.state("h1") == "RuntimeUnhealthy");
    lab.always("it is neither lost nor forgotten", 15 * SECOND, |lab| {
        lab.state("h1") == "RuntimeUnhealthy"
    });
    lab.host("h1").resume_engine();
    lab.eventually("it is well again", Lab::all_connected);
    lab.never_lost("h1");
    lab.untouched_since(settled);
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn an_engine_that_is_restarted_gets_its_containers_back_where_they_were() {
    let mut lab = Lab::start(2);
    lab.apply(&demo("web", "replicas: 2"));
    lab.after_grace();
    let before = placed(&lab);

    // Stopped, an engine stops its containers.
    lab.host("h1").stop_engine();
    lab.eventually("one has ended", |lab| {
        lab.recorder().running("web").len() == 1
    });
    lab.always("nothing is moved", 15 * SECOND, |lab| {
        lab.recorder().running("web").len() == 1
    });
    lab.host("h1").start_engine();
    lab.eventually("everything runs again", |lab| {
        lab.recorder().running("web").len() == 2 && lab.all_connected()
    });
    lab.never_lost("h1");
    assert_eq!(placed(&lab), before);
    // The one that ran on is not touched: two runs on `h1`, one on the other.
    assert_eq!(lab.recorder().runs("web").len(), 3, "{}", lab.story());
}
