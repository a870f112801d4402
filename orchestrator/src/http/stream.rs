//! The WebSockets of streams: those that agents opened because the server asked (see
//! [`crate::sessions`]), and those of whoever the streams are for.

use std::{io, pin::pin};

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
use windlass_api::wire::{Control, PING_EVERY, SILENT_AFTER, STALLED_AFTER};

use crate::sessions::{Chunk, Frame, StreamEnd};

/// How long the other side may take to answer a farewell. What was sent before it is on its way.
const FAREWELL_WITHIN: Duration = Duration::from_secs(5);
/// How much is read from a socket at a time, in bytes: what the WebSocket clears before each read.
pub(super) const STREAM_BUFFER_BYTES: usize = 32 << 10;
/// The longest reason in a close frame, in bytes: a control frame has 125, two are the code.
const REASON_BYTES_MAX: usize = 123;

/// Passes on what comes over `socket` to the other end of a stream, and back, until one of them
/// ends. Each direction waits for its reader, and only for that.
pub(crate) async fn pump(socket: WebSocket, end: StreamEnd, shutdown: CancellationToken) {
    let StreamEnd { incoming, outgoing } = end;
    let (sink, stream) = socket.split();
    let mut reading = pin!(read(stream, outgoing));
    tokio::select! {
        () = reading.as_mut() => {}
        () = write(sink, incoming, shutdown) => {
            // The answer to the farewell comes when everything before it was read. Without one,
            // the connection is dropped as it is.
            let _answer = timeout(FAREWELL_WITHIN, reading).await;
        }
    }
}

/// Passes on what comes until the socket ends, or the other end of the stream is gone.
async fn read(mut stream: SplitStream<WebSocket>, to: mpsc::Sender<Chunk>) {
    loop {
        // Cancel-safe, both: a message is taken whole or not at all.
        let message = tokio::select! {
            () = to.closed() => return drain(stream).await,
            message = timeout(SILENT_AFTER, stream.next()) => message,
        };
        let chunk = match message {
            Ok(Some(Ok(Message::Binary(bytes)))) => Ok(Frame::Data(bytes)),
            Ok(Some(Ok(Message::Text(text)))) => match serde_json::from_str::<Control>(&text) {
                Ok(control) => Ok(Frame::Control(control)),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            Ok(Some(Ok(Message::Close(frame)))) => match frame {
                Some(frame) if frame.code != close_code::NORMAL => {
                    Err(io::Error::other(frame.reason.as_str().to_owned()))
                }
                Some(_) | None => return,
            },
            Ok(None) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        let broken = chunk.is_err();
        let sent = timeout(STALLED_AFTER, to.send(chunk)).await;
        if broken || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Reads what nobody wants any more, until the answer to the farewell.
async fn drain(mut stream: SplitStream<WebSocket>) {
    while let Some(Ok(_)) = stream.next().await {}
}

/// Sends what the other end of the stream says, and a farewell after it.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut from: mpsc::Receiver<Chunk>,
    shutdown: CancellationToken,
) {
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel-safe, all of them: a chunk is taken whole or not at all.
        let message = tokio::select! {
            biased;
            () = shutdown.cancelled() => farewell(close_code::AWAY, "the server stops"),
            chunk = from.recv() => message(chunk),
            _ = ping.tick() => Message::Ping(Default::default()),
        };
        let last = matches!(message, Message::Close(_));
        // A side that takes nothing, or is gone, is not told why.
        match timeout(STALLED_AFTER, sink.send(message)).await {
            Ok(Ok(())) if !last => {}
            _ => return,
        }
    }
}

fn message(chunk: Option<Chunk>) -> Message {
    match chunk {
        Some(Ok(Frame::Data(bytes))) => Message::Binary(bytes),
        Some(Ok(Frame::Control(control))) => {
            Message::text(serde_json::to_string(&control).expect("a control message is valid JSON"))
        }
        Some(Err(error)) => farewell(close_code::ERROR, &error.to_string()),
        None => farewell(close_code::NORMAL, ""),
    }
}

fn farewell(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into(),
    }))
}
