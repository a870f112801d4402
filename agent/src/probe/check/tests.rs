use std::convert::Infallible;

use ::http::{HeaderMap, HeaderValue, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{FutureExt, stream};
use http_body_util::StreamBody;
use hyper::{body::Frame, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

/// The check of a probe that is described like in a manifest, at port 80 unless it says otherwise.
fn check(probe: serde_json::Value) -> Check {
    let probe: Probe = serde_json::from_value(probe).unwrap();
    let ports = json!([{ "name": "web", "container": 8080 }]);
    let ports: Vec<Port> = serde_json::from_value(ports).unwrap();
    Check::new(&probe, &ports)
}

fn network(probe: serde_json::Value) -> Arc<Dial> {
    match check(probe) {
        Check::Network(dial) => dial,
        other => panic!("{other:?}"),
    }
}

async fn make(probe: serde_json::Value) -> Outcome {
    network(probe)
        .make(Some(IpAddr::from([127, 0, 0, 1])))
        .await
}

/// A server that answers one connection with these bytes, and then closes it. Tells its port, and
/// what it was asked.
async fn answering(answer: &'static str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let length = stream.read(&mut asked).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        asked.truncate(length);
        String::from_utf8(asked).unwrap()
    });
    (port, asked)
}

/// A port that nobody listens on.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn failed(saw: &str) -> Outcome {
    Outcome::Failed(saw.to_owned())
}

#[test]
fn a_port_is_meant_by_number_or_name() {
    assert_eq!(
        network(json!({ "tcp": { "port": 5432 } })).to_string(),
        "tcp :5432"
    );
    assert_eq!(
        network(json!({ "tcp": { "port": "web" } })).to_string(),
        "tcp :8080"
    );
    let get = network(json!({ "http": { "port": "web", "path": "/healthz?token=x" } }));
    assert_eq!(get.to_string(), "GET :8080/healthz");
    let Check::Impossible(why) = check(json!({ "grpc": { "port": "db" } })) else {
        panic!("there is no such port");
    };
    assert_eq!(&*why, "the container has no port `db`");
}

#[tokio::test]
async fn http_is_well_with_the_expected_status() {
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let (port, asked) = answering(answer).await;
    let seen = make(json!({ "http": {
        "port": port, "path": "/ready?deep=1", "headers": { "X-Key": "k" },
    }}));
    assert_eq!(seen.await, Outcome::Passed);
    let asked = asked.await.unwrap().to_ascii_lowercase();
    assert!(
        asked.starts_with("get /ready?deep=1 http/1.1\r\n"),
        "{asked}"
    );
    let host = format!("\r\nhost: 127.0.0.1:{port}\r\n");
    for header in [
        host.as_str(),
        "\r\nx-key: k\r\n",
        "\r\nconnection: close\r\n",
    ] {
        assert!(asked.contains(header), "{asked}");
    }
    let (port, _) = answering(answer).await;
    let seen = make(json!({ "http": { "port": port, "status": ["200"] } })).await;
    assert_eq!(seen, failed(&format!("GET :{port}/ answered 204")));
}

