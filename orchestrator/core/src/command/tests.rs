//! What users may ask for, and what they are told when they may not.

use serde_json::json;
use uuid::Uuid;
use windlass_api::{
    event::EventId,
    ids::{AgentId, ClusterId, Generation, NodeName},
    resource::{NodePatch, Scheduling},
    status::{Exit, InstanceStatus},
    wire::{Hello, Observed, ObservedInstance, RuntimeHealth, Scope},
};

use super::*;
use crate::{
    cluster::Cluster,
    plan::{self, plan},
};

fn transaction() -> Transaction {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    Transaction::new(&Cluster::new(ClusterId(Uuid::nil())), now)
}

fn next(txn: &Transaction) -> Transaction {
    Transaction::new(txn.cluster(), txn.now())
}

fn manifest(name: &str, spec: serde_json::Value) -> Manifest {
    Manifest::from_json(json!({ "kind": "Service", "name": name, "spec": spec })).unwrap()
}

fn uids(n: usize) -> Vec<Uid> {
    vec![Uid(Uuid::nil()); n]
}

fn key(name: &str) -> WorkloadKey {
    format!("default/{name}").parse().unwrap()
}

fn hello(agent: u128) -> Hello {
    serde_json::from_value(json!({
        "protocol": windlass_api::wire::PROTOCOL,
        "node": "n1",
        "info": {
            "agentId": AgentId(Uuid::from_u128(agent)), "agentVersion": "0", "engineId": "e",
            "engineVersion": "0", "os": "linux", "arch": "x86_64",
        },
        "capacity": { "cpu": "2", "memory": "2Gi" },
        "labels": { "zone": "eu" }, "taints": [], "cluster": null, "seen": null,
        "runtime": { "state": "healthy" },
    }))
    .unwrap()
}

#[test]
fn applying_is_all_or_nothing_and_every_mistake_is_named() {
    let mut txn = transaction();
    let manifests = [
        manifest("web", json!({ "image": "nginx" })),
        manifest(
            "db",
            json!({ "image": "pg", "replicas": 99_999, "workingDir": "tmp" }),
        ),
        manifest("web", json!({ "image": "nginx" })),
    ];
    let Err(Refusal::Invalid(errors)) = apply(&mut txn, &manifests, &uids(3)) else {
        panic!("it was accepted");
    };
    let paths: Vec<_> = errors.iter().map(|e| e.path.as_str()).collect();
    let wanted = [
        "resources[1].spec.replicas",
        "resources[1].spec.workingDir",
        "resources[2].name",
    ];
    assert_eq!(paths, wanted);
    assert!(txn.is_empty());
}

#[test]
fn applying_what_is_so_changes_nothing() {
    let mut txn = transaction();
    let manifests = [manifest("web", json!({ "image": "nginx" }))];
    assert_eq!(
        apply(&mut txn, &manifests, &uids(1)).unwrap()[0].outcome,
        Outcome::Created
    );
    let mut txn = next(&txn);
    assert_eq!(
        apply(&mut txn, &manifests, &uids(1)).unwrap()[0].outcome,
        Outcome::Unchanged
    );
    assert!(txn.is_empty());
}

#[test]
fn only_what_instances_are_made_from_makes_a_revision() {
    let mut txn = transaction();
    let spec =
        |replicas, level| json!({ "image": "a", "replicas": replicas, "env": { "LOG": level } });
    apply(&mut txn, &[manifest("web", spec(1, "info"))], &uids(1)).unwrap();
    let scaled = apply(&mut txn, &[manifest("web", spec(2, "info"))], &uids(1)).unwrap();
    assert_eq!(scaled[0].diff[0].path, "spec.replicas");
    assert_eq!(
        txn.cluster().workloads[&key("web")].revision,
        RevisionNumber(1)
    );
    apply(&mut txn, &[manifest("web", spec(2, "debug"))], &uids(1)).unwrap();
    assert_eq!(
        txn.cluster().workloads[&key("web")].revision,
        RevisionNumber(2)
    );
    restart(&mut txn, &key("web"), None).unwrap();
    assert_eq!(
        txn.cluster().workloads[&key("web")].revision,
        RevisionNumber(3)
    );
}

