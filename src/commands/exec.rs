//! `windlass exec`.

use std::{io::IsTerminal, process::ExitCode};

use bytes::{Bytes, BytesMut};
use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use windlass_api::{
    client::StreamSocket,
    ids::{ContainerName, InstanceId},
    socket::{self, Message},
    wire::{Channel, Control, ExecOptions, SignalName},
};

use self::terminal::Raw;
use super::{Context, target::Target};
use crate::{
    cli::Named,
    error::{ErrorFormat, Exit, Failure},
    output,
};

mod terminal;

/// How much of the input is read at a time, in bytes.
const PIECE_BYTES: usize = 32 << 10;
/// How many signals may wait to be sent. Who sends more of them leaves.
const SIGNALS_MAX: usize = 4;

/// Run a command in a container
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass exec -it web -- sh
  cat dump.sql | windlass exec -i db -- psql

The name of a workload stands for its first running instance. The exit code is that of the
command; 126 and 127 say that it cannot be run or is not there, 125 that something else failed.

With -t, keys like Ctrl-C go to the command's terminal. Without it, signals are passed on where
the agent runs as root beside the containers, since Docker itself cannot; a second Ctrl-C leaves
the command alone. A command that is left has its input closed, and with -t a hang-up follows;
one that minds neither runs on until its container stops.")]
pub(crate) struct Exec {
    /// Pass on standard input
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal: this one
    #[arg(short = 't', long)]
    tty: bool,
    /// The container. Default: the main one
    #[arg(short, long, value_name = "NAME")]
    container: Option<ContainerName>,
    /// The instance, or a workload
    name: Named<InstanceId>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        self.run_command(context)
            .await
            .map_err(|failure| failure.exiting(Exit::NotRun))
    }

    async fn run_command(self, context: &Context) -> Result<ExitCode, Failure> {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if self.tty && !is_terminal {
            return Err(Failure::new(
                Exit::Usage,
                "-t needs a terminal for input and output, and there is none",
            )
            .hint("leave -t out when input or output is a file or a pipe"));
        }
        let target = Target::find(context, &self.name).await?;
        let terminal = self.tty.then(terminal::size).transpose()?;
        let kind = self.tty.then(|| std::env::var("TERM").ok()).flatten();
        let options = ExecOptions {
            command: self.command,
            stdin: self.stdin,
            terminal,
            terminal_kind: kind.filter(|kind| !kind.is_empty()),
        };
        let container = self.container.as_ref();
        let opened = context
            .client
            .exec(&target.namespace, &target.id, container, &options);
        let socket = Box::pin(opened).await?;
        let raw = self.tty.then(Raw::enter).transpose()?;
        let ended = Box::pin(converse(socket, &options)).await;
        // Before anything is said.
        drop(raw);
        match ended? {
            End::Exited(code) => Ok(ExitCode::from(code)),
            End::Failed { reason, code } => {
                let report = Failure::new(Exit::NotRun, reason).report(ErrorFormat::Text);
                Ok(code.map_or(report, ExitCode::from))
            }
        }
    }
}

/// How the conversation ended.
enum End {
    Exited(u8),
    Failed { reason: String, code: Option<u8> },
}

/// Speaks with the command until it ends, or somebody leaves.
async fn converse(socket: StreamSocket, options: &ExecOptions) -> Result<End, Failure> {
    let (mut outgoing, mut incoming) = socket::split(socket);
    let (signals, mut wanted) = mpsc::channel(SIGNALS_MAX);
    let hearing = async {
        let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
        loop {
            match incoming.next().await.map_err(broken)? {
                Some(Message::Data(bytes)) => show(bytes, &mut out, &mut err).await?,
                Some(Message::Control(Control::Exit { code })) => return Ok(End::Exited(code)),
                Some(Message::Control(Control::Failed { reason, code })) => {
                    return Ok(End::Failed { reason, code });
                }
                Some(Message::Control(Control::SignalFailed { reason })) => {
                    output::say(&format!("{reason}; press Ctrl-C again to leave it alone"));
                }
                Some(Message::Control(_)) => {}
                None => {
                    let why = "the command's end was not told".to_owned();
                    return Err(broken(socket::Error::Closed(why)));
                }
            }
        }
    };
    let speaking = async {
        let mut input = options.stdin.then(tokio::io::stdin);
        let mut resized = signal(SignalKind::window_change()).map_err(no_signals)?;
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            let read = async {
                match &mut input {
                    Some(input) => input.read_buf(&mut buffer).await,
                    None => std::future::pending().await,
                }
            };
            // Cancel-safe, all of them: what was not taken is still there.
            let said = tokio::select! {
                biased;
                Some(signal) = wanted.recv() => outgoing.control(&Control::Signal { signal }).await,
                _ = resized.recv(), if options.terminal.is_some() => {
                    outgoing.control(&Control::Resize(terminal::size()?)).await
                }
                read = read => match read {
                    Ok(0) => {
                        input = None;
                        outgoing.control(&Control::Eof).await
                    }
                    Ok(_) => outgoing.data(buffer.split().freeze()).await,
                    Err(error) => {
                        let detail = format!("cannot read standard input: {error}");
                        return Err(Failure::new(Exit::Failed, detail));
                    }
                },
            };
            // What became of the command is on its way, or the other direction says why not.
            if said.is_err() {
                return std::future::pending().await;
            }
        }
    };
    // The one that is first decides; the others are not used any more.
    tokio::select! {
        ended = hearing => ended,
        failed = speaking => failed,
        left = leaving(signals, options) => left.map(End::Exited),
    }
}

/// Writes a piece of output to where it belongs.
async fn show(
    mut bytes: Bytes,
    out: &mut (impl AsyncWrite + Unpin),
    err: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Failure> {
    if bytes.is_empty() {
        return Ok(());
    }
    match Channel::of(bytes.split_to(1)[0]) {
        Some(Channel::Output) => {
            out.write_all(&bytes).await?;
            out.flush().await?;
        }
        Some(Channel::Error) => {
            err.write_all(&bytes).await?;
            err.flush().await?;
        }
        None => {
            let why = "an output of no known kind".to_owned();
            return Err(broken(socket::Error::Malformed(why)));
        }
    }
    Ok(())
}

/// Passes on the signals of this process; ends when it has to leave the command alone.
async fn leaving(signals: mpsc::Sender<SignalName>, options: &ExecOptions) -> Result<u8, Failure> {
    let listen = |kind| signal(kind).map_err(no_signals);
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut quit = listen(SignalKind::quit())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut passed_on = false;
    loop {
        // Cancel-safe, all of them.
        let signal = tokio::select! {
            _ = interrupt.recv() => SignalName::Int,
            _ = quit.recv() => SignalName::Quit,
            _ = terminate.recv() => SignalName::Term,
            _ = hang_up.recv() => SignalName::Hup,
        };
        // Behind a terminal, only the one that is to go with it is left: keys are input there.
        if options.terminal.is_some() || passed_on || signals.try_send(signal).is_err() {
            return Ok(128 + signal.number());
        }
        passed_on = true;
    }
}

fn broken(error: socket::Error) -> Failure {
    Failure::new(
        Exit::NotRun,
        format!("the connection to the command broke off: {error}"),
    )
    .hint("it may go on: look at it with `windlass exec`, or at the instance with `windlass describe`")
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot wait for signals: {error}"))
}
