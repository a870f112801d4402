//! Somebody else is quicker: between two calls a container is gone, or runs already.

use std::time::Duration;

use crate::{
    engine::{call::Call, script::Fault, site::Site},
    harness::{Cluster, demo},
};

#[test]
fn a_container_that_vanishes_between_list_and_inspect_is_made_again_once() {
    let site = Site::start();
    site.cluster.apply(&demo("web", ""));
    site.engine.always(Call::Inspect, Fault::Hang);
    site.engine.exit("web-0-2", 1);
    site.engine.until_waiting(Call::Inspect);
    site.engine.remove("web-0-2");
    site.engine.heal();
    site.cluster.eventually("there is another one", |_| {
        site.engine.running().contains_key("web-0-2")
    });
    site.settle("web");
    let made = ["create web-0-2", "start web-0-2"];
    assert_eq!(site.deeds_of_ready_node(), [made, made].concat());
}

#[test]
fn a_container_that_vanishes_between_create_and_start_is_made_again_once() {
    let site = Site::start();
    site.engine.once(Call::Start, Fault::Hang);
    site.cluster.apply_no_wait(&demo("web", ""));
    site.engine.until_waiting(Call::Start);
    site.engine.remove("web-0-2");
    site.engine.heal();
    site.settle("web");
    assert_eq!(
        site.deeds_of_ready_node(),
        ["create web-0-2", "create web-0-2", "start web-0-2"]
    );
    assert_eq!(site.status("web")["restarts"], 0, "it never ran before");
}

#[test]
fn a_container_that_somebody_started_already_is_content_with_that() {
    let site = Site::start();
    site.engine.once(Call::Start, Fault::Hang);
    site.cluster.apply_no_wait(&demo("web", ""));
    site.engine.until_waiting(Call::Start);
    site.engine.begin("web-0-2");
    site.engine.heal();
    site.settle("web");
    assert_eq!(site.deeds_of_ready_node(), ["create web-0-2"]);
    assert_eq!(site.status("web")["restarts"], 0);
}

/// Found with this test: what the engine took its time to remove was asked to be removed again as
/// quickly as the engine could answer.
#[test]
fn a_container_that_is_being_removed_is_gone_when_it_is_and_not_hurried() {
    let site = Site::start();
    site.cluster.apply(&demo("web", ""));
    let going = Fault::Refuse(409, "removal of container web is already in progress");
    site.engine.always(Call::Remove, going);
    site.cluster.ok(&["delete", "web", "--no-wait"]);
    site.until_called(Call::Remove, 1);
    let is_there = |c: &Cluster| {
        let instances = c.list("instances");
        instances.iter().any(|i| i["workload"] == "web")
    };
    let during = Duration::from_secs(3);
    site.cluster
        .always("it is not gone before it is", during, is_there);
    // At once, after 1 s, and after 2 s more.
    let tries = site.engine.count(Call::Remove);
    assert!((2..=5).contains(&tries), "{tries} tries");
    site.engine.remove("web-0-2");
    site.cluster.eventually("it is gone", |c| !is_there(c));
    assert_eq!(
        site.deeds_of_ready_node(),
        ["create web-0-2", "start web-0-2", "stop web-0-2"]
    );
}

#[test]
fn a_container_that_is_marked_for_removal_is_started_when_it_is_not() {
    let site = Site::start();
    let marked = Fault::Refuse(409, "container is marked for removal and cannot be started");
    site.engine.once(Call::Start, marked);
    site.cluster.apply(&demo("web", ""));
    assert_eq!(
        site.deeds_of_ready_node(),
        ["create web-0-2", "start web-0-2"]
    );
    assert_eq!(site.status("web")["restarts"], 0, "it never ran before");
}
