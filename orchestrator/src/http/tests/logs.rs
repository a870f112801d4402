//! The output of instances, from a pretended agent.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use windlass_api::{
    problem::Code,
    quantity::CpuMillis,
    wire::{ServerFrame, StreamRequest},
};

use super::fixture::{Answer, Server};
use crate::sessions::Frame;

/// A server with one instance on a node, and its logs' path.
async fn with_instance() -> (Arc<Server>, String) {
    let server = Server::start();
    server.join("n1", CpuMillis(1_000)).await;
    server.put("web", 1).await;
    let id = server.get("/v1/instances").await.names().remove(0);
    (Arc::new(server), format!("/v1/instances/default/{id}/logs"))
}

fn read(server: &Arc<Server>, target: String) -> tokio::task::JoinHandle<Answer> {
    let server = Arc::clone(server);
    tokio::spawn(async move { server.get(&target).await })
}

#[tokio::test]
async fn the_output_comes_through_from_the_agent() {
    let (server, logs) = with_instance().await;
    let mut registration = server.sessions.register(&server.node("n1"));
    let target = format!(
        "{logs}?follow&tail=10&since=2026-01-01T00:00:00Z&timestamps=false&container=proxy"
    );
    let reading = read(&server, target);
    let Some(ServerFrame::OpenStream { stream, request }) = registration.outbound.recv().await
    else {
        panic!("no stream was asked for");
    };
    let StreamRequest::Logs {
        container, options, ..
    } = request
    else {
        panic!("something else was asked for: {request:?}");
    };
    assert_eq!(container.unwrap().as_str(), "proxy");
    assert!(options.follow && !options.timestamps);
    assert_eq!(options.tail, Some(10));
    assert_eq!(options.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
    let (_, agent) = server.sessions.opened(stream, |_| true).unwrap();
    for line in ["one\n", "two\n"] {
        let line = Frame::Data(Bytes::from(line));
        agent.outgoing.send(Ok(Some(line))).await.unwrap();
    }
    agent.outgoing.send(Ok(None)).await.unwrap();
    let answer = reading.await.unwrap();
    assert_eq!(answer.text(), "one\ntwo\n");
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
}

#[tokio::test]
async fn what_keeps_the_output_away_is_said() {
    let server = Server::start();
    server.put("web", 1).await;
    let id = server.get("/v1/instances").await.names().remove(0);
    let waiting = server
        .get(&format!("/v1/instances/default/{id}/logs"))
        .await;
    assert_eq!(waiting.status, StatusCode::CONFLICT);
    let detail = waiting.refused(Code::Conflict).detail;
    assert!(
        detail.starts_with(&format!("no node was found for {id} yet: ")),
        "{detail}"
    );

    let (server, logs) = with_instance().await;
    let away = server.get(&logs).await;
    assert_eq!(away.status, StatusCode::BAD_GATEWAY);
    away.refused(Code::NodeUnreachable);

    let node = server.node("n1");
    let mut registration = server.sessions.register(&node);
    let reading = read(&server, logs);
    let Some(ServerFrame::OpenStream { stream, .. }) = registration.outbound.recv().await else {
        panic!("no stream was asked for");
    };
    server
        .sessions
        .failed(&node, stream, "the container was never started".to_owned());
    let failed = reading.await.unwrap().refused(Code::Conflict);
    assert_eq!(failed.detail, "the container was never started");
}
