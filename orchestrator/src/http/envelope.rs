//! What surrounds every request: its id, its span, its count, and the form of a refusal.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;
use windlass_api::problem::{Code, PROBLEM_JSON, Problem};

use super::{Api, operation::BODY_BYTES_MAX};
use crate::error::Error;

/// The header with a request's id, in both directions.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client: a uuid or a trace id, with room to spare.
const REQUEST_ID_LEN_MAX: usize = 64;
/// After how many seconds a client that was turned away should try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// How a client that was not known says who it is (RFC 6750).
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
/// What stands for the route of a request that has none.
const NO_ROUTE: &str = "none";

/// Gives a request its id and span, and its answer its final form.
pub(super) async fn enclose(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let request_id = request_id(&request);
    let importance = Importance::of(request.method());
    let span = match importance {
        Importance::Read => tracing::debug_span!("request", method, route, request_id),
        Importance::Write => tracing::info_span!("request", method, route, request_id),
    };
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(error) = refusal(&mut response) {
        response = span.in_scope(|| render(&api, error, response, &request_id));
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let took = began.elapsed();
    api.metrics.requested(method, route, status, took);
    span.in_scope(|| importance.log(status, took));
    response
}

/// How much a request matters in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Importance {
    Read,
    Write,
}

impl Importance {
    fn of(method: &Method) -> Self {
        if method.is_safe() {
            Self::Read
        } else {
            Self::Write
        }
    }

    fn log(self, status: u16, took: Duration) {
        let took_ms = took.as_secs_f64() * 1e3;
        match self {
            Self::Read => tracing::debug!(status, took_ms, "answered"),
            Self::Write => tracing::info!(status, took_ms, "answered"),
        }
    }
}

/// The method, as one of a few words: a client must not make up labels of metrics.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The client's id for the request, if it is fit for logs and headers, or a new one.
fn request_id(request: &Request) -> String {
    let given = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    let fit = |id: &&str| {
        (1..=REQUEST_ID_LEN_MAX).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    given
        .filter(fit)
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// Why the request was refused, if it was.
fn refusal(response: &mut Response) -> Option<Error> {
    let error = response.extensions_mut().remove::<Error>();
    let status = response.status();
    error.or_else(|| {
        let failed = status.is_client_error() || status.is_server_error();
        failed.then(|| foreign(status))
    })
}

/// The error that a layer or library means with a bare status.
fn foreign(status: StatusCode) -> Error {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        StatusCode::NOT_FOUND => Error::new(Code::NoRoute, "there is no such route"),
        _ if status.is_client_error() => {
            Error::malformed("the request is not one that the server understands")
                .with_status(status)
        }
        _ => Error::new(Code::Internal, INTERNAL).with_status(status),
    }
}

const INTERNAL: &str = "the server made a mistake; its log has more under this request's id";

/// The body is larger than the API takes.
pub(super) fn too_large() -> Error {
    let detail = format!(
        "the body of a request has at most {BODY_BYTES_MAX} bytes: apply fewer resources at a time"
    );
    Error::new(Code::TooLarge, detail)
}

/// A handler panicked. The message goes into the log only, since it may hold anything.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let message = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        message = message.unwrap_or("not text"),
        "a request's handler panicked"
    );
    Error::new(Code::Internal, INTERNAL).into_response()
}

fn render(api: &Api, error: Error, response: Response, request_id: &str) -> Response {
    let problem: Problem = error.answering(request_id);
    api.metrics.refused(problem.code);
    tracing::debug!(
        code = problem.code.as_str(),
        detail = problem.detail,
        "refused"
    );
    let body = serde_json::to_vec(&problem).expect("a problem is strings and numbers");
    let (mut head, _) = response.into_parts();
    head.headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    head.headers.remove(header::CONTENT_LENGTH);
    match problem.code {
        Code::Overloaded => drop(head.headers.insert(header::RETRY_AFTER, RETRY_AFTER)),
        Code::Unauthenticated => drop(head.headers.insert(header::WWW_AUTHENTICATE, BEARER)),
        _ => {}
    }
    Response::from_parts(head, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_over_if_they_are_harmless() {
        let of = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            request_id(
                &Request::builder()
                    .header(REQUEST_ID, value)
                    .body(Body::empty())
                    .unwrap(),
            )
        };
        assert_eq!(of(b"abc-123_4.5"), "abc-123_4.5");
        let long = "x".repeat(REQUEST_ID_LEN_MAX + 1);
        for bad in [&b""[..], b"a b", b"a\"b", b"\xff", long.as_bytes()] {
            assert!(of(bad).parse::<Uuid>().is_ok());
        }
    }

    #[test]
    fn a_bare_status_becomes_a_problem() {
        for (status, code) in [
            (StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge),
            (StatusCode::NOT_FOUND, Code::NoRoute),
            (StatusCode::UPGRADE_REQUIRED, Code::Malformed),
            (StatusCode::BAD_GATEWAY, Code::Internal),
        ] {
            let error = refusal(&mut status.into_response()).unwrap();
            assert_eq!(error.problem().code, code);
            assert_eq!(error.problem().status, status.as_u16());
        }
        assert_eq!(refusal(&mut StatusCode::NOT_MODIFIED.into_response()), None);
    }
}
