use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use windlass_api::{
    clock,
    ids::AdmissionId,
    problem::{Code, Problem},
};
use windlass_trust::{
    Authority, Subject,
    authority::Validity,
    subject::Role,
    token::{Kind, Token},
};

use super::*;
use crate::testing::{cluster, node};

/// No test should ever take this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that gives certificates, or not.
struct Server {
    authority: Arc<Authority>,
    address: String,
    /// What it refuses with, if it does.
    refuses: Arc<Mutex<Option<Problem>>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    /// One whose certificates hold for as long as this.
    async fn begin(lifetime: Duration) -> Self {
        Self::giving(lifetime, None).await
    }

    /// One that tells nodes to believe somebody else.
    async fn giving(lifetime: Duration, other: Option<Arc<Authority>>) -> Self {
        let authority = Arc::new(Authority::create(clock::now()).unwrap());
        let validity = Validity {
            from: clock::now(),
            lifetime: Duration::from_hours(1),
        };
        let key = authority.server(cluster(), &[], validity).unwrap();
        let config = tls::server(key, &[authority.certificate().clone()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Self {
            authority,
            address,
            refuses: Arc::default(),
            asked: Arc::default(),
        };
        let (authority, refuses) = (Arc::clone(&server.authority), Arc::clone(&server.refuses));
        let asked = Arc::clone(&server.asked);
        let believed = other.unwrap_or_else(|| Arc::clone(&authority));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = TlsAcceptor::from(Arc::clone(&config));
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                // Only who has a certificate asks for another one.
                let expected = match stream.get_ref().1.peer_certificates() {
                    Some(_) => "/v1/agent/certificate",
                    None => "/v1/join",
                };
                let service = service_fn(|request| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let refused = refuses.lock().unwrap().clone();
                    let (authority, believed) = (Arc::clone(&authority), Arc::clone(&believed));
                    async move {
                        let answer = match refused {
                            Some(problem) => Err(problem),
                            None => {
                                Ok(issue(&authority, &believed, lifetime, expected, request).await)
                            }
                        };
                        Ok::<_, Infallible>(respond(answer))
                    }
                });
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // A client that goes away ends its connection, too.
                let _ = served.await;
            }
        });
        server
    }

    fn token(&self) -> Token {
        Token::generate(Kind::Join, self.authority.fingerprint()).unwrap()
    }
}

async fn issue(
    authority: &Authority,
    believed: &Authority,
    lifetime: Duration,
    expected: &str,
    request: Request<Incoming>,
) -> Value {
    assert_eq!(request.uri().path(), expected);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let role = Role::Node {
        name: node(),
        admission: AdmissionId(uuid::Uuid::nil()),
    };
    let subject = Subject {
        cluster: cluster(),
        role,
    };
    let validity = Validity {
        from: clock::now(),
        lifetime,
    };
    let request = body["certificateRequest"].as_str().unwrap();
    let issued = authority.agent(request, &subject, validity).unwrap();
    json!({
        "cluster": cluster(),
        "certificate": certificate::to_pem(&issued),
        "authorities": certificate::to_pem(believed.certificate()),
    })
}

