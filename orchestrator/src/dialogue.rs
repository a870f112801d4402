//! What is made of what an agent says, and what it is told: without waiting, so that the simulation
//! drives the same code as the server.

use std::time::Duration;

use uuid::Uuid;
use windlass_api::{
    ids::NodeName,
    wire::{AgentFrame, Hello, Lease, RuntimeHealth, ServerFrame, Welcome},
};
use windlass_core::{cluster::Cluster, lease::Pace};

use crate::{assignments::Told, controller::AgentReport};

/// What is to be done about a frame.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The agent lives: its lease was renewed, which it is told. The controller hears of changes
    /// only, so that heartbeats never wait for it.
    Heartbeat(Lease, Option<AgentReport>),
    /// The controller is to know.
    Report(AgentReport),
    /// A stream cannot be opened.
    StreamFailed(Uuid, String),
}

/// Why a session cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("its node's lease was over")]
    LeaseOver,
    #[error("the agent sent an unexpected frame")]
    OutOfTurn,
}

/// What was said and heard in one session.
#[derive(Debug)]
pub(crate) struct Dialogue {
    node: NodeName,
    told: Told,
    /// How its lease was last renewed.
    pace: Pace,
    /// What the controller was last told of its engine.
    runtime: Option<RuntimeHealth>,
}

impl Dialogue {
    /// Begins to talk to an agent that was let in, and welcomes it.
    pub(crate) fn begin(hello: &Hello, cluster: &Cluster, pace: Pace) -> (Self, Welcome) {
        let record = cluster.nodes.get(&hello.node);
        let welcome = Welcome {
            cluster: cluster.record.id,
            epoch: cluster.record.epoch,
            heartbeat_ms: millis(pace.heartbeat),
            notice: record.and_then(|node| node.unheeded()),
        };
        let dialogue = Self {
            node: hello.node.clone(),
            told: Told::default(),
            pace,
            runtime: Some(hello.runtime.clone()),
        };
        (dialogue, welcome)
    }

    /// The node that the agent speaks for.
    pub(crate) fn node(&self) -> &NodeName {
        &self.node
    }

    /// How long the agent may be silent.
    pub(crate) fn silent_max(&self) -> Duration {
        self.pace.lease
    }

    /// The agent said this. `renew` renews the lease of its node, if it is not over.
    pub(crate) fn hear(
        &mut self,
        frame: AgentFrame,
        renew: impl FnOnce(&NodeName) -> Option<Pace>,
    ) -> Result<Heard, Error> {
        Ok(match frame {
            AgentFrame::Heartbeat { beat, runtime } => {
                self.pace = renew(&self.node).ok_or(Error::LeaseOver)?;
                let lease = Lease {
                    beat,
                    lease_ms: millis(self.pace.lease),
                    heartbeat_ms: millis(self.pace.heartbeat),
                };
                let news = (self.runtime.as_ref() != Some(&runtime)).then(|| {
                    self.runtime = Some(runtime.clone());
                    AgentReport::Heartbeat(runtime)
                });
                Heard::Heartbeat(lease, news)
            }
            AgentFrame::Observed(observed) => Heard::Report(AgentReport::Observed(observed)),
            AgentFrame::Images { images } => Heard::Report(AgentReport::Images(images)),
            AgentFrame::Rejected {
                generation,
                reason,
                seen,
            } => Heard::Report(AgentReport::Rejected {
                generation,
                reason,
                seen,
            }),
            AgentFrame::StreamFailed { stream, reason } => Heard::StreamFailed(stream, reason),
            AgentFrame::Hello(_) => return Err(Error::OutOfTurn),
        })
    }

    /// What the agent does not know of its assignment yet.
    pub(crate) fn news(&mut self, cluster: &Cluster) -> impl Iterator<Item = ServerFrame> + use<> {
        let frames = self.told.update(cluster, &self.node);
        frames.into_iter().map(ServerFrame::Assignment)
    }

    /// What the agent reported may be lost: it is asked for everything again.
    pub(crate) fn resync(&mut self) -> ServerFrame {
        self.runtime = None;
        ServerFrame::Resync
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
