//! Whatever goes wrong leaves as a problem.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use windlass_api::problem::Code;

use super::fixture::{Server, json_request, manifest, request};
use crate::store::{Failure, Leaves};

#[tokio::test]
async fn what_is_not_there_is_said() {
    let server = Server::start();
    for (target, code) in [
        ("/", Code::NoRoute),
        ("/v1", Code::NoRoute),
        ("/v1/workloads/", Code::NoRoute),
        ("/v1/workloads/default/web/", Code::NoRoute),
        ("/v2/workloads", Code::NoRoute),
        ("/v1/workloads/default/web", Code::NotFound),
        ("/v1/instances/default/web-0-1", Code::NotFound),
        ("/v1/instances/default/web-0-1/logs", Code::NotFound),
        ("/v1/nodes/n1", Code::NotFound),
    ] {
        let answer = server.get(target).await;
        answer.refused(code);
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{target}");
    }
    for target in ["scale", "restart"] {
        let target = format!("/v1/workloads/default/web/{target}");
        let answer = server
            .write(Method::POST, &target, &json!({ "replicas": 1 }))
            .await;
        answer.refused(Code::NotFound);
    }
}

#[tokio::test]
async fn a_wrong_method_hears_of_the_right_ones() {
    let server = Server::start();
    for (method, target, allow) in [
        (
            Method::POST,
            "/v1/workloads/default/web",
            "GET,HEAD,PUT,DELETE",
        ),
        (Method::GET, "/v1/apply", "POST"),
        (Method::PUT, "/v1/nodes/n1", "GET,HEAD,PATCH,DELETE"),
        (
            Method::from_bytes(b"BREW").unwrap(),
            "/v1/server",
            "GET,HEAD",
        ),
    ] {
        let answer = server
            .send(request(method, target).body(Body::empty()).unwrap())
            .await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        answer.refused(Code::NoRoute);
        let mut allowed: Vec<_> = answer.header("allow").split(',').collect();
        let mut expected: Vec<_> = allow.split(',').collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{target}");
    }
}

#[tokio::test]
async fn names_cannot_leave_their_place() {
    let server = Server::start();
    for name in [
        "..%2f..%2fetc",
        "..",
        "%2e%2e",
        "a%00b",
        "A",
        "a.b",
        "-",
        "%ff",
        "%F0%9F%92%A9",
    ] {
        for target in [
            format!("/v1/workloads/default/{name}"),
            format!("/v1/workloads/{name}"),
            format!("/v1/nodes/{name}"),
            format!("/v1/instances/default/{name}/logs"),
        ] {
            let problem = server.get(&target).await.refused(Code::Malformed);
            assert!(!problem.detail.contains('\0'), "{problem:?}");
        }
    }
    let path = server
        .get("/v1/workloads/default/..%2f..%2fetc")
        .await
        .problem()
        .detail;
    assert!(
        path.starts_with("the path has a bad name: workload:"),
        "{path}"
    );
}

#[tokio::test]
async fn bad_queries_name_the_parameter_and_the_known_ones() {
    let server = Server::start();
    for (target, says) in [
        (
            "/v1/workloads?labelselector=a",
            "unknown field `labelselector`, expected one of",
        ),
        ("/v1/workloads?limit=0", "limit: from 1 to 5000"),
        ("/v1/workloads?limit=5001", "limit: from 1 to 5000"),
        ("/v1/workloads?limit=-1", "limit: "),
        ("/v1/workloads?limit=1&limit=2", "duplicate field `limit`"),
        ("/v1/workloads?watch=maybe", "watch: "),
        ("/v1/workloads?watch=true&limit=1", "a watch has no pages"),
        ("/v1/workloads?from=1", "add `watch=true`"),
        ("/v1/workloads?watch=true&from=-1", "from: "),
        ("/v1/workloads?continue=web", "continue: "),
        (
            "/v1/workloads?labelSelector=%2C",
            "labelSelector: `,` is not a selector",
        ),
        (
            "/v1/nodes?fieldSelector=phase%3DRunning",
            "the fields are name, state, scheduling",
        ),
        ("/v1/server?verbose=true", "takes no parameters"),
        ("/v1/instances/default/web-0-1/logs?tail=-1", "tail: "),
        ("/v1/instances/default/web-0-1/logs?follow=yes", "follow: "),
        (
            "/v1/instances/default/web-0-1/logs?since=yesterday",
            "since: ",
        ),
    ] {
        let problem = server.get(target).await.refused(Code::Malformed);
        assert!(problem.detail.contains(says), "{target}: {problem:?}");
    }
}

