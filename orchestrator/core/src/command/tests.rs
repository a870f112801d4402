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

mod nodes;

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

pub(super) fn hello(agent: u128) -> Hello {
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