#[test]
fn a_stale_version_is_refused() {
    let mut txn = transaction();
    let web = manifest("web", json!({ "image": "nginx" }));
    put(&mut txn, &web, Some(Version(0)), Uid(Uuid::nil())).unwrap();
    let mut txn = next(&txn);
    for refused in [
        put(&mut txn, &web, Some(Version(0)), Uid(Uuid::nil())).map(drop),
        delete(&mut txn, &key("web"), Some(Version(7))),
        scale(&mut txn, &key("web"), 2, Some(Version(7))),
        restart(&mut txn, &key("web"), Some(Version(7))),
    ] {
        let mismatch = matches!(
            refused,
            Err(Refusal::VersionMismatch {
                actual: Version(1),
                ..
            })
        );
        assert!(mismatch, "{refused:?}");
    }
    assert!(txn.is_empty());
    delete(&mut txn, &key("web"), Some(Version(1))).unwrap();
}

#[test]
fn what_does_not_exist_is_not_found() {
    let mut txn = transaction();
    let refused = delete(&mut txn, &key("web"), None).unwrap_err();
    assert_eq!(refused.to_string(), "there is no workload default/web");
    let node = "n1".parse().unwrap();
    let refused = patch_node(&mut txn, &node, &NodePatch::default(), None).unwrap_err();
    assert_eq!(refused.to_string(), "there is no node n1");
}

#[test]
fn a_workload_made_again_goes_on_counting_revisions_while_instances_are_left() {
    let mut txn = transaction();
    agent::hello(&mut txn, &hello(1)).unwrap();
    apply(
        &mut txn,
        &[manifest("web", json!({ "image": "a" }))],
        &uids(1),
    )
    .unwrap();
    plan(&mut txn, &plan::Scope::All);
    delete(&mut txn, &key("web"), None).unwrap();
    plan(&mut txn, &plan::Scope::All);
    apply(
        &mut txn,
        &[manifest("web", json!({ "image": "b" }))],
        &uids(1),
    )
    .unwrap();
    plan(&mut txn, &plan::Scope::All);
    assert_eq!(
        txn.cluster().workloads[&key("web")].revision,
        RevisionNumber(2)
    );
    let mut images: Vec<_> = txn
        .cluster()
        .instances
        .values()
        .map(|i| {
            txn.cluster().template_of(i).unwrap().containers[0]
                .image
                .to_string()
        })
        .collect();
    images.sort();
    assert_eq!(images, ["a", "b"]);
}

#[test]
fn cordoning_and_labels_of_a_node() {
    let mut txn = transaction();
    agent::hello(&mut txn, &hello(1)).unwrap();
    let node: NodeName = "n1".parse().unwrap();
    let patch: NodePatch = serde_json::from_value(json!({
        "scheduling": "Cordoned", "labels": { "zone": null, "rack": "7" }, "taints": ["gpu"],
    }))
    .unwrap();
    patch_node(&mut txn, &node, &patch, None).unwrap();
    let record = &txn.cluster().nodes[&node];
    assert_eq!(record.scheduling, Scheduling::Cordoned);
    assert_eq!(record.labels.keys().collect::<Vec<_>>(), ["rack"]);
    // What the agent says when it comes back does not undo what the operator chose.
    agent::hello(&mut txn, &hello(1)).unwrap();
    assert_eq!(txn.cluster().nodes[&node].scheduling, Scheduling::Cordoned);
    let bad: NodePatch = serde_json::from_value(json!({ "labels": { "../x": "1" } })).unwrap();
    assert!(matches!(
        patch_node(&mut txn, &node, &bad, None),
        Err(Refusal::Invalid(_))
    ));
}

