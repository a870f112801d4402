//! A command in a container, and whoever speaks to it.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use windlass_api::{
    socket::{self, Incoming, Message, Outgoing},
    wire::{Control, ExecOptions, STALLED_AFTER, SignalName},
};

use super::{Trouble, fail};
use crate::{
    reach::{ExecId, Output, Reach, Running},
    runtime::{BoxStream, Error, ErrorKind},
};

/// What Docker writes in place of a command's output if it could not be run.
const NOT_RUN: &[u8] = b"OCI runtime exec failed: ";
/// The exit codes for that, as shells have them: there is no such program, and it cannot be run.
const NO_SUCH_PROGRAM: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// The exit code if the engine did not even try, as Docker's own command line has it.
const NOT_STARTED: u8 = 125;
/// How long to wait before the engine is asked again how a command ended: it closes the output a
/// moment before it knows. A command that goes on without an output is asked after ever less often.
const END_POLL_MIN: Duration = Duration::from_millis(5);
/// The longest such wait.
const END_POLL_MAX: Duration = Duration::from_secs(1);
/// How many words about signals may wait to be said. One who sends more than are read is not told
/// of each.
const NOTICES_MAX: usize = 4;

/// Runs a command that was prepared, and passes on what is said to it and what it says. When the
/// agent stops, whoever speaks to it is told.
pub(super) async fn serve<R: Reach, S: AsyncRead + AsyncWrite + Unpin>(
    runtime: &R,
    exec: &ExecId,
    options: &ExecOptions,
    (mut outgoing, mut incoming): (Outgoing<S>, Incoming<S>),
    stop: &CancellationToken,
) -> Result<(), Trouble> {
    let Running { input, output } = match runtime.begin(exec, options).await {
        Ok(running) => running,
        Err(error) => return fail((outgoing, incoming), not_run(&error)).await,
    };
    let (notices, noticed) = mpsc::channel(NOTICES_MAX);
    let speaker = Speaker {
        runtime,
        exec,
        input: Some(input),
        notices,
    };
    // The one that is not first is dropped, and with it the command's input.
    let ended = tokio::select! {
        ended = say(runtime, exec, output, noticed, &mut outgoing) => ended,
        left = speaker.listen(&mut incoming) => {
            hang_up(runtime, exec).await;
            return left.map_err(Trouble::CutOff);
        }
        () = stop.cancelled() => {
            hang_up(runtime, exec).await;
            return Ok(outgoing.abort(incoming, "the agent stops").await?);
        }
    };
    match ended {
        Ok(last) => {
            outgoing.control(&last).await?;
            outgoing.close(incoming).await?;
        }
        Err(error) => {
            hang_up(runtime, exec).await;
            return Err(error.into());
        }
    }
    Ok(())
}

/// Nobody is there any more. The command is told as when a terminal is gone, also without one:
/// the engine reads on what it writes, so that it would never notice.
async fn hang_up<R: Reach>(runtime: &R, exec: &ExecId) {
    if let Err(error) = runtime.signal(exec, SignalName::Hup).await {
        tracing::debug!(reason = %error, "a command goes on though nobody is there");
    }
}

/// Passes on what the command writes; then how it ended.
async fn say<R: Reach, S: AsyncRead + AsyncWrite + Unpin>(
    runtime: &R,
    exec: &ExecId,
    mut output: BoxStream<Output>,
    mut noticed: mpsc::Receiver<Control>,
    outgoing: &mut Outgoing<S>,
) -> Result<Control, socket::Error> {
    let mut not_run: Option<Bytes> = None;
    let mut begun = false;
    loop {
        // Cancel-safe, both: they only take what is there.
        let piece = tokio::select! {
            piece = output.next() => piece,
            Some(notice) = noticed.recv() => {
                outgoing.control(&notice).await?;
                continue;
            }
        };
        match piece {
            None => break,
            Some(Ok(Output { bytes, .. })) if !begun && bytes.starts_with(NOT_RUN) => {
                not_run = Some(bytes);
            }
            Some(Ok(piece)) => outgoing.data(framed(&piece)).await?,
            Some(Err(error)) => return Ok(Control::failed(error.message)),
        }
        begun = true;
    }
    let code = match exit_code(runtime, exec).await {
        Ok(code) => code,
        Err(error) => return Ok(Control::failed(error.message)),
    };
    match not_run {
        Some(text) if matches!(code, NOT_EXECUTABLE | NO_SUCH_PROGRAM) => {
            Ok(refused(&String::from_utf8_lossy(&text)))
        }
        Some(text) => {
            // A program that writes the very same.
            let channel = windlass_api::wire::Channel::Output;
            let bytes = text;
            outgoing.data(framed(&Output { channel, bytes })).await?;
            Ok(Control::Exit { code })
        }
        None => Ok(Control::Exit { code }),
    }
}

