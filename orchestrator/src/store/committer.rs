//! The one thread that uses the store, behind an async handle.

use std::thread;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use windlass_api::ids::Version;

use super::{Batch, Error, ExportWhen, Guard, Maintenance, Records, Recovery, Result, Store};

/// Calls that wait. There is one writer, which waits for each of its commits; the rest is room
/// for an export that an operator asks for.
const QUEUE_DEPTH: usize = 8;

/// A handle on a store that has a thread of its own. Dropped, it waits until the thread has
/// finished what it was given and has closed the store.
#[derive(Debug)]
pub struct Committer {
    calls: Option<mpsc::Sender<Call>>,
    thread: Option<thread::JoinHandle<()>>,
}

type Answer<T> = oneshot::Sender<Result<T>>;

#[derive(Debug)]
enum Call {
    Load(Answer<Records>),
    Commit(Batch, Guard, Answer<Version>),
    Recover(Answer<Recovery>),
    Maintain(Timestamp, ExportWhen, Answer<Maintenance>),
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::Failed`] if there can be no more threads.
    pub fn spawn(store: Box<dyn Store>) -> Result<Self> {
        let (calls, receiver) = mpsc::channel(QUEUE_DEPTH);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || serve(&*store, receiver))
            .map_err(|error| Error::Failed {
                what: format!("cannot start its thread: {error}"),
            })?;
        Ok(Self {
            calls: Some(calls),
            thread: Some(thread),
        })
    }

    /// [`Store::load`].
    ///
    /// # Errors
    /// Those of the store, and [`Error::Failed`] if its thread died. So do all calls.
    pub async fn load(&self) -> Result<Records> {
        self.call(Call::Load).await
    }

    /// [`Store::commit`]. Once called it is carried out, also if nobody waits for the answer.
    ///
    /// # Errors
    /// As [`Committer::load`].
    pub async fn commit(&self, batch: Batch, guard: Guard) -> Result<Version> {
        self.call(|answer| Call::Commit(batch, guard, answer)).await
    }

    /// [`Store::try_recover`].
    ///
    /// # Errors
    /// As [`Committer::load`].
    pub async fn try_recover(&self) -> Result<Recovery> {
        self.call(Call::Recover).await
    }

    /// [`Store::maintain`].
    ///
    /// # Errors
    /// As [`Committer::load`].
    pub async fn maintain(&self, now: Timestamp, export: ExportWhen) -> Result<Maintenance> {
        self.call(|answer| Call::Maintain(now, export, answer))
            .await
    }

    /// Waits until everything is done and the store is closed.
    ///
    /// # Errors
    /// [`Error::Failed`] if the store's thread panicked.
    pub async fn shutdown(mut self) -> Result<()> {
        let closed = tokio::task::spawn_blocking(move || self.close()).await;
        closed.unwrap_or_else(|_| Err(died()))
    }

    async fn call<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let calls = self.calls.as_ref().ok_or_else(died)?;
        calls.send(call(answer)).await.map_err(|_| died())?;
        answered.await.map_err(|_| died())?
    }

    fn close(&mut self) -> Result<()> {
        drop(self.calls.take());
        self.thread
            .take()
            .map_or(Ok(()), thread::JoinHandle::join)
            .map_err(|_| died())
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Whoever waited for the thread was told if it died; nobody is left to tell.
        if self.close().is_err() && !thread::panicking() {
            tracing::error!("the store's thread panicked");
        }
    }
}

fn serve(store: &dyn Store, mut calls: mpsc::Receiver<Call>) {
    while let Some(call) = calls.blocking_recv() {
        match call {
            Call::Load(answer) => reply(answer, store.load()),
            Call::Commit(batch, guard, answer) => reply(answer, store.commit(batch, guard)),
            Call::Recover(answer) => reply(answer, store.try_recover()),
            Call::Maintain(now, export, answer) => reply(answer, store.maintain(now, export)),
        }
    }
}

fn reply<T>(answer: Answer<T>, result: Result<T>) {
    // Whoever stopped waiting does not want to know.
    drop(answer.send(result));
}

/// A panic in the thread drops the answer and closes the queue, so that nobody waits for ever.
fn died() -> Error {
    let what = "its thread panicked".to_owned();
    Error::Failed { what }
}

#[cfg(test)]
mod tests;
