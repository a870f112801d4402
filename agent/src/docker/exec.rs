//! Commands in containers, run to their end.

use std::{sync::Arc, time::Duration};

use bollard::{Docker, container::LogOutput, exec::StartExecResults, models::ExecConfig};
use futures_util::{FutureExt, StreamExt};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::engine::{CHANGE_WITHIN, Engine, READ_WITHIN};
use crate::runtime::{ContainerId, Error, ErrorKind, ExecOutcome, ExecOutput, Result};

/// How long to wait before the engine is asked again how a command ended: it closes the output a
/// moment before it knows. A command that goes on without an output is asked after for ever less.
const END_POLL_MIN: Duration = Duration::from_millis(5);
/// The longest such wait.
const END_POLL_MAX: Duration = Duration::from_secs(1);

/// How long to wait before the engine is asked whether a command has begun: it takes a tenth of a
/// second for that on an idle machine, and most commands have ended before they are asked after.
const BEGIN_POLL: Duration = Duration::from_millis(200);

/// Runs a command in a container. The engine cannot end one that takes too long: it goes on until
/// it ends, or its container does.
pub(super) async fn run(
    engine: &Arc<Engine>,
    id: &ContainerId,
    command: &[String],
    within: Duration,
    begun: oneshot::Sender<()>,
) -> Result<ExecOutcome> {
    let deadline = Instant::now() + within;
    let mut output = ExecOutput::default();
    let mut pause = END_POLL_MIN;
    let client = engine.client().await?;
    let config = ExecConfig {
        cmd: Some(command.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let create = client.create_exec(&id.0, config);
    let exec = engine
        .call("prepare the command", READ_WITHIN, create)
        .await?
        .id;
    let start = client.start_exec(&exec, None);
    let started = engine
        .call("start the command", CHANGE_WITHIN, start)
        .await?;
    if let StartExecResults::Attached {
        output: mut stream, ..
    } = started
    {
        let beginning = until_begun(engine, client, &exec, begun).fuse();
        tokio::pin!(beginning);
        loop {
            // Every branch can be cancelled: what was not read yet stays in the stream.
            let piece = tokio::select! {
                piece = timeout_at(deadline, stream.next()) => piece,
                () = &mut beginning => continue,
            };
            match piece {
                Err(_) => return Ok(ExecOutcome::TimedOut { output }),
                Ok(None) => break,
                Ok(Some(Ok(piece))) => output.push(&LogOutput::into_bytes(piece)),
                Ok(Some(Err(error))) => {
                    return Err(engine.translate("read the command's output", error));
                }
            }
        }
    }
    loop {
        let inspect = client.inspect_exec(&exec);
        let ended = engine
            .call("ask how the command ended", READ_WITHIN, inspect)
            .await?;
        match ended.exit_code {
            Some(code) => return Ok(ExecOutcome::Exited { code, output }),
            None if ended.running != Some(true) => {
                return Err(Error {
                    kind: ErrorKind::Other,
                    message: "docker does not tell how the command ended".to_owned(),
                });
            }
            // It closed its output and goes on.
            None if Instant::now() >= deadline => return Ok(ExecOutcome::TimedOut { output }),
            None => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(END_POLL_MAX);
    }
}

/// Waits until a command has begun, and drops `begun` then. The engine answers that it started a
/// command before it does; only that it knows a process tells. One that it cannot be asked about
/// is waited for no longer.
async fn until_begun(engine: &Engine, client: &Docker, exec: &str, begun: oneshot::Sender<()>) {
    loop {
        sleep(BEGIN_POLL).await;
        let inspect = client.inspect_exec(exec);
        let asked = engine.call("ask whether the command began", READ_WITHIN, inspect);
        match asked.await {
            Ok(exec) if exec.running == Some(true) && exec.pid.is_none_or(|pid| pid == 0) => {}
            Ok(_) | Err(_) => break,
        }
    }
    drop(begun);
}
