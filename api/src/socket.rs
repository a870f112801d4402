//! A stream ([`crate::wire::StreamRequest`]) as agents and the command line hold it: a WebSocket
//! whose two directions work at the same time, each with its limits.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message as Frame, Utf8Bytes,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::wire::{
    CHUNK_BYTES_MAX, Control, SILENT_AFTER, STALLED_AFTER, STREAM_MESSAGE_BYTES_MAX,
};

mod tunnel;

pub use tunnel::tunnel;

/// The buffers of a connection, in bytes: most messages are far smaller, and what waits for a
/// person costs what it costs all the time.
const BUFFER_BYTES: usize = 16 << 10;
/// How long the other side may take to answer a farewell: what was sent before is on its way.
const FAREWELL_WITHIN: Duration = Duration::from_secs(5);
/// The longest reason in a close frame, in bytes: a control frame has 125, two are the code.
const REASON_BYTES_MAX: usize = 123;

/// What comes over a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Data, of which there can be more than one message.
    Data(Bytes),
    /// Something about it.
    Control(Control),
}

/// Why a stream broke off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side is gone, without a word.
    #[error("nothing was heard for {} s", SILENT_AFTER.as_secs())]
    Silent,
    /// The other side does not read.
    #[error("the other side took nothing for {} s", STALLED_AFTER.as_secs())]
    Stalled,
    /// The other side ended it before the end, and said why.
    #[error("{0}")]
    Closed(String),
    /// What came is no message of a stream.
    #[error("the other side sent something that is not understood: {0}")]
    Malformed(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] Box<tungstenite::Error>),
}

/// How the WebSockets of streams are set up.
#[must_use]
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(STREAM_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(STREAM_MESSAGE_BYTES_MAX))
}

/// The two directions of a stream. They work independently: one that is stuck does not hold up the
/// other.
pub fn split<S>(socket: WebSocketStream<S>) -> (Outgoing<S>, Incoming<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    (Outgoing(sink), Incoming(stream))
}

/// Where messages are sent.
#[derive(Debug)]
pub struct Outgoing<S>(SplitSink<WebSocketStream<S>, Frame>);

impl<S: AsyncRead + AsyncWrite + Unpin> Outgoing<S> {
    /// Sends data, in pieces if it is much. Not cancel-safe.
    ///
    /// # Errors
    /// The stream broke off.
    pub async fn data(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while bytes.len() > CHUNK_BYTES_MAX {
            let piece = bytes.split_to(CHUNK_BYTES_MAX);
            self.send(Frame::Binary(piece)).await?;
        }
        self.send(Frame::Binary(bytes)).await
    }

    /// Sends one message as it is, which must not be longer than [`STREAM_MESSAGE_BYTES_MAX`]. Not
    /// cancel-safe.
    ///
    /// # Errors
    /// The stream broke off.
    pub async fn whole(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.send(Frame::Binary(bytes)).await
    }

    /// Says something about the data. Not cancel-safe.
    ///
    /// # Errors
    /// The stream broke off.
    pub async fn control(&mut self, control: &Control) -> Result<(), Error> {
        let text = serde_json::to_string(control).expect("a control message is valid JSON");
        self.send(Frame::text(text)).await
    }

    /// Ends the stream in good order, after all that was sent.
    ///
    /// # Errors
    /// The stream broke off.
    pub async fn close(self, incoming: Incoming<S>) -> Result<(), Error> {
        let farewell = CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::default(),
        };
        self.farewell(incoming, farewell).await
    }

    /// Breaks the stream off, and says why.
    ///
    /// # Errors
    /// The stream broke off by itself.
    pub async fn abort(self, incoming: Incoming<S>, reason: &str) -> Result<(), Error> {
        let farewell = CloseFrame {
            code: CloseCode::Error,
            reason: reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into(),
        };
        self.farewell(incoming, farewell).await
    }

    async fn farewell(
        mut self,
        mut incoming: Incoming<S>,
        farewell: CloseFrame,
    ) -> Result<(), Error> {
        self.send(Frame::Close(Some(farewell))).await?;
        // The other side answers the farewell when it has read everything before it.
        let answered = async { while let Some(Ok(_)) = incoming.0.next().await {} };
        // One that does not answer has been told all the same.
        let _answer = timeout(FAREWELL_WITHIN, answered).await;
        Ok(())
    }

    async fn send(&mut self, frame: Frame) -> Result<(), Error> {
        match timeout(STALLED_AFTER, self.0.send(frame)).await {
            Ok(sent) => sent.map_err(|error| Error::Broken(Box::new(error))),
            Err(_) => Err(Error::Stalled),
        }
    }
}

