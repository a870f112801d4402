//! The API over encrypted connections: who is let in, and as whom.

use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use windlass_api::{
    access::{IssuedToken, NodeCertificate, Role, TokenUse},
    ids::Fingerprint,
};
use windlass_trust::{Token, authority::PrivateKey, certificate, tls};

use super::fixture::{Server, manifest};
use crate::{
    Config,
    http::{Door, Entrance, routers, serve},
    trust::{self, Trust},
};

/// A server with certificates, reached over the network; and as its owner, without.
struct Site {
    owner: Server,
    _server: Server,
    port: u16,
    authority: Fingerprint,
    _directory: tempfile::TempDir,
}

/// An answer: its status and its body.
#[derive(Debug)]
struct Answer(u16, String);

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.1).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

impl Site {
    async fn begin() -> Self {
        let server = Server::start();
        let directory = tempfile::tempdir().unwrap();
        let authority = trust::init(directory.path()).unwrap();
        let cluster = server.handle.state().record.id;
        let config = Config::new(directory.path().to_owned());
        let trust = Trust::open(&config, cluster);
        let trust = Arc::new(trust.unwrap().unwrap());
        let mut parts = server.parts();
        parts.trust = Some(Arc::clone(&trust));
        let [network, local] = routers(parts, &[Entrance::Network, Entrance::Local])
            .try_into()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let door = Door::Network(listener, trust.tls());
        let (metrics, shutdown) = (Arc::clone(&server.metrics), server.shutdown.clone());
        tokio::spawn(serve(door, network, metrics, shutdown));
        Self {
            owner: server.with(local),
            _server: server,
            port,
            authority,
            _directory: directory,
        }
    }

    /// Whoever knows nothing but the fingerprint, from a token.
    fn newcomer(&self) -> Arc<ClientConfig> {
        tls::first_contact(self.authority).unwrap()
    }

    async fn connect(
        &self,
        config: &Arc<ClientConfig>,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(tls::server_name(), stream).await
    }

    async fn ask(
        &self,
        config: &Arc<ClientConfig>,
        head: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> std::io::Result<Answer> {
        let mut stream = self.connect(config).await?;
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{head} HTTP/1.1\r\nhost: site.example\r\nconnection: close\r\n{}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            token.unwrap_or_default(),
            body.len(),
        );
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        // Answers of this size come as one chunk, if in chunks at all.
        Ok(Answer(status, body.to_owned()))
    }

    async fn person(&self, head: &str, token: Option<&str>) -> Answer {
        self.ask(&self.newcomer(), head, token, None).await.unwrap()
    }

    async fn token(&self, usage: TokenUse) -> IssuedToken {
        let body = json!({ "use": usage, "description": "for the tests" });
        let answer = self
            .owner
            .write(axum::http::Method::POST, "/v1/tokens", &body)
            .await;
        assert_eq!(answer.status, axum::http::StatusCode::CREATED, "{answer:?}");
        serde_json::from_value(answer.json()).unwrap()
    }

    async fn access(&self, role: Role) -> IssuedToken {
        let namespaces = None;
        self.token(TokenUse::Access { role, namespaces }).await
    }

    async fn try_join(&self, token: &str, node: &str, key: &PrivateKey) -> Answer {
        let body = json!({
            "token": token, "node": node, "certificateRequest": key.request().unwrap(),
        });
        let newcomer = self.newcomer();
        self.ask(&newcomer, "POST /v1/join", None, Some(&body))
            .await
            .unwrap()
    }

    /// Lets a node in: how its agent then connects.
    async fn join(&self, node: &str) -> Arc<ClientConfig> {
        let token = self.token(TokenUse::Join { node: None }).await;
        let key = PrivateKey::generate().unwrap();
        let answer = self.try_join(&token.secret, node, &key).await;
        assert_eq!(answer.0, 200, "{answer:?}");
        agent(&key, &serde_json::from_str(&answer.1).unwrap())
    }
}

