//! The API over real connections.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use super::fixture::{Server, manifest};
use crate::http::{Door, serve};

/// How long to wait for what follows an answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Listening {
    pub(super) server: Server,
    pub(super) port: u16,
    task: JoinHandle<std::io::Result<()>>,
}

pub(super) async fn listen() -> Listening {
    let server = Server::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(serve(
        Door::Loopback(listener),
        server.router.clone(),
        Arc::clone(&server.metrics),
        server.shutdown.clone(),
    ));
    Listening { server, port, task }
}

impl Listening {
    pub(super) async fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn exchange(&self, request: &str) -> String {
        read_to_end(self.connect(request).await).await
    }
}

pub(super) async fn read_to_end(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

/// Reads until `text` came.
pub(super) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4_096];
    while !seen.contains(text) {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "{text} did not come: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    seen
}

pub(super) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// Asks for a WebSocket.
pub(super) fn upgrade(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test]
async fn requests_are_answered_over_a_connection() {
    let listening = listen().await;
    let body = manifest("web", 1).to_string();
    let put = format!(
        "PUT /v1/workloads/default/web HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        listening.port,
        body.len(),
    );
    let made = listening.exchange(&put).await;
    assert!(made.starts_with("HTTP/1.1 201 Created\r\n"), "{made}");
    assert!(
        made.contains("location: /v1/workloads/default/web\r\n"),
        "{made}"
    );
    let read = listening.exchange(&get("/v1/workloads/default/web")).await;
    assert!(
        read.starts_with("HTTP/1.1 200 OK\r\n") && read.contains("nginx:1.27"),
        "{read}"
    );
    let foreign = get("/v1/server").replace("localhost", "evil.example");
    assert!(
        listening
            .exchange(&foreign)
            .await
            .starts_with("HTTP/1.1 403")
    );
    let absent = listening.exchange(&get("/nowhere")).await;
    assert!(
        absent.contains("content-type: application/problem+json\r\n"),
        "{absent}"
    );
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_read() {
    let listening = listen().await;
    let request = "POST /v1/apply HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/json\r\nContent-Length: 999999999\r\n\r\n";
    let mut stream = listening.connect(request).await;
    let answer = read_until(&mut stream, "too-large").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_is_turned_away() {
    let listening = listen().await;
    assert!(
        listening
            .exchange("\x16\x03\x01 hello\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
    let huge = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    let mut stream = TcpStream::connect(("127.0.0.1", listening.port))
        .await
        .unwrap();
    // The server may close before it has read everything.
    let _refused = stream.write_all(huge.as_bytes()).await;
    let mut start = [0; 12];
    if stream.read_exact(&mut start).await.is_ok() {
        assert_eq!(&start, b"HTTP/1.1 431");
    }
    assert!(listening.exchange(&get("/healthz")).await.ends_with("ok\n"));
}

#[tokio::test]
async fn a_head_that_does_not_come_closes_the_connection() {
    let listening = listen().await;
    let slow = listening
        .connect("GET /v1/server HTTP/1.1\r\nHost: loc")
        .await;
    let idle = listening.connect("").await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert!(!read_to_end(slow).await.contains("200 OK"));
    assert_eq!(read_to_end(idle).await, "");
    let took = began.elapsed().as_secs();
    assert!((9..=11).contains(&took), "{took} s");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    const REQUESTS: usize = 1_000;
    let listening = listen().await;
    let request = get("/openapi.json").replace("Connection: close\r\n", "");
    // More than the buffers of the kernel hold.
    let mut stuck = listening.connect(&request.repeat(REQUESTS)).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(70)).await;
    tokio::time::resume();
    let mut seen = Vec::new();
    let _cut_off = stuck.read_to_end(&mut seen).await;
    let answers = seen.windows(9).filter(|w| w == b"HTTP/1.1 ").count();
    assert!((1..REQUESTS).contains(&answers), "{answers} answers");
}

#[tokio::test]
async fn agents_get_their_websocket() {
    let listening = listen().await;
    let upgrade = upgrade("/v1/agent/session");
    let mut stream = listening.connect(&upgrade).await;
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    let plain = listening.exchange(&get("/v1/agent/session")).await;
    assert!(
        plain.starts_with("HTTP/1.1 400") && plain.contains("WebSockets of agents"),
        "{plain}"
    );
    let unknown = upgrade.replace("session", "streams/5f0f0a3c-0000-4000-8000-000000000000");
    let mut stream = listening.connect(&unknown).await;
    let answer = read_until(&mut stream, "not-found").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn a_shutdown_ends_watches_and_frees_the_port() {
    let listening = listen().await;
    let mut watch = listening.connect(&get("/v1/workloads?watch=true")).await;
    let head = read_until(&mut watch, "bookmark").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let keep_alive = get("/healthz").replace("Connection: close\r\n", "");
    let mut idle = listening.connect(&keep_alive).await;
    read_until(&mut idle, "ok\n").await;
    listening.server.shutdown.cancel();
    // The chunk that ends a body: the watch ends, it does not break.
    assert!(read_to_end(watch).await.ends_with("0\r\n\r\n"));
    read_to_end(idle).await;
    listening.task.await.unwrap().unwrap();
    TcpListener::bind(("127.0.0.1", listening.port))
        .await
        .unwrap();
}

#[tokio::test]
async fn other_addresses_are_not_listened_on() {
    let server = Server::start();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = serve(
        Door::Loopback(listener),
        server.router.clone(),
        Arc::clone(&server.metrics),
        server.shutdown.clone(),
    )
    .await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("listen on 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn what_is_not_http_is_counted() {
    let listening = listen().await;
    for request in [
        "what is this?\r\n\r\n".to_owned(),
        get("/v1/server").replace("Host: ", "Host\0: "),
    ] {
        let answer = listening.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let header = format!("X-Large: {}\r\nHost:", "x".repeat(1 << 20));
    let mut stream = TcpStream::connect(("127.0.0.1", listening.port))
        .await
        .unwrap();
    let large = get("/v1/server").replace("Host:", &header);
    // The server reads no more than it takes, and closes: the client may not even get its answer.
    drop(stream.write_all(large.as_bytes()).await);
    // The count follows the answer.
    let began = Instant::now();
    loop {
        let metrics = listening.server.get("/metrics").await;
        let counted = |line: &str| metrics.text().lines().any(|l| l == line);
        if counted(r#"windlass_refusals_total{code="malformed"} 2"#)
            && counted(r#"windlass_refusals_total{code="too-large"} 1"#)
        {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{}", metrics.text());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
