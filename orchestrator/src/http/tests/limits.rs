//! Time, number and mistakes of requests are bounded.

use std::future::pending;

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use futures_util::future::join_all;
use windlass_api::problem::Code;
use windlass_core::access::Need;

use super::fixture::{Server, request};
use crate::http::operation::{Operation, REQUESTS_MAX};

async fn hang() {
    pending().await
}

async fn panic() {
    panic!("the secret is {}", 42)
}

fn server() -> Server {
    Server::start_with(vec![
        Operation::get(Need::Nothing, "/test/hang", "hang", "Hangs.", hang),
        Operation::get(Need::Nothing, "/test/panic", "panic", "Panics.", panic),
    ])
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cut_off() {
    let server = server();
    tokio::time::pause();
    let answer = server.get("/test/hang").await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(answer.refused(Code::Timeout).detail.contains("30 s"));
}

#[tokio::test]
async fn too_many_requests_at_a_time_are_turned_away() {
    let server = server();
    let hanging = join_all((0..REQUESTS_MAX).map(|_| server.get("/test/hang")));
    let after = async {
        // The others are polled first, and wait.
        tokio::task::yield_now().await;
        // They are readers, and keep no writer away.
        server.put("web", 0).await;
        let one_more = server.get("/v1/workloads").await;
        assert_eq!(one_more.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(one_more.header("retry-after"), "1");
        one_more.refused(Code::Overloaded);
        // What tells of the load, and agents, must come through.
        for target in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(server.get(target).await.status, StatusCode::OK);
        }
        server
            .get("/v1/agent/session")
            .await
            .refused(Code::Malformed);
    };
    tokio::select! {
        biased;
        _ = hanging => unreachable!("they hang"),
        () = after => {}
    }
    assert_eq!(
        server.get("/v1/workloads").await.status,
        StatusCode::OK,
        "they are gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = server();
    let body = futures_util::stream::pending::<std::io::Result<bytes::Bytes>>();
    let request = request(Method::PUT, "/v1/workloads/default/web")
        .header("content-type", "application/json")
        .body(Body::from_stream(body))
        .unwrap();
    let answer = server.send(request).await;
    assert!(answer.refused(Code::Timeout).detail.contains("10 s"));
}

#[tokio::test]
async fn a_panic_is_answered_and_not_shown() {
    let server = server();
    let answer = server.get("/test/panic").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let problem = answer.refused(Code::Internal);
    assert!(!answer.text().contains("secret"), "{problem:?}");
    assert_eq!(server.get("/v1/server").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_head_request_is_a_get_without_the_body() {
    let server = server();
    let head = server
        .send(
            request(Method::HEAD, "/v1/server")
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}
