//! The gRPC health protocol, version 1, as far as probes use it. The two messages are a string
//! and a number, so they are read and written by hand.

use std::{convert::Infallible, future, io, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{pages::Pages, say};

/// How a client begins that speaks HTTP/2 without having asked for it.
const PREFACE: &[u8] = b"PRI";
/// The longest request that is read, in bytes: a service's name and little more.
const REQUEST_BYTES_MAX: usize = 4 << 10;

/// What stands before a message of 2 bytes, and the beginning of it: field 1, a number.
const ANSWER: [u8; 6] = [0, 0, 0, 0, 2, 1 << 3];
const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;

/// How a call ended, as gRPC numbers it.
const OK: &str = "0";
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";

/// Whether a client speaks HTTP/2. Waits for its first bytes.
pub(super) async fn is_asked(stream: &TcpStream) -> io::Result<bool> {
    let mut begin = [0; PREFACE.len()];
    let length = stream.peek(&mut begin).await?;
    Ok(length > 0 && begin[..length] == PREFACE[..length])
}

/// Answers whoever is at the other end.
pub(super) async fn serve(stream: TcpStream, pages: Arc<Pages>) -> hyper::Result<()> {
    let answer = service_fn(move |request| answer(Arc::clone(&pages), request));
    http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

async fn answer(
    pages: Arc<Pages>,
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX);
    let message = body.collect().await.map(|body| body.to_bytes());
    let serving = match (path.as_str(), &message) {
        ("/grpc.health.v1.Health/Check", Ok(message)) => check(&pages, message),
        _ => Err(UNIMPLEMENTED),
    };
    let (message, status) = match serving {
        Ok(true) => (Bytes::from([&ANSWER[..], &[SERVING]].concat()), OK),
        Ok(false) => (Bytes::from([&ANSWER[..], &[NOT_SERVING]].concat()), OK),
        Err(status) => (Bytes::new(), status),
    };
    say(&format!("gRPC {path} {status}"));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body = Full::new(message).with_trailers(future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    Ok(response)
}

/// Whether a service serves, or how the call ends without one of that name.
fn check(pages: &Pages, message: &[u8]) -> Result<bool, &'static str> {
    // The prefix of five bytes, the field's number and type, and the name's length.
    match message.get(7..).unwrap_or_default() {
        b"" | b"readiness" => Ok(pages.is_ready()),
        b"liveness" => Ok(pages.is_healthy()),
        _ => Err(NOT_FOUND),
    }
}
