//! Docker hangs, stops and comes back: no container is touched, and everything recovers.

use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{
    Cluster, Docker, demo, engine,
    proxy::{Mode, Proxy},
};

fn outage(mode: Mode, during: Duration) {
    engine::ensure_image();
    let dir = TempDir::new().unwrap();
    let proxy = Proxy::start(dir.path());
    let cluster = Cluster::start_with(1, Docker::Through(proxy.address()));
    cluster.apply(&demo("web", "replicas: 2"));
    let id = cluster.id();
    let containers = engine::running(&id);
    let started = |containers: &[String]| -> Vec<String> {
        containers.iter().map(|c| engine::started_at(c)).collect()
    };
    let before = started(&containers);

    proxy.set(mode);
    let state = |c: &Cluster| c.list("nodes")[0]["status"]["state"].clone();
    cluster.eventually("the node says so", |c| state(c) == "RuntimeUnhealthy");
    // What is asked for meanwhile waits, and is done afterwards.
    cluster.ok(&["scale", "web", "3", "--no-wait"]);
    cluster.always(
        "the node is not lost, and nothing is touched",
        during,
        |c| state(c) == "RuntimeUnhealthy" && started(&containers) == before,
    );

    proxy.set(Mode::Open);
    cluster.eventually("the node is ready again", |c| state(c) == "Ready");
    cluster.ok(&["wait", "web", "--for", "settled", "--timeout", "60s"]);
    assert_eq!(started(&containers), before);
    assert_eq!(engine::running(&id).len(), 3);
}

#[test]
fn docker_hangs_for_a_minute() {
    outage(Mode::Hang, Duration::from_secs(45));
}

#[test]
fn docker_is_stopped_for_a_while() {
    outage(Mode::Refuse, Duration::from_secs(15));
}

#[test]
fn without_docker_one_line_says_what_was_tried_and_what_to_do() {
    let output = std::process::Command::new(crate::harness::WINDLASS)
        .args([
            "dev",
            "--docker",
            "unix:///nowhere/docker.sock",
            "--listen",
            "127.0.0.1:0",
        ])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("/nowhere/docker.sock"), "{error}");
    assert!(error.contains("start docker"), "{error}");
}
