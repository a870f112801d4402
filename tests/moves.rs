//! What leaves its node, on real Docker.

use std::time::Duration;

use serde_json::Value;

use crate::{
    harness::{Cluster, demo, engine},
    traffic::Traffic,
};

/// Where the wanted instances of a workload are, sorted.
fn nodes(cluster: &Cluster, workload: &str) -> Vec<String> {
    let instances = cluster.instances(workload);
    let mut nodes: Vec<String> = instances
        .iter()
        .filter_map(|i| i["node"].as_str().map(str::to_owned))
        .collect();
    nodes.sort();
    nodes
}

fn node(cluster: &Cluster, name: &str) -> Value {
    let nodes = cluster.list("nodes");
    let found = nodes.into_iter().find(|node| node["name"] == name);
    found.unwrap_or_default()
}

#[test]
fn a_drain_under_traffic_loses_no_request_and_ends() {
    let cluster = Cluster::start(3);
    let fields = "replicas: 3\nenv: { DEMO_MESSAGE: one }\npreStop: { sleep: 2s }\n\
                  ports: [{ name: http, container: 8080 }]\n\
                  probes: { readiness: { http: { port: http, path: /healthz }, interval: 500ms } }\n\
                  update: { minReady: 500ms }";
    cluster.apply(&demo("web", fields));
    assert_eq!(nodes(&cluster, "web"), ["n1", "n2", "n3"]);
    let traffic = Traffic::start(&cluster, "web");
    cluster.eventually("clients are served", |_| traffic.answers("one") > 50);
    let said = cluster.ok(&["drain", "n2"]);
    assert!(said.contains("node n2 drained"), "{said}");
    let seen = traffic.answers("one");
    cluster.eventually("clients are served on", |_| {
        traffic.answers("one") > seen + 50
    });
    let (answers, failures) = traffic.stop();
    assert_eq!(failures, Vec::<String>::new(), "answered: {answers:?}");
    assert!(!nodes(&cluster, "web").contains(&"n2".to_owned()));
    assert_eq!(cluster.workload("web")["status"]["revision"], 1);
    let table = cluster.ok(&["get", "nodes"]);
    assert!(table.contains("Drained"), "{table}");
    cluster.ok(&["uncordon", "n2"]);
    assert_eq!(node(&cluster, "n2")["scheduling"], "Enabled");
}

#[test]
fn a_drain_without_room_goes_on_over_a_restart_and_its_deadline_ends_it() {
    let mut cluster = Cluster::start(1);
    cluster.apply(&demo("web", ""));
    let output = cluster.windlass(&["drain", "n1", "--deadline", "8s", "--timeout", "2s"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("1 draining"), "why it stays: {said}");
    cluster.kill_server();
    cluster.start_server();
    assert_eq!(node(&cluster, "n1")["scheduling"], "Draining");
    let id = cluster.id();
    assert_eq!(engine::running(&id).len(), 1, "it is not time yet");
    cluster.eventually("the node is drained", |cluster| {
        node(cluster, "n1")["drainedAt"].is_string()
    });
    assert!(engine::running(&id).is_empty());
    let story = cluster.ok(&["describe", "node", "n1"]);
    assert!(story.contains("drained"), "{story}");
    cluster.ok(&["uncordon", "n1"]);
    cluster.ok(&["wait", "web", "--for", "ready"]);
}

#[test]
fn a_dead_node_is_removed_and_what_comes_back_is_emptied() {
    let mut cluster = Cluster::start(2);
    cluster.apply(&demo("web", "replicas: 2"));
    let refused = cluster.windlass(&["node", "rm", "n2"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("drain it first"), "{said}");
    cluster.kill_agent(1);
    cluster.eventually("the node is lost", |cluster| {
        node(cluster, "n2")["status"]["state"] == "Lost"
    });
    cluster.ok(&["node", "rm", "n2"]);
    cluster.ok(&["wait", "web"]);
    assert_eq!(nodes(&cluster, "web"), ["n1", "n1"]);
    let table = cluster.ok(&["get", "nodes"]);
    assert!(!table.contains("n2"), "{table}");
    assert!(cluster.ok(&["get", "nodes", "--all"]).contains("Removed"));
    // The container of the dead agent runs on until that comes back and is told.
    let id = cluster.id();
    assert_eq!(engine::running(&id).len(), 3);
    cluster.start_agent(1);
    cluster.eventually("what it had is gone", |_| engine::running(&id).len() == 2);
    cluster.always("it is given nothing", Duration::from_secs(2), |cluster| {
        nodes(cluster, "web") == ["n1", "n1"]
    });
}

#[test]
fn copies_move_to_a_node_that_came_and_labels_decide() {
    let mut cluster = Cluster::start(2);
    cluster.ok(&["drain", "n2"]);
    cluster.apply(&demo("web", "replicas: 2"));
    assert_eq!(nodes(&cluster, "web"), ["n1", "n1"]);
    cluster.ok(&["uncordon", "n2"]);
    let shown = cluster.ok(&["rebalance", "--dry-run"]);
    assert!(
        shown.contains("2 copies on its node and 0 on that one"),
        "{shown}"
    );
    assert_eq!(nodes(&cluster, "web"), ["n1", "n1"]);
    cluster.ok(&["rebalance"]);
    assert_eq!(nodes(&cluster, "web"), ["n1", "n2"]);
    let again = cluster.ok(&["rebalance", "web"]);
    assert!(
        again.contains("Nothing has clearly a better place"),
        "{again}"
    );

    cluster.ok(&["node", "label", "n2", "zone=eu", "gone-"]);
    cluster.ok(&["node", "taint", "n2", "gpu=yes"]);
    let n2 = node(&cluster, "n2");
    assert_eq!(
        (&n2["labels"]["zone"], &n2["taints"][0]),
        (&"eu".into(), &"gpu=yes".into())
    );
    cluster.ok(&["node", "taint", "n2", "gpu-"]);
    assert!(
        node(&cluster, "n2")["taints"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    // The agent still says what it was started with, which nobody has to be told.
    cluster.kill_agent(1);
    cluster.start_agent(1);
    let story = cluster.ok(&["describe", "node", "n2"]);
    assert!(!story.contains("LabelsDiffer"), "{story}");
}
