//! `windlass completion`.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{cli::Cli, error::Failure, output};

/// Print the completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
For bash, put this into ~/.bashrc: source <(windlass completion bash)")]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(self) -> Result<(), Failure> {
        // The generator panics where it cannot write, so it writes to memory.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "windlass", &mut script);
        Ok(output::stdout().write_all(&script)?)
    }
}
