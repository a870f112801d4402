//! Asking for another certificate before the one that a node has is over, or after.

use std::{sync::Arc, time::Duration};

use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;
use windlass_api::{access::RenewRequest, clock};
use windlass_trust::authority::{self, PrivateKey};

use super::{BrokenMembership, Encryption, Membership, exchange};
use crate::{data_dir::DataDir, state_file};

/// How often to see whether it is time, since clocks jump.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How soon an attempt that failed is repeated at the earliest.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// Renews a node's certificate.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) data: Arc<DataDir>,
    pub(crate) membership: Membership,
    /// The address of the server, `HOST:PORT`.
    pub(crate) server: String,
    /// How connections that are made from now on are encrypted.
    pub(crate) encryption: Encryption,
}

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Exchange(#[from] exchange::Error),
    #[error(transparent)]
    Broken(#[from] BrokenMembership),
    #[error(transparent)]
    Key(#[from] authority::Error),
    #[error("it cannot be kept")]
    File(#[from] state_file::Error),
    #[error("a part of the agent broke down")]
    Panicked(#[from] JoinError),
}

impl Renewal {
    /// Renews it until `stop`. What fails is tried again.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = self.look().await;
            if stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// Renews it if it is time, and tells how long to wait until looking again.
    async fn look(&mut self) -> Duration {
        let due = match self.membership.certificate() {
            Ok(certificate) => certificate,
            Err(error) => {
                tracing::error!(%error, "the node's certificate cannot be read");
                return LOOK_EVERY;
            }
        };
        let wait = due.renew_at().duration_since(clock::now());
        if let Ok(wait) = Duration::try_from(wait)
            && !wait.is_zero()
        {
            return wait.min(LOOK_EVERY);
        }
        match self.renew().await {
            Ok(()) => {
                tracing::info!("the node has another certificate");
                REPEAT_AFTER
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, until = %due.not_after, "the node's certificate was not renewed");
                // More often the less time there was to begin with: for a week, every minute.
                (due.lifetime() / 100).clamp(REPEAT_AFTER, LOOK_EVERY)
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let key = PrivateKey::generate()?;
        let request = RenewRequest {
            certificate_request: key.request()?,
        };
        let encryption = self.membership.encryption()?;
        let path = "/v1/agent/certificate";
        let issued = exchange::ask(encryption, &self.server, path, &request).await?;
        let renewed = Membership::new(self.membership.server.clone(), &key, issued);
        // Before the one that works is given up for it.
        let encryption = renewed.encryption()?;
        let (data, kept) = (Arc::clone(&self.data), renewed.clone());
        spawn_blocking(move || data.write_membership(&kept)).await??;
        self.membership = renewed;
        self.encryption.send_replace(encryption);
        Ok(())
    }
}
