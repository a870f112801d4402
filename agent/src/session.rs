//! The connection to the server: says what is seen, and hears what is to run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_api::{
    expression::Taint,
    ids::{ClusterId, NodeName},
    wire::{AgentFrame, Hello, PROTOCOL, SESSION_PATH, ServerFrame, Welcome},
};

use crate::{
    backoff::{RECONNECT_MAX, reconnect_delay},
    board::{Board, Machine, publish},
    dial::{Dial, DialError},
    ledger::{self, Ledger},
    stream::{Failure, Request},
};

use conversation::Conversation;
#[cfg(feature = "simulation")]
pub(crate) use conversation::{SILENT_BEATS_MAX, bounded};
#[cfg(feature = "simulation")]
pub(crate) use dialogue::{Dialogue, Heard};
use link::{Link, LinkError};

mod conversation;
mod dialogue;
mod link;
mod reporter;

/// How long the server may take to answer the greeting: it may be starting, and busy with others.
pub(crate) const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// How the node introduces itself.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    /// Its name.
    pub(crate) node: NodeName,
    /// The run of the machine's kernel.
    pub(crate) boot: String,
    /// The labels to register with.
    pub(crate) labels: BTreeMap<String, String>,
    /// The taints to register with.
    pub(crate) taints: Vec<Taint>,
}

/// Keeps a connection to the server, for ever.
pub(crate) struct Session<D> {
    /// The way to the server.
    pub(crate) dial: Arc<D>,
    /// How the node introduces itself.
    pub(crate) introduction: Introduction,
    /// What is to run.
    pub(crate) ledger: Arc<Ledger>,
    /// What is seen.
    pub(crate) board: Arc<Board>,
    /// The streams that are asked for.
    pub(crate) requests: mpsc::Sender<Request>,
    /// The streams that cannot be served.
    pub(crate) failures: mpsc::Receiver<Failure>,
}

/// Why a connection ended, or was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the server cannot be reached")]
    Unreachable(#[from] DialError),
    #[error("the server did not answer the greeting within {} s", GREETING_LIMIT.as_secs())]
    NotGreeted,
    #[error("the server refuses this agent: {reason}")]
    Refused { reason: String },
    #[error("the server was silent for {} s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("what the server was told of this machine is no longer so; it is told anew")]
    Outdated,
    #[error("the server sent a frame out of turn")]
    OutOfTurn,
    #[error(transparent)]
    Assembly(#[from] ledger::AssemblyError),
    #[error("an assignment could not be taken over; it is asked for again")]
    NotTakenOver(#[source] ledger::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// What is remembered from one attempt to connect to the next.
#[derive(Debug, Default)]
struct Attempts {
    /// How many were in vain, one after the other.
    in_vain: u32,
    /// What was logged last.
    said: String,
}

impl<D: Dial> Session<D> {
    /// Connects, and connects again, until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut machine = self.board.machine.subscribe();
        let known = shutdown.run_until_cancelled(machine.wait_for(Option::is_some));
        if known.await.is_none() {
            return;
        }
        let mut attempts = Attempts::default();
        while let Err(error) = self.connect(&mut attempts, &shutdown).await {
            if matches!(error, Error::Outdated) {
                tracing::info!(reason = %error, "greeting the server anew");
                continue;
            }
            // Once for each cause, since it can last for days.
            if attempts.said != error.to_string() {
                attempts.said = error.to_string();
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "not connected to the server; going on without it");
            }
            let pause = match error {
                Error::Refused { .. } => RECONNECT_MAX,
                _ => reconnect_delay(attempts.in_vain, Uuid::new_v4().as_u64_pair().0),
            };
            attempts.in_vain = attempts.in_vain.saturating_add(1);
            if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Connects, and talks until `shutdown`, or until something is wrong.
    async fn connect(
        &mut self,
        attempts: &mut Attempts,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        // Before it is told, so that no change is missed.
        let machine = self.board.machine.subscribe();
        let greeting = async {
            let socket = self.dial.dial(SESSION_PATH).await?;
            self.greet(socket).await
        };
        let Some(greeted) = shutdown.run_until_cancelled(greeting).await else {
            return Ok(());
        };
        let (link, welcome) = greeted?;
        let cluster = join(&self.board, &welcome)?;
        tracing::info!(%cluster, "connected to the server");
        if let Some(notice) = &welcome.notice {
            tracing::warn!(notice, "the server has something to say");
        }
        attempts.said.clear();
        let began = Instant::now();
        let mut conversation =
            Conversation::new(link, &welcome, &self.ledger, &self.board, &self.requests);
        let result = conversation
            .run(&mut self.failures, machine, shutdown)
            .await;
        // One that ends at once was in vain, too.
        if began.elapsed() > RECONNECT_MAX {
            attempts.in_vain = 0;
        }
        match &result {
            Err(Error::Link(_) | Error::Silent(_)) => {}
            Ok(()) | Err(_) => conversation.close().await,
        }
        result
    }

    async fn greet(&self, socket: WebSocketStream<D::Io>) -> Result<(Link<D::Io>, Welcome), Error> {
        let mut link = Link::new(socket, GREETING_LIMIT);
        let hello = hello(&self.introduction, &self.ledger, &self.board);
        link.send(&AgentFrame::Hello(Box::new(hello))).await?;
        match timeout(GREETING_LIMIT, link.next()).await {
            Ok(Ok(ServerFrame::Welcome(welcome))) => Ok((link, welcome)),
            Ok(Ok(ServerFrame::Refused { reason })) => Err(Error::Refused { reason }),
            Ok(Ok(
                ServerFrame::Assignment(_)
                | ServerFrame::Lease(_)
                | ServerFrame::Resync
                | ServerFrame::OpenStream { .. },
            )) => Err(Error::OutOfTurn),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Error::NotGreeted),
        }
    }
}

/// How the agent introduces itself.
pub(crate) fn hello(introduction: &Introduction, ledger: &Ledger, board: &Board) -> Hello {
    let held = ledger.held();
    let Machine { mut info, capacity } = board
        .machine
        .borrow()
        .clone()
        .expect("the session begins when the machine is known");
    info.boot_id.clone_from(&introduction.boot);
    Hello {
        protocol: PROTOCOL,
        node: introduction.node.clone(),
        info,
        capacity,
        labels: introduction.labels.clone(),
        taints: introduction.taints.clone(),
        cluster: *board.cluster.borrow(),
        seen: held.map(|h| (h.epoch, h.assignment.generation)),
        runtime: board.health.borrow().clone(),
    }
}

/// Takes the cluster of the first server that lets us in for ours.
pub(crate) fn join(board: &Board, welcome: &Welcome) -> Result<ClusterId, Error> {
    let ours = *board.cluster.borrow();
    let theirs = welcome.cluster;
    if let Some(ours) = ours.filter(|c| *c != theirs) {
        return Err(Error::Refused {
            reason: format!("it serves cluster {theirs}, and this agent belongs to cluster {ours}"),
        });
    }
    publish(&board.cluster, Some(theirs));
    Ok(theirs)
}

#[cfg(test)]
mod tests;
