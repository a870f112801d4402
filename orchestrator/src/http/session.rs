//! An agent's session: one WebSocket, see [`windlass_api::wire`].

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use tokio_util::sync::CancellationToken;
use windlass_api::{
    ids::NodeName,
    wire::{AgentFrame, Hello, Lease, RuntimeHealth, ServerFrame, Welcome},
};
use windlass_core::lease::Pace;

use crate::{
    assignments::Told,
    controller::{AgentReport, Handle, Incumbent},
    sessions::{Door, Registration, Sessions},
};

/// How long an agent may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long others of its node may take to be let in before it. It gives up by then.
const DOOR_WITHIN: Duration = Duration::from_secs(10);
/// How long one message may take to be sent. An agent that does not read is not connected.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// Why a session ended. All of them are ordinary: the agent comes back.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the connection broke")]
    Broken(#[from] axum::Error),
    #[error("the agent closed it")]
    Closed,
    #[error("the agent was silent for too long")]
    Silent,
    #[error("its node's lease was over")]
    LeaseOver,
    #[error("the agent did not read for too long")]
    Stuck,
    #[error("the agent sent what is no frame")]
    Malformed(#[from] serde_json::Error),
    #[error("another agent of its node was being let in for too long")]
    Crowded,
    #[error("the agent sent an unexpected frame")]
    Unexpected,
    #[error("the agent was refused: {0}")]
    Refused(String),
    #[error("the agent opened another one")]
    Replaced,
    #[error("the server stops")]
    Stopping,
}

/// Serves an agent until its session ends.
pub(crate) async fn serve(
    mut socket: WebSocket,
    handle: Handle,
    sessions: Arc<Sessions>,
    shutdown: CancellationToken,
) {
    let (hello, door) = match greet(&mut socket, &handle, &sessions).await {
        Ok(greeted) => greeted,
        Err(end) => {
            tracing::info!(reason = %end, "an agent was not let in");
            return;
        }
    };
    let node = hello.node.clone();
    tracing::info!(%node, version = hello.info.agent_version, "agent connected");
    let registration = door.register();
    let runtime = Some(hello.runtime.clone());
    let mut session = Session {
        socket,
        handle,
        sessions,
        node: node.clone(),
        told: Told::default(),
        pace: Pace::of(1),
        runtime,
    };
    let end = session.run(registration, shutdown).await;
    tracing::info!(%node, reason = %end, "agent disconnected");
}

/// Lets an agent in.
async fn greet(
    socket: &mut WebSocket,
    handle: &Handle,
    sessions: &Arc<Sessions>,
) -> Result<(Hello, Door), End> {
    let first = tokio::time::timeout(HELLO_WITHIN, receive(socket)).await;
    let AgentFrame::Hello(hello) = first.map_err(|_| End::Silent)?? else {
        return Err(End::Unexpected);
    };
    let door = tokio::time::timeout(DOOR_WITHIN, sessions.enter(&hello.node)).await;
    let door = door.map_err(|_| End::Crowded)?;
    let incumbent = if door.is_taken() {
        Incumbent::Connected
    } else {
        Incumbent::Away
    };
    match handle.hello((*hello).clone(), incumbent).await {
        Ok(cluster) => {
            let pace = handle.renew(&hello.node).ok_or(End::LeaseOver)?;
            let record = cluster.nodes.get(&hello.node);
            let welcome = Welcome {
                cluster: cluster.record.id,
                epoch: cluster.record.epoch,
                heartbeat_ms: millis(pace.heartbeat),
                notice: record.and_then(|node| node.unheeded()),
            };
            send(socket, &ServerFrame::Welcome(welcome)).await?;
            Ok((*hello, door))
        }
        Err(error) => {
            let reason = error.to_string();
            send(
                socket,
                &ServerFrame::Refused {
                    reason: reason.clone(),
                },
            )
            .await?;
            Err(End::Refused(format!("{}: {reason}", hello.node)))
        }
    }
}

struct Session {
    socket: WebSocket,
    handle: Handle,
    sessions: Arc<Sessions>,
    node: NodeName,
    told: Told,
    /// How its lease was last renewed.
    pace: Pace,
    /// What the controller was last told of its engine.
    runtime: Option<RuntimeHealth>,
}

impl Session {
    async fn run(&mut self, mut registration: Registration, shutdown: CancellationToken) -> End {
        let mut states = self.handle.states();
        let mut resyncs = self.handle.resyncs();
        states.mark_changed();
        loop {
            // Cancel-safe, all of them: a message is taken whole or not at all, and the watches
            // keep what they announce.
            let result = tokio::select! {
                () = shutdown.cancelled() => Err(End::Stopping),
                () = registration.replaced.cancelled() => Err(End::Replaced),
                changed = states.changed() => match changed {
                    Ok(()) => self.tell_assignment().await,
                    Err(_) => Err(End::Stopping),
                },
                changed = resyncs.changed() => match changed {
                    // What was said of the engine may be lost, too.
                    Ok(()) => { self.runtime = None; send(&mut self.socket, &ServerFrame::Resync).await },
                    Err(_) => Err(End::Stopping),
                },
                Some(frame) = registration.outbound.recv() => send(&mut self.socket, &frame).await,
                received = tokio::time::timeout(self.pace.lease, receive(&mut self.socket)) => {
                    match received {
                        Ok(Ok(frame)) => self.on_frame(frame).await,
                        Ok(Err(end)) => Err(end),
                        Err(_) => Err(End::Silent),
                    }
                }
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn tell_assignment(&mut self) -> Result<(), End> {
        let cluster = self.handle.state();
        for frame in self.told.update(&cluster, &self.node) {
            send(&mut self.socket, &ServerFrame::Assignment(frame)).await?;
        }
        Ok(())
    }

    async fn renew(&mut self, beat: u64) -> Result<(), End> {
        self.pace = self.handle.renew(&self.node).ok_or(End::LeaseOver)?;
        let lease = Lease {
            beat,
            lease_ms: millis(self.pace.lease),
            heartbeat_ms: millis(self.pace.heartbeat),
        };
        send(&mut self.socket, &ServerFrame::Lease(lease)).await
    }

    async fn on_frame(&mut self, frame: AgentFrame) -> Result<(), End> {
        let report = match frame {
            AgentFrame::Heartbeat { beat, runtime } => {
                self.renew(beat).await?;
                // The controller hears of changes only: heartbeats never wait for it.
                if self.runtime.as_ref() == Some(&runtime) {
                    return Ok(());
                }
                self.runtime = Some(runtime.clone());
                AgentReport::Heartbeat(runtime)
            }
            AgentFrame::Observed(observed) => AgentReport::Observed(observed),
            AgentFrame::Images { images } => AgentReport::Images(images),
            AgentFrame::Rejected {
                generation,
                reason,
                seen,
            } => AgentReport::Rejected {
                generation,
                reason,
                seen,
            },
            AgentFrame::StreamFailed { stream, reason } => {
                self.sessions.failed(&self.node, stream, reason);
                return Ok(());
            }
            AgentFrame::Hello(_) => return Err(End::Unexpected),
        };
        self.handle
            .report(&self.node, report)
            .await
            .map_err(|_| End::Stopping)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn send(socket: &mut WebSocket, frame: &ServerFrame) -> Result<(), End> {
    let text = serde_json::to_string(frame)?;
    let sent = tokio::time::timeout(SEND_WITHIN, socket.send(Message::text(text))).await;
    Ok(sent.map_err(|_| End::Stuck)??)
}

async fn receive(socket: &mut WebSocket) -> Result<AgentFrame, End> {
    loop {
        match socket.recv().await.ok_or(End::Closed)?? {
            Message::Text(text) => return Ok(serde_json::from_str(text.as_str())?),
            Message::Binary(_) => return Err(End::Unexpected),
            Message::Close(_) => return Err(End::Closed),
            // Answered by the WebSocket itself.
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}
