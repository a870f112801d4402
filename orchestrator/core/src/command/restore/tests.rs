use serde_json::json;
use uuid::Uuid;
use windlass_api::{
    ids::{ClusterId, Uid},
    resource::Manifest,
    status::{InstanceStatus, Phase},
    wire::{Hello, Observed, ObservedInstance, PROTOCOL, Scope},
};

use super::*;
use crate::{
    cluster::Cluster,
    command::{self, agent},
    plan::{self, plan},
};

fn transaction(cluster: &Cluster) -> Transaction {
    Transaction::new(cluster, "2026-01-01T00:00:00Z".parse().unwrap())
}

fn node() -> NodeName {
    "n1".parse().unwrap()
}

fn hello(seen: Option<(u64, u64)>) -> Hello {
    let hello = json!({
        "protocol": PROTOCOL, "node": "n1",
        "info": {
            "agentId": Uuid::nil(), "agentVersion": "0", "engineId": "e",
            "engineVersion": "0", "os": "linux", "arch": "x86_64",
        },
        "capacity": { "cpu": "2", "memory": "2Gi" }, "labels": {}, "taints": [],
        "cluster": null, "seen": seen, "runtime": { "state": "healthy" },
    });
    serde_json::from_value(hello).unwrap()
}

/// A cluster in which `web` is on node `n1`, whose agent has been told so.
fn cluster() -> Cluster {
    let mut txn = transaction(&Cluster::new(ClusterId(Uuid::nil())));
    agent::hello(&mut txn, &hello(None)).unwrap();
    let web = json!({ "kind": "Service", "name": "web", "spec": { "image": "a" } });
    let manifests = [Manifest::from_json(web).unwrap()];
    command::apply(&mut txn, &manifests, &[Uid(Uuid::nil())]).unwrap();
    plan(&mut txn, &plan::Scope::All);
    txn.finish().0
}

fn reasons(txn: &Transaction) -> Vec<String> {
    let events = txn.cluster().events_about(&Subject::Cluster);
    events.map(|event| event.reason.clone()).collect()
}

#[test]
fn an_agent_that_has_seen_no_more_than_the_server_changes_nothing() {
    let cluster = cluster();
    let generation = cluster.generation(&node()).0;
    for seen in [None, Some((1, 0)), Some((1, generation))] {
        let mut txn = transaction(&cluster);
        agent::hello(&mut txn, &hello(seen)).unwrap();
        assert!(txn.is_empty(), "{seen:?}: {:?}", txn.changes());
    }
}

#[test]
fn an_agent_that_has_seen_more_makes_the_state_await_acceptance() {
    let cluster = cluster();
    let ours = cluster.generation(&node());
    for (epoch, generation) in [(1, ours.0 + 3), (4, 1), (4, ours.0 + 3)] {
        let mut txn = transaction(&cluster);
        agent::hello(&mut txn, &hello(Some((epoch, generation)))).unwrap();
        let record = &txn.cluster().record;
        assert!(record.awaits_acceptance());
        assert_eq!(record.epoch, Epoch(epoch + 1), "newer than both");
        assert!(record.next_instance > cluster.record.next_instance + 100);
        assert!(txn.cluster().generation(&node()) > Generation(generation));
        assert!(txn.cluster().generation(&node()) >= ours);
        assert_eq!(reasons(&txn), ["OlderThanAgents"]);

        // The same again is nothing new.
        let mut again = transaction(&txn.finish().0);
        agent::hello(&mut again, &hello(Some((epoch, generation)))).unwrap();
        assert!(again.is_empty(), "{:?}", again.changes());
    }
}

#[test]
fn numbers_that_no_server_gave_out_are_refused() {
    for seen in [(u64::MAX, 1), (1, u64::MAX)] {
        let mut txn = transaction(&cluster());
        agent::hello(&mut txn, &hello(Some(seen))).unwrap_err();
        // Nor does a rejection that tells of them change more than the node.
        let seen = Some((Epoch(seen.0), Generation(seen.1)));
        agent::rejected(&mut txn, &node(), Generation(1), "no", seen);
        assert!(!txn.cluster().record.awaits_acceptance());
    }
}

#[test]
fn what_is_accepted_is_newer_than_all_before_and_accepted_once() {
    let mut txn = transaction(&cluster());
    accept(&mut txn).unwrap_err();
    restored(&mut txn, Epoch(7));
    assert!(txn.cluster().record.awaits_acceptance());
    accept(&mut txn).unwrap();
    let record = &txn.cluster().record;
    assert!(!record.awaits_acceptance());
    assert_eq!(record.epoch, Epoch(8));
    accept(&mut txn).unwrap_err();
    assert_eq!(reasons(&txn), ["Restored", "RestoreAccepted"]);
    // An agent that was away all the time has an older epoch, so that it tells nothing new.
    agent::hello(&mut txn, &hello(Some((1, 99)))).unwrap();
    assert!(!txn.cluster().record.awaits_acceptance());
    assert_eq!(txn.cluster().generation(&node()), Generation(100));
}

