//! Each filter, by example.

use windlass_api::{
    expression::Taint,
    quantity::MemoryBytes,
    resource::{Goal, Scheduling},
    status::NodeState,
};

use super::{
    super::{Filter, Scheduler, needs},
    fixture::*,
};
use crate::record::{InstanceRecord, NodeRecord};

fn lost(name: &str) -> NodeRecord {
    NodeRecord {
        state: NodeState::Lost {
            since: now(),
            waited: Default::default(),
        },
        ..node(name)
    }
}

fn cordoned(name: &str) -> NodeRecord {
    NodeRecord {
        scheduling: Scheduling::Cordoned,
        ..node(name)
    }
}

fn tainted(name: &str, taint: &str) -> NodeRecord {
    NodeRecord {
        taints: vec![taint.parse::<Taint>().unwrap()],
        ..node(name)
    }
}

#[test]
fn a_cluster_without_nodes_says_so() {
    let web = Service::new("web", "");
    assert_eq!(
        why_not(&cluster([]), &web, 1),
        "no node has joined the cluster yet"
    );
}

#[test]
fn nothing_is_placed_where_nothing_is_asked_for() {
    let placed = place(&cluster([]), &Service::new("web", ""), 0);
    assert_eq!((placed.nodes.len(), placed.unplaced), (0, None));
}

