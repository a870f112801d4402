//! What is refused, and where; and that what the documentation shows is not.

use serde_json::{Value, json};

use super::*;

/// The mistakes in a manifest of this kind and spec, each with its path.
fn mistakes(kind: &str, spec: Value) -> Vec<String> {
    let manifest = Manifest::from_json(json!({ "kind": kind, "name": "web", "spec": spec }));
    let manifest = manifest.unwrap_or_else(|error| panic!("it is well formed: {error}"));
    validate(&manifest)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn blamed(kind: &str, spec: Value, paths: &[&str]) {
    let mistakes = mistakes(kind, spec);
    let found: Vec<&str> = mistakes
        .iter()
        .map(|mistake| mistake.split_once(": ").map_or("", |(path, _)| path))
        .collect();
    assert_eq!(found, paths, "{mistakes:#?}");
}

#[test]
fn what_is_right_is_taken() {
    let probe = json!({ "http": { "port": "http", "path": "/healthz" }, "interval": "1s" });
    let web = json!({
        "name": "web", "image": "nginx:1.27",
        "ports": [{ "name": "http", "container": 80, "host": 80 }],
        "mounts": [{ "volume": "cache", "path": "/cache", "readOnly": true }],
        "probes": { "startup": probe, "readiness": probe, "liveness": probe },
        "preStop": { "sleep": "5s" },
    });
    let log = json!({ "name": "log", "image": "busybox:1.36", "sidecar": true });
    let init = json!({ "name": "fill", "image": "busybox:1.36", "retries": 3 });
    blamed(
        "Service",
        json!({
            "replicas": 3, "containers": [web, log], "initContainers": [init],
            "volumes": [{ "name": "cache", "scratch": {} }],
            "update": { "canary": 3, "maxSurge": 0, "maxUnavailable": 1 },
            "dependsOn": [{ "workload": "db" }],
        }),
        &[],
    );
    blamed(
        "Daemon",
        json!({ "image": "a", "update": { "maxUnavailable": 2 } }),
        &[],
    );
    blamed(
        "Job",
        json!({ "image": "a", "restart": "OnFailure", "completions": 5 }),
        &[],
    );
    blamed(
        "CronJob",
        json!({ "image": "a", "schedule": "@daily", "timeZone": "Europe/Berlin" }),
        &[],
    );
}

#[test]
fn the_only_container_stands_in_one_place() {
    blamed("Service", json!({}), &["spec.image"]);
    blamed(
        "Service",
        json!({
            "image": "a", "args": ["x"], "mounts": [], "probes": { "liveness": { "tcp": { "port": 1 } } },
            "containers": [{ "name": "a", "image": "a" }],
        }),
        &["spec.image", "spec.args", "spec.probes"],
    );
    // The init containers are beside it either way.
    let init = json!([{ "name": "init", "image": "a" }]);
    blamed(
        "Service",
        json!({ "image": "a", "initContainers": init }),
        &[],
    );
    blamed(
        "Service",
        json!({ "initContainers": init }),
        &["spec.image"],
    );
}

#[test]
fn names_are_used_once_in_all_containers() {
    blamed(
        "Service",
        json!({
            "initContainers": [{ "name": "a", "image": "a" }],
            "containers": [
                { "name": "a", "image": "a", "ports": [{ "name": "http", "container": 80 }] },
                { "name": "b", "image": "a", "ports": [{ "name": "http", "container": 80 }] },
            ],
        }),
        &[
            "spec.containers[0].name",
            "spec.containers[1].ports[0].name",
            "spec.containers[1].ports[0].container",
        ],
    );
}

#[test]
fn an_instance_has_a_bounded_number_of_containers() {
    let container = |i: usize| json!({ "name": format!("c{i}"), "image": "a" });
    let containers: Vec<_> = (0..21).map(container).collect();
    blamed("Service", json!({ "containers": &containers[..20] }), &[]);
    blamed(
        "Service",
        json!({ "containers": containers }),
        &["spec.containers"],
    );
}

#[test]
fn a_probe_has_one_check_of_a_port_that_is_there() {
    blamed(
        "Service",
        json!({
            "image": "a",
            "ports": [{ "name": "http", "container": 80 }],
            "probes": {
                "startup": {},
                "readiness": { "tcp": { "port": 81 }, "exec": { "command": ["true"] }, "successThreshold": 2 },
                "liveness": { "grpc": { "port": "grpc" }, "successThreshold": 2 },
            },
        }),
        &[
            "spec.probes.startup",
            "spec.probes.readiness",
            "spec.probes.liveness.grpc.port",
            "spec.probes.liveness.successThreshold",
        ],
    );
}

#[test]
fn an_update_can_always_go_on() {
    let update = |update: Value| json!({ "image": "a", "replicas": 3, "update": update });
    blamed("Service", update(json!({ "maxSurge": 0 })), &[]);
    blamed(
        "Service",
        update(json!({ "maxSurge": 0, "maxUnavailable": 0 })),
        &["spec.update.maxUnavailable"],
    );
    blamed(
        "Service",
        update(json!({ "order": "stopFirst", "maxUnavailable": 0 })),
        &["spec.update.maxUnavailable"],
    );
    blamed(
        "Service",
        update(json!({ "order": "startFirst", "maxSurge": 0 })),
        &["spec.update.maxSurge"],
    );
    blamed(
        "Service",
        update(json!({ "order": "startFirst", "maxSurge": 0, "maxUnavailable": 1 })),
        &[],
    );
    blamed(
        "Service",
        update(json!({ "canary": 4 })),
        &["spec.update.canary"],
    );
    blamed(
        "Service",
        update(json!({ "minReady": "20m" })),
        &["spec.update.progressDeadline"],
    );
    blamed(
        "Daemon",
        json!({ "image": "a", "update": { "maxUnavailable": 0 } }),
        &["spec.update.maxUnavailable"],
    );
    blamed(
        "Daemon",
        json!({ "image": "a", "update": { "order": "startFirst", "maxSurge": 1, "canary": 1 } }),
        &[
            "spec.update.order",
            "spec.update.maxSurge",
            "spec.update.canary",
        ],
    );
}

#[test]
fn a_job_ends_and_a_daemon_does_not() {
    blamed(
        "Job",
        json!({ "image": "a", "restart": "Always" }),
        &["spec.restart"],
    );
    blamed(
        "Daemon",
        json!({ "image": "a", "restart": "Never" }),
        &["spec.restart"],
    );
    blamed(
        "Job",
        json!({ "image": "a", "completions": 0, "parallelism": 10_001, "activeDeadline": "0s" }),
        &[
            "spec.activeDeadline",
            "spec.completions",
            "spec.parallelism",
        ],
    );
    blamed(
        "CronJob",
        json!({
            "image": "a", "schedule": "@daily", "startingDeadline": "10ms",
            "history": { "completed": 101, "failed": 1 },
        }),
        &["spec.startingDeadline", "spec.history.completed"],
    );
}

#[test]
fn mounts_lead_to_volumes_that_are_there() {
    blamed(
        "Service",
        json!({
            "image": "a",
            "mounts": [{ "volume": "data", "path": "/" }, { "volume": "cache", "path": "/a/../b" }],
            "initContainers": [
                { "name": "init", "image": "a", "mounts": [{ "volume": "date", "path": "/data" }] },
            ],
            "volumes": [{ "name": "data" }, { "name": "data", "scratch": {} }],
        }),
        &[
            "spec.mounts[0].path",
            "spec.mounts[1].path",
            "spec.volumes[0]",
            "spec.volumes[1].name",
            "spec.mounts[1].volume",
            "spec.initContainers[0].mounts[0].volume",
        ],
    );
}

#[test]
fn an_init_container_serves_nothing() {
    let init = json!({
        "name": "init", "image": "a", "ports": [{ "container": 80 }], "sidecar": true,
        "probes": { "liveness": { "tcp": { "port": 80 } } }, "preStop": { "sleep": "1s" },
    });
    blamed(
        "Service",
        json!({ "image": "a", "initContainers": [init] }),
        &[
            "spec.initContainers[0].ports",
            "spec.initContainers[0].probes",
            "spec.initContainers[0].preStop",
            "spec.initContainers[0].sidecar",
        ],
    );
    blamed(
        "Service",
        json!({ "containers": [{ "name": "a", "image": "a", "sidecar": true, "retries": 1 }] }),
        &["spec.containers", "spec.containers[0].retries"],
    );
}

#[test]
fn a_workload_waits_for_others_once() {
    blamed(
        "Service",
        json!({
            "image": "a",
            "dependsOn": [{ "workload": "web" }, { "workload": "db" }, { "workload": "db" }],
        }),
        &["spec.dependsOn[0].workload", "spec.dependsOn[2].workload"],
    );
}
