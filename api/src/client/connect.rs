//! How connections to a server are made, whatever lies between.

use std::{
    error::Error as StdError,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

use super::Endpoint;
use crate::access::SERVER_NAME;

/// How long making a connection may take, and as long again agreeing on its encryption.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a quiet connection may be dead before the kernel is asked to find out.
const KEEPALIVE: Duration = Duration::from_secs(15);

type Failed = Box<dyn StdError + Send + Sync>;

/// Makes connections to one server.
#[derive(Clone)]
pub(super) enum Connector {
    Plain(HttpConnector),
    Encrypted(HttpConnector, TlsConnector),
    Local(Arc<Path>),
}

impl Connector {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Http(_) => Self::Plain(over_tcp()),
            Endpoint::Https { config, .. } => {
                Self::Encrypted(over_tcp(), TlsConnector::from(Arc::clone(config)))
            }
            Endpoint::Unix(path) => Self::Local(path.as_path().into()),
        }
    }

    async fn connect(self, to: Uri) -> Result<Carrier, Failed> {
        match self {
            Self::Plain(mut tcp) => Ok(Carrier::plain(tcp.call(to).await?.into_inner())),
            Self::Encrypted(mut tcp, tls) => {
                let stream = tcp.call(to).await?.into_inner();
                let name = ServerName::try_from(SERVER_NAME).expect("it is a DNS name");
                let encrypted = time::timeout(CONNECT_LIMIT, tls.connect(name, stream)).await;
                let encrypted = encrypted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                Ok(Carrier::encrypted(encrypted.map_err(cause)?))
            }
            Self::Local(path) => {
                let stream = time::timeout(CONNECT_LIMIT, UnixStream::connect(path)).await;
                let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                Ok(Carrier::plain(stream?))
            }
        }
    }
}

fn over_tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector
}

/// What TLS itself said, if it did, so that it is found at the bottom of the error.
fn cause(error: io::Error) -> Failed {
    match error.downcast::<rustls::Error>() {
        Ok(error) => error.into(),
        Err(error) => error.into(),
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Carrier>;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failed>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        match self {
            Self::Plain(tcp) | Self::Encrypted(tcp, _) => {
                tcp.poll_ready(context).map_err(Failed::from)
            }
            Self::Local(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        // The clone is what becomes ready next; this one is.
        let clone = self.clone();
        let ready = std::mem::replace(self, clone);
        Box::pin(async move { Ok(TokioIo::new(ready.connect(to).await?)) })
    }
}

/// What a connection is carried by.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a server.
pub(super) struct Carrier {
    stream: Box<dyn Stream>,
    chain: Chain,
}

/// The certificates that the server showed, its own first. They were verified.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain(pub(super) Arc<[CertificateDer<'static>]>);

impl Carrier {
    fn plain(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            chain: Chain::default(),
        }
    }

    fn encrypted<T: Stream + 'static>(stream: TlsStream<T>) -> Self {
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Self {
            chain: Chain(shown.iter().cloned().collect()),
            stream: Box::new(stream),
        }
    }
}

impl Connection for Carrier {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.chain.clone())
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
