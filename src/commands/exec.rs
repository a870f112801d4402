//! `windlass exec`.

use std::{io::IsTerminal, process::ExitCode};

use clap::Args;
use windlass_api::{
    ids::{ContainerName, InstanceId},
    socket,
    wire::ExecOptions,
};

use self::{
    conversation::{End, Person, converse},
    signals::{Behind, Signals},
};
use super::{Context, target::Target};
use crate::{
    cli::Named,
    error::{ErrorFormat, Exit, Failure},
    terminal::{self, Raw},
};

mod conversation;
mod signals;

/// Run a command in a container
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass exec -it web -- sh
  cat dump.sql | windlass exec -i db -- psql

The name of a workload stands for its first running instance. The exit code is that of the
command; 126 and 127 say that it cannot be run or is not there, 125 that something else failed.

With -t, keys like Ctrl-C go to the command's terminal. Without it, the first Ctrl-C, Ctrl-\\,
SIGTERM or SIGHUP is passed on to the command, and a second one leaves it. A command that is left
has its input closed and gets a hang-up, also when a connection breaks; one that minds neither runs
on until its container stops. Docker has no signals for commands, so they come only where the
agent runs as root beside the containers.")]
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
        let stream = socket::split(Box::pin(opened).await?);
        let behind = if self.tty {
            Behind::Terminal
        } else {
            Behind::Nothing
        };
        let (signals, wishes) = Signals::listen(behind)?;
        let person = Person {
            input: options.stdin.then(tokio::io::stdin),
            output: tokio::io::stdout(),
            errors: tokio::io::stderr(),
            wishes,
        };
        let raw = self.tty.then(Raw::enter).transpose()?;
        // The one that is first decides; the other is not used any more.
        let ended = tokio::select! {
            ended = Box::pin(converse(stream, person)) => ended,
            left = signals.pass_on() => left.map(|signal| End::Exited(128 + signal.number())),
        };
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
