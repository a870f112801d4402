//! One request and its answer: limits, retries, and errors.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{client::legacy, rt::TokioExecutor};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time;
use uuid::Uuid;

use super::{
    Error, Precondition,
    connect::{CONNECT_LIMIT, Connector},
    endpoint::{Bearer, Endpoint},
};
use crate::problem::{Code, Problem};

mod once;
mod stream;

pub(super) use self::{once::Socket, stream::Stream};

/// How long an answer may take: above the server's own limit, so that its word is heard.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that is read into memory, in bytes: a page of 1,000 workloads, each with
/// an environment of 64 KB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The pauses before a request is sent again. Together they outlast a restart of the server.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_000),
    Duration::from_millis(1_500),
];

/// The body of a request.
type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request that can be sent more than once.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    body: Bytes,
    precondition: Precondition,
    /// The same for every attempt, so that the server does the work once. Reads need none.
    idempotency_key: Option<Uuid>,
}

impl Call {
    /// A request that changes nothing.
    pub(super) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            body: Bytes::new(),
            precondition: Precondition::None,
            idempotency_key: None,
        }
    }

    /// A request that changes something.
    pub(super) fn write(method: Method, path: String) -> Self {
        Self {
            idempotency_key: Some(Uuid::new_v4()),
            ..Self::new(method, path)
        }
    }

    pub(super) fn with_json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body)
            .expect("the API's types are valid JSON")
            .into();
        self
    }

    pub(super) fn on(mut self, precondition: Precondition) -> Self {
        self.precondition = precondition;
        self
    }

    fn head(&self, to: &Exchange) -> http::request::Builder {
        let base = to.base.to_string();
        let uri = format!("{}{}", base.trim_end_matches('/'), self.path);
        let head = Request::builder().method(self.method.clone()).uri(uri);
        match &to.token {
            Some(token) => head.header(header::AUTHORIZATION, token.header()),
            None => head,
        }
    }

    fn request(&self, to: &Exchange) -> Request<Body> {
        let mut request = self.head(to);
        if !self.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Precondition::Version(version) = self.precondition {
            request = request.header(header::IF_MATCH, format!("\"{version}\""));
        }
        if let Some(key) = self.idempotency_key {
            request = request.header("idempotency-key", key.to_string());
        }
        let body = Full::new(self.body.clone()).map_err(|never| match never {});
        request.body(body.boxed_unsync()).expect(VALID)
    }
}

/// Why a request can be built.
const VALID: &str = "the base is a URI, and names and encoded queries keep it one";

/// Sends requests to one server.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    base: Uri,
    server: String,
    token: Option<Bearer>,
    http: legacy::Client<Connector, Body>,
}

