//! Accepting connections: a bounded number, none of which can be held by doing nothing.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{either::Either, sync::CancellationToken};
use windlass_api::problem::Code;

use super::{check_listen, peer::Peer};
use crate::{metrics::Metrics, trust::Encryption};

/// The most connections at a time; further ones wait in the kernel's queue. 1,000 agents have one
/// session each; 64 logs and 128 commands, forwarded connections and copies have two connections, 500
/// watches and 64 requests one: 1,948. The rest is for connections that are idle between requests.
const CONNECTIONS_MAX: usize = 2_048;
/// How long a client may take until its connection is encrypted: a few lost packets on a bad uplink.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take for the head of a request, or do nothing before the next one.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The largest head of a request, and how much of a body is read at a time, in bytes.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How long requests may go on after the shutdown began.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// How long a client may take nothing of what is sent to it. Its connection, and what is in memory
/// for it, must not be kept for one that is stuck; a terminal that was paused can be longer, and
/// its client connects again.
const TAKE_WITHIN: Duration = Duration::from_secs(60);
/// How long to wait if no connection can be accepted, which a lack of descriptors can cause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// A way in.
#[derive(Debug)]
pub(crate) enum Door {
    /// A loopback address, without encryption.
    Loopback(TcpListener),
    /// A socket that only the server's owner can open.
    Local(UnixListener),
    /// Any address, encrypted as it is at the moment.
    Network(TcpListener, watch::Receiver<Arc<ServerConfig>>),
}

/// What carries the bytes of a connection, encrypted or not.
type Carrier = Either<TcpStream, UnixStream>;

impl Door {
    async fn accept(&self) -> io::Result<Carrier> {
        match self {
            Self::Loopback(listener) | Self::Network(listener, _) => {
                let (stream, _) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(error = %error, "cannot set TCP_NODELAY");
                }
                Ok(Either::Left(stream))
            }
            Self::Local(listener) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }

    /// How a connection that was just accepted is to be encrypted.
    fn encryption(&self) -> Option<Arc<ServerConfig>> {
        match self {
            Self::Loopback(_) | Self::Local(_) => None,
            Self::Network(_, config) => Some(Arc::clone(&config.borrow())),
        }
    }
}

/// Serves `router` until `shutdown`, and then lets the requests end that are being answered. What is
/// not HTTP never comes to the router: hyper refuses it with a bare status, and it is counted here.
///
/// # Errors
/// If the listener is on an address that must not be listened on.
pub(crate) async fn serve(
    door: Door,
    router: Router,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    if let Door::Loopback(listener) = &door {
        check_listen(listener.local_addr()?, Encryption::None)
            .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
    }
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe, all of them: a permit that is not used is given back.
        tokio::select! {
            () = shutdown.cancelled() => break,
            connection = accept(&door, &free) => {
                let (router, metrics) = (router.clone(), Arc::clone(&metrics));
                let encryption = door.encryption();
                connections.spawn(answer(connection, encryption, router, metrics, shutdown.clone()));
            }
            Some(ended) = connections.join_next() => note(ended),
        }
    }
    drop(door);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "connections were cut off at shutdown"
        );
    }
    Ok(())
}

async fn accept(door: &Door, free: &Arc<Semaphore>) -> Connection {
    let permit = Arc::clone(free)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match door.accept().await {
            Ok(stream) => {
                return Connection {
                    stream,
                    stuck: None,
                    _permit: permit,
                };
            }
            // A client that has gone again already says nothing about the next one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(
    connection: Connection,
    encryption: Option<Arc<ServerConfig>>,
    router: Router,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let Some(config) = encryption else {
        return converse(connection, router, metrics, shutdown).await;
    };
    let shaken = timeout(
        HANDSHAKE_WITHIN,
        TlsAcceptor::from(config).accept(connection),
    );
    // Cancel-safe: a connection that is not encrypted yet has said nothing.
    let shaken = tokio::select! {
        () = shutdown.cancelled() => return,
        shaken = shaken => shaken,
    };
    let refuse = |why: &dyn fmt::Display| {
        metrics.refused(Code::Unauthenticated);
        tracing::debug!(error = %why, "a connection was not encrypted");
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return refuse(&error),
        Err(_) => return refuse(&"it took too long"),
    };
    match Peer::of(stream.get_ref().1.peer_certificates()) {
        Ok(peer) => converse(stream, router.layer(Extension(peer)), metrics, shutdown).await,
        Err(error) => refuse(&error),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(BUFFER_BYTES_MAX);
    let service = TowerToHyperService::new(router);
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if let Some(code) = code_of(&error) {
            metrics.refused(code);
        }
        tracing::debug!(error = %error, "a connection broke");
    }
}

/// Why hyper refused what it read, if it did.
fn code_of(error: &hyper::Error) -> Option<Code> {
    if error.is_parse_too_large() {
        Some(Code::TooLarge)
    } else {
        error.is_parse().then_some(Code::Malformed)
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = %error, "a connection's task ended unexpectedly");
    }
}

/// A connection, which counts until it is closed: also after it became a WebSocket, when the task
/// that accepted it has ended.
#[derive(Debug)]
struct Connection {
    stream: Carrier,
    /// When the client will have taken nothing for too long; there while something waits for it.
    stuck: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// The result of a write, or an error if writes have been pending for too long.
    fn unless_stuck(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let stuck = self
            .stuck
            .get_or_insert_with(|| Box::pin(sleep(TAKE_WITHIN)));
        stuck
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stuck(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.unless_stuck(context, written)
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