#[tokio::test]
async fn bad_bodies_say_where_they_are_bad() {
    let server = Server::start();
    let put = async |body: String, content_type: &str| {
        let request = request(Method::PUT, "/v1/workloads/default/web")
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body));
        server.send(request.unwrap()).await
    };
    let good = manifest("web", 1).to_string();
    let plain = put(good.clone(), "text/plain")
        .await
        .refused(Code::Malformed);
    assert!(plain.detail.contains("content-type: application/json"));

    let broken = put("{\n  \"kind\": Service }".to_owned(), "application/json").await;
    let broken = broken.refused(Code::Malformed);
    assert!(broken.detail.contains("line 2 column"), "{broken:?}");

    let deep = "[".repeat(200_000);
    let deep = put(deep, "application/json").await.refused(Code::Malformed);
    assert!(deep.detail.contains("recursion limit"), "{deep:?}");

    let huge = put("x".repeat((1 << 20) + 1), "application/json").await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        huge.refused(Code::TooLarge)
            .detail
            .contains("1048576 bytes")
    );

    let mut wrong = manifest("web", 1);
    wrong["spec"]["ports"] = json!([{ "container": 80 }, { "container": -80 }]);
    let wrong = put(wrong.to_string(), "application/json")
        .await
        .refused(Code::Invalid);
    assert_eq!(wrong.errors[0].path, "spec.ports[1].container");
    assert!(
        server.handle.state().workloads.is_empty(),
        "nothing was written"
    );
}