#[tokio::test]
async fn http_says_what_it_saw() {
    let (port, _) = answering("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").await;
    let seen = make(json!({ "http": { "port": port, "path": "/healthz" } })).await;
    assert_eq!(seen, failed(&format!("GET :{port}/healthz answered 503")));
    let port = closed_port().await;
    let seen = make(json!({ "http": { "port": port } })).await;
    assert_eq!(seen, failed(&format!("GET :{port}/: connection refused")));
    for nonsense in ["SSH-2.0-OpenSSH_9.2\r\n", ""] {
        let (port, _) = answering(nonsense).await;
        let seen = make(json!({ "http": { "port": port } })).await;
        let Outcome::Failed(saw) = seen else {
            panic!("{seen:?}");
        };
        assert!(
            saw.starts_with(&format!("GET :{port}/ was not answered in HTTP: ")),
            "{saw}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_none() {
    let (port, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal").await;
    let seen = make(json!({ "http": { "port": port } })).await;
    assert!(matches!(seen, Outcome::Failed(_)), "{seen:?}");
}

#[tokio::test]
async fn a_header_of_the_manifest_takes_the_place_of_ours() {
    let (port, asked) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let headers = json!({ "Host": "shop.example", "User-Agent": "me" });
    let seen = make(json!({ "http": { "port": port, "headers": headers } })).await;
    assert_eq!(seen, Outcome::Passed);
    let asked = asked.await.unwrap().to_ascii_lowercase();
    assert_eq!(asked.matches("host: ").count(), 1, "{asked}");
    assert!(asked.contains("host: shop.example\r\n"), "{asked}");
    assert!(asked.contains("user-agent: me\r\n"), "{asked}");
}

#[tokio::test]
async fn tcp_is_well_when_somebody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(
        make(json!({ "tcp": { "port": port } })).await,
        Outcome::Passed
    );
    // Nothing is left of the connection: it was reset, not closed.
    let (mut stream, _) = listener.accept().await.unwrap();
    let error = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let port = closed_port().await;
    let seen = make(json!({ "tcp": { "port": port } })).await;
    assert_eq!(seen, failed(&format!("tcp :{port}: connection refused")));
    let seen = network(json!({ "tcp": { "port": 1 } })).make(None).await;
    assert_eq!(seen, failed("tcp :1: the container has no address"));
}

/// What a gRPC server answers.
#[derive(Clone, Copy)]
struct Answer {
    message: &'static [u8],
    status: &'static str,
}

/// A gRPC server for one connection.
async fn grpc_server(answer: Answer) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = service_fn(move |request: ::http::Request<_>| async move {
            let _: &hyper::body::Incoming = request.body();
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let mut message = BytesMut::new();
            message.put_u8(0);
            message.put_u32(u32::try_from(answer.message.len()).unwrap());
            message.put_slice(answer.message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(answer.status));
            let frames = [Frame::data(message.freeze()), Frame::trailers(trailers)];
            let frames = frames.map(Ok::<Frame<Bytes>, Infallible>);
            Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter(frames))))
        });
        let server = http2::Builder::new(TokioExecutor::new());
        // The other side resets the connection.
        drop(server.serve_connection(TokioIo::new(stream), answer).await);
    });
    port
}

#[tokio::test]
async fn grpc_is_well_when_it_serves() {
    for (message, status, saw) in [
        (&[8, 1][..], "0", None),
        (&[8, 2], "0", Some("says NOT_SERVING")),
        (&[], "5", Some("does not know this service")),
        (&[], "12", Some("does not offer the health service")),
        (&[], "14", Some("ended with gRPC status 14: ")),
    ] {
        let port = grpc_server(Answer { message, status }).await;
        let seen = make(json!({ "grpc": { "port": port, "service": "db" } })).await;
        let expected = match saw {
            None => Outcome::Passed,
            Some(saw) => failed(&format!("grpc :{port} db {saw}")),
        };
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn what_is_no_grpc_says_so() {
    let (port, _) = answering("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let seen = make(json!({ "grpc": { "port": port } })).await;
    let Outcome::Failed(saw) = seen else {
        panic!("{seen:?}");
    };
    assert!(
        saw.starts_with(&format!("grpc :{port} was not answered in gRPC: ")),
        "{saw}"
    );
}

#[tokio::test]
async fn a_check_that_is_given_up_leaves_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for probe in [
        json!({ "http": { "port": port } }),
        json!({ "grpc": { "port": port } }),
    ] {
        let dial = network(probe);
        let mut making = Box::pin(dial.make(Some(IpAddr::from([127, 0, 0, 1]))));
        let (mut stream, _) = loop {
            assert!((&mut making).now_or_never().is_none());
            if let Some(accepted) = listener.accept().now_or_never() {
                break accepted.unwrap();
            }
            tokio::task::yield_now().await;
        };
        drop(making);
        let mut read = Vec::new();
        let error = stream.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn what_a_program_says_is_repeated_in_short() {
    assert_eq!(shortened("a\n\u{1b}[31mb", 60), "a  [31mb");
    assert_eq!(shortened("äöü", 2), "äö...");
    assert_eq!(shortened("äöü", 3), "äöü");
}
