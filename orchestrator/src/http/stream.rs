//! The WebSockets of streams: those that agents opened because the server asked (see
//! [`crate::sessions`]), and those of whoever the streams are for.

use std::{
    error::Error,
    io,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;
use windlass_api::wire::{Control, IDLE_AFTER, PING_EVERY, SILENT_AFTER, STALLED_AFTER};

use crate::sessions::{Chunk, Frame, Incoming, StreamEnd};

/// How long the other side may take to answer a farewell. What was sent before it is on its way.
const FAREWELL_WITHIN: Duration = Duration::from_secs(5);
/// How much is read from a socket at a time, in bytes: what the WebSocket clears before each read.
pub(super) const STREAM_BUFFER_BYTES: usize = 32 << 10;
/// The longest reason in a close frame, in bytes: a control frame has 125, two are the code.
const REASON_BYTES_MAX: usize = 123;

/// Passes on what comes over `socket` to the other end of a stream, and back, until one of them
/// ends. Each direction waits for its reader, and only for that. `peer` is who is at the socket,
/// in words for whoever is at the other end.
pub(crate) async fn pump(
    socket: WebSocket,
    end: StreamEnd,
    peer: &str,
    shutdown: CancellationToken,
) {
    let StreamEnd { incoming, outgoing } = end;
    let (sink, stream) = socket.split();
    let moved = AtomicBool::new(false);
    let written = {
        let mut reading = pin!(read(stream, &outgoing, peer, &moved));
        let written = tokio::select! {
            () = reading.as_mut() => return,
            written = write(sink, incoming, peer, &moved, shutdown) => written,
        };
        if written.is_ok() {
            // The answer to the farewell comes when everything before it was read. Without one,
            // the connection is dropped as it is.
            let _answer = timeout(FAREWELL_WITHIN, reading).await;
        }
        written
    };
    if let Err(error) = written {
        // One that does not take it either sees that the stream was cut off.
        let _stalled = timeout(STALLED_AFTER, outgoing.send(Err(error))).await;
    }
}

/// Passes on what comes until the socket ends, or the other end of the stream is gone.
async fn read(
    mut stream: SplitStream<WebSocket>,
    to: &mpsc::Sender<Chunk>,
    peer: &str,
    moved: &AtomicBool,
) {
    loop {
        // Cancel-safe, both: a message is taken whole or not at all.
        let message = tokio::select! {
            () = to.closed() => return drain(stream).await,
            message = timeout(SILENT_AFTER, stream.next()) => message,
        };
        let chunk = match message {
            Ok(Some(Ok(Message::Binary(bytes)))) => Ok(Some(Frame::Data(bytes))),
            Ok(Some(Ok(Message::Text(text)))) => match serde_json::from_str::<Control>(&text) {
                Ok(control) => Ok(Some(Frame::Control(control))),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            Ok(Some(Ok(Message::Close(frame)))) => match frame {
                Some(frame) if frame.code != close_code::NORMAL => {
                    Err(io::Error::other(frame.reason.as_str().to_owned()))
                }
                Some(_) | None => Ok(None),
            },
            Ok(None) => {
                let why = format!("the connection to {peer} was closed");
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
            }
            Ok(Some(Err(error))) => Err(broken(peer, &error)),
            Err(_) => {
                let limit = SILENT_AFTER.as_secs();
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("nothing was heard of {peer} for {limit} s"),
                ))
            }
        };
        moved.store(true, Ordering::Relaxed);
        let is_last = !matches!(chunk, Ok(Some(_)));
        let sent = timeout(STALLED_AFTER, to.send(chunk)).await;
        if is_last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Reads what nobody wants any more, until the answer to the farewell.
async fn drain(mut stream: SplitStream<WebSocket>) {
    while let Some(Ok(_)) = stream.next().await {}
}

/// Sends what the other end of the stream says, and a farewell after it. Fails with what the other
/// end is to be told.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut from: Incoming,
    peer: &str,
    moved: &AtomicBool,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_moved = Instant::now();
    let mut idle = Ok(());
    loop {
        // Cancel-safe, all of them: a chunk is taken whole or not at all.
        let message = tokio::select! {
            biased;
            () = shutdown.cancelled() => farewell(close_code::AWAY, "the server stops"),
            chunk = from.next() => {
                moved.store(true, Ordering::Relaxed);
                message(chunk)
            }
            _ = ping.tick() => {
                if moved.swap(false, Ordering::Relaxed) {
                    last_moved = Instant::now();
                }
                if last_moved.elapsed() < IDLE_AFTER {
                    Message::Ping(Default::default())
                } else {
                    let hours = IDLE_AFTER.as_secs() / 3_600;
                    let why = format!("nothing was said for {hours} h");
                    let message = farewell(close_code::AWAY, &why);
                    idle = Err(io::Error::new(io::ErrorKind::TimedOut, why));
                    message
                }
            }
        };
        let is_last = matches!(message, Message::Close(_));
        match timeout(STALLED_AFTER, sink.send(message)).await {
            Ok(Ok(())) if is_last => return idle,
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(broken(peer, &error)),
            Err(_) => return Err(stalled(peer)),
        }
    }
}

fn broken(peer: &str, error: &axum::Error) -> io::Error {
    // The limit of the connection itself is as long, and may be the first to be noticed.
    let mut causes = std::iter::successors(error.source(), |&error| error.source());
    let is_stalled = causes.any(|error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    });
    if is_stalled {
        return stalled(peer);
    }
    let why = format!("the connection to {peer} broke: {error}");
    io::Error::new(io::ErrorKind::ConnectionReset, why)
}

fn stalled(peer: &str) -> io::Error {
    let limit = STALLED_AFTER.as_secs();
    let why = format!("{peer} took nothing for {limit} s");
    io::Error::new(io::ErrorKind::TimedOut, why)
}

fn message(chunk: Chunk) -> Message {
    match chunk {
        Ok(Some(Frame::Data(bytes))) => Message::Binary(bytes),
        Ok(Some(Frame::Control(control))) => {
            Message::text(serde_json::to_string(&control).expect("a control message is valid JSON"))
        }
        Ok(None) => farewell(close_code::NORMAL, ""),
        Err(error) => farewell(close_code::ERROR, &error.to_string()),
    }
}

fn farewell(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into(),
    }))
}