/// serde takes an array for an object, and the last of two equal keys.
#[tokio::test]
async fn bodies_are_read_to_the_letter() {
    let server = Server::start();
    server.put("web", 1).await;
    let send = async |method: Method, target: &str, body: &str| {
        let request = request(method, target)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_owned()));
        server.send(request.unwrap()).await.refused(Code::Invalid)
    };
    let spec = r#"{ "image": "nginx", "ports": [[80]] }"#;
    let web = format!(r#"{{ "kind": "Service", "name": "web", "spec": {spec} }}"#);
    let apply = format!(r#"{{ "resources": [{web}] }}"#);
    let twice = r#"{ "kind": "Service", "name": "web", "spec": { "image": "a", "image": "b" } }"#;
    for (method, target, body, path) in [
        ("POST", "/v1/workloads/default/web/scale", "[3]", ""),
        (
            "POST",
            "/v1/workloads/default/web/scale",
            r#"{ "replicas": 3, "replicas": 1 }"#,
            "replicas",
        ),
        (
            "POST",
            "/v1/workloads/default/web/rollout",
            r#"["pause"]"#,
            "",
        ),
        ("PATCH", "/v1/nodes/n1", r#"["Cordoned"]"#, ""),
        (
            "PATCH",
            "/v1/nodes/n1",
            r#"{ "labels": { "a": "1", "a": null } }"#,
            "labels.a",
        ),
        (
            "PATCH",
            "/v1/nodes/n1",
            r#"{ "taints": [["a"]] }"#,
            "taints[0]",
        ),
        ("PUT", "/v1/workloads/default/web", &web, "spec.ports[0]"),
        ("PUT", "/v1/workloads/default/web", twice, "spec.image"),
        ("POST", "/v1/apply", &apply, "resources[0].spec.ports[0]"),
        ("POST", "/v1/apply", "[[]]", ""),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let problem = send(method, target, body).await;
        assert_eq!(problem.errors[0].path, path, "{target} {body}: {problem:?}");
    }
    let web = server.get("/v1/workloads/default/web").await.json();
    assert_eq!(web["spec"]["replicas"], 1);
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let server = Server::start();
    let chunk = bytes::Bytes::from(vec![b' '; 64 << 10]);
    let chunks =
        futures_util::stream::iter((0..32).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let request = request(Method::POST, "/v1/apply")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(chunks));
    server.send(request.unwrap()).await.refused(Code::TooLarge);
}

#[tokio::test]
async fn the_mistakes_of_a_manifest_are_told_at_once() {
    let server = Server::start();
    let mut bad = manifest("web", 10_000_000);
    bad["spec"]["env"] = json!({ "A=B": "1" });
    let answer = server
        .write(Method::PUT, "/v1/workloads/default/web", &bad)
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem = answer.refused(Code::Invalid);
    assert!(problem.errors.len() >= 2, "{problem:?}");

    let elsewhere = manifest("db", 1);
    let answer = server
        .write(Method::PUT, "/v1/workloads/shop/web", &elsewhere)
        .await;
    let problem = answer.refused(Code::Invalid);
    assert_eq!(problem.errors[0].path, "name");
    assert!(problem.errors[0].message.contains("`db`"));

    let apply = json!({ "resources": [manifest("web", 1), manifest("web", 1)], "force": true });
    let answer = server.write(Method::POST, "/v1/apply", &apply).await;
    assert_eq!(answer.refused(Code::Invalid).errors[0].path, "force");
    let apply = json!({ "resources": [manifest("web", 1), manifest("web", 1)] });
    let answer = server.write(Method::POST, "/v1/apply", &apply).await;
    assert_eq!(
        answer.refused(Code::Invalid).errors[0].path,
        "resources[1].name"
    );
    let many: Vec<Value> = (0..501).map(|i| manifest(&format!("w{i}"), 1)).collect();
    let answer = server
        .write(Method::POST, "/v1/apply", &json!({ "resources": many }))
        .await;
    assert_eq!(answer.refused(Code::Invalid).errors[0].path, "resources");
    assert!(
        server.handle.state().workloads.is_empty(),
        "nothing was written"
    );
}

#[tokio::test]
async fn foreign_hosts_and_pages_are_refused_everywhere() {
    let server = Server::start();
    for target in ["/v1/server", "/healthz", "/nowhere", "/v1/agent/session"] {
        let foreign = Request::get(target).header(header::HOST, "evil.example:7400");
        server
            .send(foreign.body(Body::empty()).unwrap())
            .await
            .refused(Code::Forbidden);
        let page = request(Method::GET, target).header(header::ORIGIN, "https://evil.example");
        server
            .send(page.body(Body::empty()).unwrap())
            .await
            .refused(Code::Forbidden);
    }
    let own = request(Method::GET, "/v1/server").header(header::ORIGIN, "http://localhost:7400");
    assert_eq!(
        server.send(own.body(Body::empty()).unwrap()).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let server = Server::start();
    server.put("web", 1).await;
    server.store.script(Failure::RunsFull {
        then: Leaves::Nothing,
    });
    let target = "/v1/workloads/default/web/scale";
    let answer = server
        .write(Method::POST, target, &json!({ "replicas": 2 }))
        .await;
    assert_eq!(answer.status, StatusCode::INSUFFICIENT_STORAGE);
    answer.refused(Code::NoSpace);
    let readiness = server.get("/readyz").await.refused(Code::NoSpace);
    assert!(readiness.detail.contains("reads go on"));
    let web = server.get("/v1/workloads/default/web").await;
    assert_eq!(web.json()["spec"]["replicas"], 1);
    assert!(
        server
            .get("/metrics")
            .await
            .text()
            .contains("windlass_store_writable 0\n")
    );
    server.store.free_space();
    while server.get("/readyz").await.status != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.put("web", 3).await;
}

#[tokio::test]
async fn ids_of_requests_come_back_and_refusals_are_counted() {
    let server = Server::start();
    let named = request(Method::GET, "/v1/nodes/n1").header("x-request-id", "trace-7");
    let problem = server
        .send(named.body(Body::empty()).unwrap())
        .await
        .refused(Code::NotFound);
    assert_eq!(problem.request_id, "trace-7");
    let named = request(Method::GET, "/v1/server").header("x-request-id", "trace-8");
    let answer = server.send(named.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("x-request-id"), "trace-8");
    let stale = json_request(
        Method::DELETE,
        "/v1/workloads/default/web",
        &[("if-match", "\"7\"")],
        &json!(null),
    );
    server.send(stale).await.refused(Code::NotFound);
    let metrics = server.get("/metrics").await;
    for line in [
        r#"windlass_refusals_total{code="not-found"} 2"#,
        r#"windlass_writes_total{outcome="not-found"} 1"#,
        r#"windlass_http_requests_total{method="GET",route="/v1/nodes/{node}",status="404"} 1"#,
    ] {
        assert!(
            metrics.text().lines().any(|l| l == line),
            "{line}: {}",
            metrics.text()
        );
    }
}
