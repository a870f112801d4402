//! The cluster as a whole: what is shown of it, backups, and a state that went back.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use windlass_api::{
    ids::{Epoch, Generation},
    problem::Code,
    quantity::CpuMillis,
};

use super::fixture::{Server, hello};
use crate::{
    controller::Incumbent,
    store::{Failure, Store, copy_export},
};

const BACKUP: &str = "/v1/cluster/backup";

fn summary(backup: &[u8]) -> crate::store::Summary {
    copy_export(backup, "it".as_ref(), &mut std::io::sink()).unwrap()
}

#[tokio::test]
async fn the_overview_counts_what_there_is() {
    let server = Server::start();
    server.join("n1", CpuMillis(4_000)).await;
    server.join("n2", CpuMillis(4_000)).await;
    server.put("web", 3).await;
    let info = server.get("/v1/cluster").await.json();
    assert_eq!(info["nodes"], json!({ "Ready": 2 }));
    assert_eq!(info["workloads"], json!({ "unsettled": 1 }));
    assert_eq!(info["instances"], json!({ "Assigned": 3 }));
    assert_eq!(info["store"], "Writable");
    assert_eq!(info["restore"], Value::Null);
    assert_eq!(info["version"], server.handle.state().version.0);
}

/// The overview went on to say how a node was that an operator had taken out of the cluster.
#[tokio::test]
async fn a_node_that_was_removed_counts_as_that_in_overview_and_metrics() {
    let server = Server::start();
    server.join("n1", CpuMillis(4_000)).await;
    server.join("n2", CpuMillis(4_000)).await;
    let remove = "/v1/nodes/n2?force=true";
    let answer = server.write(Method::DELETE, remove, &Value::Null).await;
    assert!(answer.status.is_success(), "{answer:?}");
    let info = server.get("/v1/cluster").await.json();
    assert_eq!(info["nodes"], json!({ "Ready": 1, "Removed": 1 }));
    let metrics = server.get("/metrics").await;
    let line = r#"windlass_nodes{state="Removed"} 1"#;
    assert!(
        metrics.text().lines().any(|l| l == line),
        "{}",
        metrics.text()
    );
}

#[tokio::test]
async fn a_backup_is_what_the_store_holds() {
    let server = Server::start();
    server.join("n1", CpuMillis(4_000)).await;
    for n in 0..12 {
        server.put(&format!("w{n}"), n + 1).await;
    }
    let delete = "/v1/workloads/default/w3";
    server.write(Method::DELETE, delete, &Value::Null).await;
    let answer = server.get(BACKUP).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let mut stored = Vec::new();
    let expected = server.store.export(&mut stored).unwrap();
    assert_eq!(answer.text(), String::from_utf8(stored).unwrap());
    assert_eq!(summary(&answer.body), expected);
    assert!(expected.records > 80, "{expected:?}");
}

#[tokio::test]
async fn a_backup_under_load_is_one_moment_and_holds_up_nobody() {
    let server = Server::start();
    server.join("n1", CpuMillis(4_000)).await;
    server.put("web", 1).await;
    let writing = async {
        for n in 0..40 {
            server.put("web", n % 7).await;
        }
    };
    let reading = async {
        let mut versions = Vec::new();
        for _ in 0..20 {
            let backup = server.get(BACKUP).await;
            versions.push(summary(&backup.body).position.version);
            tokio::task::yield_now().await;
        }
        versions
    };
    let ((), versions) = tokio::join!(writing, reading);
    assert!(versions.is_sorted());
    // Nor does one that nobody goes on reading.
    let unread = server.open(BACKUP).await;
    server.put("web", 5).await;
    let whole = axum::body::to_bytes(unread.into_body(), usize::MAX);
    let then = summary(&whole.await.unwrap()).position.version;
    assert!(then < server.handle.state().version);
}

#[tokio::test]
async fn backups_are_bounded() {
    let server = Server::start();
    let open = [server.open(BACKUP).await, server.open(BACKUP).await];
    server.get(BACKUP).await.refused(Code::Overloaded);
    drop(open);
    assert_eq!(server.get(BACKUP).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_state_that_is_older_than_what_an_agent_has_seen_awaits_acceptance() {
    let server = Server::start();
    let accept = "/v1/cluster/accept-restore";
    let refused = server.write(Method::POST, accept, &Value::Null).await;
    refused.refused(Code::Conflict);

    let mut greeting = hello("n1", CpuMillis(2_000));
    greeting.seen = Some((Epoch(3), Generation(12)));
    let incumbent = Incumbent::Connected;
    server.handle.hello(greeting, incumbent).await.unwrap();
    let info = server.get("/v1/cluster").await.json();
    assert_eq!(info["epoch"], 4);
    let cause = json!({ "type": "behind", "node": "n1", "epoch": 3, "generation": 12 });
    assert_eq!(info["restore"]["cause"], cause);
    assert_eq!(info["restore"].get("acceptedAt"), None);
    // The store is in that epoch, too, so that a restart begins there.
    assert_eq!(server.store.load().unwrap().epoch, Epoch(4));
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("windlass_restore_pending 1"));

    let answer = server.write(Method::POST, accept, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["epoch"], 5);
    assert!(answer.json()["restore"]["acceptedAt"].is_string());
    assert_eq!(server.store.load().unwrap().epoch, Epoch(5));
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("windlass_restore_pending 0"));
    let again = server.write(Method::POST, accept, &Value::Null).await;
    again.refused(Code::Conflict);
}

/// A disk that takes its time holds up those who wait for it, and nobody else.
#[tokio::test]
async fn reads_go_on_while_the_disk_takes_its_time() {
    let server = Server::start();
    server.join("n1", CpuMillis(2_000)).await;
    let slow = Duration::from_millis(700);
    server.store.script(Failure::Slow(slow));
    let began = tokio::time::Instant::now();
    let reading = async {
        let mut reads = 0;
        while began.elapsed() < slow / 2 {
            for target in ["/v1/nodes", "/v1/cluster", "/readyz"] {
                let read = tokio::time::Instant::now();
                assert_eq!(server.get(target).await.status, StatusCode::OK);
                assert!(read.elapsed() < slow / 2, "{target} waited");
                reads += 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        reads
    };
    let (written, reads) = tokio::join!(server.put("web", 1), reading);
    assert!(began.elapsed() >= slow, "the write waited for the disk");
    assert!(reads > 3);
    assert_eq!(written["name"], "web");
    let version = server.handle.state().version;
    assert_eq!(server.store.load().unwrap().version, version);
}

#[tokio::test]
async fn after_a_failed_sync_nobody_is_told_that_anything_was_written() {
    let server = Server::start();
    server.put("web", 1).await;
    let before = server.handle.state().version;
    server.store.script(Failure::Sync);
    let target = "/v1/workloads/default/web/scale";
    for _ in 0..2 {
        let two = json!({ "replicas": 2 });
        let answer = server.write(Method::POST, target, &two).await;
        answer.refused(Code::Overloaded);
        assert_eq!(server.handle.state().version, before);
    }
    assert_eq!(server.get("/v1/workloads").await.status, StatusCode::OK);
}
