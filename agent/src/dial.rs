//! Opens WebSockets to the server.

use std::{fmt, io, str::FromStr, sync::Arc, time::Duration};

use http::{Uri, uri::Scheme};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, protocol::WebSocketConfig},
};
use tokio_util::either::Either;
use windlass_api::{problem::Problem, wire::FRAME_BYTES_MAX};
use windlass_trust::tls;

/// How long the server may take to accept a connection: on a bad uplink, a few lost packets.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// The ports of addresses that name none.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

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

/// What carries the bytes to the server, encrypted or not.
pub(crate) type Wire = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// There is no connection to the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// It did not answer in time.
    #[error("no answer within {} s", DIAL_LIMIT.as_secs())]
    TimedOut,
    /// There is nobody at that address.
    #[error(transparent)]
    Io(io::Error),
    /// Whoever is there is not believed, or does not believe us.
    #[error("the connection cannot be encrypted")]
    Tls(#[source] io::Error),
}

/// Connects to the server at `HOST:PORT`.
pub(crate) async fn connect(
    server: &str,
    encryption: Option<Arc<ClientConfig>>,
) -> Result<Wire, ConnectError> {
    let connected = async {
        let stream = TcpStream::connect(server).await;
        let stream = stream.map_err(ConnectError::Io)?;
        // Without Nagle's algorithm: frames are small, and each is somebody waiting.
        stream.set_nodelay(true).map_err(ConnectError::Io)?;
        let Some(config) = encryption else {
            return Ok(Either::Left(stream));
        };
        let connector = TlsConnector::from(config);
        let encrypted = connector.connect(tls::server_name(), stream).await;
        Ok(Either::Right(Box::new(
            encrypted.map_err(ConnectError::Tls)?,
        )))
    };
    timeout(DIAL_LIMIT, connected)
        .await
        .unwrap_or(Err(ConnectError::TimedOut))
}

/// The server cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It turns this agent away.
    #[error("it says: {0}")]
    Refused(String),
    /// It answered what opens no WebSocket.
    #[error(transparent)]
    Failed(#[from] Box<tungstenite::Error>),
}

/// A server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    authority: String,
    /// How connections are encrypted, if they are; each as it is at the moment.
    encryption: Option<watch::Receiver<Arc<ClientConfig>>>,
}

impl Server {
    /// Its address, `HOST:PORT`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The server at `HOST:PORT`, over encrypted connections.
    pub(crate) fn encrypted(
        authority: String,
        encryption: watch::Receiver<Arc<ClientConfig>>,
    ) -> Self {
        Self {
            authority,
            encryption: Some(encryption),
        }
    }
}

/// A string is not the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a server: write it like `http://127.0.0.1:7400`")]
pub struct ServerError(String);

/// The address, `HOST:PORT`, of a server that is spoken to in an encrypted way.
pub(crate) fn authority(address: &str) -> Result<String, ServerError> {
    host_and_port(address, &Scheme::HTTPS)
}

impl FromStr for Server {
    type Err = ServerError;
    fn from_str(s: &str) -> Result<Self, ServerError> {
        Ok(Self {
            authority: host_and_port(s, &Scheme::HTTP)?,
            encryption: None,
        })
    }
}

fn host_and_port(address: &str, scheme: &Scheme) -> Result<String, ServerError> {
    let error = || ServerError(address.chars().take(120).collect());
    let uri: Uri = address.parse().map_err(|_| error())?;
    let authority = uri.authority().ok_or_else(error)?;
    let plain = uri.scheme() == Some(scheme)
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none()
        && !authority.as_str().contains('@');
    if !plain {
        return Err(error());
    }
    let usual = if *scheme == Scheme::HTTPS {
        HTTPS_PORT
    } else {
        HTTP_PORT
    };
    let port = authority.port_u16().unwrap_or(usual);
    Ok(format!("{}:{port}", authority.host()))
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encryption.is_some() {
            "https"
        } else {
            "http"
        };
        write!(f, "{scheme}://{}", self.authority)
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
    type Io = Wire;

    async fn dial(&self, path: &str) -> Result<WebSocketStream<Self::Io>, DialError> {
        let encryption = self.encryption.as_ref().map(|e| Arc::clone(&e.borrow()));
        let wire = connect(&self.authority, encryption).await?;
        // The scheme says nothing here: the connection is there already.
        let url = format!("ws://{}{path}", self.authority);
        let upgrade = client_async_with_config(url, wire, Some(config()));
        match timeout(DIAL_LIMIT, Box::pin(upgrade)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(answer))) => Err(DialError::Refused(said(&answer))),
            Ok(Err(error)) => Err(DialError::Failed(Box::new(error))),
            Err(_) => Err(ConnectError::TimedOut.into()),
        }
    }
}

/// Why a server opened no WebSocket, in its own words where it has any.
fn said(answer: &http::Response<Option<Vec<u8>>>) -> String {
    let body = answer.body().as_deref().unwrap_or_default();
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.detail,
        Err(_) => format!("HTTP status {}", answer.status()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_http_address() {
        for (good, shown) in [
            ("http://127.0.0.1:7400", "http://127.0.0.1:7400"),
            ("http://[::1]:7400/", "http://[::1]:7400"),
            ("http://site", "http://site:80"),
        ] {
            let server: Server = good.parse().unwrap();
            assert_eq!(server.to_string(), shown);
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
