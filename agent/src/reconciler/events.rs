//! Watches the engine's events. They only wake the reconciler.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::{sync::Notify, time::sleep};

use crate::runtime::{Owner, Runtime};

/// The pause before a broken stream is opened again, doubling up to the longest. The list every
/// few seconds bridges it.
const REOPEN_MIN: Duration = Duration::from_millis(100);
const REOPEN_MAX: Duration = Duration::from_secs(5);

/// Wakes with every event about a container of `owner`, and when events may have been missed.
/// Never ends.
pub(super) async fn watch<R: Runtime>(runtime: &R, owner: &Owner, wakeups: &Notify) {
    let mut pause = REOPEN_MIN;
    loop {
        match runtime.events(owner).await {
            Ok(mut events) => {
                // Something may have happened before the stream was there.
                wakeups.notify_one();
                while let Some(Ok(_)) = events.next().await {
                    pause = REOPEN_MIN;
                    wakeups.notify_one();
                }
                tracing::debug!("the engine's event stream ended");
            }
            Err(error) => {
                tracing::debug!(reason = %error, "the engine's events cannot be watched");
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(REOPEN_MAX);
    }
}
