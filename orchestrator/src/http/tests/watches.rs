//! Watches: no gap, no repetition, and an honest end.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use windlass_api::{ids::Version, problem::Code, quantity::CpuMillis};

use super::fixture::{Server, manifest, request};
use crate::history::Commit;

#[tokio::test]
async fn a_watch_tells_every_state_since_its_version() {
    let server = Server::start();
    server.put("old", 0).await;
    let from = server.handle.state().version;
    for replicas in [1, 2, 3] {
        server.put("web", replicas).await;
    }
    let mut watch = server
        .watch(&format!("/v1/workloads?watch=true&from={from}"))
        .await;
    // Some happened before the watch was opened, some happen after.
    for replicas in [4, 5] {
        server.put("web", replicas).await;
    }
    server
        .write(Method::DELETE, "/v1/workloads/default/web", &json!(null))
        .await;
    for replicas in 1..=5 {
        assert_eq!(watch.brief().await, format!("put web {replicas}"));
    }
    assert_eq!(watch.brief().await, "delete default/web");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_watch_tells_adds_up_to_what_is() {
    const WRITERS: u32 = 4;
    let server = Arc::new(Server::start());
    let mut watch = server.watch("/v1/workloads?watch=true").await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let server = Arc::clone(&server);
        writers.spawn(async move {
            for i in 0..40 {
                let name = format!("w{}", (i + writer) % 5);
                let target = format!("/v1/workloads/default/{name}");
                let body = manifest(&name, i * WRITERS + writer);
                let method = if i % 4 == 3 {
                    Method::DELETE
                } else {
                    Method::PUT
                };
                let answer = server.write(method, &target, &body).await;
                // Another writer may have deleted it a moment before, or after.
                assert!(
                    answer.status.is_success() || answer.status == 404,
                    "{answer:?}"
                );
            }
        });
    }
    // A watch can begin at the version of any list, however fresh.
    while !writers.is_empty() {
        let version = &server.get("/v1/workloads").await.json()["version"];
        let target = format!("/v1/workloads?watch=true&from={version}");
        let response = server.open(&target).await;
        // Others may have written so much since that it is forgotten, but it is never unknown.
        if response.status() == StatusCode::GONE {
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
            let problem = String::from_utf8(body.unwrap().to_vec()).unwrap();
            assert!(problem.contains("is forgotten"), "{problem}");
        } else {
            assert_eq!(response.status(), StatusCode::OK);
        }
        while let Some(ended) = writers.try_join_next() {
            ended.unwrap();
        }
    }
    server.put("last", 0).await;
    let mut told = BTreeMap::new();
    while !told.contains_key("default/last") {
        let sent = watch.next().await.unwrap();
        match sent.kind.as_str() {
            "put" => {
                let object = sent.data["object"].clone();
                let name = object["name"].as_str().unwrap();
                told.insert(format!("default/{name}"), object);
            }
            "delete" => {
                let name = sent.data["name"].as_str().unwrap();
                assert!(told.remove(name).is_some(), "{name} was not there");
            }
            other => assert_eq!(other, "bookmark"),
        }
    }
    let items = server.get("/v1/workloads").await.json()["items"].clone();
    let told: Vec<_> = told.into_values().collect();
    assert_eq!(Value::from(told), items);
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_exists() {
    let server = Server::start();
    server.put("a", 1).await;
    server.put("b", 2).await;
    let version = server.handle.state().version;
    let mut watch = server.watch("/v1/workloads/default?watch=true").await;
    server.put("c", 3).await;
    let first = watch.next().await.unwrap();
    assert_eq!((first.kind.as_str(), first.id), ("put", None));
    assert_eq!(first.data["version"], version.0);
    assert_eq!(watch.brief().await, "put b 2");
    let bookmark = watch.next().await.unwrap();
    assert_eq!(
        (bookmark.kind.as_str(), bookmark.id),
        ("bookmark", Some(version.0))
    );
    assert_eq!(watch.brief().await, "put c 3");
}

#[tokio::test]
async fn what_is_no_longer_selected_is_deleted() {
    let server = Server::start();
    let from = server.handle.state().version;
    let mut watch = server
        .watch(&format!(
            "/v1/workloads/default?watch=true&from={from}&labelSelector=tier=front"
        ))
        .await;
    let mut web = manifest("web", 1);
    for tier in ["back", "front", "front", "back", "front"] {
        web["labels"]["tier"] = tier.into();
        web["spec"]["replicas"] = (web["spec"]["replicas"].as_u64().unwrap() + 1).into();
        server
            .write(Method::PUT, "/v1/workloads/default/web", &web)
            .await;
        server
            .write(Method::PUT, "/v1/workloads/other/web", &manifest("web", 1))
            .await;
    }
    let expected = ["put web 3", "put web 4", "delete default/web", "put web 6"];
    for brief in expected {
        assert_eq!(watch.brief().await, brief);
    }
}

#[tokio::test]
async fn what_follows_from_a_change_is_told_too() {
    let server = Server::start();
    server.put("web", 2).await;
    let from = server.handle.state().version;
    let mut workloads = server
        .watch(&format!("/v1/workloads?watch=true&from={from}"))
        .await;
    let mut nodes = server
        .watch(&format!("/v1/nodes?watch=true&from={from}"))
        .await;
    let mut instances = server
        .watch(&format!("/v1/instances?watch=true&from={from}"))
        .await;
    let mut events = server
        .watch(&format!(
            "/v1/events?watch=true&from={from}&fieldSelector=reason=Placed"
        ))
        .await;
    server.join("n1", CpuMillis(1_000)).await;

    // The instances find a place, so the workload no longer says that they wait.
    let put = workloads.next().await.unwrap();
    assert_eq!(put.data["object"]["status"].get("reasons"), None, "{put:?}");
    let node = nodes.next().await.unwrap();
    assert_eq!(node.data["object"]["status"]["instances"], 2);
    // Two instances of one version: only after the second one can a watch go on from there.
    let (first, second) = (
        instances.next().await.unwrap(),
        instances.next().await.unwrap(),
    );
    assert_eq!(first.data["version"], second.data["version"]);
    assert_eq!(
        (first.id, second.id),
        (None, second.data["version"].as_u64())
    );
    assert_eq!(
        events.next().await.unwrap().data["object"]["reason"],
        "Placed"
    );

    // A label of the workload is one of its instances.
    let mut web = manifest("web", 2);
    web["labels"]["tier"] = "front".into();
    server
        .write(Method::PUT, "/v1/workloads/default/web", &web)
        .await;
    let put = instances.next().await.unwrap();
    assert_eq!(put.data["object"]["labels"]["tier"], "front");
}

#[tokio::test]
async fn a_quiet_watch_is_told_how_far_it_is() {
    let server = Server::start();
    let mut watch = server
        .watch("/v1/workloads?watch=true&from=0&labelSelector=none")
        .await;
    server.put("web", 1).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark.kind, "bookmark");
    assert_eq!(bookmark.id, Some(server.handle.state().version.0));
    assert!(began.elapsed().as_secs() >= 29);
}

