//! Draining and removing nodes, and evening out what runs on them.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use windlass_api::{
    problem::Code,
    quantity::CpuMillis,
    wire::{Observed, ObservedInstance, Scope},
};

use super::fixture::Server;
use crate::controller::AgentReport;

const N1: &str = "/v1/nodes/n1";

impl Server {
    /// Lets the agent of a node do all that it was told, and report it.
    async fn obey(&self, node: &str) {
        let name = self.node(node);
        let assignment = self.handle.state().assignment(&name);
        let running = json!({
            "phase": "Running", "startedAt": "2026-01-01T00:00:00Z", "readiness": { "state": "Ready" },
        });
        let instances = assignment.instances.keys().map(|id| ObservedInstance {
            id: id.clone(),
            status: serde_json::from_value(running.clone()).unwrap(),
        });
        let observed = Observed {
            scope: Scope::Full,
            instances: instances.collect(),
            gone: Vec::new(),
            generation: assignment.generation,
        };
        let report = AgentReport::Observed(observed);
        self.handle.report(&name, report).await.unwrap();
        // Whatever is written after it is answered after it.
        let patch = json!({ "labels": { "seen": "yes" } });
        self.write(Method::PATCH, &format!("/v1/nodes/{node}"), &patch)
            .await;
    }
}

#[tokio::test]
async fn a_drain_is_shown_until_it_is_ended() {
    let server = Server::start();
    server.join("n1", CpuMillis(4_000)).await;
    server.put("web", 1).await;
    let drain = json!({ "deadline": "10m" });
    let node = server
        .write(Method::POST, "/v1/nodes/n1/drain", &drain)
        .await;
    assert_eq!(node.status, StatusCode::OK);
    let node = node.json();
    assert_eq!(node["scheduling"], "Draining");
    assert!(node["drainDeadline"].is_string(), "{node}");
    assert_eq!(
        (&node["drainedAt"], &node["status"]["leaving"]),
        (&Value::Null, &json!(1))
    );
    let instances = server.get("/v1/instances").await.json();
    assert_eq!(instances["items"][0]["leaving"], "node n1 drains");
    let draining = server
        .get("/v1/nodes?fieldSelector=scheduling%3DDraining")
        .await;
    assert_eq!(draining.names(), ["n1"]);
    assert_eq!(
        server.get("/v1/workloads/default/web").await.json()["status"]["moving"],
        1
    );

    let patch = json!({ "scheduling": "Enabled" });
    let node = server.write(Method::PATCH, N1, &patch).await.json();
    assert_eq!(
        (&node["scheduling"], &node["status"]["leaving"]),
        (&json!("Enabled"), &json!(0))
    );
    assert_eq!(node["drainSince"], Value::Null);
}

#[tokio::test]
async fn what_cannot_be_asked_of_a_node_is_refused() {
    let server = Server::start();
    server.join("n1", CpuMillis(4_000)).await;
    server.put("web", 1).await;
    for (target, body, code) in [
        ("/v1/nodes/none/drain", json!({}), Code::NotFound),
        (
            "/v1/nodes/n1/drain",
            json!({ "deadline": 10 }),
            Code::Invalid,
        ),
        (
            "/v1/nodes/n1/drain",
            json!({ "deadline": "30d" }),
            Code::Invalid,
        ),
        ("/v1/nodes/n1/drain", json!({ "dead": "1m" }), Code::Invalid),
    ] {
        let answer = server.write(Method::POST, target, &body).await;
        answer.refused(code);
    }
    // Nobody says by a patch that a node drains or was removed.
    for scheduling in ["Draining", "Removed"] {
        let patch = json!({ "scheduling": scheduling });
        server
            .write(Method::PATCH, N1, &patch)
            .await
            .refused(Code::Invalid);
    }
    let refused = server.write(Method::DELETE, N1, &Value::Null).await;
    let problem = refused.refused(Code::Conflict);
    assert!(
        problem.detail.contains("has 1 instances: drain it first"),
        "{problem:?}"
    );
    let query = "/v1/nodes/n1?force=maybe";
    server
        .write(Method::DELETE, query, &Value::Null)
        .await
        .refused(Code::Malformed);
}

#[tokio::test]
async fn a_removed_node_is_counted_as_removed_and_given_nothing() {
    let server = Server::start();
    server.join("n1", CpuMillis(4_000)).await;
    server.put("web", 1).await;
    let removed = server
        .write(Method::DELETE, "/v1/nodes/n1?force=true", &Value::Null)
        .await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get(N1).await.json()["scheduling"], "Removed");
    let remaining = server
        .get("/v1/nodes?fieldSelector=scheduling%21%3DRemoved")
        .await;
    assert!(remaining.names().is_empty());
    let metrics = server.get("/metrics").await;
    assert!(
        metrics
            .text()
            .contains("windlass_nodes{state=\"Removed\"} 1"),
        "{}",
        metrics.text()
    );
    assert_eq!(
        server.get("/v1/cluster").await.json()["nodes"],
        json!({ "Removed": 1 })
    );
    // What its agent is told is to run nothing.
    assert!(
        server
            .handle
            .state()
            .assignment(&server.node("n1"))
            .instances
            .is_empty()
    );
    let drain = server
        .write(Method::POST, "/v1/nodes/n1/drain", &json!({}))
        .await;
    drain.refused(Code::Conflict);
}

#[tokio::test]
async fn evening_out_is_shown_first_and_then_done() {
    let server = Server::start();
    server.join("n1", CpuMillis(4_000)).await;
    let spec = json!({ "image": "nginx", "replicas": 2, "update": { "minReady": "0s" } });
    let manifest = json!({ "kind": "Service", "name": "web", "spec": spec });
    server
        .write(Method::PUT, "/v1/workloads/default/web", &manifest)
        .await;
    server.obey("n1").await;
    server.join("n2", CpuMillis(4_000)).await;
    let ask = |target: &'static str| server.write(Method::POST, target, &Value::Null);
    ask("/v1/rebalance").await.refused(Code::Invalid);
    let dry = server
        .write(Method::POST, "/v1/rebalance?dryRun=true", &json!({}))
        .await
        .json();
    assert_eq!(
        (&dry["moves"][0]["from"], &dry["moves"][0]["to"]),
        (&json!("n1"), &json!("n2"))
    );
    assert_eq!(server.get("/v1/instances").await.names().len(), 2);
    let done = server
        .write(Method::POST, "/v1/rebalance", &json!({}))
        .await
        .json();
    assert_eq!(done, dry);
    assert_eq!(server.get("/v1/instances").await.names().len(), 3);
    for node in ["n2", "n1", "n2"] {
        server.obey(node).await;
    }
    let instances = server.get("/v1/instances?fieldSelector=node%3Dn2").await;
    assert_eq!(instances.names().len(), 1);
    let again = server
        .write(Method::POST, "/v1/rebalance", &json!({}))
        .await
        .json();
    assert_eq!(again, json!({ "moves": [], "more": false }));
    for (workloads, code) in [
        (json!(["default/none"]), Code::NotFound),
        (json!(["none"]), Code::Invalid),
    ] {
        let body = json!({ "workloads": workloads });
        server
            .write(Method::POST, "/v1/rebalance", &body)
            .await
            .refused(code);
    }
}