#[test]
fn a_nodes_name_belongs_to_one_agent_while_it_is_heard_from() {
    let mut txn = transaction();
    agent::hello(&mut txn, &hello(1)).unwrap();
    let refused = agent::hello(&mut txn, &hello(2)).unwrap_err().to_string();
    assert!(refused.contains("n1 is in use"), "{refused}");
    agent::lose(&mut txn, &"n1".parse().unwrap());
    agent::hello(&mut txn, &hello(2)).unwrap();
}

#[test]
fn an_agent_of_another_cluster_or_protocol_is_refused() {
    let mut txn = transaction();
    let other = Hello {
        cluster: Some(ClusterId(Uuid::from_u128(9))),
        ..hello(1)
    };
    assert!(
        agent::hello(&mut txn, &other)
            .unwrap_err()
            .to_string()
            .contains("belongs to cluster")
    );
    let old = Hello {
        protocol: 0,
        ..hello(1)
    };
    assert!(
        agent::hello(&mut txn, &old)
            .unwrap_err()
            .to_string()
            .contains("protocol 0")
    );
    assert!(txn.is_empty());
}

#[test]
fn heartbeats_change_nothing_but_transitions_do() {
    let mut txn = transaction();
    agent::hello(&mut txn, &hello(1)).unwrap();
    let mut txn = next(&txn);
    let node = "n1".parse().unwrap();
    agent::heartbeat(&mut txn, &node, &RuntimeHealth::Healthy);
    assert!(txn.is_empty());
    let hangs = RuntimeHealth::Unhealthy {
        reason: "docker does not answer".to_owned(),
    };
    agent::heartbeat(&mut txn, &node, &hangs);
    assert_eq!(txn.cluster().nodes[&node].state.name(), "RuntimeUnhealthy");
    assert_eq!(
        txn.cluster().events.values().next_back().unwrap().reason,
        "RuntimeUnhealthy"
    );
}

#[test]
fn what_a_node_says_of_others_instances_counts_for_nothing() {
    let mut txn = transaction();
    agent::hello(&mut txn, &hello(1)).unwrap();
    apply(
        &mut txn,
        &[manifest("web", json!({ "image": "a" }))],
        &uids(1),
    )
    .unwrap();
    plan(&mut txn, &plan::Scope::All);
    let before = txn.cluster().clone();
    let id = before.instances.keys().next().unwrap().clone();
    let status = InstanceStatus::new(windlass_api::status::Phase::Succeeded);
    let report = Observed {
        scope: Scope::Full,
        instances: vec![ObservedInstance { id, status }],
        gone: Vec::new(),
        generation: Generation(99),
    };
    agent::observed(&mut txn, &"n2".parse().unwrap(), &report);
    assert_eq!(*txn.cluster(), before);
}

#[test]
fn exits_are_told_with_their_reason() {
    let mut txn = transaction();
    agent::hello(&mut txn, &hello(1)).unwrap();
    apply(
        &mut txn,
        &[manifest("web", json!({ "image": "a" }))],
        &uids(1),
    )
    .unwrap();
    plan(&mut txn, &plan::Scope::All);
    let id = txn.cluster().instances.keys().next().unwrap().clone();
    let now = txn.now();
    let mut status = InstanceStatus::new(windlass_api::status::Phase::BackingOff {
        until: now,
        reason: "exit code 3".to_owned(),
    });
    status.last_exit = Some(Exit {
        code: 3,
        oom_killed: false,
        reason: None,
        finished_at: now,
    });
    let report = Observed {
        scope: Scope::Delta,
        instances: vec![ObservedInstance {
            id: id.clone(),
            status,
        }],
        gone: Vec::new(),
        generation: Generation(0),
    };
    agent::observed(&mut txn, &"n1".parse().unwrap(), &report);
    let subject = Subject::instance(&key("web"), &id);
    let told: Vec<_> = txn
        .cluster()
        .events_about(&subject)
        .map(|e| e.reason.as_str())
        .collect();
    assert_eq!(told, ["Placed", "Exited", "BackingOff"]);
    let ids: Vec<EventId> = txn.cluster().events.keys().copied().collect();
    assert!(ids.is_sorted());
}

