//! Writes, and agents, that come at the same moment.

use axum::http::{Method, StatusCode};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};
use windlass_api::{
    problem::Code,
    quantity::CpuMillis,
    wire::{AgentFrame, Hello, SESSION_PATH, ServerFrame},
};

use super::{
    fixture::{Server, hello, json_request, manifest},
    sockets::listen,
};

const WEB: &str = "/v1/workloads/default/web";

fn with_image(image: &str) -> Value {
    let mut manifest = manifest("web", 1);
    manifest["spec"]["image"] = json!(image);
    manifest
}

#[tokio::test]
async fn of_two_applies_at_once_each_is_done_and_the_later_one_stays() {
    let server = Server::start();
    for round in 0..20 {
        let images = [format!("nginx:{round}-a"), format!("nginx:{round}-b")];
        let [one, other] = images.each_ref().map(|image| with_image(image));
        let (one, other) = tokio::join!(
            server.write(Method::PUT, WEB, &one),
            server.write(Method::PUT, WEB, &other),
        );
        let now = server.get(WEB).await.json();
        let mut last = 0;
        for answer in [&one, &other] {
            assert!(answer.status.is_success(), "{answer:?}");
            // Whoever was first is answered either with what it made, or, where both were made
            // durable together, with what the other one made of it.
            let told = answer.json();
            let is_last = told["meta"]["version"] == now["meta"]["version"];
            assert!(!is_last || told["spec"] == now["spec"], "{told} {now}");
            last += u32::from(is_last);
        }
        assert_ne!(last, 0, "nobody was told what is there: {now}");
        let images = images.map(Value::from);
        assert!(images.contains(&now["spec"]["image"]), "{now}");
        // Neither was lost: each made a revision, and the update is to the later one.
        assert_eq!(now["status"]["revision"], 2 * round + 2);
        assert_eq!(now["status"]["rollout"]["to"], 2 * round + 2);
    }
}

#[tokio::test]
async fn of_two_changes_of_the_same_version_one_is_refused() {
    let server = Server::start();
    server.put("web", 1).await;
    for round in 0..20 {
        let tag = server.get(WEB).await.header("etag").to_owned();
        let put = async |replicas: u32| {
            let headers = [("if-match", tag.as_str())];
            let change = manifest("web", replicas);
            let request = json_request(Method::PUT, WEB, &headers, &change);
            server.send(request).await
        };
        let (one, other) = tokio::join!(put(2 * round + 2), put(2 * round + 3));
        let (done, refused) = match one.status {
            StatusCode::OK => (one, other),
            _ => (other, one),
        };
        assert_eq!(done.status, StatusCode::OK, "{done:?}");
        refused.refused(Code::VersionConflict);
        let now = server.get(WEB).await.json();
        assert_eq!(now["spec"]["replicas"], done.json()["spec"]["replicas"]);
    }
}

/// Greets as an agent does. Returns the connection, which is to stay, and whether it was let in.
async fn greet(port: u16, hello: Hello) -> (WebSocketStream<MaybeTlsStream<TcpStream>>, bool) {
    let url = format!("ws://127.0.0.1:{port}{SESSION_PATH}");
    let (mut socket, _) = connect_async(url).await.unwrap();
    let hello = serde_json::to_string(&AgentFrame::Hello(Box::new(hello))).unwrap();
    socket.send(Message::text(hello)).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    match serde_json::from_str(answer.to_text().unwrap()).unwrap() {
        ServerFrame::Welcome(_) => (socket, true),
        ServerFrame::Refused { .. } => (socket, false),
        other => panic!("{other:?}"),
    }
}

/// Both lost their state, say, and are on one machine. Each could have taken the node over from the
/// other one, and both would have worked on it.
#[tokio::test]
async fn of_two_agents_that_greet_at_once_for_a_node_one_is_let_in() {
    let listening = listen().await;
    for round in 0..20 {
        let name = format!("n{round}");
        let cpu = CpuMillis(1_000);
        listening.server.join(&name, cpu).await;
        let (one, other) = tokio::join!(
            greet(listening.port, hello(&name, cpu)),
            greet(listening.port, hello(&name, cpu)),
        );
        assert_ne!(one.1, other.1, "round {round}");
    }
}
