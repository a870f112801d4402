//! Another engine answers behind the socket.

use serde_json::Value;

use crate::{
    engine::{call::ApiVersion, fake::FakeEngine, state::API},
    harness::{Cluster, Docker, demo},
};

/// A service runs on an engine that goes away.
fn without_engine() -> (Cluster, FakeEngine) {
    let engine = FakeEngine::start();
    let cluster = Cluster::start_with(1, Docker::Pretended(engine.address()));
    cluster.apply(&demo("web", ""));
    engine.switch_off();
    let reason = until_unhealthy(&cluster, "there is no such socket");
    assert!(reason.contains("start docker"), "{reason}");
    (cluster, engine)
}

/// Waits until the node says of its engine what contains this, and returns it.
fn until_unhealthy(cluster: &Cluster, what: &str) -> String {
    let reason = |cluster: &Cluster| {
        let status = cluster.list("nodes")[0]["status"].clone();
        let said = status["reason"].as_str().unwrap_or_default().to_owned();
        (status["state"] == "RuntimeUnhealthy").then_some(said)
    };
    cluster.eventually(&format!("the node says: {what}"), |cluster| {
        reason(cluster).is_some_and(|said| said.contains(what))
    });
    reason(cluster).unwrap_or_default()
}

/// Waits until the node tells of this engine, and its service runs on it.
fn until_it_runs_on(cluster: &Cluster, engine: &FakeEngine, id: &str) {
    cluster.eventually("the node tells of its new engine", |cluster| {
        cluster.list("nodes")[0]["status"]["info"]["engineId"] == id
    });
    cluster.eventually("what is wanted runs", |_| {
        engine.running().contains_key("web-0-1")
    });
    cluster.ok(&["wait", "web", "--for", "settled", "--timeout", "60s"]);
}

#[test]
fn another_engine_is_named_and_gets_what_is_wanted_once() {
    let (cluster, engine) = without_engine();
    let newer: (ApiVersion, ApiVersion) = ((1, 52), (1, 44));
    engine.replace("fake-2", "29.0.1", newer);
    engine.switch_on();
    until_it_runs_on(&cluster, &engine, "fake-2");
    assert_eq!(
        cluster.list("nodes")[0]["status"]["info"]["engineVersion"],
        "29.0.1"
    );
    let events = cluster.list("events");
    let of_it: Vec<&Value> = events
        .iter()
        .filter(|event| event["reason"] == "EngineReplaced")
        .collect();
    assert_eq!(of_it.len(), 1, "{events:?}");
    let message = of_it[0]["message"].as_str().unwrap();
    assert!(message.contains("is fake-2 and was fake-1"), "{message}");
    let made = ["create web-0-1", "start web-0-1"];
    assert_eq!(engine.deeds_at_rest(), [made, made].concat());
}

#[test]
fn an_engine_that_is_too_old_is_named_and_given_nothing() {
    let (cluster, engine) = without_engine();
    engine.replace("fake-old", "19.03.15", ((1, 40), (1, 12)));
    engine.switch_on();
    let reason = until_unhealthy(&cluster, "too old");
    for part in [
        "19.03.15",
        "1.40",
        "1.41 is needed",
        "update docker to 20.10",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(engine.containers(), []);

    engine.switch_off();
    engine.replace("fake-2", "20.10.24", API);
    engine.switch_on();
    until_it_runs_on(&cluster, &engine, "fake-2");
    let made = ["create web-0-1", "start web-0-1"];
    assert_eq!(engine.deeds_at_rest(), [made, made].concat());
}

/// Docker is updated, and nobody looked while it was away.
#[test]
fn an_engine_that_is_too_old_is_noticed_though_it_was_never_missed() {
    let engine = FakeEngine::start();
    let cluster = Cluster::start_with(1, Docker::Pretended(engine.address()));
    cluster.apply(&demo("web", ""));
    engine.switch_off();
    engine.replace("fake-old", "19.03.15", ((1, 40), (1, 12)));
    engine.switch_on();
    until_unhealthy(&cluster, "too old");
    assert_eq!(engine.containers(), []);
}
