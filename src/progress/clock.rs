//! What time it is for the server.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use windlass_api::{
    client::{Client, Error},
    clock,
};

/// The clock of the server, whose times are compared with it: that of this machine may be wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerClock {
    told: Timestamp,
    heard: Instant,
}

impl ServerClock {
    /// Asks the server. It is never fast: the answer takes its time.
    pub(super) async fn read(client: &Client) -> Result<Self, Error> {
        let told = client.server_info().await?.time;
        Ok(Self {
            // A server that is too old to tell.
            told: told.unwrap_or_else(clock::now),
            heard: Instant::now(),
        })
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.heard.elapsed()).unwrap_or(SignedDuration::MAX);
        self.told.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// How long it is until `then`.
    pub(super) fn until(&self, then: Timestamp) -> Duration {
        then.duration_since(self.now())
            .try_into()
            .unwrap_or_default()
    }
}
