//! What a loop may wait for among other things, or may not be waiting for at the moment.

use std::future;

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep_until};

/// A place for one future.
pub(crate) struct Slot<T>(Option<BoxFuture<'static, T>>);

impl<T> Slot<T> {
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Puts a future in, in place of one that may be there.
    pub(crate) fn put(&mut self, future: impl Future<Output = T> + Send + 'static) {
        self.0 = Some(future.boxed());
    }

    /// Waits for the future and takes it out; waits for ever while there is none. Cancel-safe: the
    /// future stays where it is.
    pub(crate) async fn next(&mut self) -> T {
        match &mut self.0 {
            Some(future) => {
                let output = future.await;
                self.0 = None;
                output
            }
            None => future::pending().await,
        }
    }
}

/// Waits until a time, or for ever if there is none. Cancel-safe.
pub(crate) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => future::pending().await,
    }
}
