//! `windlass job`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Context;
use crate::{error::Failure, output::TextFormat};

mod run;

pub(super) use run::ended;

/// Run jobs by hand
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Job {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Run(run::Run),
}

impl Job {
    /// How the result is written.
    pub(crate) fn output(&self) -> TextFormat {
        match &self.action {
            Action::Run(run) => run.format.output,
        }
    }

    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self.action {
            Action::Run(run) => run.run(context).await,
        }
    }
}
