//! Changing what runs.

use std::time::Duration;

use crate::harness::{Cluster, demo, engine, free_address, http};

#[test]
fn a_changed_variable_makes_a_revision_and_replaces_one_by_one() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 3\nenv: { DEMO_MESSAGE: one }"));
    let id = cluster.id();
    let before = engine::running(&id);
    cluster.apply_no_wait(&demo("web", "replicas: 3\nenv: { DEMO_MESSAGE: two }"));
    cluster.eventually("all are of the new revision", |cluster| {
        let running = engine::running(&id).len();
        assert!(running >= 3, "only {running} run while it is updated");
        let status = cluster.workload("web")["status"].clone();
        status["settled"] == true && status["updated"] == 3
    });
    assert_eq!(engine::running(&id).len(), 3);
    assert!(engine::running(&id).iter().all(|c| !before.contains(c)));
    assert_eq!(cluster.workload("web")["status"]["revision"], 2);
    // The same once more is no change.
    cluster.apply(&demo("web", "replicas: 3\nenv: { DEMO_MESSAGE: two }"));
    assert_eq!(cluster.workload("web")["status"]["revision"], 2);
}

#[test]
fn an_image_that_does_not_exist_leaves_the_old_instances_and_says_why() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 2"));
    let id = cluster.id();
    let before: Vec<_> = engine::running(&id)
        .iter()
        .map(|c| engine::started_at(c))
        .collect();
    let missing = demo("web", "replicas: 2").replace(engine::IMAGE, "windlass:no-such-tag");
    cluster.apply_no_wait(&missing);
    cluster.eventually("the reason is shown", |cluster| {
        let reasons = cluster.workload("web")["status"]["reasons"].to_string();
        reasons.contains("windlass:no-such-tag")
    });
    cluster.always("the old ones run on", Duration::from_secs(5), |_| {
        let now: Vec<_> = engine::running(&id)
            .iter()
            .map(|c| engine::started_at(c))
            .collect();
        now == before
    });
    cluster.apply(&demo("web", "replicas: 2"));
}

#[test]
fn a_host_port_is_handed_over_after_the_image_is_there() {
    let cluster = Cluster::start(1);
    let page = free_address();
    let fields = |message: &str| {
        format!(
            "env: {{ DEMO_MESSAGE: {message} }}\nports: [{{ container: 8080, host: {} }}]",
            page.port()
        )
    };
    cluster.apply(&demo("web", &fields("one")));
    let missing = demo("web", &fields("two")).replace(engine::IMAGE, "windlass:no-such-tag");
    cluster.apply_no_wait(&missing);
    cluster.eventually("the reason is shown", |cluster| {
        cluster.workload("web")["status"]["reasons"]
            .to_string()
            .contains("no-such-tag")
    });
    cluster.always("the old one answers", Duration::from_secs(2), |_| {
        http::get(page, "/").is_ok_and(|answer| answer.json()["message"] == "one")
    });
    cluster.apply(&demo("web", &fields("two")));
    cluster.eventually("the new one answers", |_| {
        http::get(page, "/").is_ok_and(|answer| answer.json()["message"] == "two")
    });
}

#[test]
fn a_restart_replaces_every_instance_with_a_fresh_one() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 2"));
    let id = cluster.id();
    let before = engine::running(&id);
    cluster.ok(&["restart", "web"]);
    let after = engine::running(&id);
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|c| !before.contains(c)));
}

#[test]
fn a_dry_run_tells_what_would_happen_and_does_nothing() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "env: { DEMO_MESSAGE: one }"));
    let path = cluster.write(
        "next.yaml",
        &demo("web", "replicas: 2\nenv: { DEMO_MESSAGE: two }"),
    );
    let plan = cluster.ok(&["plan", "-f", path.to_str().unwrap()]);
    assert!(plan.contains("spec.env.DEMO_MESSAGE"), "{plan}");
    assert!(plan.contains("one") && plan.contains("two"), "{plan}");
    assert!(plan.contains("n1"), "where it would run:\n{plan}");
    let version =
        |c: &Cluster| http::get(c.address, "/v1/server").unwrap().json()["version"].clone();
    let before = version(&cluster);
    cluster.ok(&["plan", "-f", path.to_str().unwrap()]);
    assert_eq!(version(&cluster), before);
    assert_eq!(cluster.workload("web")["status"]["revision"], 1);
}
