//! The agents that are connected, and the streams that were asked of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_api::{
    ids::NodeName,
    wire::{Control, ServerFrame, StreamRequest},
};

mod door;

pub(crate) use door::Door;

/// How many frames may wait for an agent: requests for streams only, since assignments are made
/// from the newest state when there is room.
const OUTBOUND_DEPTH: usize = 64;
/// The most streams that may wait for their agent to open them.
const PENDING_MAX: usize = 256;
/// How many chunks of a stream may wait in each direction. With chunks of at most 64 KiB that is
/// 512 KiB.
const CHUNKS_DEPTH: usize = 8;
/// How long an agent may take to open a stream.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// A part of a stream, nothing at its end in good order, or why it broke off.
pub(crate) type Chunk = io::Result<Option<Frame>>;

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Data.
    Data(Bytes),
    /// Something about it.
    Control(Control),
}

/// One end of a stream. Dropping it cuts the stream off: that it is all has to be said.
#[derive(Debug)]
pub(crate) struct StreamEnd {
    /// What the other end says.
    pub(crate) incoming: Incoming,
    /// What the other end is told.
    pub(crate) outgoing: mpsc::Sender<Chunk>,
}

/// What the other end of a stream says.
#[derive(Debug)]
pub(crate) struct Incoming(mpsc::Receiver<Chunk>);

impl Incoming {
    /// The next part, or `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Chunk {
        let cut_off = || {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it was cut off",
            ))
        };
        self.0.recv().await.unwrap_or_else(cut_off)
    }
}

impl StreamEnd {
    /// The two ends of a stream.
    pub(crate) fn pair() -> (Self, Self) {
        let (to_other, other_incoming) = mpsc::channel(CHUNKS_DEPTH);
        let (to_one, one_incoming) = mpsc::channel(CHUNKS_DEPTH);
        let one = Self {
            incoming: Incoming(one_incoming),
            outgoing: to_other,
        };
        let other = Self {
            incoming: Incoming(other_incoming),
            outgoing: to_one,
        };
        (one, other)
    }
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// The node's agent has no session.
    #[error(
        "the agent of node {0} is not connected: nothing on that node can be reached until it is back"
    )]
    NotConnected(NodeName),
    /// The agent did not open it.
    #[error("the agent of node {0} did not answer within {wait} s", wait = OPEN_WITHIN.as_secs())]
    TimedOut(NodeName),
    /// The agent said why not.
    #[error("{0}")]
    Failed(String),
    /// Too many are being opened.
    #[error("too many streams are being opened: try again in a moment")]
    TooMany,
}

/// The agents that are connected, and the streams that were asked of them.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    inner: Mutex<Inner>,
    /// Tells when somebody has been let in, or has not.
    left: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: BTreeMap<NodeName, Session>,
    /// The nodes of which an agent is just being let in.
    entering: BTreeSet<NodeName>,
    pending: BTreeMap<Uuid, Pending>,
}

#[derive(Debug)]
struct Session {
    id: Uuid,
    outbound: mpsc::Sender<ServerFrame>,
    replaced: CancellationToken,
}

#[derive(Debug)]
struct Pending {
    node: NodeName,
    opened: oneshot::Sender<Result<StreamEnd, OpenError>>,
}

/// A session that is registered until this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    sessions: Arc<Sessions>,
    node: NodeName,
    id: Uuid,
    /// What the session has to send besides assignments.
    pub(crate) outbound: mpsc::Receiver<ServerFrame>,
    /// Cancelled when the agent opens another session.
    pub(crate) replaced: CancellationToken,
}

