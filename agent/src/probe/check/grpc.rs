//! A gRPC check: one call of `grpc.health.v1.Health/Check` without encryption, over a connection
//! of its own. The two messages are a string and a number, so they are written by hand. Source:
//! the gRPC health checking protocol, version 1, and "gRPC over HTTP2".

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{client::conn::http2, rt::Executor};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::probe::{WORDS_CHARS_MAX, shortened};

/// The longest answer that is read, in bytes: it is a message of 7.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// The length of what stands before each message: a byte for compression and the length.
const PREFIX_BYTES: usize = 5;
/// The flow control windows, in bytes; the protocol's own default, far above an answer.
const WINDOW_BYTES: u32 = (1 << 16) - 1;

/// Field 1 of a request, a string: its number and the wire type 2.
const SERVICE_TAG: u8 = (1 << 3) | 2;
/// Field 1 of an answer, an enum: its number and the wire type 0.
const STATUS_TAG: u64 = 1 << 3;

/// What a server can say of itself, by number.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// The one that is well.
const SERVING: u64 = 1;

/// Asks for a service, and says what was seen unless it is well.
pub(super) async fn ask(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("was not answered in gRPC: {error}");
    let tasks = Tasks::default();
    let (mut sender, connection) = http2::Builder::new(tasks.spawner())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let exchange = async {
        let response = sender.send_request(request(address, service)?).await;
        let (head, body) = response.map_err(failed)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("answered HTTP status {}", head.status.as_u16()));
        }
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("broke off its answer: {error}"))?;
        // An answer without a message has its trailers for headers.
        let trailers = body.trailers().unwrap_or(&head.headers).clone();
        call_status(&trailers)?;
        health(body.to_bytes())
    };
    tokio::pin!(connection, exchange);
    // Dropping everything, with the tasks, closes the connection.
    tokio::select! {
        biased;
        seen = &mut exchange => seen,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(error)),
        },
    }
}

fn request(address: SocketAddr, service: &str) -> Result<Request<Full<Bytes>>, String> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(address.to_string())
        .path_and_query("/grpc.health.v1.Health/Check")
        .build()
        .map_err(|error| format!("cannot be asked: {error}"))?;
    let mut request = Request::new(Full::new(message(service)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let agent = concat!("windlass/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        (header::CONTENT_TYPE, "application/grpc"),
        (header::TE, "trailers"),
        (header::USER_AGENT, agent),
    ] {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// The request for a service with its prefix.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(SERVICE_TAG);
        put_varint(&mut field, service.len() as u64);
        field.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::with_capacity(PREFIX_BYTES + field.len());
    message.put_u8(0);
    let length = u32::try_from(field.len()).expect("a manifest is far smaller than 4 GB");
    message.put_u32(length);
    message.put(field);
    message.freeze()
}

/// Whether the call itself went well.
fn call_status(trailers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        Some("5") => Err("does not know this service".to_owned()),
        Some("12") => Err("does not offer the health service".to_owned()),
        Some(status) => {
            let status = shortened(status, WORDS_CHARS_MAX);
            let message = shortened(text("grpc-message").unwrap_or_default(), WORDS_CHARS_MAX);
            Err(format!("ended with gRPC status {status}: {message}"))
        }
        None => Err("answered without a gRPC status".to_owned()),
    }
}

/// What the server says of itself, with the prefix of the message.
fn health(mut answer: Bytes) -> Result<(), String> {
    let status = match (answer.try_get_u8(), answer.try_get_u32()) {
        (Ok(0), Ok(length)) if length as usize == answer.len() => status(answer),
        _ => None,
    };
    match status {
        Some(SERVING) => Ok(()),
        Some(other) => {
            let name = usize::try_from(other).ok().and_then(|n| STATUSES.get(n));
            let name = name.map_or_else(|| format!("status {other}"), |name| (*name).to_owned());
            Err(format!("says {name}"))
        }
        None => Err("answered something else than a health status".to_owned()),
    }
}

/// Field 1 of a message, which is 0 where it is missing. `None` if it is no message.
fn status(mut message: Bytes) -> Option<u64> {
    let mut status = 0;
    while message.has_remaining() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag == STATUS_TAG {
                    status = value;
                }
            }
            1 => skip(&mut message, 8)?,
            2 => {
                let length = varint(&mut message)?;
                skip(&mut message, length)?;
            }
            5 => skip(&mut message, 4)?,
            _ => return None,
        }
    }
    Some(status)
}

fn skip(message: &mut Bytes, length: u64) -> Option<()> {
    let length = usize::try_from(length).ok()?;
    (length <= message.len()).then(|| message.advance(length))
}

/// A number of at most 64 bits, 7 in each byte, the lowest first.
fn varint(message: &mut Bytes) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = message.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_varint(message: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        message.put_u8(u8::try_from(number & 0x7f).expect("7 bits fit") | 0x80);
        number >>= 7;
    }
    message.put_u8(u8::try_from(number).expect("7 bits fit"));
}

/// The tasks that a connection consists of. They end with this.
#[derive(Debug, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Adds to [`Tasks`]. It does not keep them alive, since one of them may hold it.
#[derive(Debug, Clone)]
struct Spawner(Weak<Mutex<JoinSet<()>>>);

impl Tasks {
    fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.0))
    }
}

impl<F> Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        // When they have ended, what comes late ends, too.
        if let Some(tasks) = self.0.upgrade() {
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests;
