//! The life of a workload, from its manifest to its end.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;

use crate::harness::{Cluster, demo, engine, free_address, http};

#[test]
fn from_a_manifest_to_a_page_and_back_to_nothing() {
    let cluster = Cluster::start(1);
    let page = free_address();
    let ports = format!(
        "ports: [{{ name: http, container: 8080, host: {} }}]",
        page.port()
    );
    cluster.apply(&demo(
        "hello",
        &format!("{ports}\nenv: {{ DEMO_MESSAGE: good morning }}"),
    ));

    cluster.eventually("the page is there", |_| http::get(page, "/").is_ok());
    let answer = http::get(page, "/").unwrap().json();
    assert_eq!(answer["workload"], "hello");
    assert_eq!(answer["node"], "n1");
    assert_eq!(answer["revision"], "1");
    assert_eq!(answer["message"], "good morning");
    let instance = cluster.instances("hello")[0].clone();
    assert_eq!(answer["instance"], instance["name"]);
    assert!(instance["status"]["address"].is_string(), "{instance}");

    let id = cluster.id();
    let container = engine::inspect(&engine::running(&id)[0]);
    let labels = container.config.and_then(|c| c.labels).unwrap();
    for (label, value) in [
        ("windlass.cluster", id.as_str()),
        ("windlass.node", "n1"),
        ("windlass.namespace", "default"),
        ("windlass.workload", "hello"),
        ("windlass.slot", "0"),
        ("windlass.instance", instance["name"].as_str().unwrap()),
        ("windlass.revision", "1"),
    ] {
        assert_eq!(
            labels.get(label).map(String::as_str),
            Some(value),
            "{label}"
        );
    }

    cluster.ok(&["delete", "hello"]);
    assert_eq!(engine::containers(&id).len(), 0);
    assert!(cluster.list("instances").is_empty());
    cluster.eventually("its network is gone", |_| engine::networks(&id).is_empty());
}

#[test]
fn a_killed_container_runs_again() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", ""));
    let id = cluster.id();
    let container = engine::running(&id).remove(0);
    let before = engine::started_at(&container);
    engine::kill(&container);
    cluster.eventually("it runs again, and says so", |cluster| {
        let status = cluster.instances("web")[0]["status"].clone();
        status["restarts"] == 1 && status["phase"] == "Running"
    });
    assert_eq!(
        engine::running(&id),
        [container.as_str()],
        "it is the same container"
    );
    assert_ne!(engine::started_at(&container), before);
    let exit = &cluster.instances("web")[0]["status"]["lastExit"];
    assert_eq!(exit["code"], 137);
}

#[test]
fn a_container_removed_behind_its_back_is_made_again() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", ""));
    let id = cluster.id();
    let container = engine::running(&id).remove(0);
    engine::remove(&container);
    cluster.eventually("there is another one", |_| {
        let running = engine::running(&id);
        running.len() == 1 && running[0] != container
    });
    cluster.ok(&["wait", "web", "--for", "settled", "--timeout", "30s"]);
}

#[test]
fn scaling_up_and_down() {
    let cluster = Cluster::start(2);
    cluster.apply(&demo("web", ""));
    let id = cluster.id();
    let first = engine::running(&id).remove(0);
    let started = engine::started_at(&first);
    cluster.ok(&["scale", "web", "10"]);
    assert_eq!(engine::running(&id).len(), 10);
    let on = |node: &str| {
        cluster
            .instances("web")
            .iter()
            .filter(|i| i["node"] == node)
            .count()
    };
    assert_eq!((on("n1"), on("n2")), (5, 5), "spread is the default");
    cluster.ok(&["scale", "web", "3"]);
    assert_eq!(engine::containers(&id).len(), 3);
    let slots: Vec<_> = cluster
        .instances("web")
        .iter()
        .map(|i| i["slot"].as_u64())
        .collect();
    assert_eq!(slots, [Some(0), Some(1), Some(2)]);
    assert_eq!(
        engine::started_at(&first),
        started,
        "the first one was not touched"
    );
    assert_eq!(cluster.workload("web")["status"]["revision"], 1);
}

#[test]
fn a_container_that_ends_at_once_backs_off_and_says_why() {
    let cluster = Cluster::start(1);
    let manifest = demo("bad", "env: { DEMO_EXIT_AFTER: 0s, DEMO_EXIT_CODE: 3 }");
    cluster.apply_no_wait(&manifest);
    cluster.eventually("it backs off", |cluster| {
        let status = cluster
            .instances("bad")
            .first()
            .map(|i| i["status"].clone());
        status.is_some_and(|s| s["phase"] == "BackingOff" && s["restarts"].as_u64() >= Some(2))
    });
    let described = cluster.ok(&["describe", "workload", "bad"]);
    assert!(described.contains("exit code 3"), "{described}");
    assert!(described.contains("BackingOff"), "{described}");
    assert!(
        described.contains("listens on port"),
        "its log is shown:\n{described}"
    );
}

#[test]
fn a_restart_policy_is_obeyed() {
    let cluster = Cluster::start(1);
    let never = "restart: Never\nenv: { DEMO_EXIT_AFTER: 100ms, DEMO_EXIT_CODE: 4 }";
    cluster.apply_no_wait(&demo("never", never));
    let done = "restart: OnFailure\nenv: { DEMO_EXIT_AFTER: 100ms }";
    cluster.apply_no_wait(&demo("done", done));
    let phase = |cluster: &Cluster, name: &str| {
        cluster
            .instances(name)
            .first()
            .map(|i| i["status"].clone())
            .unwrap_or_default()
    };
    cluster.eventually("one failed and one succeeded", |cluster| {
        phase(cluster, "never")["phase"] == "Failed"
            && phase(cluster, "done")["phase"] == "Succeeded"
    });
    cluster.always("they stay as they are", Duration::from_secs(3), |cluster| {
        phase(cluster, "never")["restarts"] == 0 && phase(cluster, "done")["restarts"] == 0
    });
    assert_eq!(phase(&cluster, "never")["lastExit"]["code"], 4);
}

