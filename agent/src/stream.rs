//! Bulk data, each stream over a connection of its own that the agent opens when the server asks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_api::{
    ids::InstanceId,
    wire::{LogOptions, StreamRequest, stream_path},
};

use crate::{
    board::Board,
    dial::Dial,
    runtime::{BoxStream, ContainerId, Runtime},
};

/// How many streams may be open at a time: more people than ever look at one node's logs.
const STREAMS_MAX: usize = 64;

/// How long a reader may take nothing before its stream is given up.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// The longest reason in a close frame, in bytes: a control frame has 125, two are the code.
const REASON_BYTES_MAX: usize = 123;

/// A stream that the server asked for.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its id.
    pub(crate) stream: Uuid,
    /// What it is to carry.
    pub(crate) what: StreamRequest,
}

/// A stream that cannot be served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Its id.
    pub(crate) stream: Uuid,
    /// Why, for a person.
    pub(crate) reason: String,
}

/// Serves what is asked for.
pub(crate) struct Streams<D, R> {
    /// The way to the server.
    pub(crate) dial: Arc<D>,
    /// The engine.
    pub(crate) runtime: Arc<R>,
    /// Which container an instance has.
    pub(crate) board: Arc<Board>,
    /// What is asked for.
    pub(crate) requests: mpsc::Receiver<Request>,
    /// What cannot be served.
    pub(crate) failures: mpsc::Sender<Failure>,
}

/// Where a queue of requests or failures is bounded: all streams asked for at once.
pub(crate) const QUEUE_MAX: usize = STREAMS_MAX;

impl<D: Dial, R: Runtime> Streams<D, R> {
    /// Serves until `shutdown`, which cuts all streams off.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut open: JoinSet<Option<Failure>> = JoinSet::new();
        // Both waits can be cancelled: they only take from queues.
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(request) = self.requests.recv() => {
                    if open.len() < STREAMS_MAX {
                        self.open(&mut open, request);
                    } else {
                        let reason = format!("the node serves {STREAMS_MAX} streams already; try again later");
                        self.fail(Failure { stream: request.stream, reason });
                    }
                }
                Some(ended) = open.join_next() => match ended {
                    Ok(None) => {}
                    Ok(Some(failure)) => self.fail(failure),
                    Err(error) => tracing::error!(reason = %error, "a stream broke down"),
                },
            }
        }
        open.shutdown().await;
    }

    fn fail(&self, failure: Failure) {
        // Without a session to tell it to, nobody waits for the stream any more either.
        if self.failures.try_send(failure).is_err() {
            tracing::debug!("nobody could be told that a stream failed");
        }
    }

    fn open(&self, open: &mut JoinSet<Option<Failure>>, request: Request) {
        let Request { stream, what } = request;
        let StreamRequest::Logs {
            instance,
            container: _,
            options,
        } = what;
        let container = container_of(&self.board, &instance);
        let (dial, runtime) = (Arc::clone(&self.dial), Arc::clone(&self.runtime));
        open.spawn(async move {
            let served = async {
                let logs = logs(&*runtime, &instance, container, &options).await?;
                let path = stream_path(stream);
                let socket = dial.dial(&path).await.map_err(|e| e.to_string())?;
                Ok(pipe(logs, socket).await)
            };
            match served.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    tracing::debug!(%instance, reason = %error, "a stream was cut off");
                    None
                }
                Err(reason) => Some(Failure { stream, reason }),
            }
        });
    }
}

fn container_of(board: &Board, instance: &InstanceId) -> Option<ContainerId> {
    let snapshot = board.snapshot.borrow();
    let status = snapshot.as_ref()?.statuses.get(instance)?;
    let container = status.containers.first()?;
    container.id.clone().map(ContainerId)
}

async fn logs<R: Runtime>(
    runtime: &R,
    instance: &InstanceId,
    container: Option<ContainerId>,
    options: &LogOptions,
) -> Result<BoxStream<Bytes>, String> {
    let container = container.ok_or_else(|| {
        format!("{instance} has no container on its node, so there is no log to read")
    })?;
    let logs = runtime.logs(&container, options).await;
    logs.map_err(|e| format!("the log of {instance} cannot be read: {e}"))
}

/// Sends what comes until one side ends.
async fn pipe<S>(
    mut data: BoxStream<Bytes>,
    mut socket: WebSocketStream<S>,
) -> Result<(), tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Both waits can be cancelled: what was not taken out stays in the stream.
    let farewell = loop {
        tokio::select! {
            chunk = data.next() => match chunk {
                Some(Ok(bytes)) => in_time(socket.send(Message::Binary(bytes))).await?,
                Some(Err(error)) => break CloseFrame {
                    code: CloseCode::Error,
                    reason: clip(&error.message).into(),
                },
                None => break CloseFrame {
                    code: CloseCode::Normal,
                    reason: Utf8Bytes::default(),
                },
            },
            message = socket.next() => match message {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
        }
    };
    in_time(socket.close(Some(farewell))).await?;
    // The other side answers the farewell when it has read everything before it.
    in_time(async {
        while let Some(message) = socket.next().await {
            if message?.is_close() {
                break;
            }
        }
        Ok(())
    })
    .await
}

async fn in_time(
    send: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<(), tungstenite::Error> {
    match timeout(STALL_LIMIT, send).await {
        Ok(result) => result,
        Err(_) => Err(tungstenite::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

fn clip(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

#[cfg(test)]
mod tests;
