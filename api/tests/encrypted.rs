//! The client against servers that encrypt, ones that do not, and ones that must not be believed.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use rustls::{ClientConfig, ServerConfig};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};
use windlass_api::{
    access::{Role, TokenRequest, TokenUse, WhoAmI},
    client::{Bearer, Client, Distrust, Endpoint, Error},
    clock,
    ids::Namespace,
    wire::ExecOptions,
};
use windlass_trust::{
    authority::{Authority, Validity},
    tls,
};

fn authority() -> Authority {
    Authority::create(clock::now()).unwrap()
}

/// A server's side of TLS, with a certificate that was made at `from`, for an hour.
fn encryption(authority: &Authority, from: Timestamp) -> Arc<ServerConfig> {
    let cluster = "0190b8a0-0000-7000-8000-000000000001".parse().unwrap();
    let lifetime = Duration::from_hours(1);
    let key = authority.server(cluster, &[], Validity { from, lifetime });
    tls::server(key.unwrap(), &[authority.certificate().clone()]).unwrap()
}

fn trusting(authority: &Authority) -> Arc<ClientConfig> {
    tls::client(None, &[authority.certificate().clone()]).unwrap()
}

fn https(address: SocketAddr, config: Arc<ClientConfig>) -> Endpoint {
    Endpoint::Https {
        authority: address.to_string().parse().unwrap(),
        config,
        token: Some(Bearer::new("wla_hunter2").unwrap()),
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Encrypts the connections, and answers each with the next of `answers`. Tells the requests.
async fn serve(
    config: Arc<ServerConfig>,
    answers: Vec<String>,
) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let (listener, address) = listener().await;
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            let stream = acceptor.accept(stream).await.unwrap();
            requests.push(converse(stream, &answer).await);
        }
        requests
    });
    (address, requests)
}

/// Reads one request and answers it.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut request = String::new();
    while !is_whole(&request) {
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer).await.unwrap();
        assert!(len > 0, "it broke off: {request:?}");
        request.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    request
}

fn is_whole(request: &str) -> bool {
    request.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        let length = |line: &str| line.strip_prefix("content-length: ")?.parse().ok();
        body.len() >= head.lines().find_map(length).unwrap_or(0)
    })
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn refused(endpoint: &Endpoint) -> Error {
    Client::new(endpoint).whoami().await.unwrap_err()
}

/// Shakes hands on any number of connections.
async fn shake_hands(config: Arc<ServerConfig>) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // That it fails is what the tests are about.
            drop(TlsAcceptor::from(Arc::clone(&config)).accept(stream).await);
        }
    });
    address
}

#[tokio::test]
async fn a_server_is_believed_whatever_its_address_and_shown_the_token() {
    let authority = authority();
    let config = encryption(&authority, clock::now());
    let viewer = r#"{"as":"token","id":"0123456789","role":"viewer"}"#;
    let (address, requests) = serve(config, vec![answer("200 OK", viewer)]).await;
    let client = Client::new(&https(address, trusting(&authority)));
    let (whoami, chain) = client.introduce().await.unwrap();
    let role = Role::Viewer;
    assert!(
        matches!(whoami, WhoAmI::Token { role: has, .. } if has == role),
        "{whoami:?}"
    );
    let shown = tls::authority_in(&chain, authority.fingerprint());
    assert_eq!(shown, Some(authority.certificate()));
    let request = requests.await.unwrap().remove(0);
    let begin = "GET /v1/whoami HTTP/1.1\r\n";
    assert!(request.starts_with(begin), "{request}");
    let token = "\r\nauthorization: Bearer wla_hunter2\r\n";
    assert!(request.contains(token), "{request}");
    assert!(!format!("{client:?}").contains("hunter2"));
    assert_eq!(client.server(), format!("https://{address}"));
}

