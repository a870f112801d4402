//! Events that do not come, or come wrongly: they only wake.

use std::time::Duration;

use crate::{
    engine::{events::Telling, site::Site},
    harness::demo,
};

/// How often an agent looks at its containers though nothing seems to have happened.
const RELIST: Duration = Duration::from_secs(10);
/// What a slow machine may take beyond that until a container is started again.
const SLACK: Duration = Duration::from_secs(8);

/// A container ends while events are told like this: it is started again, once.
fn an_exit_told(telling: Telling) {
    let site = Site::start();
    site.cluster.apply(&demo("web", ""));
    site.engine.tell_events(telling);
    site.engine.exit("web-0-2", 1);
    let waited = site.cluster.eventually("it is started again", |_| {
        site.engine.running().contains_key("web-0-2")
    });
    assert!(waited < RELIST + SLACK, "{waited:?}");
    let restarted = |c: &crate::harness::Cluster| {
        let instances = c.instances("web");
        instances
            .first()
            .is_some_and(|i| i["status"]["phase"] == "Running" && i["status"]["restarts"] == 1)
    };
    site.cluster.eventually("the server hears of it", restarted);
    if telling == Telling::Silent {
        // Nothing wakes the agent, so at rest it is by its own list only.
        site.engine.tell_events(Telling::Faithful);
    }
    assert_eq!(
        site.deeds_of_ready_node(),
        ["create web-0-2", "start web-0-2", "start web-0-2"]
    );
    assert_eq!(site.status("web")["restarts"], 1);
}

#[test]
fn an_exit_of_which_no_event_tells_is_found() {
    an_exit_told(Telling::Silent);
}

#[test]
fn events_that_are_repeated_do_nothing_twice() {
    an_exit_told(Telling::Repeated);
}

#[test]
fn events_out_of_order_do_no_harm() {
    an_exit_told(Telling::Backwards);
}

#[test]
fn a_stream_of_events_that_breaks_off_again_and_again_does_no_harm() {
    an_exit_told(Telling::BrokenOff);
}
