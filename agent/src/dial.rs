//! Opens WebSockets to the server.

use std::{fmt, str::FromStr, time::Duration};

use http::{Uri, uri::Scheme};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{self, protocol::WebSocketConfig},
};
use windlass_api::wire::FRAME_BYTES_MAX;

/// How long the server may take to accept a connection: on a bad uplink, a few lost packets.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// The buffers of a connection, in bytes: most frames are far smaller, and an agent should be, too.
const BUFFER_BYTES: usize = 16 << 10;

/// Opens WebSockets to a server. [`Server`] is the real one; tests have one in memory.
pub(crate) trait Dial: Send + Sync + 'static {
    /// What carries the bytes.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens one at `path` of the server. Has a time limit of its own.
    fn dial(
        &self,
        path: &str,
    ) -> impl Future<Output = Result<WebSocketStream<Self::Io>, DialError>> + Send;
}

/// The server cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// It did not answer in time.
    #[error("no answer within {} s", DIAL_LIMIT.as_secs())]
    TimedOut,
    /// It could not be connected to, or answered something else.
    #[error(transparent)]
    Failed(#[from] Box<tungstenite::Error>),
}

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    authority: String,
}

/// A string is not the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a server: write it like `http://127.0.0.1:7400`")]
pub struct ServerError(String);

impl FromStr for Server {
    type Err = ServerError;
    fn from_str(s: &str) -> Result<Self, ServerError> {
        let error = || ServerError(s.chars().take(120).collect());
        let uri: Uri = s.parse().map_err(|_| error())?;
        let authority = uri.authority().ok_or_else(error)?;
        let plain = uri.scheme() == Some(&Scheme::HTTP)
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && !authority.as_str().contains('@');
        if !plain {
            return Err(error());
        }
        Ok(Self {
            authority: authority.to_string(),
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// How WebSockets are set up.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
}

impl Dial for Server {
    type Io = MaybeTlsStream<TcpStream>;

    async fn dial(&self, path: &str) -> Result<WebSocketStream<Self::Io>, DialError> {
        let url = format!("ws://{}{path}", self.authority);
        // Without Nagle's algorithm: frames are small, and each is somebody waiting.
        let connect = connect_async_with_config(url, Some(config()), true);
        match timeout(DIAL_LIMIT, Box::pin(connect)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(DialError::Failed(Box::new(error))),
            Err(_) => Err(DialError::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_http_address() {
        for good in ["http://127.0.0.1:7400", "http://[::1]:7400/", "http://site"] {
            let server: Server = good.parse().unwrap();
            assert_eq!(server.to_string(), good.trim_end_matches('/'));
        }
        for bad in [
            "",
            "127.0.0.1:7400",
            "https://site",
            "ws://site",
            "http://",
            "http://site/path",
            "http://site?x",
            "http://user:secret@site",
        ] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
    }
}