#[test]
fn going_back_to_a_kept_template_goes_back_to_its_revision() {
    let mut txn = transaction();
    let image = |image: &str| [manifest("web", json!({ "image": image }))];
    let revision = |txn: &mut Transaction, name: &str| {
        apply(txn, &image(name), &uids(1)).unwrap();
        plan(txn, &plan::Scope::All);
        txn.cluster().workloads[&key("web")].revision.0
    };
    assert_eq!(revision(&mut txn, "good"), 1);
    assert_eq!(revision(&mut txn, "bad"), 2);
    // What still runs of the first one is what is wanted again: nothing has to be replaced.
    assert_eq!(revision(&mut txn, "good"), 1);
    assert_eq!(revision(&mut txn, "better"), 3);
    // As long as it is kept.
    for i in 0..plan::REVISIONS_MAX {
        revision(&mut txn, &format!("other:{i}"));
    }
    assert!(revision(&mut txn, "good") > 3);
    assert!(txn.cluster().revisions.len() <= plan::REVISIONS_MAX);
}

#[test]
fn what_is_said_of_nodes_is_bounded() {
    let mut txn = transaction();
    let mut greeting = hello(1);
    greeting
        .labels
        .insert("bad key \u{1}".to_owned(), String::new());
    let error = agent::hello(&mut txn, &greeting).unwrap_err();
    assert!(error.to_string().contains("labels.bad key"), "{error}");
    agent::hello(&mut txn, &hello(1)).unwrap();
    let node = "n1".parse().unwrap();
    let many = 0..=windlass_api::validate::NODE_LABELS_MAX;
    let patch = NodePatch {
        labels: many
            .map(|i| (format!("l{i}"), Some(String::new())))
            .collect(),
        taints: Some(vec!["a=b".parse().unwrap(), "a=b".parse().unwrap()]),
        ..NodePatch::default()
    };
    let Refusal::Invalid(errors) = patch_node(&mut txn, &node, &patch, None).unwrap_err() else {
        panic!("it is invalid");
    };
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["labels", "taints[1]"]);
    let hangs = RuntimeHealth::Unhealthy {
        reason: "x".repeat(1_000_000),
    };
    agent::heartbeat(&mut txn, &node, &hangs);
    let json = serde_json::to_string(&*txn.cluster().nodes[&node]).unwrap();
    assert!(json.len() < 10_000, "{}", json.len());
}

/// A cluster with one instance, and what its agent says of it.
fn one_instance() -> (Transaction, windlass_api::ids::InstanceId) {
    let mut txn = transaction();
    agent::hello(&mut txn, &hello(1)).unwrap();
    let web = manifest("web", json!({ "image": "a", "replicas": 1 }));
    apply(&mut txn, &[web], &uids(1)).unwrap();
    plan(&mut txn, &plan::Scope::All);
    let id = txn.cluster().instances.keys().next().unwrap().clone();
    (txn, id)
}

fn report(txn: &mut Transaction, id: &windlass_api::ids::InstanceId, status: serde_json::Value) {
    let report = Observed {
        scope: Scope::Delta,
        instances: vec![ObservedInstance {
            id: id.clone(),
            status: serde_json::from_value(status).unwrap(),
        }],
        gone: Vec::new(),
        generation: Generation(0),
    };
    agent::observed(txn, &"n1".parse().unwrap(), &report);
}

#[test]
fn a_job_that_runs_is_not_said_to_serve_unless_it_has_a_probe_for_it() {
    let events = |spec: serde_json::Value| {
        let mut txn = transaction();
        agent::hello(&mut txn, &hello(1)).unwrap();
        let job = json!({ "kind": "Job", "name": "load", "spec": spec });
        apply(&mut txn, &[serde_json::from_value(job).unwrap()], &uids(1)).unwrap();
        plan(&mut txn, &plan::Scope::All);
        let id = txn.cluster().instances.keys().next().unwrap().clone();
        let ready = json!({ "state": "Ready" });
        let status =
            json!({ "phase": "Running", "startedAt": "2020-01-01T00:00:00Z", "readiness": ready });
        report(&mut txn, &id, status);
        let events = txn
            .cluster()
            .events
            .values()
            .map(|event| event.reason.clone());
        events.collect::<Vec<_>>()
    };
    let plain = events(json!({ "image": "a" }));
    assert!(plain.contains(&"Running".to_owned()), "{plain:?}");
    assert!(!plain.contains(&"Ready".to_owned()), "{plain:?}");
    let probe = json!({ "readiness": { "tcp": { "port": 80 } } });
    let probed = events(json!({ "image": "a", "probes": probe }));
    assert!(probed.contains(&"Ready".to_owned()), "{probed:?}");
}