fn agent(key: &PrivateKey, issued: &NodeCertificate) -> Arc<ClientConfig> {
    let chain = certificate::from_pem(&issued.certificate).unwrap();
    let authorities = certificate::from_pem(&issued.authorities).unwrap();
    tls::client(Some(key.certified(chain).unwrap()), &authorities).unwrap()
}

#[tokio::test]
async fn a_stranger_sees_only_what_everybody_may() {
    let site = Site::begin().await;
    assert_eq!(site.person("GET /healthz", None).await.0, 200);
    for head in [
        "GET /v1/workloads",
        "GET /v1/tokens",
        "GET /v1/agent/session",
        "GET /metrics",
    ] {
        let answer = site.person(head, None).await;
        assert_eq!(
            (answer.0, answer.code().as_str()),
            (401, "unauthenticated"),
            "{head}"
        );
    }
    for bad in ["x", "wla_AAAA", ""] {
        assert_eq!(site.person("GET /healthz", Some(bad)).await.0, 401, "{bad}");
    }
    let foreign = Token::generate(windlass_trust::token::Kind::Access, site.authority);
    let foreign = foreign.unwrap().reveal();
    let answer = site.person("GET /v1/workloads", Some(&foreign)).await;
    assert_eq!(answer.0, 401, "{answer:?}");
}

