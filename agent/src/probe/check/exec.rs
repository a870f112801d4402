//! A check by a command in the container.

use std::fmt;

use windlass_api::spec::ExecCheck;

use super::NAME_CHARS_MAX;
use crate::{
    probe::{WORDS_CHARS_MAX, ended_with, life::Outcome, shortened},
    runtime::{ErrorKind, ExecOutcome, Result},
};

/// A command, made ready.
#[derive(Debug, Clone)]
pub(in crate::probe) struct Command(pub(in crate::probe) Vec<String>);

impl Command {
    pub(super) fn new(check: &ExecCheck) -> Self {
        Self(check.command.clone())
    }

    /// What its end says.
    pub(in crate::probe) fn outcome(&self, ended: Result<ExecOutcome>) -> Outcome {
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