#[tokio::test]
async fn versions_that_are_not_known_are_gone() {
    let server = Server::start();
    server.put("web", 1).await;
    let newest = server.handle.state().version;
    let target = format!("/v1/workloads?watch=true&from={}", newest.next());
    let future = server.get(&target).await.refused(Code::Gone);
    assert!(
        future
            .detail
            .contains(&format!("the newest version is {newest}")),
        "{future:?}"
    );

    for version in 1..=2_000 {
        server
            .handle
            .history()
            .push(commit(&server, Version(newest.0 + version)));
    }
    let past = server
        .get(&format!("/v1/workloads?watch=true&from={newest}"))
        .await;
    assert_eq!(past.status, 410);
    let oldest = server.handle.history().oldest();
    assert!(
        past.refused(Code::Gone)
            .detail
            .contains(&oldest.to_string())
    );
}

fn commit(server: &Server, version: Version) -> Arc<Commit> {
    let mut after = server.handle.state();
    after.version = version;
    Arc::new(Commit {
        before: server.handle.state(),
        after,
        changes: Vec::new(),
        bytes: 0,
    })
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_is_told() {
    let server = Server::start();
    server.put("web", 0).await;
    let from = server.handle.state().version;
    let mut watch = server
        .watch(&format!("/v1/workloads?watch=true&from={from}"))
        .await;
    for i in 0..300 {
        let target = "/v1/workloads/default/web/scale";
        server
            .write(Method::POST, target, &json!({ "replicas": i % 2 }))
            .await;
    }
    let gone = watch.next().await.unwrap();
    assert_eq!((gone.kind.as_str(), gone.id), ("gone", None));
    assert_eq!(gone.data["oldest"], server.handle.history().oldest().0);
    assert_eq!(watch.next().await, None, "it ends there");
}

#[tokio::test]
async fn a_state_that_was_read_anew_ends_watches() {
    let server = Server::start();
    server.put("web", 0).await;
    let version = server.handle.state().version;
    let mut watch = server
        .watch(&format!("/v1/nodes?watch=true&from={version}"))
        .await;
    server
        .handle
        .history()
        .push(commit(&server, version.next()));
    let gone = watch.next().await.unwrap();
    assert_eq!(
        gone.data,
        json!({ "type": "gone", "oldest": version.next() })
    );
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn what_was_told_is_passed_over() {
    let server = Server::start();
    server.put("web", 0).await;
    let version = server.handle.state().version;
    let mut watch = server
        .watch(&format!("/v1/workloads?watch=true&from={version}"))
        .await;
    // As if the history were a moment behind the state that the client has seen.
    server.handle.history().push(commit(&server, version));
    server.put("web", 1).await;
    assert_eq!(watch.brief().await, "put web 1");
}

#[tokio::test]
async fn watches_end_with_the_server() {
    let server = Server::start();
    let mut watch = server.watch("/v1/workloads?watch=true").await;
    assert_eq!(watch.brief().await, "bookmark");
    server.shutdown.cancel();
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn watches_are_bounded_and_counted() {
    let server = Server::start();
    let mut open = Vec::new();
    for _ in 0..crate::http::WATCHES_MAX {
        open.push(server.watch("/v1/workloads?watch=true").await);
    }
    let one_more = server.get("/v1/workloads?watch=true").await;
    one_more.refused(Code::Overloaded);
    assert_eq!(one_more.header("retry-after"), "1");
    assert!(
        server
            .get("/metrics")
            .await
            .text()
            .contains("windlass_watches_open 500\n")
    );
    drop(open);
    assert!(
        server
            .get("/metrics")
            .await
            .text()
            .contains("windlass_watches_open 0\n")
    );
    drop(server.watch("/v1/workloads?watch=true").await);
}

#[tokio::test]
async fn a_browser_that_connects_again_goes_on_where_it_was() {
    let server = Server::start();
    server.put("web", 1).await;
    let target = "/v1/workloads?watch=true&from=0";
    let mut watch = server.watch(target).await;
    let last = watch.next().await.unwrap().id.unwrap().to_string();
    server.put("web", 2).await;

    let again = request(Method::GET, target).header("last-event-id", &last);
    let mut again = server.watch_as(again.body(Body::empty()).unwrap()).await;
    assert_eq!(again.brief().await, "put web 2");

    for bad in ["", "-1", "1.5", "yesterday", "99999999999999999999"] {
        let request = request(Method::GET, target).header("last-event-id", bad);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        let problem = answer.refused(Code::Malformed);
        assert!(problem.detail.contains("last-event-id"), "{problem:?}");
    }
    let request = request(Method::GET, target).header("last-event-id", "4000000");
    let answer = server.send(request.body(Body::empty()).unwrap()).await;
    answer.refused(Code::Gone);
}