#[test]
fn every_node_counts_for_the_first_filter_that_it_fails() {
    let both = NodeRecord {
        scheduling: Scheduling::Cordoned,
        ..lost("a")
    };
    let cluster = cluster([both, cordoned("b"), cordoned("c"), node("d"), node("e")]);
    let web = Service::new("web", r#""resources": {"memory": "64Gi"}"#);
    assert_eq!(
        why_not(&cluster, &web, 1),
        "0 of 5 nodes fit: 1 lost, 2 cordoned, \
         2 without enough memory (64Gi wanted, at most 4Gi free)"
    );
}

#[test]
fn the_order_of_all_filters_is_that_of_the_type() {
    assert!(Filter::ALL.is_sorted());
    assert_eq!(Filter::ALL.last(), Some(&Filter::MaxPerNode));
    assert_eq!(Filter::ALL.len(), Filter::MaxPerNode as usize + 1);
}

#[test]
fn an_engine_that_does_not_answer_takes_nothing() {
    let state = NodeState::RuntimeUnhealthy {
        reason: "timed out".to_owned(),
    };
    let cluster = cluster([NodeRecord { state, ..node("a") }, node("b")]);
    let web = Service::new("web", r#""placement": {"maxPerNode": 1}"#);
    assert_eq!(chosen(&cluster, &web, 1), ["b"]);
    assert_eq!(
        why_not(&cluster, &web, 2),
        "0 of 2 nodes fit: 1 whose Docker engine does not answer, 1 at the limit of 1 per node"
    );
}

#[test]
fn a_taint_keeps_off_who_does_not_tolerate_it() {
    let mut nodes = vec![tainted("a", "gpu=big")];
    let web = Service::new("web", "");
    let why = why_not(&cluster(nodes.clone()), &web, 1);
    assert_eq!(why, "0 of 1 nodes fit: 1 with the taint `gpu=big`");
    nodes.push(tainted("b", "spare"));
    let why = why_not(&cluster(nodes.clone()), &web, 1);
    assert_eq!(
        why,
        "0 of 2 nodes fit: 2 with taints that are not tolerated"
    );
    let tolerant = Service::new("web", r#""placement": {"tolerate": ["gpu=big"]}"#);
    assert_eq!(chosen(&cluster(nodes), &tolerant, 1), ["a"]);
}

#[test]
fn required_expressions_are_met_and_the_failed_one_is_named() {
    let nodes = [
        labelled("a", &[("zone", "us")]),
        labelled("b", &[("zone", "eu")]),
    ];
    let require = |e: &str| Service::new("web", &format!(r#""placement": {{"require": [{e}]}}"#));
    let europe = require(r#""node.labels.zone == eu""#);
    assert_eq!(chosen(&cluster(nodes.clone()), &europe, 1), ["b"]);
    let asia = require(r#""node.labels.zone == asia""#);
    assert_eq!(
        why_not(&cluster(nodes.clone()), &asia, 1),
        "0 of 2 nodes fit: 2 not meeting `node.labels.zone == asia`"
    );
    let neither = require(r#""node.labels.zone == eu", "node.labels.disk""#);
    assert_eq!(
        why_not(&cluster(nodes), &neither, 1),
        "0 of 2 nodes fit: 2 not meeting the required expressions"
    );
}

#[test]
fn requests_are_set_aside_until_a_node_is_full() {
    let web = Service::new("web", r#""resources": {"cpu": 1.5, "memory": "1Mi"}"#);
    let cluster = cluster([node("a")]);
    assert_eq!(chosen(&cluster, &web, 2), ["a", "a"]);
    assert_eq!(
        why_not(&cluster, &web, 3),
        "0 of 1 nodes fit: 1 without enough cpu (1500m wanted, at most 1 free)"
    );
}

#[test]
fn the_best_of_the_short_nodes_is_told() {
    let small = |name, bytes| {
        let mut node = node(name);
        node.capacity.memory = MemoryBytes(bytes);
        node
    };
    let cluster = cluster([
        small("a", 1_300_000_000),
        small("b", 900_000_000),
        small("c", 7),
    ]);
    let web = Service::new("web", r#""resources": {"memory": 1300000001}"#);
    assert_eq!(
        why_not(&cluster, &web, 1),
        "0 of 3 nodes fit: 3 without enough memory (1.3Gi wanted, at most 1.2Gi free)"
    );
}

#[test]
fn a_limit_without_a_request_is_a_request() {
    let limited = Service::new(
        "web",
        r#""resources": {"limits": {"cpu": 3, "memory": "1Gi"}}"#,
    );
    let needed = needs(&limited.template);
    assert_eq!((needed.cpu.0, needed.memory.0), (3_000, 1 << 30));
    assert_eq!(chosen(&cluster([node("a")]), &limited, 2), ["a"]);
    let asked = Service::new("web", r#""resources": {"cpu": 1, "limits": {"cpu": 3}}"#);
    assert_eq!(needs(&asked.template).cpu.0, 1_000);
}

#[test]
fn instances_use_their_node_until_they_are_gone() {
    let db = Service::new("db", r#""resources": {"memory": "3Gi"}"#);
    let mut cluster = cluster([node("a")]);
    add_revision(&mut cluster, &db, 1);
    let stopping = InstanceRecord {
        goal: Goal::Stop,
        ..instance(&db, "a", 1)
    };
    add_instance(&mut cluster, stopping.clone());
    let web = Service::new("web", r#""resources": {"memory": "2Gi"}"#);
    assert_eq!(
        why_not(&cluster, &web, 1),
        "0 of 1 nodes fit: 1 without enough memory (2Gi wanted, at most 1Gi free)"
    );
    cluster.apply(&crate::record::Change::Instance(stopping.id, None));
    assert_eq!(chosen(&cluster, &web, 1), ["a"]);
}

#[test]
fn an_overcommitted_node_still_takes_what_asks_for_nothing() {
    let db = Service::new("db", r#""resources": {"memory": "9Gi"}"#);
    let mut cluster = cluster([node("a")]);
    run(&mut cluster, &db, &["a"]);
    assert_eq!(chosen(&cluster, &Service::new("web", ""), 1), ["a"]);
}

#[test]
fn a_host_port_is_used_once_on_a_node_and_tcp_is_not_udp() {
    let port = |name, protocol| {
        let ports =
            format!(r#""ports": [{{"container": 53, "host": 53, "protocol": "{protocol}"}}]"#);
        Service::new(name, &ports)
    };
    let mut cluster = cluster([node("a"), node("b")]);
    run(&mut cluster, &port("dns", "tcp"), &["a"]);
    assert_eq!(chosen(&cluster, &port("other", "tcp"), 2), ["b"]);
    assert_eq!(chosen(&cluster, &port("other", "udp"), 3), ["b", "a"]);
}

#[test]
fn the_holder_of_a_host_port_is_named_if_it_is_one() {
    let web = Service::new("web", r#""ports": [{"container": 80, "host": 8080}]"#);
    let api = Service {
        key: "default/api".parse().unwrap(),
        ..web.clone()
    };
    let mut cluster = cluster([node("a"), node("b")]);
    run(&mut cluster, &web, &["a"]);
    let mut scheduler = Scheduler::new(&cluster, now());
    assert_eq!(scheduler.place(&web.group(), 1).nodes.len(), 1);
    assert_eq!(
        scheduler
            .place(&api.group(), 1)
            .unplaced
            .unwrap()
            .to_string(),
        "0 of 2 nodes fit: 2 with host port 8080/tcp taken"
    );
    let only_b = Service::new("w", r#""placement": {"require": ["node.name == b"]}"#);
    let only_b = Service {
        template: web.template.clone(),
        ..only_b
    };
    assert_eq!(
        scheduler
            .place(&only_b.group(), 1)
            .unplaced
            .unwrap()
            .to_string(),
        "0 of 2 nodes fit: 1 not meeting `node.name == b`, \
         1 with host port 8080/tcp taken by default/web"
    );
}

#[test]
fn nodes_on_one_engine_share_its_host_ports() {
    let mut nodes = [node("a"), node("b"), node("c")];
    nodes[1].info.engine_id = nodes[0].info.engine_id.clone();
    // A copy of a machine has an engine of the same id, and ports of its own.
    nodes[2].info.engine_id = nodes[0].info.engine_id.clone();
    nodes[2].info.boot_id = "another".to_owned();
    let mut cluster = cluster(nodes);
    let web = Service::new("web", r#""ports": [{"container": 80, "host": 8080}]"#);
    assert_eq!(chosen(&cluster, &web, 3), ["a", "c"]);
    run(&mut cluster, &web, &["b"]);
    assert_eq!(chosen(&cluster, &web, 3), ["c"]);
    run(&mut cluster, &Service::new("other", ""), &["c"]);
    let on_c = r#""placement": {"require": ["node.name != c"]}"#;
    let elsewhere = Service {
        template: web.template.clone(),
        ..Service::new("web", on_c)
    };
    assert_eq!(
        why_not(&cluster, &elsewhere, 1),
        "0 of 3 nodes fit: 1 not meeting `node.name != c`, \
         2 with host port 8080/tcp taken by web-0-1"
    );
}

#[test]
fn the_limit_per_node_counts_every_revision_until_it_is_gone() {
    let web = Service::new("web", r#""placement": {"maxPerNode": 2}"#);
    let mut cluster = cluster([node("a"), node("b")]);
    run(&mut cluster, &web, &["a"]);
    add_instance(
        &mut cluster,
        InstanceRecord {
            goal: Goal::Stop,
            ..instance(&web, "a", 2)
        },
    );
    assert_eq!(chosen(&cluster, &web, 3), ["b", "b"]);
    let why = why_not(&cluster, &web, 3);
    assert_eq!(why, "0 of 2 nodes fit: 2 at the limit of 2 per node");
}

#[test]
fn what_was_placed_counts_for_the_groups_after_it() {
    let web = Service::new("web", r#""resources": {"memory": "3Gi"}"#);
    let one = Service::new("one", r#""placement": {"maxPerNode": 1}"#);
    let mut scheduler = Scheduler::new(&cluster([node("a")]), now());
    assert_eq!(scheduler.place(&web.group(), 1).nodes.len(), 1);
    assert!(scheduler.place(&web.group(), 1).unplaced.is_some());
    assert_eq!(scheduler.place(&one.group(), 1).nodes.len(), 1);
    assert!(scheduler.place(&one.group(), 1).unplaced.is_some());
}

#[test]
fn a_replacement_may_take_its_predecessors_room() {
    let spec = r#""resources": {"memory": "3Gi"}, "ports": [{"container": 80, "host": 80}],
        "placement": {"maxPerNode": 1}"#;
    let web = Service::new("web", spec);
    let mut cluster = cluster([node("a")]);
    run(&mut cluster, &web, &["a"]);
    let predecessor = instance(&web, "a", 1);
    let mut scheduler = Scheduler::new(&cluster, now());
    assert!(scheduler.place(&web.group(), 1).unplaced.is_some());
    let node = scheduler.place_instead_of(&web.group(), &predecessor);
    assert_eq!(node.unwrap().as_str(), "a");
    // The room is given away once.
    assert_eq!(scheduler.place_instead_of(&web.group(), &predecessor), None);
}

#[test]
fn both_a_replacement_and_its_predecessor_use_the_node() {
    let old = Service::new("web", r#""resources": {"memory": "3Gi"}"#);
    let new = Service::new("web", r#""resources": {"memory": "2Gi"}"#);
    let other = Service::new("other", r#""resources": {"memory": "2Gi"}"#);
    let mut cluster = cluster([node("a")]);
    run(&mut cluster, &old, &["a"]);
    let mut scheduler = Scheduler::new(&cluster, now());
    assert!(
        scheduler
            .place_instead_of(&new.group(), &instance(&old, "a", 1))
            .is_some()
    );
    assert!(scheduler.place(&other.group(), 1).unplaced.is_some());
}

#[test]
fn a_replacement_is_not_placed_instead_of_another_on_a_node_that_does_not_fit() {
    let web = Service::new("web", r#""resources": {"memory": "3Gi"}"#);
    let mut with_cordon = cluster([cordoned("a"), node("b")]);
    run(&mut with_cordon, &web, &["a"]);
    let mut scheduler = Scheduler::new(&with_cordon, now());
    assert_eq!(
        scheduler.place_instead_of(&web.group(), &instance(&web, "a", 1)),
        None
    );

    let mut with_neighbour = cluster([node("a")]);
    run(
        &mut with_neighbour,
        &Service::new("db", r#""resources": {"memory": "1Gi"}"#),
        &["a"],
    );
    run(&mut with_neighbour, &web, &["a"]);
    let mut scheduler = Scheduler::new(&with_neighbour, now());
    let larger = Service::new("web", r#""resources": {"memory": "3100Mi"}"#);
    assert_eq!(
        scheduler.place_instead_of(&larger.group(), &instance(&web, "a", 2)),
        None
    );
    assert!(
        scheduler
            .place_instead_of(&web.group(), &instance(&web, "a", 2))
            .is_some()
    );
}
