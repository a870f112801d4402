//! This process's own terminal.

use std::io::{self, BufRead, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use windlass_api::wire::TerminalSize;
use windlass_trust::Secret;
use zeroize::Zeroizing;

use crate::{
    error::{Exit, Failure},
    output,
};

/// The longest line that is read without showing it, in bytes.
const HIDDEN_BYTES_MAX: usize = 4096;

/// The terminal's size.
pub(crate) fn size() -> Result<TerminalSize, Failure> {
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
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    pub(crate) fn enter() -> Result<Self, Failure> {
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

/// Asks for a line that is not shown while it is typed.
pub(crate) fn ask_hidden(what: &str) -> Result<Secret, Failure> {
    // Key by key, since a line that the terminal reads would leave it silent after a Ctrl-C. Silent
    // first, so that whatever is typed after the question is not shown.
    let raw = Raw::enter()?;
    let asked = write!(anstream::stderr(), "{what} (it is not shown): ");
    let line = asked
        .map_err(Failure::from)
        .and_then(|()| read_keys(io::stdin().lock()));
    drop(raw);
    output::say("");
    line
}

/// Reads keys up to the end of the line. As far as they can be edited, it is from the end.
fn read_keys(input: impl BufRead) -> Result<Secret, Failure> {
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    const BACKSPACE: u8 = 8;
    const KILL: u8 = 21;
    const DELETE: u8 = 127;
    let mut line = Zeroizing::new(Vec::with_capacity(HIDDEN_BYTES_MAX));
    for key in input.bytes() {
        let key = key.map_err(|error| {
            let detail = format!("cannot read the terminal: {error}");
            Failure::new(Exit::Failed, detail)
        })?;
        match key {
            b'\r' | b'\n' | END => return Ok(Secret::new(line.to_vec())),
            INTERRUPT => break,
            BACKSPACE | DELETE => drop(line.pop()),
            KILL => line.clear(),
            _ if line.len() == HIDDEN_BYTES_MAX => {
                return Err(Failure::new(Exit::Usage, "the line is too long"));
            }
            key => line.push(key),
        }
    }
    Err(Failure::new(Exit::Failed, "interrupted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_line_can_be_edited_and_ends_with_its_end() {
        for (keys, line) in [
            (&b"wla_x\rrest"[..], &b"wla_x"[..]),
            (b"wla_y\x7fx\n", b"wla_x"),
            (b"oops\x15wla_x\x04", b"wla_x"),
            (b"\x08\r", b""),
        ] {
            assert_eq!(read_keys(keys).unwrap().expose(), line);
        }
        for keys in [&b"wla_x\x03\r"[..], b"wla_x"] {
            assert!(read_keys(keys).is_err(), "{keys:?}");
        }
        assert!(read_keys(&[b'x'; HIDDEN_BYTES_MAX + 1][..]).is_err());
    }
}