#[test]
fn readiness_counts_from_when_the_server_heard_of_it_and_begins_anew_after_a_restart() {
    let (mut txn, id) = one_instance();
    let running = |started: &str, readiness: serde_json::Value| json!({ "phase": "Running", "startedAt": started, "readiness": readiness });
    let ready = json!({ "state": "Ready" });
    let first = "2020-01-01T00:00:00Z";
    report(
        &mut txn,
        &id,
        running(first, json!({ "state": "NotReady" })),
    );
    assert_eq!(txn.cluster().instances[&id].ready_since, None);
    report(&mut txn, &id, running(first, ready.clone()));
    let since = txn.cluster().instances[&id].ready_since;
    assert_eq!(since, Some(txn.now()));
    let later = txn.now() + jiff::SignedDuration::from_secs(60);
    let mut txn = Transaction::new(txn.cluster(), later);
    let mut more = running(first, ready.clone());
    more["restarts"] = json!(1);
    report(&mut txn, &id, more);
    assert_eq!(txn.cluster().instances[&id].ready_since, since);
    report(&mut txn, &id, running("2020-01-02T00:00:00Z", ready));
    assert_eq!(txn.cluster().instances[&id].ready_since, Some(later));
    let failing = json!({ "state": "NotReady", "reason": "answered 503" });
    report(&mut txn, &id, running("2020-01-02T00:00:00Z", failing));
    assert_eq!(txn.cluster().instances[&id].ready_since, None);
    let subject = Subject::instance(&key("web"), &id);
    let last = txn.cluster().events_about(&subject).next_back().unwrap();
    assert_eq!(
        (last.reason.as_str(), last.message.as_str()),
        ("NotReady", "answered 503")
    );
}

#[test]
fn what_the_first_instance_runs_is_what_all_later_ones_of_its_revision_are_told_to() {
    let (mut txn, id) = one_instance();
    let status = |image: &str| {
        json!({
            "phase": "Starting",
            "containers": [{ "name": "main", "phase": "Waiting", "imageId": image }],
        })
    };
    let node: NodeName = "n1".parse().unwrap();
    let before = txn.cluster().assignment(&node);
    report(&mut txn, &id, status("sha256:1"));
    report(&mut txn, &id, status("sha256:2"));
    plan(&mut txn, &plan::Scope::All);
    // Its agent was told otherwise, under a number that means one thing only.
    assert_eq!(txn.cluster().assignment(&node), before);
    scale(&mut txn, &key("web"), 2, None).unwrap();
    plan(&mut txn, &plan::Scope::All);
    let assignment = txn.cluster().assignment(&node);
    let second = assignment.instances.values().find(|i| i.id != id).unwrap();
    let image = &second.images[&windlass_api::ids::ContainerName::only()];
    assert_eq!(image.id, "sha256:1");
}

#[test]
fn the_kind_of_a_workload_cannot_be_changed() {
    let (mut txn, _) = one_instance();
    let daemon = json!({ "kind": "Daemon", "name": "web", "spec": { "image": "a" } });
    let daemon = Manifest::from_json(daemon).unwrap();
    let Err(Refusal::Invalid(errors)) = apply(&mut txn, &[daemon], &uids(1)) else {
        panic!("it was accepted");
    };
    assert_eq!(errors[0].path, "resources[0].kind");
    assert!(
        errors[0]
            .message
            .contains("there is a Service of this name"),
        "{errors:?}"
    );
}
