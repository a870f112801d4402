//! One question to the server and its answer, before there is a session.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{task::JoinSet, time::timeout};
use windlass_api::problem::Problem;

use crate::dial::{self, ConnectError};

/// How long an answer may take, from the beginning: more than the server allows itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// The longest answer that is read, in bytes: a few certificates, or a problem.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the server {server} cannot be reached")]
    Unreachable {
        server: String,
        source: ConnectError,
    },
    #[error("the connection to the server broke: {0}")]
    Broken(String),
    #[error("the server did not answer within {} s", ANSWER_WITHIN.as_secs())]
    TimedOut,
    #[error("{0}")]
    Refused(String),
    #[error("the server answered what is not understood: {0}")]
    NotUnderstood(String),
    #[error("the server gave certificates of another cluster than that of the token")]
    OtherAuthority,
}

/// Asks the server at `HOST:PORT`.
pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
    encryption: Arc<ClientConfig>,
    server: &str,
    path: &str,
    question: &Q,
) -> Result<A, Error> {
    let answer = timeout(
        ANSWER_WITHIN,
        Box::pin(exchange(encryption, server, path, question)),
    );
    answer.await.unwrap_or(Err(Error::TimedOut))
}

async fn exchange<Q: Serialize, A: DeserializeOwned>(
    encryption: Arc<ClientConfig>,
    server: &str,
    path: &str,
    question: &Q,
) -> Result<A, Error> {
    let stream = dial::connect(server, Some(encryption)).await;
    let stream = stream.map_err(|source| Error::Unreachable {
        server: server.to_owned(),
        source,
    })?;
    let broken = |error: &dyn std::fmt::Display| Error::Broken(error.to_string());
    let connected = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|error| broken(&error))?;
    // Ends with this function, whatever it returns.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let body =
        serde_json::to_vec(question).map_err(|error| Error::NotUnderstood(error.to_string()))?;
    let request = Request::post(path)
        .header(header::HOST, server)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await;
    let (head, body) = response.map_err(|error| broken(&error))?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| broken(&error))?.to_bytes();
    if head.status.is_success() {
        let answer = serde_json::from_slice(&body);
        return answer.map_err(|error| Error::NotUnderstood(error.to_string()));
    }
    Err(match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Error::Refused(problem.detail),
        Err(_) => Error::NotUnderstood(format!("HTTP status {}", head.status)),
    })
}
