//! Each score, by example.

use std::sync::Arc;

use windlass_api::{
    resource::Goal,
    status::{InstanceStatus, Phase},
};

use super::{super::Scheduler, fixture::*};
use crate::{
    cluster::Cluster,
    record::{Change, InstanceRecord},
};

fn three() -> Cluster {
    cluster([node("a"), node("b"), node("c")])
}

fn with_status(mut instance: InstanceRecord, phase: Phase) -> InstanceRecord {
    instance.status = InstanceStatus::new(phase);
    instance
}

#[test]
fn copies_are_spread_and_ties_go_to_the_first_name() {
    let web = Service::new("web", "");
    assert_eq!(chosen(&three(), &web, 5), ["a", "b", "c", "a", "b"]);
}

#[test]
fn the_node_with_the_fewest_copies_is_best_even_if_it_is_fuller() {
    let web = Service::new("web", r#""resources": {"cpu": "100m"}"#);
    let mut cluster = cluster([node("a"), node("b")]);
    run(&mut cluster, &web, &["a"]);
    run(
        &mut cluster,
        &Service::new("db", r#""resources": {"cpu": 3}"#),
        &["b"],
    );
    assert_eq!(chosen(&cluster, &web, 1), ["b"]);
}

#[test]
fn the_emptiest_node_is_best_by_its_scarcer_resource() {
    let mut cluster = three();
    run(
        &mut cluster,
        &Service::new("x", r#""resources": {"cpu": 1, "memory": "3Gi"}"#),
        &["a"],
    );
    run(
        &mut cluster,
        &Service::new("y", r#""resources": {"cpu": 2, "memory": "1Gi"}"#),
        &["b"],
    );
    run(
        &mut cluster,
        &Service::new("z", r#""resources": {"cpu": 3, "memory": "1Gi"}"#),
        &["c"],
    );
    assert_eq!(chosen(&cluster, &Service::new("web", ""), 1), ["b"]);
}

#[test]
fn the_share_of_a_node_counts_not_the_amount() {
    let mut large = node("b");
    large.capacity.cpu.0 = 64_000;
    large.capacity.memory.0 = 64 << 30;
    let mut cluster = cluster([node("a"), large]);
    run(
        &mut cluster,
        &Service::new("x", r#""resources": {"cpu": 2}"#),
        &["a"],
    );
    run(
        &mut cluster,
        &Service::new("y", r#""resources": {"cpu": 4}"#),
        &["b"],
    );
    assert_eq!(chosen(&cluster, &Service::new("web", ""), 1), ["b"]);
}

#[test]
fn services_without_requests_are_spread_too() {
    let mut scheduler = Scheduler::new(&three(), now());
    let node_of_each = ["p", "q", "r"].map(|name| {
        let placed = scheduler.place(&Service::new(name, "").group(), 1);
        placed.nodes[0].to_string()
    });
    assert_eq!(node_of_each, ["a", "b", "c"]);
}

#[test]
fn an_image_outweighs_a_small_difference_of_load_but_not_a_large_one() {
    let mut cluster = three();
    let images = Arc::new(vec!["app:1".to_owned()]);
    cluster.apply(&Change::Images("c".parse().unwrap(), Some(images)));
    run(
        &mut cluster,
        &Service::new("x", r#""resources": {"cpu": "200m"}"#),
        &["c"],
    );
    assert_eq!(chosen(&cluster, &Service::new("web", ""), 1), ["c"]);
    run(
        &mut cluster,
        &Service::new("y", r#""resources": {"cpu": "600m"}"#),
        &["c"],
    );
    assert_eq!(chosen(&cluster, &Service::new("web", ""), 1), ["a"]);
}

#[test]
fn an_image_without_a_tag_is_the_latest() {
    let mut cluster = three();
    let images = Arc::new(vec!["nginx:latest".to_owned()]);
    cluster.apply(&Change::Images("b".parse().unwrap(), Some(images)));
    let mut web = Service::new("web", "");
    Arc::make_mut(&mut web.template).containers[0].image = "nginx".parse().unwrap();
    assert_eq!(chosen(&cluster, &web, 1), ["b"]);
}

#[test]
fn bin_packing_fills_one_node_after_the_other() {
    let spec = r#""resources": {"cpu": 2}, "placement": {"strategy": "BinPack"}"#;
    let web = Service::new("web", spec);
    let mut cluster = three();
    run(
        &mut cluster,
        &Service::new("x", r#""resources": {"cpu": 1}"#),
        &["b"],
    );
    assert_eq!(chosen(&cluster, &web, 5), ["b", "a", "a", "c", "c"]);
}

#[test]
fn labels_are_spread_over_before_nodes() {
    let rack = |name, rack| labelled(name, &[("rack", rack)]);
    let cluster = cluster([
        rack("a", "1"),
        rack("b", "1"),
        rack("c", "1"),
        rack("d", "2"),
    ]);
    let web = Service::new("web", r#""placement": {"spread": ["node.labels.rack"]}"#);
    assert_eq!(chosen(&cluster, &web, 4), ["a", "d", "b", "d"]);
}

#[test]
fn copies_on_nodes_that_take_no_more_count_for_their_domain() {
    let rack = |name, rack| labelled(name, &[("rack", rack)]);
    let mut cordoned = rack("a", "1");
    cordoned.scheduling = windlass_api::resource::Scheduling::Cordoned;
    let mut cluster = cluster([cordoned, rack("b", "1"), rack("c", "2")]);
    let web = Service::new("web", r#""placement": {"spread": ["node.labels.rack"]}"#);
    run(&mut cluster, &web, &["a", "a"]);
    assert_eq!(chosen(&cluster, &web, 3), ["c", "c", "b"]);
}

#[test]
fn nodes_without_the_label_come_last() {
    let rack = |name, rack| labelled(name, &[("rack", rack)]);
    let cluster = cluster([node("a"), rack("b", "1"), rack("c", "2")]);
    let spec = r#""placement": {"spread": ["node.labels.rack"], "maxPerNode": 2}"#;
    let web = Service::new("web", spec);
    assert_eq!(chosen(&cluster, &web, 6), ["b", "c", "b", "c", "a", "a"]);
}

#[test]
fn the_domains_of_a_second_label_lie_within_those_of_the_first() {
    let at = |name, zone, rack| labelled(name, &[("zone", zone), ("rack", rack)]);
    let mut cluster = cluster([
        at("a", "eu", "1"),
        at("b", "eu", "2"),
        at("c", "eu", "2"),
        at("d", "us", "1"),
    ]);
    let spec = r#""placement": {"spread": ["node.labels.zone", "node.labels.rack"]}"#;
    let web = Service::new("web", spec);
    // What is in rack 1 of `us` says nothing of rack 1 of `eu`.
    run(&mut cluster, &web, &["d", "d"]);
    assert_eq!(chosen(&cluster, &web, 3), ["a", "b", "c"]);
}

#[test]
fn nodes_where_the_workload_failed_are_avoided() {
    let web = Service::new("web", "");
    let starting = |phase| with_status(instance(&web, "a", 1), phase);
    let exited = |code, at| {
        let mut record = instance(&web, "a", 1);
        record.status.last_exit = exit(code, at);
        record
    };
    let reason = "no such image".to_owned();
    let stopped = InstanceRecord {
        goal: Goal::Stop,
        ..exited(143, seconds_ago(1))
    };
    let crashed = InstanceRecord {
        goal: Goal::Stop,
        ..exited(1, seconds_ago(1))
    };
    let mut out_of_memory = InstanceRecord {
        goal: Goal::Stop,
        ..exited(137, seconds_ago(1))
    };
    out_of_memory.status.last_exit.as_mut().unwrap().oom_killed = true;
    for (record, avoided, what) in [
        (
            starting(Phase::BackingOff {
                until: now(),
                reason: reason.clone(),
            }),
            true,
            "backing off",
        ),
        (starting(Phase::Failed { reason }), true, "failed"),
        (exited(1, seconds_ago(299)), true, "exited a while ago"),
        (
            exited(143, seconds_ago(1)),
            true,
            "terminated by someone else",
        ),
        (exited(1, seconds_ago(300)), false, "exited long ago"),
        (exited(0, seconds_ago(1)), false, "ended well"),
        (stopped, false, "stopped"),
        (crashed, true, "to be stopped after a crash"),
        (out_of_memory, true, "killed for its memory"),
    ] {
        // Other copies are on `b`, so that it is only better if `a` is avoided.
        let mut cluster = cluster([node("a"), node("b")]);
        run(&mut cluster, &web, &["b", "b", "b"]);
        let record = InstanceRecord {
            id: "web-0-9".parse().unwrap(),
            ..record
        };
        add_instance(&mut cluster, record);
        let expected = if avoided { "b" } else { "a" };
        assert_eq!(chosen(&cluster, &web, 1), [expected], "{what}");
    }
}

#[test]
fn failures_of_one_workload_do_not_matter_to_another() {
    let web = Service::new("web", "");
    let mut cluster = cluster([node("a"), node("b")]);
    run(
        &mut cluster,
        &Service::new("x", r#""resources": {"cpu": 1}"#),
        &["b"],
    );
    let failed = Phase::Failed {
        reason: "exit code 1".to_owned(),
    };
    run(&mut cluster, &web, &[]);
    add_instance(&mut cluster, with_status(instance(&web, "a", 9), failed));
    assert_eq!(chosen(&cluster, &web, 1), ["b"]);
    assert_eq!(chosen(&cluster, &Service::new("other", ""), 1), ["a"]);
}

#[test]
fn a_node_with_failures_is_still_better_than_none() {
    let web = Service::new("web", r#""placement": {"maxPerNode": 3}"#);
    let mut cluster = cluster([node("a"), node("b")]);
    let failed = Phase::Failed {
        reason: "exit code 1".to_owned(),
    };
    run(&mut cluster, &web, &[]);
    add_instance(&mut cluster, with_status(instance(&web, "a", 9), failed));
    assert_eq!(chosen(&cluster, &web, 5), ["b", "b", "b", "a", "a"]);
}

#[test]
fn an_update_leaves_the_copies_as_even_as_they_were() {
    let old = Service::new("web", "");
    let new = Service {
        revision: windlass_api::ids::RevisionNumber(2),
        ..Service::new("web", r#""env": {"LOG": "debug"}"#)
    };
    let mut cluster = three();
    run(&mut cluster, &old, &["a", "a", "b"]);
    add_revision(&mut cluster, &new, 2);
    // The old copies are on their way out, and do not count.
    assert_eq!(chosen(&cluster, &new, 3), ["c", "b", "a"]);
    // What is scaled down is no longer counted either, though it still uses its node.
    let stopping = InstanceRecord {
        goal: Goal::Stop,
        ..instance(&old, "b", 3)
    };
    add_instance(&mut cluster, stopping);
    assert_eq!(chosen(&cluster, &old, 2), ["c", "b"]);
}

#[test]
fn instances_of_nodes_that_are_gone_do_not_count() {
    let web = Service::new("web", "");
    let mut cluster = three();
    run(&mut cluster, &web, &["a", "gone"]);
    assert_eq!(chosen(&cluster, &web, 2), ["b", "c"]);
}

#[test]
fn a_node_that_says_it_has_nothing_takes_only_what_wants_nothing() {
    let mut empty = node("a");
    empty.capacity = windlass_api::resource::Capacity::default();
    let cluster = cluster([empty, node("b")]);
    let web = Service::new("web", r#""placement": {"maxPerNode": 1}"#);
    assert_eq!(chosen(&cluster, &web, 2), ["b", "a"]);
    let needy = Service::new("web", r#""resources": {"cpu": "1m"}"#);
    assert_eq!(chosen(&cluster, &needy, 2), ["b", "b"]);
}