#[test]
fn a_container_that_ignores_sigterm_is_killed_after_its_grace() {
    let cluster = Cluster::start(1);
    let fields = "env: { DEMO_IGNORE_SIGTERM: true }";
    let manifest = demo("stubborn", fields).replace("stopGracePeriod: 5s", "stopGracePeriod: 1s");
    cluster.apply(&manifest);
    let began = std::time::Instant::now();
    cluster.ok(&["delete", "stubborn"]);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(1),
        "killed before its grace was over: {took:?}"
    );
    assert!(engine::containers(&cluster.id()).is_empty());
}

#[test]
fn limits_and_hardening_reach_the_engine() {
    let cluster = Cluster::start(1);
    let fields =
        "user: 65534\nresources: { cpu: 100m, memory: 16Mi, limits: { cpu: 500m, memory: 64Mi } }";
    cluster.apply(&demo("web", fields));
    let container = engine::inspect(&engine::running(&cluster.id())[0]);
    let host = container.host_config.unwrap();
    assert_eq!(
        (host.cpu_quota, host.cpu_period),
        (Some(50_000), Some(100_000))
    );
    assert_eq!(host.memory, Some(64 << 20));
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(
        host.security_opt,
        Some(vec!["no-new-privileges".to_owned()])
    );
    assert_eq!(host.pids_limit, Some(512));
    assert_eq!(host.privileged, Some(false));
    assert_eq!(container.config.unwrap().user.as_deref(), Some("65534"));
    let node = cluster.list("nodes").remove(0);
    assert_eq!(node["status"]["allocated"]["memory"], "16Mi");
}

#[test]
fn memory_beyond_the_limit_ends_the_container_and_is_named() {
    let cluster = Cluster::start(1);
    let page = free_address();
    let fields = format!(
        "resources: {{ limits: {{ memory: 32Mi }} }}\nports: [{{ container: 8080, host: {} }}]",
        page.port()
    );
    cluster.apply(&demo("fat", &fields));
    cluster.eventually("the page is there", |_| http::get(page, "/").is_ok());
    // The connection breaks when the process is killed, which is what is wanted.
    let _ = http::send(page, "POST", "/memory?mib=64", &[], b"");
    cluster.eventually("it was killed for its memory", |cluster| {
        cluster.instances("fat")[0]["status"]["lastExit"]["oomKilled"] == true
    });
    let events = cluster.ok(&["events"]);
    assert!(events.contains("out of memory"), "{events}");
}

#[test]
fn containers_that_are_not_ours_are_never_touched() {
    let cluster = Cluster::start(1);
    let id = cluster.id();
    let name = format!("foreign-{}", &id[..8]);
    // One that has nothing to do with us, and one that another cluster's agent made.
    let other = HashMap::from([
        (
            "windlass.cluster".to_owned(),
            "00000000-0000-4000-8000-000000000000".to_owned(),
        ),
        ("windlass.node".to_owned(), "n1".to_owned()),
        ("windlass.instance".to_owned(), "web-0-1".to_owned()),
    ]);
    let foreign = [
        engine::run_foreign(&name, HashMap::new()),
        engine::run_foreign(&format!("{name}-other"), other),
    ];
    let started: Vec<String> = foreign.iter().map(|id| engine::started_at(id)).collect();
    cluster.apply(&demo("web", "replicas: 2"));
    cluster.ok(&["delete", "web"]);
    // Longer than the agent's relist.
    std::thread::sleep(Duration::from_secs(12));
    let after: Vec<String> = foreign.iter().map(|id| engine::started_at(id)).collect();
    foreign.iter().for_each(|id| engine::remove(id));
    assert_eq!(after, started);
}

#[test]
fn logs_of_a_workload_carry_prefixes() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 2"));
    let instances = cluster.instances("web");
    // A container that runs has not always written its first line yet.
    cluster.eventually("each instance's lines carry its name", |cluster| {
        let logs = cluster.ok(&["logs", "web"]);
        instances.iter().all(|instance| {
            let prefix = format!("{} | ", instance["name"].as_str().unwrap());
            logs.lines().any(|line| line.starts_with(&prefix))
        })
    });
    let one = instances[0]["name"].as_str().unwrap();
    let logs = cluster.ok(&["logs", one, "--tail", "1", "--timestamps"]);
    assert_eq!(logs.lines().count(), 1, "{logs}");
    assert!(logs.starts_with("20"), "{logs}");
}

#[test]
fn what_fits_nowhere_says_how_many_nodes_failed_which_filter() {
    let cluster = Cluster::start(2);
    cluster.ok(&["cordon", "n2"]);
    cluster.apply_no_wait(&demo("huge", "resources: { memory: 900Gi }"));
    let reason = |cluster: &Cluster| -> Value {
        cluster
            .instances("huge")
            .first()
            .map(|i| i["status"]["reason"].clone())
            .unwrap_or_default()
    };
    cluster.eventually("it says why", |cluster| reason(cluster).is_string());
    let text = reason(&cluster);
    let text = text.as_str().unwrap();
    assert!(text.contains("0 of 2 nodes fit"), "{text}");
    assert!(text.contains("1 cordoned"), "{text}");
    assert!(text.contains("memory"), "{text}");
    cluster.ok(&["uncordon", "n2"]);
    cluster.eventually("the reason follows", |cluster| {
        reason(cluster)
            .as_str()
            .is_some_and(|text| !text.contains("cordoned"))
    });
}