#[test]
fn a_rejection_shows_on_the_node_until_the_newest_assignment_is_worked_on() {
    let mut txn = transaction(&cluster());
    let generation = txn.cluster().generation(&node());
    agent::rejected(&mut txn, &node(), generation, "no", None);
    let rejects = |txn: &Transaction| txn.cluster().nodes[&node()].rejects.clone();
    assert_eq!(rejects(&txn).as_deref(), Some("no"));
    assert!(!txn.cluster().record.awaits_acceptance());
    let mut report = Observed {
        scope: Scope::Delta,
        instances: Vec::new(),
        gone: Vec::new(),
        generation: Generation(0),
    };
    agent::observed(&mut txn, &node(), &report);
    assert!(rejects(&txn).is_some());
    report.generation = generation;
    agent::observed(&mut txn, &node(), &report);
    assert_eq!(rejects(&txn), None);
}

#[test]
fn other_content_under_the_same_number_is_a_state_that_went_back() {
    let cluster = cluster();
    let mut txn = transaction(&cluster);
    let ours = cluster.generation(&node());
    let seen = Some((Epoch(1), ours));
    agent::rejected(&mut txn, &node(), ours, "different", seen);
    assert!(txn.cluster().record.awaits_acceptance());
    assert_eq!(txn.cluster().record.epoch, Epoch(2));
    assert_eq!(txn.cluster().generation(&node()), ours.next());
    // It is told twice, if a second frame was on its way.
    let before = txn.cluster().record.epoch;
    agent::rejected(&mut txn, &node(), ours, "different", seen);
    assert_eq!(txn.cluster().record.epoch, before);
}

#[test]
fn an_agent_that_has_not_accepted_confirms_no_stop() {
    let cluster = cluster();
    let mut txn = transaction(&cluster);
    agent::hello(&mut txn, &hello(Some((1, 50)))).unwrap();
    command::delete(&mut txn, &"default/web".parse().unwrap(), None).unwrap();
    plan(&mut txn, &plan::Scope::All);
    assert_eq!(txn.cluster().instances.len(), 1);
    let report = Observed {
        scope: Scope::Full,
        instances: Vec::new(),
        gone: Vec::new(),
        generation: Generation(50),
    };
    agent::observed(&mut txn, &node(), &report);
    assert_eq!(txn.cluster().instances.len(), 1);
}

#[test]
fn ids_that_agents_know_are_not_given_out_again() {
    let mut txn = transaction(&cluster());
    let known = txn.cluster().instances.keys().next().unwrap().clone();
    let next = txn.cluster().record.next_instance;
    let report = |txn: &mut Transaction, ids: &[&str]| {
        let instances = ids.iter().map(|id| ObservedInstance {
            id: id.parse().unwrap(),
            status: InstanceStatus::new(Phase::Assigned),
        });
        let report = Observed {
            scope: Scope::Delta,
            instances: instances.collect(),
            gone: Vec::new(),
            generation: Generation(0),
        };
        agent::observed(txn, &node(), &report);
        txn.cluster().record.next_instance
    };
    assert_eq!(report(&mut txn, &[known.as_str()]), next);
    assert_eq!(
        report(&mut txn, &["lost-0-4000", "lost-1-4001", "odd"]),
        4002
    );
    let absurd = format!("lost-0-{}", u64::MAX);
    assert_eq!(report(&mut txn, &[&absurd]), 4002);
}

#[test]
fn what_had_no_node_is_made_anew_under_another_number() {
    let mut txn = transaction(&cluster());
    let key = "default/large".parse().unwrap();
    // The node has room for one of them.
    let spec = json!({ "image": "a", "replicas": 2, "resources": { "cpu": "2" } });
    let large = json!({ "kind": "Service", "name": "large", "spec": spec });
    let manifests = [Manifest::from_json(large).unwrap()];
    command::apply(&mut txn, &manifests, &[Uid(Uuid::nil())]).unwrap();
    plan(&mut txn, &plan::Scope::All);
    let ids = |txn: &Transaction, placed: bool| {
        let instances = txn.cluster().instances_of(&key);
        let instances = instances.filter(|i| i.node.is_some() == placed);
        instances.map(|i| i.id.clone()).collect::<Vec<_>>()
    };
    let (kept, waiting) = (ids(&txn, true), ids(&txn, false));
    assert!(!waiting.is_empty());
    restored(&mut txn, Epoch(2));
    plan(&mut txn, &plan::Scope::All);
    assert_eq!(ids(&txn, true), kept);
    let anew = ids(&txn, false);
    assert_eq!(anew.len(), waiting.len());
    assert!(anew.iter().all(|id| !waiting.contains(id)), "{anew:?}");
}

#[test]
fn a_report_under_a_number_of_what_was_lost_confirms_no_stop() {
    let mut txn = transaction(&cluster());
    command::scale(&mut txn, &"default/web".parse().unwrap(), 0, None).unwrap();
    plan(&mut txn, &plan::Scope::All);
    let lost = txn.cluster().generation(&node());
    // The agent has the same number and later ones from what was lost, where it may still run it.
    for seen in [lost, lost.next().next()] {
        let mut txn = txn.clone();
        restored(&mut txn, Epoch(2));
        agent::hello(&mut txn, &hello(Some((1, seen.0)))).unwrap();
        let mut report = |generation| {
            let nothing = Observed {
                scope: Scope::Full,
                instances: Vec::new(),
                gone: Vec::new(),
                generation,
            };
            agent::observed(&mut txn, &node(), &nothing);
            txn.cluster().instances.len()
        };
        assert_eq!(report(seen), 1);
        assert_eq!(report(seen.next()), 0);
    }
}
