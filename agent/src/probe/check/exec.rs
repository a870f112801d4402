//! A check by a command in the container.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::oneshot, time::timeout};
use windlass_api::spec::ExecCheck;

use super::NAME_CHARS_MAX;
use crate::{
    probe::{WORDS_CHARS_MAX, ended_with, in_words, life::Outcome, shortened},
    runtime::{ContainerId, ErrorKind, ExecOutcome, Result, Runtime},
};

/// How long the engine's call may take: more than an hour, the longest time limit of a probe, and
/// how long it is watched after that, so that the limits of the prober are the ones that hold.
const EXEC_WITHIN: Duration = Duration::from_secs(2 * 3600);

/// How long an engine that is well may take to answer anything.
const ENGINE_WITHIN: Duration = Duration::from_secs(2);

/// A command, made ready.
#[derive(Debug, Clone)]
pub(in crate::probe) struct Command(Vec<String>);

/// A command on its way to its end.
pub(in crate::probe) type Ending = BoxFuture<'static, Result<ExecOutcome>>;

impl Command {
    pub(super) fn new(check: &ExecCheck) -> Self {
        Self(check.command.clone())
    }

    /// Runs it, and waits for its end for at most `limit`. If it does not end, it is returned, too:
    /// the engine cannot end it, so it goes on. For `begun` see [`Runtime::exec`].
    pub(in crate::probe) async fn check<R: Runtime>(
        &self,
        runtime: Arc<R>,
        container: ContainerId,
        limit: Duration,
        begun: oneshot::Sender<()>,
    ) -> (Outcome, Option<Ending>) {
        let (engine, argv) = (Arc::clone(&runtime), self.0.clone());
        let mut running =
            async move { runtime.exec(&container, &argv, EXEC_WITHIN, begun).await }.boxed();
        if let Ok(ended) = timeout(limit, &mut running).await {
            return (self.outcome(ended), None);
        }
        // Either the command takes too long, or the engine, which says nothing of the container.
        let outcome = match timeout(ENGINE_WITHIN, engine.info()).await {
            Ok(Ok(_)) => Outcome::Failed(format!("{self} did not end within {}", in_words(limit))),
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        };
        (outcome, Some(running))
    }

    /// What its end says.
    fn outcome(&self, ended: Result<ExecOutcome>) -> Outcome {
        match ended {
            Ok(ExecOutcome::Exited { code: 0, .. }) => Outcome::Passed,
            Ok(ExecOutcome::Exited { code, output }) => {
                Outcome::Failed(format!("{self} {}", ended_with(code, &output.text())))
            }
            // It closed its output, so that nobody could see how it ends.
            Ok(ExecOutcome::TimedOut { .. }) => {
                Outcome::Failed(format!("{self} went on without its output"))
            }
            // What the engine does not answer says nothing about the container.
            Err(error) if error.kind == ErrorKind::Unreachable => Outcome::Unknown,
            Err(error) => {
                let said = shortened(&error.message, WORDS_CHARS_MAX);
                Outcome::Failed(format!("{self} cannot be run: {said}"))
            }
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", shortened(&self.0.join(" "), NAME_CHARS_MAX))
    }
}
