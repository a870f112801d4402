//! Probes on real containers: what they see is told, and acted on by the agent alone.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use crate::harness::{Cluster, demo, engine, http};

/// The one instance of `web`, or nothing while there is none.
fn instance(cluster: &Cluster) -> Value {
    cluster.instances("web").pop().unwrap_or_default()
}

fn readiness(cluster: &Cluster) -> Value {
    instance(cluster)["status"]["readiness"].clone()
}

fn is_ready(cluster: &Cluster) -> bool {
    readiness(cluster)["state"] == "Ready"
}

/// Whether it cannot serve, for a reason with these words.
fn is_unready(cluster: &Cluster, words: &str) -> bool {
    let readiness = readiness(cluster);
    let reason = readiness["reason"].as_str().unwrap_or_default();
    readiness["state"] == "NotReady" && reason.contains(words)
}

/// Tells the demo in a container something, as soon as it listens.
fn tell(cluster: &Cluster, demo: SocketAddr, path: &str) {
    cluster.eventually("the demo takes its orders", |_| {
        let answer = http::send(demo, "POST", path, &[], b"");
        answer.is_ok_and(|answer| answer.status == 200)
    });
}

/// Where the demo listens.
fn address(cluster: &Cluster) -> SocketAddr {
    let address = instance(cluster)["status"]["address"].clone();
    let address = address.as_str().expect("it runs, so it has an address");
    SocketAddr::new(address.parse().expect("an IP address"), 8080)
}

const READINESS: &str =
    "probes: { readiness: { http: { port: 8080, path: /readyz }, interval: 200ms } }";
const LIVENESS: &str =
    "probes: { liveness: { http: { port: 8080, path: /livez }, interval: 200ms } }";

