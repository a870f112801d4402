//! `windlass completion`.

use std::io::Write;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::{cli, error::Failure, output};

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
        clap_complete::generate(self.shell, &mut offered(), "windlass", &mut script);
        Ok(output::stdout().write_all(&script)?)
    }
}

/// The command line without what only this program itself uses.
fn offered() -> Command {
    let all = cli::command();
    let visible = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    Command::new("windlass")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(all.get_arguments().cloned())
        .subcommands(visible.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_not_offered_and_everything_else_is() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut offered(), "windlass", &mut script);
        let script = String::from_utf8(script).unwrap();
        for command in cli::command().get_subcommands() {
            let is_offered = script.contains(&format!("windlass,{})", command.get_name()));
            assert_eq!(is_offered, !command.is_hide_set(), "{}", command.get_name());
        }
        assert!(
            script.contains("--server --context --namespace") && script.contains("rollout,undo)")
        );
    }
}