impl Exchange {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self {
            base: endpoint.base(),
            server: endpoint.address().to_string(),
            token: endpoint.token().cloned(),
            http: legacy::Client::builder(TokioExecutor::new()).build(Connector::new(endpoint)),
        }
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Sends `call` and reads the answer as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let body = self.send(call).await?;
        self.parse(call, &body)
    }

    fn parse<T: DeserializeOwned>(&self, call: &Call, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|e| self.protocol(format!("{}: {e}", call.path)))
    }

    /// Sends `call`, whose answer says no more than that it was done.
    pub(super) async fn done(&self, call: &Call) -> Result<(), Error> {
        self.send(call).await.map(drop)
    }

    async fn send(&self, call: &Call) -> Result<Bytes, Error> {
        let mut attempts = Attempts::new();
        loop {
            match self.whole(call).await {
                Ok(body) => return Ok(body),
                Err(failed) => attempts.pause_after(failed).await?,
            }
        }
    }

    /// Sends `call` and hands over the body of the answer, which may never end.
    pub(super) async fn open(&self, call: &Call) -> Result<Stream, Error> {
        let mut attempts = Attempts::new();
        loop {
            match self.opened(call).await {
                Ok(response) => return Ok(Stream::new(response, &self.server)),
                Err(failed) => attempts.pause_after(failed).await?,
            }
        }
    }

    async fn opened(&self, call: &Call) -> Result<Response<Incoming>, Attempt> {
        let mut request = call.request(self);
        // How a body ended that comes as it is made is told in a trailer.
        for (name, value) in [(header::CONNECTION, "te"), (header::TE, "trailers")] {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
        }
        let answer = async { self.accepted(self.ask(request).await?).await };
        time::timeout(REQUEST_LIMIT, answer)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
    }

    async fn whole(&self, call: &Call) -> Result<Bytes, Attempt> {
        let answer = async {
            let response = self.accepted(self.head(call).await?).await?;
            self.collect(response).await
        };
        time::timeout(REQUEST_LIMIT, answer)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
    }

    async fn head(&self, call: &Call) -> Result<Response<Incoming>, Attempt> {
        self.ask(call.request(self)).await
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Incoming>, Attempt> {
        let answer = self.http.request(request).await;
        answer.map_err(|error| self.unanswered(&error).into())
    }

    /// Why there is no answer.
    fn unanswered(&self, error: &legacy::Error) -> Error {
        let server = self.server.clone();
        let cause = bottom(error);
        if let Some(error) = cause.downcast_ref() {
            return Error::of_encryption(server, error);
        }
        // What encrypts answers a request that is not with an alert, or not at all.
        let encrypts = || {
            let is_plain = self.base.scheme() == Some(&Scheme::HTTP);
            is_plain && cause.downcast_ref().is_some_and(hyper::Error::is_parse)
        };
        if error.is_connect() {
            let why = innermost(error);
            Error::Unreachable { server, why }
        } else if encrypts() {
            Error::NotHttp { server }
        } else {
            let why = innermost(error);
            Error::Broken { server, why }
        }
    }

    /// The response, if it is not a refusal.
    async fn accepted(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Attempt> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = self.collect(response).await?;
        Err(Attempt {
            error: self.refusal(status, &body),
            retry_after,
        })
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, Attempt> {
        match Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
        {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(self
                .protocol(format!("it has more than {ANSWER_BYTES_MAX} bytes"))
                .into()),
            Err(error) => {
                let why = innermost(error.as_ref());
                Err(Error::Broken {
                    server: self.server.clone(),
                    why,
                }
                .into())
            }
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> Error {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Error::Problem(Box::new(problem)),
            Err(_) => {
                let start: String = String::from_utf8_lossy(body).chars().take(120).collect();
                self.protocol(format!("HTTP status {status}, `{}`", start.trim()))
            }
        }
    }

    fn protocol(&self, why: String) -> Error {
        Error::Protocol {
            server: self.server.clone(),
            why,
        }
    }

    fn timed_out(&self) -> Attempt {
        Error::TimedOut {
            server: self.server.clone(),
            limit: REQUEST_LIMIT,
        }
        .into()
    }
}

/// An attempt that failed.
struct Attempt {
    error: Error,
    retry_after: Option<Duration>,
}

/// The attempts of one request.
struct Attempts {
    pauses: std::array::IntoIter<Duration, { PAUSES.len() }>,
    met: Met,
}

impl Attempts {
    fn new() -> Self {
        Self {
            pauses: PAUSES.into_iter(),
            met: Met::Never,
        }
    }

    /// Pauses until the next attempt, or hands back the error of the last one.
    async fn pause_after(&mut self, failed: Attempt) -> Result<(), Error> {
        let (Retry::After(least), Some(pause)) = (failed.retry(self.met), self.pauses.next())
        else {
            return Err(failed.error);
        };
        self.met = Met::Before;
        time::sleep(pause.max(least)).await;
        Ok(())
    }
}

/// Whether an earlier attempt of the same request met a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Never,
    Before,
}

/// Whether a request is worth another attempt.
enum Retry {
    Never,
    After(Duration),
}

impl Attempt {
    fn retry(&self, met: Met) -> Retry {
        match &self.error {
            Error::Broken { .. } => Retry::After(Duration::ZERO),
            // A server that was there a moment ago is being restarted; one that was not is a
            // mistake in the address, and a person should hear of it at once.
            Error::Unreachable { .. } if met == Met::Before => Retry::After(Duration::ZERO),
            Error::Problem(problem) if problem.code == Code::Overloaded => {
                Retry::After(self.retry_after.unwrap_or_default().min(CONNECT_LIMIT))
            }
            _ => Retry::Never,
        }
    }
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self {
            error,
            retry_after: None,
        }
    }
}

/// The cause at the bottom of an error: what the operating system or the protocol said.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let cause = bottom(error);
    match cause
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind)
    {
        Some(std::io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(std::io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(std::io::ErrorKind::TimedOut) => {
            format!("no connection within {} s", CONNECT_LIMIT.as_secs())
        }
        _ => cause.to_string(),
    }
}

fn bottom<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_help_is_tried_again() {
        let server = || "http://a".to_owned();
        let unreachable = || {
            Attempt::from(Error::Unreachable {
                server: server(),
                why: "x".into(),
            })
        };
        assert!(matches!(unreachable().retry(Met::Never), Retry::Never));
        assert!(matches!(unreachable().retry(Met::Before), Retry::After(_)));
        let invalid = Problem::new(Code::Invalid, "no");
        let refused = Attempt::from(Error::Problem(Box::new(invalid)));
        assert!(matches!(refused.retry(Met::Before), Retry::Never));
        let overloaded = Attempt {
            error: Error::Problem(Box::new(Problem::new(Code::Overloaded, "busy"))),
            retry_after: Some(Duration::from_secs(1)),
        };
        assert!(matches!(overloaded.retry(Met::Never), Retry::After(d) if d.as_secs() == 1));
    }
}