#[test]
fn a_container_that_is_not_ready_says_why_until_it_is() {
    let mut cluster = Cluster::start(1);
    let never = format!("{READINESS}\nenv: {{ DEMO_READY_AFTER: 1h }}");
    cluster.apply_no_wait(&demo("web", &never));
    let saw = "readiness probe: GET :8080/readyz answered 503";
    cluster.eventually("it says why it is not ready", |c| is_unready(c, saw));
    let name = instance(&cluster)["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let story = cluster.ok(&["describe", "instance", &name]);
    assert!(story.contains(saw), "{story}");
    let probe = "readiness   http 8080/readyz every 200ms   GET :8080/readyz answered 503";
    assert!(story.contains(probe), "{story}");
    cluster.ok(&["delete", "web"]);

    cluster.apply(&demo("web", READINESS));
    cluster.eventually("it is ready", is_ready);
    let demo = address(&cluster);
    tell(&cluster, demo, "/unready");
    cluster.eventually("it is ready no longer", |c| is_unready(c, saw));
    tell(&cluster, demo, "/ready");
    cluster.eventually("it is ready again", is_ready);
    // An agent that comes back takes nothing out of service.
    cluster.stop_agent(0);
    cluster.start_agent(0);
    cluster.always("it stays ready", Duration::from_secs(3), is_ready);
    assert_eq!(instance(&cluster)["status"]["restarts"], 0);
}

#[test]
fn a_container_that_is_not_well_is_restarted_with_backoff_and_says_why() {
    let cluster = Cluster::start(1);
    let ailing = format!("{LIVENESS}\nenv: {{ DEMO_UNHEALTHY_AFTER: 500ms }}");
    cluster.apply_no_wait(&demo("web", &ailing));
    cluster.eventually("it waits before it is started again", |cluster| {
        let status = instance(cluster)["status"].clone();
        let reason = status["reason"].as_str().unwrap_or_default();
        let restarted = status["restarts"].as_u64() >= Some(1);
        let saw = "liveness probe: GET :8080/livez answered 503 (3 times in a row)";
        status["phase"] == "BackingOff" && restarted && reason.contains(saw)
    });
}

/// Regression: only from the second one on, which waits, was the reason of a restart told.
#[test]
fn the_first_restart_of_what_is_not_well_is_told_with_its_reason() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", LIVENESS));
    tell(&cluster, address(&cluster), "/unhealthy");
    cluster.eventually("it is restarted and ready again", |cluster| {
        instance(cluster)["status"]["restarts"] == 1 && is_ready(cluster)
    });
    let name = instance(&cluster)["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let story = cluster.ok(&["describe", "instance", &name]);
    let (_, events) = story.split_once("\nEvents\n").expect("it has events");
    let saw = "liveness probe: GET :8080/livez answered 503 (3 times in a row)";
    let exited = |line: &str| line.contains("Exited") && line.contains(saw);
    assert!(events.lines().any(exited), "{story}");
}

#[test]
fn a_container_is_probed_by_a_command_and_over_grpc() {
    let cluster = Cluster::start(1);
    let probe = |command: &str| {
        format!(
            "probes: {{ readiness: {{ exec: {{ command: {command} }}, interval: 1s, timeout: 10s }} }}"
        )
    };
    cluster.apply_no_wait(&demo("web", &probe("[/windlass, no-such-command]")));
    let saw = "readiness probe: `/windlass no-such-command` ended with 2";
    cluster.eventually("the command fails", |c| is_unready(c, saw));
    cluster.ok(&["delete", "web"]);
    cluster.apply_no_wait(&demo("web", &probe("[/windlass, --version]")));
    cluster.eventually("the command succeeds", is_ready);
    cluster.ok(&["delete", "web"]);
    let probe = "grpc: { port: 8080, service: readiness }, interval: 200ms";
    cluster.apply_no_wait(&demo(
        "web",
        &format!("probes: {{ readiness: {{ {probe} }} }}"),
    ));
    cluster.eventually("it says over gRPC that it serves", is_ready);
    tell(&cluster, address(&cluster), "/unready");
    let saw = "readiness probe: grpc :8080 readiness says NOT_SERVING";
    cluster.eventually("it says that it does not", |c| is_unready(c, saw));
}

/// Only the image says how it is seen whether it is well.
#[test]
fn the_health_check_of_an_image_is_readiness_and_liveness() {
    let cluster = Cluster::start(1);
    let check = ["/windlass", "chore", "--read", "/well"];
    let image = engine::Image::with_healthcheck("health", &check);
    cluster.apply_no_wait(&demo("web", "").replace(engine::IMAGE, &image.tag));
    let saw = "the image's health check ended with 1: ";
    cluster.eventually("it is restarted, waits for that, and says why", |cluster| {
        let status = instance(cluster)["status"].clone();
        let reason = status["reason"].as_str().unwrap_or_default();
        let restarted = status["restarts"].as_u64() >= Some(1);
        status["phase"] == "BackingOff" && restarted && reason.contains(saw)
    });
    assert!(!is_ready(&cluster));
    let name = instance(&cluster)["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let story = cluster.ok(&["describe", "instance", &name]);
    let (state, events) = story.split_once("\nEvents\n").expect("it has events");
    assert!(state.contains(saw), "{story}");
    let exited = |line: &str| line.contains("Exited") && line.contains(saw);
    assert!(events.lines().any(exited), "{story}");

    let well = cluster.write("well", "yes");
    let well = well.to_str().expect("a plain path");
    cluster.ok(&["cp", well, &format!("{name}:/well")]);
    cluster.eventually("it is ready", is_ready);
    let restarts = instance(&cluster)["status"]["restarts"].as_u64();
    let ill = cluster.dir.path().join("ill");
    std::fs::write(&ill, b"\xff is no text").expect("a file");
    let ill = ill.to_str().expect("a plain path");
    cluster.ok(&["cp", ill, &format!("{name}:/well")]);
    cluster.eventually("it is not, and restarted again", |cluster| {
        is_unready(cluster, saw) && instance(cluster)["status"]["restarts"].as_u64() > restarts
    });
}

#[test]
fn probes_act_while_the_server_is_away() {
    let mut cluster = Cluster::start(1);
    cluster.apply(&demo("web", LIVENESS));
    let id = cluster.id();
    let started = || engine::running(&id).first().map(|c| engine::started_at(c));
    let before = started();
    let demo = address(&cluster);
    cluster.kill_server();
    tell(&cluster, demo, "/unhealthy");
    cluster.eventually("it is restarted", |_| {
        started().is_some_and(|now| Some(now) != before)
    });
    cluster.start_server();
    cluster.eventually("the server hears of it", |cluster| {
        instance(cluster)["status"]["restarts"] == 1
    });
}
