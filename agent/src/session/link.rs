//! A WebSocket that carries frames as JSON, one to a text message.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};
use windlass_api::wire::{AgentFrame, ServerFrame};

/// How long a farewell may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A connection to the server.
pub(super) struct Link<S> {
    socket: WebSocketStream<S>,
    /// When the server was last heard from, be it with a pong.
    heard_at: Instant,
    /// How long a message may take to be handed over.
    send_limit: Duration,
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// The server takes nothing.
    #[error("the server took no message for {} s", .0.as_secs_f32())]
    Stuck(Duration),
    /// The server sent something that is no frame.
    #[error("the server sent a message that this agent does not understand")]
    NotUnderstood(#[source] serde_json::Error),
    /// The server sent something that is no text.
    #[error("the server sent a message that is no text")]
    NotText,
    /// The connection broke.
    #[error(transparent)]
    Broken(Box<tungstenite::Error>),
}

impl From<tungstenite::Error> for LinkError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Self::Closed
            }
            error => Self::Broken(Box::new(error)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(super) fn new(socket: WebSocketStream<S>, send_limit: Duration) -> Self {
        Self {
            socket,
            heard_at: Instant::now(),
            send_limit,
        }
    }

    /// Sets how long a message may take to be handed over.
    pub(super) fn set_send_limit(&mut self, limit: Duration) {
        self.send_limit = limit;
    }

    /// How long ago the server was last heard from.
    pub(super) fn silent_for(&self) -> Duration {
        self.heard_at.elapsed()
    }

    /// Takes it that the server is heard from now: it was not listened to in the meantime.
    pub(super) fn listen_again(&mut self) {
        self.heard_at = Instant::now();
    }

    pub(super) async fn send(&mut self, frame: &AgentFrame) -> Result<(), LinkError> {
        let text = serde_json::to_string(frame).expect("frames have only string keys");
        self.send_message(Message::text(text)).await
    }

    /// Asks for a sign of life.
    pub(super) async fn ping(&mut self) -> Result<(), LinkError> {
        self.send_message(Message::Ping(Default::default())).await
    }

    async fn send_message(&mut self, message: Message) -> Result<(), LinkError> {
        match timeout(self.send_limit, self.socket.send(message)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(LinkError::Stuck(self.send_limit)),
        }
    }

    /// The next frame. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<ServerFrame, LinkError> {
        loop {
            let message = self.socket.next().await.ok_or(LinkError::Closed)??;
            self.heard_at = Instant::now();
            match message {
                Message::Text(text) => {
                    return serde_json::from_str(&text).map_err(LinkError::NotUnderstood);
                }
                Message::Binary(_) => return Err(LinkError::NotText),
                Message::Close(_) => return Err(LinkError::Closed),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Says farewell, and waits until the server has heard it and with it all that was said
    /// before. That it does not answer matters little.
    pub(super) async fn close(mut self) {
        let farewell = async {
            self.socket.close(None).await?;
            while let Some(message) = self.socket.next().await {
                if message?.is_close() {
                    break;
                }
            }
            Ok::<_, tungstenite::Error>(())
        };
        if let Ok(Err(error)) = timeout(CLOSE_LIMIT, farewell).await {
            tracing::debug!(reason = %error, "the connection ended without a farewell");
        }
    }
}
