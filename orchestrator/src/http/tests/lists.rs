//! Lists: pages, selectors, namespaces.

use axum::http::Method;
use serde_json::Value;
use windlass_api::{problem::Code, quantity::CpuMillis};

use super::fixture::{Server, manifest};

/// Names of workloads, page by page.
async fn pages(server: &Server, target: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = String::new();
    loop {
        let page = server.get(&format!("{target}{next}")).await;
        pages.push(page.names());
        match &page.json()["continue"] {
            Value::String(token) => next = format!("&continue={}", token.replace('/', "%2F")),
            _ => return pages,
        }
    }
}

#[tokio::test]
async fn pages_have_everything_once_and_in_order() {
    let server = Server::start();
    for i in 0..25 {
        server.put(&format!("w{i:02}"), 0).await;
    }
    let all: Vec<String> = (0..25).map(|i| format!("w{i:02}")).collect();
    for (limit, sizes) in [
        (10, &[10, 10, 5][..]),
        (25, &[25]),
        (24, &[24, 1]),
        (5, &[5, 5, 5, 5, 5]),
        (5_000, &[25]),
    ] {
        let pages = pages(&server, &format!("/v1/workloads?limit={limit}")).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        assert_eq!(pages.concat(), all);
    }
    // What is not selected does not count for a page, and makes no empty last one.
    let selected = pages(
        &server,
        "/v1/workloads?limit=2&labelSelector=app!%3Dw24&fieldSelector=name%3Dw03",
    )
    .await;
    assert_eq!(selected, [["w03"]]);
    let page = server.get("/v1/workloads?limit=1").await.json();
    assert_eq!(page["version"], server.handle.state().version.0);
}

#[tokio::test]
async fn large_objects_make_smaller_pages_and_wait_for_few_readers() {
    let server = Server::start();
    let text = "x".repeat(900_000);
    for i in 0..6 {
        let body = serde_json::json!({
            "kind": "Service", "name": format!("w{i}"),
            "spec": { "image": "a", "replicas": 0, "env": { "TEXT": text } },
        });
        let target = format!("/v1/workloads/default/w{i}");
        let answer = server.write(Method::PUT, &target, &body).await;
        assert_eq!(answer.status, 201);
    }
    let pages = pages(&server, "/v1/workloads?limit=500").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);
    // Answers that nobody reads are bounded in all, and count no more when they are gone.
    let mut unread = Vec::new();
    let refused = loop {
        let response = server.open("/v1/workloads").await;
        if response.status() != 200 {
            break response;
        }
        unread.push(response);
        assert!(unread.len() < 100, "without end");
    };
    assert_eq!(refused.status(), 503);
    drop(unread);
    assert_eq!(server.get("/v1/workloads").await.status, 200);
}

#[tokio::test]
async fn workloads_are_selected() {
    let server = Server::start();
    server.put("web", 1).await;
    server.put("idle", 0).await;
    server
        .write(Method::PUT, "/v1/workloads/shop/web", &manifest("web", 0))
        .await;
    let list = async |target: &str| {
        let items = server.get(target).await.json()["items"].clone();
        let name =
            |item: &Value| format!("{}/{}", item["namespace"], item["name"]).replace('"', "");
        items
            .as_array()
            .unwrap()
            .iter()
            .map(name)
            .collect::<Vec<_>>()
    };
    for (target, names) in [
        (
            "/v1/workloads",
            &["default/idle", "default/web", "shop/web"][..],
        ),
        ("/v1/workloads/shop", &["shop/web"]),
        ("/v1/workloads/nowhere", &[]),
        (
            "/v1/workloads?fieldSelector=name%3Dweb",
            &["default/web", "shop/web"],
        ),
        (
            "/v1/workloads?fieldSelector=namespace!%3Dshop,name=web",
            &["default/web"],
        ),
        (
            "/v1/workloads?fieldSelector=settled=false",
            &["default/web"],
        ),
        (
            "/v1/workloads?fieldSelector=kind=Service,settled=true",
            &["default/idle", "shop/web"],
        ),
        (
            "/v1/workloads?labelSelector=app%20=%20idle",
            &["default/idle"],
        ),
        ("/v1/workloads?labelSelector=!app", &[]),
    ] {
        assert_eq!(list(target).await, names, "{target}");
    }
}

#[tokio::test]
async fn instances_nodes_and_events_are_selected() {
    let server = Server::start();
    server.join("n1", CpuMillis(1_000)).await;
    server.put("web", 2).await;
    for (target, count) in [
        ("/v1/instances", 2),
        ("/v1/instances/default", 2),
        ("/v1/instances/shop", 0),
        (
            "/v1/instances?fieldSelector=workload=web,node=n1,phase=Assigned,goal=Run",
            2,
        ),
        ("/v1/instances?fieldSelector=phase=Running", 0),
        ("/v1/instances?labelSelector=app=web", 2),
        ("/v1/instances?labelSelector=app=db", 0),
        (
            "/v1/nodes?fieldSelector=name=n1,state=Ready,scheduling=Enabled",
            1,
        ),
        ("/v1/nodes?labelSelector=zone=eu", 1),
        ("/v1/nodes?fieldSelector=state=Lost", 0),
        (
            "/v1/events?fieldSelector=kind=Workload,reason=Created,severity=Normal",
            1,
        ),
        (
            "/v1/events?fieldSelector=kind=Instance,workload=web,reason=Placed",
            2,
        ),
        (
            "/v1/events?fieldSelector=kind=Node,name=n1,reason=Placed",
            0,
        ),
        ("/v1/events/shop", 0),
    ] {
        let items = server.get(target).await.json()["items"].clone();
        assert_eq!(
            items.as_array().map(Vec::len),
            Some(count),
            "{target}: {items}"
        );
    }
}

#[tokio::test]
async fn events_are_in_order_and_in_namespaces() {
    let server = Server::start();
    server.join("n1", CpuMillis(1_000)).await;
    server.put("web", 2).await;
    let of = async |target: &str| {
        let items = server.get(target).await.json()["items"].clone();
        items.as_array().unwrap().clone()
    };
    let all = of("/v1/events").await;
    let here = of("/v1/events/default").await;
    let about_nodes = of("/v1/events?fieldSelector=kind=Node").await;
    assert!(!about_nodes.is_empty() && here.len() < all.len());
    let namespaces = here.iter().map(|event| &event["subject"]["namespace"]);
    assert!(
        namespaces
            .into_iter()
            .all(|namespace| namespace == "default")
    );
    let ids: Vec<_> = all
        .iter()
        .map(|event| event["id"].as_u64().unwrap())
        .collect();
    assert!(ids.is_sorted(), "{ids:?}");
}

#[tokio::test]
async fn an_instance_is_found_in_its_namespace_only() {
    let server = Server::start();
    server.put("web", 1).await;
    let id = server.get("/v1/instances").await.names().remove(0);
    let one = server.get(&format!("/v1/instances/default/{id}")).await;
    assert_eq!(one.json()["name"], id.as_str());
    assert!(one.header("etag").starts_with('"'));
    let elsewhere = server.get(&format!("/v1/instances/shop/{id}")).await;
    elsewhere.refused(Code::NotFound);
}
