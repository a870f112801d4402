//! The engine's disk is full.

use std::time::Duration;

use crate::{
    engine::{call::Call, script::Fault, site::Site},
    harness::demo,
};

const FULL: Fault = Fault::Refuse(
    500,
    "failed to create directory: mkdir /var/lib/docker/overlay2/a: no space left on device",
);
/// For how long it is full: long enough for tries at once, after 1 s and after 2 s more.
const DURING: Duration = Duration::from_secs(4);

/// A call fails for lack of space: that is said, tried ever less often, and done when there is
/// some. What was done before is not done again.
fn full_for(call: Call) {
    let site = Site::start();
    site.engine.always(call, FULL);
    let before = site.engine.count(call);
    site.cluster.apply_no_wait(&demo("web", ""));
    let reason = site.reason("web");
    assert!(reason.contains("no space left on device"), "{reason}");
    site.cluster
        .always("the node can be used", DURING, |cluster| {
            cluster.list("nodes")[0]["status"]["state"] == "Ready"
        });
    let tries = site.engine.count(call) - before;
    assert!((2..=5).contains(&tries), "{tries} tries");
    site.engine.heal();
    site.settle("web");
    assert_eq!(
        site.deeds_of_ready_node(),
        ["create web-0-2", "start web-0-2"]
    );
}

#[test]
fn a_full_disk_when_a_container_is_created_is_named_and_waited_for() {
    full_for(Call::Create);
}

#[test]
fn a_full_disk_when_a_container_is_started_is_named_and_waited_for() {
    full_for(Call::Start);
}
