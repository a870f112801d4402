//! The name that a container is to have is taken.

use crate::{
    engine::{call::Call, script::Fault, site::Site},
    harness::demo,
};

/// The name of the container of the second instance that a site makes.
fn name(site: &Site) -> String {
    format!("windlass.{}.default.web-0-2", &site.cluster.id()[..8])
}

/// Somebody else has a container of that name: it is said, tried again ever less often, and done
/// when the name is free.
fn taken_by(labels: &[(&str, &str)]) {
    let site = Site::start();
    let name = name(&site);
    site.engine.run_foreign(&name, labels);
    let foreign = site.engine.find(&name);
    site.cluster.apply_no_wait(&demo("web", ""));
    let reason = site.reason("web");
    let expected = format!(
        "the container name {name} is taken by a container that is not ours: rename or remove it"
    );
    assert_eq!(reason, expected);
    site.until_called(Call::Create, 1);
    assert_eq!(site.deeds_of_ready_node(), Vec::<String>::new());
    assert_eq!(site.engine.find(&name), foreign, "nobody touched it");
    // At once, and after a second: what comes next comes later than that.
    assert!(
        site.engine.count(Call::Create) <= 5,
        "it is not tried all the time"
    );

    site.engine.remove_named(&name);
    site.settle("web");
    assert_eq!(
        site.deeds_of_ready_node(),
        ["create web-0-2", "start web-0-2"]
    );
}

#[test]
fn a_foreign_container_with_our_name_is_left_alone_and_named() {
    taken_by(&[]);
}

#[test]
fn a_container_of_another_cluster_with_our_name_is_left_alone_and_named() {
    taken_by(&[
        ("windlass.cluster", "00000000-0000-0000-0000-000000000000"),
        ("windlass.node", "n1"),
        ("windlass.namespace", "default"),
        ("windlass.instance", "web-0-2"),
        ("windlass.container", "main"),
    ]);
}

/// `docker commit` hands labels on: what runs from such an image looks like ours.
#[test]
fn a_foreign_container_with_all_our_labels_and_another_name_is_left_alone() {
    let site = Site::start();
    let labels = site.engine.container_of("kept-0-1").labels;
    let labels: Vec<(&str, &str)> = labels
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    site.engine.run_foreign("jolly_hopper", &labels);
    let foreign = site.engine.find("jolly_hopper");
    assert_eq!(site.deeds_of_ready_node(), Vec::<String>::new());
    site.cluster.ok(&["delete", "kept"]);
    assert_eq!(
        site.engine.find("jolly_hopper"),
        foreign,
        "nobody touched it"
    );
    assert_eq!(site.engine.containers().len(), 1, "ours is gone");
}

/// The engine was asked for the same container twice: by an agent that was killed, and by the next
/// one, which could not see it yet when it looked. That is content with what is there.
#[test]
fn our_own_container_of_that_name_is_taken_over() {
    let mut site = Site::start();
    site.engine.once(Call::Create, Fault::Hang);
    site.cluster.apply_no_wait(&demo("web", ""));
    site.engine.until_waiting(Call::Create);
    site.cluster.kill_agent(0);
    // It asks for the network when it has looked, and before it creates a container.
    site.engine.always(Call::Networks, Fault::Hang);
    site.cluster.start_agent(0);
    site.engine.until_waiting(Call::Networks);
    site.engine.heal();
    site.settle("web");
    assert_eq!(site.deeds(), ["create web-0-2", "start web-0-2"]);
    assert_eq!(site.status("web")["restarts"], 0);
    let log = std::fs::read_to_string(site.cluster.dir.path().join("n1.log")).unwrap();
    assert!(!log.contains("is not ours"), "{log}");
}

#[test]
fn a_foreign_network_with_our_name_is_left_alone_and_named() {
    let site = Site::start();
    let name = format!("windlass.{}.n1.other", &site.cluster.id()[..8]);
    site.engine.add_foreign_network(&name);
    site.cluster
        .apply_no_wait(&format!("namespace: other\n{}", demo("web", "")));
    let reason = site.reason("web");
    let expected =
        format!("the network name {name} is taken by a network that is not ours: remove it");
    assert_eq!(reason, expected);
    assert_eq!(site.deeds_of_ready_node(), Vec::<String>::new());

    site.engine.remove_network(&name);
    site.settle("other/web");
    assert_eq!(
        site.deeds_of_ready_node(),
        ["create web-0-2", "start web-0-2"]
    );
}
