//! The engine answers, but for single calls.

use std::time::{Duration, Instant};

use crate::{
    engine::{call::Call, script::Fault, site::Site},
    harness::{Cluster, demo},
};

/// Far less than what an agent waits for a call that hangs.
const HANGING: Duration = Duration::from_secs(25);

/// Another service is started and runs, while the call still hangs.
fn goes_on(site: &Site) {
    let began = Instant::now();
    site.cluster.apply(&demo("other", ""));
    assert!(began.elapsed() < HANGING, "it did not wait for what hangs");
}

#[test]
fn a_container_that_cannot_be_read_makes_its_node_say_which() {
    let site = Site::start();
    site.cluster.apply(&demo("web", ""));
    site.engine.always(Call::Inspect, Fault::Hang);
    // So that it has to be read anew.
    site.engine.exit("web-0-2", 1);
    let id = site.engine.container_of("web-0-2").id;
    let node = site.until_node_is("RuntimeUnhealthy");
    let reason = node["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("no answer within 10 s"), "{reason}");
    assert!(reason.contains(&id[..12]), "{reason}");
    site.engine.heal();
    site.until_node_is("Ready");
    site.settle("web");
    assert_eq!(
        site.deeds(),
        ["create web-0-2", "start web-0-2", "start web-0-2"]
    );
}

#[test]
fn a_start_that_hangs_holds_up_nothing_else_and_is_not_made_twice() {
    let site = Site::start();
    site.engine.once(Call::Start, Fault::Hang);
    site.cluster.apply_no_wait(&demo("web", ""));
    site.engine.until_waiting(Call::Start);
    goes_on(&site);
    site.engine.heal();
    site.settle("web");
    let mut deeds = site.deeds_of_ready_node();
    deeds.sort();
    assert_eq!(
        deeds,
        [
            "create other-0-3",
            "create web-0-2",
            "start other-0-3",
            "start web-0-2"
        ]
    );
}

#[test]
fn a_stop_that_hangs_holds_up_nothing_else_and_is_not_made_twice() {
    let site = Site::start();
    site.cluster.apply(&demo("web", ""));
    site.engine.once(Call::Stop, Fault::Hang);
    site.cluster.ok(&["delete", "web", "--no-wait"]);
    site.engine.until_waiting(Call::Stop);
    goes_on(&site);
    let stopping = |c: &Cluster| {
        let instances = c.list("instances");
        instances.iter().any(|i| i["workload"] == "web")
    };
    assert!(stopping(&site.cluster), "it is not gone before it is");
    site.engine.heal();
    site.cluster.eventually("it is gone", |c| !stopping(c));
    assert_eq!(
        site.deeds_of_ready_node(),
        [
            "create web-0-2",
            "start web-0-2",
            "create other-0-3",
            "start other-0-3",
            "stop web-0-2",
            "remove web-0-2",
        ]
    );
}
