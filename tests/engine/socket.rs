//! The socket of a pretended engine.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request as HttpRequest, Response,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::{net::UnixListener, sync::watch};

use super::{
    answer::{Answer, Content, refused},
    call::{Call, Request},
    events::{Telling, Wanted},
    fake::Shared,
    script::Fault,
};

/// How long events are gathered that are told backwards.
const GATHER: Duration = Duration::from_millis(100);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Answers whoever connects, until the engine is cut off.
pub(crate) async fn listen(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut cut = shared.cut.subscribe();
            let service = service_fn(|request| attend(Arc::clone(&shared), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is what some of the tests want.
            tokio::select! {
                _ = connection => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn attend(
    shared: Arc<Shared>,
    request: HttpRequest<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
        Err(_) => serde_json::Value::Null,
    };
    let Some(request) = Request::read(&head.method, &head.uri, body) else {
        let unknown = format!("{} {} is not known", head.method, head.uri.path());
        shared.state().offences.push(unknown);
        return Ok(whole(refused(404, "page not found"), &shared));
    };
    // A task of its own, since an engine goes on when nobody listens any more.
    let carried_out = tokio::spawn(carry_out(Arc::clone(&shared), request));
    let (answer, fault) = carried_out.await.expect("a fake does not panic");
    Ok(match fault {
        Some(Fault::Garbage) => whole(
            Answer {
                content: Content::Bytes(b"<html>\xff".to_vec()),
                ..answer
            },
            &shared,
        ),
        Some(Fault::Truncate) => whole(half(answer), &shared),
        Some(Fault::BreakOff) => broken_off(half(answer)),
        Some(Fault::Refuse(..) | Fault::Hang | Fault::Hold) | None => whole(answer, &shared),
    })
}

async fn carry_out(shared: Arc<Shared>, request: Request) -> (Answer, Option<Fault>) {
    let fault = {
        let mut script = shared.script();
        script.under_way += 1;
        script.meet(request.call)
    };
    let answer = meet(&shared, &request, fault).await;
    shared.script().under_way -= 1;
    (answer, fault)
}

/// Carries out a call that meets with a fault, or does not.
async fn meet(shared: &Shared, request: &Request, fault: Option<Fault>) -> Answer {
    let pace = *shared.pace.borrow();
    tokio::time::sleep(pace).await;
    match fault {
        Some(Fault::Refuse(status, message)) => return refused(status, message),
        Some(Fault::Hang) => until_well(shared, request.call).await,
        _ => {}
    }
    let answer = shared.state().answer(request, Timestamp::now());
    shared.happened.send_modify(|n| *n += 1);
    if fault == Some(Fault::Hold) {
        until_well(shared, request.call).await;
    }
    answer
}

async fn until_well(shared: &Shared, call: Call) {
    let mut healed = shared.healed.subscribe();
    shared.script().waiting.push(call);
    // The sender lives as long as the engine.
    let _ = healed.changed().await;
    shared.script().waited(call);
}

fn half(answer: Answer) -> Answer {
    match answer.content {
        Content::Bytes(mut bytes) => {
            bytes.truncate(bytes.len() / 2);
            Answer {
                content: Content::Bytes(bytes),
                ..answer
            }
        }
        Content::Nothing | Content::Events(_) => answer,
    }
}

fn whole(answer: Answer, shared: &Arc<Shared>) -> Response<Body> {
    let body = match answer.content {
        Content::Nothing => full(Bytes::new()),
        Content::Bytes(bytes) => full(bytes.into()),
        Content::Events(wanted) => events(wanted, Arc::clone(shared)),
    };
    respond(answer.status, body)
}

/// The first half of an answer, and then the end of the connection.
fn broken_off(answer: Answer) -> Response<Body> {
    let bytes = match answer.content {
        Content::Bytes(bytes) => Bytes::from(bytes),
        Content::Nothing | Content::Events(_) => Bytes::new(),
    };
    let pieces = [Ok(Frame::data(bytes)), Err(io::Error::other("broken off"))];
    let body = StreamBody::new(stream::iter(pieces));
    // Longer than what comes, also where there is no body.
    respond(answer.status.max(200), BodyExt::boxed_unsync(body))
}

fn respond(status: u16, body: Body) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .expect("a status and a body are a response")
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// What a stream of events has told, and what it waits for.
struct Told {
    shared: Arc<Shared>,
    wanted: Wanted,
    happened: watch::Receiver<u64>,
    count: usize,
    over: bool,
}

fn events(wanted: Wanted, shared: Arc<Shared>) -> Body {
    let mut happened = shared.happened.subscribe();
    // What happened before is told, too, if it is wanted.
    happened.mark_changed();
    let told = Told {
        shared,
        wanted,
        happened,
        count: 0,
        over: false,
    };
    let pieces = stream::unfold(told, |mut told| async move {
        let piece = told.next().await?;
        Some((piece.map(Frame::data), told))
    });
    BodyExt::boxed_unsync(StreamBody::new(pieces.boxed()))
}

impl Told {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        loop {
            self.happened.changed().await.ok()?;
            let telling = *self.shared.telling.borrow();
            if telling == Telling::Backwards {
                tokio::time::sleep(GATHER).await;
            }
            let text = {
                let state = self.shared.state();
                let text = self.wanted.tell(telling, &state.events, self.count);
                self.count = state.events.len();
                text
            };
            if telling == Telling::BrokenOff && !text.is_empty() {
                self.over = true;
                let half = text[..text.len() / 2].to_owned();
                return Some(Ok(half.into()));
            }
            if !text.is_empty() {
                return Some(Ok(text.into()));
            }
        }
    }
}