/// A piece of output with the byte that says where it was written to.
fn framed(piece: &Output) -> Bytes {
    let mut framed = BytesMut::with_capacity(piece.bytes.len() + 1);
    framed.put_u8(piece.channel.byte());
    framed.extend_from_slice(&piece.bytes);
    framed.freeze()
}

async fn exit_code<R: Reach>(runtime: &R, exec: &ExecId) -> Result<u8, Error> {
    let mut pause = END_POLL_MIN;
    loop {
        if let Some(code) = runtime.exit_code(exec).await? {
            // What systems keep of an exit code.
            return Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
        }
        sleep(pause).await;
        pause = (pause * 2).min(END_POLL_MAX);
    }
}

/// What Docker's words mean for a command that could not be run.
fn refused(text: &str) -> Control {
    let text = text.trim();
    let reason = text
        .rsplit_once("process: ")
        .map_or(text, |(_, reason)| reason);
    let reason = reason.strip_suffix(": unknown").unwrap_or(reason);
    let is_missing = ["executable file not found", "no such file or directory"];
    let code = if is_missing.iter().any(|words| reason.contains(words)) {
        NO_SUCH_PROGRAM
    } else {
        NOT_EXECUTABLE
    };
    Control::Failed {
        reason: format!("the command cannot be run: {reason}"),
        code: Some(code),
    }
}

fn not_run(error: &Error) -> Control {
    match error.kind {
        ErrorKind::Invalid => refused(&error.message),
        _ => Control::Failed {
            reason: error.message.clone(),
            code: Some(NOT_STARTED),
        },
    }
}

/// Takes what is said to the command.
struct Speaker<'a, R> {
    runtime: &'a R,
    exec: &'a ExecId,
    /// Until it was said that nothing more comes.
    input: Option<std::pin::Pin<Box<dyn AsyncWrite + Send>>>,
    notices: mpsc::Sender<Control>,
}

impl<R: Reach> Speaker<'_, R> {
    /// Listens until the other side leaves.
    async fn listen<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        incoming: &mut Incoming<S>,
    ) -> Result<(), socket::Error> {
        while let Some(message) = incoming.next().await? {
            match message {
                Message::Data(bytes) => self.write(&bytes).await?,
                Message::Control(Control::Eof) => self.close().await?,
                Message::Control(Control::Resize(size)) => {
                    if let Err(error) = self.runtime.resize(self.exec, size).await {
                        tracing::debug!(reason = %error, "a terminal kept its size");
                    }
                }
                Message::Control(Control::Signal { signal }) => self.signal(signal).await,
                Message::Control(other) => {
                    let what = format!("{other:?} is nothing that a command is told");
                    return Err(socket::Error::Malformed(what));
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), socket::Error> {
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        match timeout(STALLED_AFTER, input.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            // It takes no more: it closed its input, or has ended, which its output tells.
            Ok(Err(_)) => {
                self.input = None;
                Ok(())
            }
            Err(_) => Err(socket::Error::Stalled),
        }
    }

    async fn close(&mut self) -> Result<(), socket::Error> {
        let Some(mut input) = self.input.take() else {
            return Ok(());
        };
        match timeout(STALLED_AFTER, input.shutdown()).await {
            // One that is closed already is closed.
            Ok(Ok(()) | Err(_)) => {}
            Err(_) => return Err(socket::Error::Stalled),
        }
        Ok(())
    }

    async fn signal(&mut self, signal: SignalName) {
        if let Err(error) = self.runtime.signal(self.exec, signal).await {
            let notice = Control::SignalFailed {
                reason: error.message,
            };
            // Full: as much was said already as anybody reads.
            let _full = self.notices.try_send(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_has_the_exit_code_of_shells() {
        for (text, code, reason) in [
            (
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \
                 \"nope\": executable file not found in $PATH: unknown\r\n",
                127,
                "exec: \"nope\": executable file not found in $PATH",
            ),
            (
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \
                 \"/\": permission denied: unknown",
                126,
                "exec: \"/\": permission denied",
            ),
        ] {
            let Control::Failed {
                reason: said,
                code: told,
            } = refused(text)
            else {
                panic!("it was run");
            };
            assert_eq!(told, Some(code));
            assert_eq!(said, format!("the command cannot be run: {reason}"));
        }
    }
}
