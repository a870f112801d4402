//! What operators ask of nodes, and what agents say of theirs.

use super::*;

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
