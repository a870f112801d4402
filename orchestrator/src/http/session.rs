//! An agent's session: one WebSocket, see [`windlass_api::wire`].

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use tokio_util::sync::CancellationToken;
use windlass_api::wire::{AgentFrame, Hello, ServerFrame};
use windlass_core::access::Caller;

use crate::{
    controller::{AgentReport, Handle, Incumbent},
    dialogue::{self, Dialogue, Heard},
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
    #[error(transparent)]
    Dialogue(#[from] dialogue::Error),
    #[error("the agent did not read for too long")]
    Stuck,
    #[error("the agent sent what is no frame")]
    Malformed(#[from] serde_json::Error),
    #[error("another agent of its node was being let in for too long")]
    Crowded,
    #[error("the agent was refused: {0}")]
    Refused(String),
    #[error("its node joined again")]
    NoLongerIn,
    #[error("the agent opened another one")]
    Replaced,
    #[error("the server stops")]
    Stopping,
}

/// Serves an agent until its session ends.
pub(crate) async fn serve(
    mut socket: WebSocket,
    caller: Caller,
    handle: Handle,
    sessions: Arc<Sessions>,
    shutdown: CancellationToken,
) {
    let (dialogue, door) = match greet(&mut socket, &caller, &handle, &sessions).await {
        Ok(greeted) => greeted,
        Err(end) => {
            tracing::info!(reason = %end, "an agent was not let in");
            return;
        }
    };
    let node = dialogue.node().clone();
    let registration = door.register();
    let mut session = Session {
        socket,
        caller,
        handle,
        sessions,
        dialogue,
    };
    let end = session.run(registration, shutdown).await;
    tracing::info!(%node, reason = %end, "agent disconnected");
}

/// Lets an agent in.
async fn greet(
    socket: &mut WebSocket,
    caller: &Caller,
    handle: &Handle,
    sessions: &Arc<Sessions>,
) -> Result<(Dialogue, Door), End> {
    let first = tokio::time::timeout(HELLO_WITHIN, receive(socket)).await;
    let AgentFrame::Hello(hello) = first.map_err(|_| End::Silent)?? else {
        return Err(dialogue::Error::OutOfTurn.into());
    };
    if !caller.speaks_for(&hello.node) {
        let reason = format!("the certificate is not that of node {}", hello.node);
        return refuse(socket, &hello, reason).await;
    }
    let door = tokio::time::timeout(DOOR_WITHIN, sessions.enter(&hello.node)).await;
    let door = door.map_err(|_| End::Crowded)?;
    let incumbent = if door.is_taken() {
        Incumbent::Connected
    } else {
        Incumbent::Away
    };
    match handle.hello((*hello).clone(), incumbent).await {
        Ok(cluster) => {
            let pace = handle.renew(&hello.node);
            let pace = pace.ok_or(dialogue::Error::LeaseOver)?;
            let (dialogue, welcome) = Dialogue::begin(&hello, &cluster, pace);
            send(socket, &ServerFrame::Welcome(welcome)).await?;
            tracing::info!(node = %hello.node, version = hello.info.agent_version, "agent connected");
            Ok((dialogue, door))
        }
        Err(error) => refuse(socket, &hello, error.to_string()).await,
    }
}

async fn refuse(
    socket: &mut WebSocket,
    hello: &Hello,
    reason: String,
) -> Result<(Dialogue, Door), End> {
    let end = End::Refused(format!("{}: {reason}", hello.node));
    send(socket, &ServerFrame::Refused { reason }).await?;
    Err(end)
}

struct Session {
    socket: WebSocket,
    /// Who opened it.
    caller: Caller,
    handle: Handle,
    sessions: Arc<Sessions>,
    dialogue: Dialogue,
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
                    Ok(()) if !self.caller.is_still_let_in(&self.handle.state()) => {
                        Err(End::NoLongerIn)
                    }
                    Ok(()) => self.tell_assignment().await,
                    Err(_) => Err(End::Stopping),
                },
                changed = resyncs.changed() => match changed {
                    Ok(()) => send(&mut self.socket, &self.dialogue.resync()).await,
                    Err(_) => Err(End::Stopping),
                },
                Some(frame) = registration.outbound.recv() => send(&mut self.socket, &frame).await,
                received = tokio::time::timeout(self.dialogue.silent_max(), receive(&mut self.socket)) => {
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
        for frame in self.dialogue.news(&cluster) {
            send(&mut self.socket, &frame).await?;
        }
        Ok(())
    }

    async fn on_frame(&mut self, frame: AgentFrame) -> Result<(), End> {
        let handle = &self.handle;
        match self.dialogue.hear(frame, |node| handle.renew(node))? {
            Heard::Heartbeat(lease, news) => {
                send(&mut self.socket, &ServerFrame::Lease(lease)).await?;
                match news {
                    Some(news) => self.report(news).await,
                    None => Ok(()),
                }
            }
            Heard::Report(report) => self.report(report).await,
            Heard::StreamFailed(stream, reason) => {
                self.sessions.failed(self.dialogue.node(), stream, reason);
                Ok(())
            }
        }
    }

    async fn report(&mut self, report: AgentReport) -> Result<(), End> {
        let reported = self.handle.report(self.dialogue.node(), report).await;
        reported.map_err(|_| End::Stopping)
    }
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
            Message::Binary(_) => return Err(dialogue::Error::OutOfTurn.into()),
            Message::Close(_) => return Err(End::Closed),
            // Answered by the WebSocket itself.
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}
