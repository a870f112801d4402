//! What an agent says in its session, and what it is told.

use windlass_api::{
    ids::NodeName,
    wire::{AgentFrame, ServerFrame},
};
use windlass_core::{cluster::Cluster, lease::Moment};

use super::{Request, Server};
use crate::dialogue::{Dialogue, Error, Heard};

/// The session of an agent that was let in.
#[derive(Debug)]
pub struct Session(pub(super) Dialogue);

impl Session {
    /// The node that the agent speaks for.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        self.0.node()
    }

    /// How long the agent may be silent.
    #[must_use]
    pub fn silent_max(&self) -> Moment {
        self.0.silent_max()
    }

    /// The agent said this at a moment of the server's. Returns what it is told at once, and what
    /// the controller is to hear.
    ///
    /// # Errors
    /// Why the session is over.
    pub fn hear(
        &mut self,
        server: &Server,
        frame: AgentFrame,
        now: Moment,
    ) -> Result<(Option<ServerFrame>, Option<Request>), String> {
        let heard = self.0.hear(frame, |node| server.handle.renew_at(node, now));
        let (frame, report) = match heard.map_err(|error: Error| error.to_string())? {
            Heard::Heartbeat(lease, news) => (Some(ServerFrame::Lease(lease)), news),
            Heard::Report(report) => (None, Some(report)),
            Heard::StreamFailed(..) => (None, None),
        };
        let request = report.map(|report| Request::Report(self.node().clone(), report));
        Ok((frame, request))
    }

    /// What the agent does not know of its assignment yet.
    pub fn news(&mut self, cluster: &Cluster) -> impl Iterator<Item = ServerFrame> + use<> {
        self.0.news(cluster)
    }

    /// What the agent reported may be lost: it is asked for everything again.
    pub fn resync(&mut self) -> ServerFrame {
        self.0.resync()
    }
}
