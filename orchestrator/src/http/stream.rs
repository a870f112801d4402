//! A stream that an agent opened because the server asked for it: see [`crate::sessions`].

use std::{io, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use tokio::sync::mpsc;

use crate::sessions::Chunk;

/// How long a reader may take to make room before its stream is closed.
const READER_STUCK_AFTER: Duration = Duration::from_secs(30);

/// Pipes what the agent sends to whoever asked for it, until either side ends.
pub(crate) async fn pipe(mut socket: WebSocket, chunks: mpsc::Sender<Chunk>) {
    loop {
        // Cancel-safe, both: a message is taken whole or not at all.
        let message = tokio::select! {
            () = chunks.closed() => break,
            message = socket.recv() => message,
        };
        let chunk = match message {
            Some(Ok(Message::Binary(bytes))) => Ok(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_) | Message::Text(_))) => break,
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Some(Err(error)) => Err(io::Error::other(error)),
        };
        let broken = chunk.is_err();
        let sent = tokio::time::timeout(READER_STUCK_AFTER, chunks.send(chunk)).await;
        if broken || !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
}
