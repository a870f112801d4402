//! An engine that takes its time for everything.

use std::time::Duration;

use crate::{engine::site::Site, harness::demo};

/// How long each call takes: half of what one may.
const PACE: Duration = Duration::from_secs(5);

#[test]
fn an_engine_that_takes_5_s_a_call_costs_nothing_but_time() {
    let site = Site::start();
    site.engine.slow_down(PACE);
    site.cluster.apply_no_wait(&demo("web", "replicas: 2"));
    let waited = site
        .cluster
        .eventually("both run, and the node is ready all the time", |c| {
            let state = c.list("nodes")[0]["status"]["state"].clone();
            assert_eq!(state, "Ready");
            let instances = c.instances("web");
            let running = instances
                .iter()
                .filter(|i| i["status"]["phase"] == "Running");
            running.count() == 2
        });
    assert!(waited > PACE, "it was slow");
    site.engine.heal();
    site.settle("web");
    let mut deeds = site.deeds_of_ready_node();
    deeds.sort();
    assert_eq!(
        deeds,
        [
            "create web-0-2",
            "create web-1-3",
            "start web-0-2",
            "start web-1-3"
        ]
    );
}