impl Sessions {
    /// Registers a node's session. An earlier one of the same node ends.
    pub(crate) fn register(self: &Arc<Self>, node: &NodeName) -> Registration {
        let (sender, outbound) = mpsc::channel(OUTBOUND_DEPTH);
        let id = Uuid::new_v4();
        let replaced = CancellationToken::new();
        let session = Session {
            id,
            outbound: sender,
            replaced: replaced.clone(),
        };
        if let Some(old) = self.lock().sessions.insert(node.clone(), session) {
            old.replaced.cancel();
        }
        Registration {
            sessions: Arc::clone(self),
            node: node.clone(),
            id,
            outbound,
            replaced,
        }
    }

    /// Whether an agent is connected that speaks for a node.
    pub(crate) fn is_connected(&self, node: &NodeName) -> bool {
        self.lock().sessions.contains_key(node)
    }

    /// How many agents are connected.
    pub(crate) fn connected(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Asks a node's agent for a stream.
    pub(crate) async fn open(
        &self,
        node: &NodeName,
        request: StreamRequest,
    ) -> Result<StreamEnd, OpenError> {
        let stream = Uuid::new_v4();
        let (opened, answer) = oneshot::channel();
        {
            let mut inner = self.lock();
            if inner.pending.len() >= PENDING_MAX {
                return Err(OpenError::TooMany);
            }
            let not_connected = || OpenError::NotConnected(node.clone());
            let session = inner.sessions.get(node).ok_or_else(not_connected)?;
            let frame = ServerFrame::OpenStream { stream, request };
            session
                .outbound
                .try_send(frame)
                .map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => OpenError::TooMany,
                    mpsc::error::TrySendError::Closed(_) => not_connected(),
                })?;
            inner.pending.insert(
                stream,
                Pending {
                    node: node.clone(),
                    opened,
                },
            );
        }
        let _waiting = Waiting {
            sessions: self,
            stream,
        };
        match tokio::time::timeout(OPEN_WITHIN, answer).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(_)) => Err(OpenError::NotConnected(node.clone())),
            Err(_) => Err(OpenError::TimedOut(node.clone())),
        }
    }

    /// An agent opened a stream: its end of it, and whose it is. `None` if nobody waits for it (any more), or it was
    /// asked of a node that the agent does not speak for.
    pub(crate) fn opened(
        &self,
        stream: Uuid,
        speaks_for: impl FnOnce(&NodeName) -> bool,
    ) -> Option<(NodeName, StreamEnd)> {
        let pending = {
            let mut inner = self.lock();
            if !speaks_for(&inner.pending.get(&stream)?.node) {
                return None;
            }
            inner.pending.remove(&stream)?
        };
        let (asker, agent) = StreamEnd::pair();
        pending.opened.send(Ok(asker)).ok()?;
        Some((pending.node, agent))
    }

    /// The agent of `node` cannot open a stream.
    pub(crate) fn failed(&self, node: &NodeName, stream: Uuid, reason: String) {
        let mut inner = self.lock();
        if inner.pending.get(&stream).is_some_and(|p| p.node == *node)
            && let Some(pending) = inner.pending.remove(&stream)
        {
            // Whoever asked may have gone, which is no error.
            let _ = pending.opened.send(Err(OpenError::Failed(reason)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held, and every state of it is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut inner = self.sessions.lock();
        if inner
            .sessions
            .get(&self.node)
            .is_some_and(|s| s.id == self.id)
        {
            inner.sessions.remove(&self.node);
            // Whoever waits for a stream of it is told at once.
            inner.pending.retain(|_, pending| pending.node != self.node);
        }
    }
}

/// A stream that is waited for until this is dropped, also because whoever asked has gone.
struct Waiting<'a> {
    sessions: &'a Sessions,
    stream: Uuid,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.sessions.lock().pending.remove(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeName {
        "n1".parse().unwrap()
    }

    #[tokio::test]
    async fn a_stream_is_opened_by_the_agent_that_was_asked_only() {
        let sessions = Arc::new(Sessions::default());
        let mut registration = sessions.register(&node());
        let asked = Arc::clone(&sessions);
        let opening = tokio::spawn(async move { asked.open(&node(), StreamRequest::Stats).await });
        let Some(ServerFrame::OpenStream { stream, .. }) = registration.outbound.recv().await
        else {
            panic!("it was not asked");
        };
        assert!(
            sessions
                .opened(stream, |node| *node != self::node())
                .is_none()
        );
        assert!(
            sessions
                .opened(stream, |node| *node == self::node())
                .is_some()
        );
        opening.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stream_is_asked_for_opened_and_used_both_ways() {
        let sessions = Arc::new(Sessions::default());
        let mut registration = sessions.register(&node());
        let asking = {
            let sessions = Arc::clone(&sessions);
            tokio::spawn(async move { sessions.open(&node(), StreamRequest::Stats).await })
        };
        let Some(ServerFrame::OpenStream { stream, .. }) = registration.outbound.recv().await
        else {
            panic!("no stream was asked for");
        };
        let (opener, mut agent) = sessions.opened(stream, |_| true).unwrap();
        assert_eq!(opener, node());
        let mut asker = asking.await.unwrap().unwrap();
        let line = Some(Frame::Data(Bytes::from_static(b"line\n")));
        agent.outgoing.send(Ok(line.clone())).await.unwrap();
        assert_eq!(asker.incoming.next().await.unwrap(), line);
        let eof = Some(Frame::Control(Control::Eof));
        asker.outgoing.send(Ok(eof.clone())).await.unwrap();
        assert_eq!(agent.incoming.next().await.unwrap(), eof);
        agent.outgoing.send(Ok(None)).await.unwrap();
        assert_eq!(asker.incoming.next().await.unwrap(), None);
        assert!(
            sessions.opened(stream, |_| true).is_none(),
            "a stream is opened once"
        );
        // Whoever just goes has not said all.
        drop(agent);
        assert!(asker.incoming.next().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_not_opened_is_given_up() {
        let sessions = Arc::new(Sessions::default());
        let error = sessions.open(&node(), StreamRequest::Stats).await.err();
        assert_eq!(error, Some(OpenError::NotConnected(node())));
        let _registration = sessions.register(&node());
        let error = sessions.open(&node(), StreamRequest::Stats).await.err();
        assert_eq!(error, Some(OpenError::TimedOut(node())));
        assert!(sessions.lock().pending.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_for_a_stream_leaves_nothing_behind() {
        let sessions = Arc::new(Sessions::default());
        let node = node();
        let registration = sessions.register(&node);
        let asking = sessions.open(&node, StreamRequest::Stats);
        let impatient = tokio::time::timeout(Duration::from_secs(1), asking).await;
        assert!(impatient.is_err());
        assert!(sessions.lock().pending.is_empty());
        let (asked, ()) = tokio::join!(sessions.open(&node, StreamRequest::Stats), async {
            drop(registration);
        });
        assert_eq!(asked.err(), Some(OpenError::NotConnected(node)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_second_waits_until_the_first_is_in() {
        let sessions = Arc::new(Sessions::default());
        let node = node();
        let first = sessions.enter(&node).await;
        assert!(!first.is_taken());
        let briefly = Duration::from_secs(1);
        let second = tokio::time::timeout(briefly, sessions.enter(&node)).await;
        assert!(second.is_err());
        let other = "n2".parse().unwrap();
        assert!(!sessions.enter(&other).await.is_taken());
        let (second, registration) = tokio::join!(sessions.enter(&node), async {
            tokio::task::yield_now().await;
            first.register()
        });
        assert!(second.is_taken());
        // Who goes away is not waited for.
        drop((second, registration));
        assert!(!sessions.enter(&node).await.is_taken());
    }

    #[tokio::test]
    async fn a_second_session_of_a_node_ends_the_first() {
        let sessions = Arc::new(Sessions::default());
        let first = sessions.register(&node());
        let second = sessions.register(&node());
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert_eq!(sessions.connected(), 1);
        drop(second);
        assert_eq!(sessions.connected(), 0);
    }
}