#[tokio::test]
async fn a_token_is_made_once_even_if_the_answer_is_lost() {
    let authority = authority();
    let config = encryption(&authority, clock::now());
    let answers = vec![String::new(), answer("200 OK", r#"{"as":"local"}"#)];
    let (address, requests) = serve(config, answers).await;
    let client = Client::new(&https(address, trusting(&authority)));
    let request = TokenRequest {
        usage: TokenUse::Join { node: None },
        description: String::new(),
        expires_in: None,
    };
    let error = client.create_token(&request).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    client.whoami().await.unwrap();
    let requests = requests.await.unwrap();
    assert!(requests[0].starts_with("POST /v1/tokens "), "{requests:?}");
    assert!(!requests[0].contains("idempotency-key"), "{requests:?}");
    assert!(requests[1].starts_with("GET /v1/whoami "), "{requests:?}");
}

#[tokio::test]
async fn a_websocket_is_encrypted_and_shown_the_token() {
    let authority = authority();
    let config = encryption(&authority, clock::now());
    let (listener, address) = listener().await;
    let echo = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(config).accept(stream).await.unwrap();
        let mut shown = None;
        #[expect(clippy::result_large_err, reason = "the library wants it like this")]
        let note = |request: &Request, response: Response| {
            shown = request.headers().get("authorization").cloned();
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, note).await.unwrap();
        let message = socket.next().await.unwrap().unwrap();
        socket.send(message).await.unwrap();
        shown
    });
    let client = Client::new(&https(address, trusting(&authority)));
    let (namespace, id) = (Namespace::default(), "web-0-1".parse().unwrap());
    let options = ExecOptions::default();
    let socket = client.exec(&namespace, &id, None, &options);
    let mut socket = socket.await.unwrap();
    let sent = Message::binary(vec![7; 100_000]);
    socket.send(sent.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), sent);
    assert_eq!(echo.await.unwrap().unwrap(), "Bearer wla_hunter2");
}

#[tokio::test]
async fn the_server_of_another_cluster_is_not_believed() {
    let (ours, theirs) = (authority(), authority());
    let address = shake_hands(encryption(&theirs, clock::now())).await;
    let pinned = tls::first_contact(ours.fingerprint()).unwrap();
    for config in [trusting(&ours), pinned] {
        let error = refused(&https(address, config)).await;
        assert!(
            matches!(
                &error,
                Error::Untrusted {
                    why: Distrust::Stranger(_),
                    ..
                }
            ),
            "{error:?}"
        );
        let text = error.to_string();
        let says = "this is not the server that the token is for";
        assert!(text.contains(says), "{text}");
        assert!(!format!("{error:?} {text}").contains("hunter2"));
    }
}

#[tokio::test]
async fn an_expired_certificate_is_told_from_a_foreign_one() {
    let authority = authority();
    for hours in [-3, 3] {
        let made_at = clock::now() + SignedDuration::from_hours(hours);
        let address = shake_hands(encryption(&authority, made_at)).await;
        let error = refused(&https(address, trusting(&authority))).await;
        assert!(
            matches!(
                &error,
                Error::Untrusted {
                    why: Distrust::Time,
                    ..
                }
            ),
            "{hours}: {error:?}"
        );
        assert!(error.hint().unwrap().contains("clocks"));
    }
}

#[tokio::test]
async fn a_server_that_does_not_encrypt_is_told_and_not_shown_the_token() {
    let (listener, address) = listener().await;
    let received = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = vec![0; 4096];
        let len = stream.read(&mut received).await.unwrap();
        let refusal = answer("400 Bad Request", "");
        stream.write_all(refusal.as_bytes()).await.unwrap();
        received.truncate(len);
        received
    });
    let error = refused(&https(address, trusting(&authority()))).await;
    assert!(matches!(error, Error::NotEncrypted { .. }), "{error:?}");
    let received = received.await.unwrap();
    let received = String::from_utf8_lossy(&received);
    assert!(!received.contains("hunter2") && !received.contains("GET"));
}

#[tokio::test]
async fn a_server_that_encrypts_is_told_to_who_does_not() {
    let address = shake_hands(encryption(&authority(), clock::now())).await;
    let error = refused(&Endpoint::http(address)).await;
    assert!(matches!(error, Error::NotHttp { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("windlass login https://"));
}

#[tokio::test]
async fn a_server_is_reached_over_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("windlass.sock");
    let endpoint = Endpoint::Unix(path.clone());
    let error = refused(&endpoint).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let listener = UnixListener::bind(&path).unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        converse(stream, &answer("200 OK", r#"{"as":"local"}"#)).await
    });
    let client = Client::new(&endpoint);
    assert_eq!(client.whoami().await.unwrap(), WhoAmI::Local);
    assert_eq!(client.server(), format!("unix:{}", path.display()));
    let request = served.await.unwrap();
    assert!(request.contains("\r\nhost: localhost\r\n"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
}
