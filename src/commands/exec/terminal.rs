//! This process's own terminal.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use windlass_api::wire::TerminalSize;

use crate::error::{Exit, Failure};

/// The terminal's size.
pub(super) fn size() -> Result<TerminalSize, Failure> {
    let size = tcgetwinsize(io::stdout()).map_err(|error| {
        let detail = format!("cannot tell the size of the terminal: {error}");
        Failure::new(Exit::Failed, detail)
    })?;
    Ok(TerminalSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// The terminal passes on every key as it is, until this is dropped.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    pub(super) fn enter() -> Result<Self, Failure> {
        let failed = |error| {
            let detail = format!("cannot set up the terminal: {error}");
            Failure::new(Exit::Failed, detail)
        };
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