/// Where messages come from.
#[derive(Debug)]
pub struct Incoming<S>(SplitStream<WebSocketStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    /// The next message, or `None` after a farewell. Cancel-safe.
    ///
    /// # Errors
    /// The stream broke off.
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let frame = timeout(SILENT_AFTER, self.0.next());
            match frame.await.map_err(|_| Error::Silent)? {
                Some(Ok(Frame::Binary(bytes))) => return Ok(Some(Message::Data(bytes))),
                Some(Ok(Frame::Text(text))) => {
                    let control = serde_json::from_str(&text);
                    return control
                        .map(|control| Some(Message::Control(control)))
                        .map_err(|error| Error::Malformed(error.to_string()));
                }
                // Answered by the WebSocket itself.
                Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => {}
                Some(Ok(Frame::Close(frame))) => return farewell(frame),
                // The server closes every stream that it ends; this one was cut off.
                None => return Err(Error::Closed("the stream was cut off".to_owned())),
                Some(Err(error)) => return Err(Error::Broken(Box::new(error))),
            }
        }
    }
}

fn farewell(frame: Option<CloseFrame>) -> Result<Option<Message>, Error> {
    match frame {
        None => Ok(None),
        Some(frame) if frame.code == CloseCode::Normal => Ok(None),
        Some(frame) => Err(Error::Closed(match frame.reason.as_str() {
            "" => format!("the stream was ended (code {})", frame.code),
            reason => reason.to_owned(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    type End = (Outgoing<DuplexStream>, Incoming<DuplexStream>);

    async fn pair() -> (End, End) {
        let (one, other) = tokio::io::duplex(4 << 10);
        let one = WebSocketStream::from_raw_socket(one, Role::Server, Some(config())).await;
        let other = WebSocketStream::from_raw_socket(other, Role::Client, Some(config())).await;
        (split(one), split(other))
    }

    #[tokio::test(start_paused = true)]
    async fn messages_arrive_in_pieces_and_in_order() {
        let ((mut out, incoming), (other_out, mut other)) = pair().await;
        let sending = async {
            let much = Bytes::from(vec![7; CHUNK_BYTES_MAX + 1]);
            out.data(much).await.unwrap();
            out.control(&Control::Eof).await.unwrap();
            out.close(incoming).await.unwrap();
        };
        let reading = async {
            let mut lengths = Vec::new();
            while let Some(message) = other.next().await.unwrap() {
                match message {
                    Message::Data(bytes) => lengths.push(bytes.len()),
                    Message::Control(control) => assert_eq!(control, Control::Eof),
                }
            }
            assert_eq!(lengths, [CHUNK_BYTES_MAX, 1]);
            other_out.close(other).await
        };
        let _farewell = tokio::join!(sending, reading);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_told_as_far_as_it_fits() {
        let ((out, incoming), (_out, mut other)) = pair().await;
        let long = "ä".repeat(100);
        let (aborted, error) = tokio::join!(out.abort(incoming, &long), other.next());
        aborted.unwrap();
        assert_eq!(error.unwrap_err().to_string(), "ä".repeat(61));
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_is_gone_is_noticed() {
        let ((mut out, mut incoming), _other) = pair().await;
        assert!(matches!(incoming.next().await, Err(Error::Silent)));
        let much = Bytes::from(vec![7; CHUNK_BYTES_MAX]);
        assert!(matches!(out.data(much).await, Err(Error::Stalled)));
    }
}