#[tokio::test]
async fn what_is_not_encrypted_is_not_answered() {
    let site = Site::begin().await;
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A reset says the same as an end.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        !String::from_utf8_lossy(&answer).contains("HTTP"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_token_is_good_for_its_role_until_it_is_revoked() {
    let site = Site::begin().await;
    let viewer = site.access(Role::Viewer).await;
    let secret = Some(viewer.secret.as_str());
    assert_eq!(site.person("GET /v1/workloads", secret).await.0, 200);
    let whoami = site.person("GET /v1/whoami", secret).await.json();
    assert_eq!(
        (&whoami["as"], &whoami["role"]),
        (&json!("token"), &json!("viewer"))
    );
    assert_eq!(
        site.person("DELETE /v1/workloads/default/web", secret)
            .await
            .0,
        403
    );
    assert_eq!(site.person("GET /v1/tokens", secret).await.0, 403);
    let list = site.owner.get("/v1/tokens").await.json();
    assert_eq!(list["items"][0]["id"], json!(viewer.token.id));
    assert!(!list.to_string().contains(&viewer.secret));
    let gone = format!("/v1/tokens/{}", viewer.token.id);
    site.owner
        .write(axum::http::Method::DELETE, &gone, &json!({}))
        .await;
    assert_eq!(site.person("GET /v1/workloads", secret).await.0, 401);
}

#[tokio::test]
async fn two_people_do_not_share_idempotency_keys() {
    let site = Site::begin().await;
    let (one, other) = (
        site.access(Role::Operator).await,
        site.access(Role::Operator).await,
    );
    let put = |token: String| {
        let site = &site;
        async move {
            let mut stream = site.connect(&site.newcomer()).await.unwrap();
            let body = manifest("web", 1).to_string();
            let request = format!(
                "PUT /v1/workloads/default/web HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 authorization: Bearer {token}\r\nidempotency-key: the-same\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text.split(' ').nth(1).unwrap().to_owned()
        }
    };
    assert_eq!(put(one.secret.clone()).await, "201");
    // The same answer again, and to nobody else.
    assert_eq!(put(one.secret).await, "201");
    assert_eq!(put(other.secret).await, "409");
}

#[tokio::test]
async fn a_node_joins_once_and_is_its_own_agent_only() {
    let site = Site::begin().await;
    let token = site.token(TokenUse::Join { node: None }).await;
    // It is no token for the API.
    assert_eq!(
        site.person("GET /v1/workloads", Some(&token.secret))
            .await
            .0,
        403
    );
    let key = PrivateKey::generate().unwrap();
    let answer = site.try_join(&token.secret, "edge-1", &key).await;
    assert_eq!(answer.0, 200, "{answer:?}");
    let agent = agent(&key, &serde_json::from_str(&answer.1).unwrap());
    // Whoever has the token now is too late.
    let thief = PrivateKey::generate().unwrap();
    let answer = site.try_join(&token.secret, "edge-2", &thief).await;
    assert_eq!(answer.0, 401, "{answer:?}");
    // An agent is no person.
    let answer = site
        .ask(&agent, "GET /v1/workloads", None, None)
        .await
        .unwrap();
    assert_eq!(answer.0, 403, "{answer:?}");
    // It comes as far as the session, which is a WebSocket.
    let answer = site
        .ask(&agent, "GET /v1/agent/session", None, None)
        .await
        .unwrap();
    assert_eq!(
        (answer.0, answer.code().as_str()),
        (400, "malformed"),
        "{answer:?}"
    );
    let body = json!({ "certificateRequest": key.request().unwrap() });
    let head = "POST /v1/agent/certificate";
    let answer = site.ask(&agent, head, None, Some(&body)).await.unwrap();
    assert_eq!(answer.0, 200, "{answer:?}");
}

#[tokio::test]
async fn a_token_for_the_api_lets_no_node_in_and_a_bad_request_uses_no_token_up() {
    let site = Site::begin().await;
    let key = PrivateKey::generate().unwrap();
    let admin = site.access(Role::Admin).await;
    assert_eq!(site.try_join(&admin.secret, "edge-1", &key).await.0, 403);
    let token = site.token(TokenUse::Join { node: None }).await;
    let body = json!({ "token": token.secret, "node": "edge-1", "certificateRequest": "x" });
    let newcomer = site.newcomer();
    let answer = site
        .ask(&newcomer, "POST /v1/join", None, Some(&body))
        .await
        .unwrap();
    assert_eq!(answer.0, 422, "{answer:?}");
    assert_eq!(site.try_join(&token.secret, "edge-1", &key).await.0, 200);
}

#[tokio::test]
async fn a_node_that_joined_anew_is_locked_out_with_its_old_certificate() {
    let site = Site::begin().await;
    let old = site.join("edge-1").await;
    let token = site.token(TokenUse::Join { node: None }).await;
    let key = PrivateKey::generate().unwrap();
    assert_eq!(site.try_join(&token.secret, "edge-1", &key).await.0, 409);
    let token = site
        .token(TokenUse::Join {
            node: Some("edge-1".parse().unwrap()),
        })
        .await;
    assert_eq!(site.try_join(&token.secret, "edge-1", &key).await.0, 200);
    let answer = site
        .ask(&old, "GET /v1/agent/session", None, None)
        .await
        .unwrap();
    assert_eq!(
        (answer.0, answer.code().as_str()),
        (403, "forbidden"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn an_agent_of_another_cluster_is_not_even_heard() {
    let (ours, theirs) = (Site::begin().await, Site::begin().await);
    let intruder = theirs.join("edge-1").await;
    // It does not believe our server either.
    ours.ask(&intruder, "GET /healthz", None, None)
        .await
        .unwrap_err();
    // One that believes everything shows a certificate that we do not take.
    let key = PrivateKey::generate().unwrap();
    let token = theirs.token(TokenUse::Join { node: None }).await;
    let answer = theirs.try_join(&token.secret, "edge-2", &key).await;
    let mut issued: NodeCertificate = serde_json::from_str(&answer.1).unwrap();
    let own = ours.token(TokenUse::Join { node: None }).await;
    let own = ours
        .try_join(&own.secret, "edge-2", &PrivateKey::generate().unwrap())
        .await;
    issued.authorities = own.json()["authorities"].as_str().unwrap().to_owned();
    let intruder = agent(&key, &issued);
    ours.ask(&intruder, "GET /healthz", None, None)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn without_certificates_there_are_no_tokens() {
    let server = Server::start();
    let usage = TokenUse::Join { node: None };
    let answer = server
        .write(
            axum::http::Method::POST,
            "/v1/tokens",
            &json!({ "use": usage }),
        )
        .await;
    let problem = answer.refused(windlass_api::problem::Code::Conflict);
    assert!(
        problem.detail.contains("windlass server init"),
        "{problem:?}"
    );
}