fn respond(answer: Result<Value, Problem>) -> Response<Full<Bytes>> {
    let (status, body) = match answer {
        Ok(answer) => (StatusCode::OK, answer.to_string().into_bytes()),
        Err(problem) => (
            StatusCode::from_u16(problem.status).unwrap(),
            serde_json::to_vec(&problem).unwrap(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

async fn join_with(server: &Server, token: Token, data_dir: &Path) -> Result<Joined, JoinError> {
    let join = Join {
        token,
        server: server.address.clone(),
        node: node(),
        data_dir,
    };
    tokio::time::timeout(PATIENCE, super::join(join))
        .await
        .unwrap()
}

fn kept(data_dir: &Path) -> Option<Membership> {
    DataDir::open(data_dir).unwrap().membership().unwrap()
}

#[tokio::test]
async fn a_machine_joins_and_keeps_what_makes_it_a_node() {
    let server = Server::begin(Duration::from_hours(1)).await;
    let dir = tempfile::tempdir().unwrap();
    let joined = join_with(&server, server.token(), dir.path())
        .await
        .unwrap();
    assert_eq!(joined, Joined::Now(cluster()));
    let member = kept(dir.path()).unwrap();
    assert_eq!(member.server, server.address);
    member.encryption().unwrap();
    let file = dir.path().join("membership.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(!format!("{member:?}").contains("PRIVATE"));
    // Again, with whatever token of that cluster: nothing is asked of the server.
    let joined = join_with(&server, server.token(), dir.path())
        .await
        .unwrap();
    assert_eq!(joined, Joined::Before(cluster()));
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    let other = Server::begin(Duration::from_hours(1)).await;
    let error = join_with(&other, other.token(), dir.path())
        .await
        .unwrap_err();
    assert!(matches!(error, JoinError::OfAnother(_)), "{error}");
    assert_eq!(kept(dir.path()), Some(member));
}

#[tokio::test]
async fn a_token_is_not_given_to_a_server_that_it_is_not_for() {
    let (ours, theirs) = tokio::join!(
        Server::begin(Duration::from_hours(1)),
        Server::begin(Duration::from_hours(1))
    );
    let dir = tempfile::tempdir().unwrap();
    let error = join_with(&theirs, ours.token(), dir.path())
        .await
        .unwrap_err();
    assert!(matches!(error, JoinError::Refused(_)), "{error}");
    assert_eq!(theirs.asked.load(Ordering::SeqCst), 0);
    assert_eq!(kept(dir.path()), None);
}

#[tokio::test]
async fn a_server_cannot_make_a_node_believe_somebody_else() {
    let other = Arc::new(Authority::create(clock::now()).unwrap());
    let server = Server::giving(Duration::from_hours(1), Some(other)).await;
    let dir = tempfile::tempdir().unwrap();
    let error = join_with(&server, server.token(), dir.path())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another cluster"), "{error}");
    assert_eq!(kept(dir.path()), None);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_the_server() {
    let server = Server::begin(Duration::from_hours(1)).await;
    let problem = Problem::new(Code::Unauthenticated, "the token expired at noon");
    *server.refuses.lock().unwrap() = Some(problem);
    let dir = tempfile::tempdir().unwrap();
    let error = join_with(&server, server.token(), dir.path())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the token expired at noon");
    assert_eq!(kept(dir.path()), None);
    *server.refuses.lock().unwrap() = None;
    join_with(&server, server.token(), dir.path())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_broken_membership_is_not_taken_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path()).unwrap();
    std::fs::write(dir.path().join("membership.json"), "torn").unwrap();
    let error = data.membership().unwrap_err();
    assert!(
        error.to_string().contains("let the node join again"),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_what_fails_is_tried_again() {
    let server = Server::begin(Duration::from_secs(8)).await;
    let dir = tempfile::tempdir().unwrap();
    join_with(&server, server.token(), dir.path())
        .await
        .unwrap();
    let membership = kept(dir.path()).unwrap();
    let first = membership.certificate().unwrap();
    let (encryption, mut current) = watch::channel(membership.encryption().unwrap());
    *server.refuses.lock().unwrap() = Some(Problem::new(Code::Overloaded, "not now"));
    let renewal = Renewal {
        data: Arc::new(DataDir::open(dir.path()).unwrap()),
        membership,
        server: server.address.clone(),
        encryption,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(renewal.run(stop.clone()));
    let refused = async {
        while server.asked.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(clock::now() >= first.renew_at());
    assert!(!current.has_changed().unwrap());
    *server.refuses.lock().unwrap() = None;
    let renewed = tokio::time::timeout(PATIENCE, current.changed());
    renewed.await.unwrap().unwrap();
    stop.cancel();
    running.await.unwrap();
    let second = kept(dir.path()).unwrap().certificate().unwrap();
    assert!(second.not_after > first.not_after);
}
