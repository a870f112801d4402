//! What this process is told by signals, as wishes about a command.

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};
use windlass_api::wire::{SignalName, TerminalSize};

use super::conversation::Wishes;
use crate::{
    error::{Exit, Failure},
    terminal,
};

/// How many signals may wait to be sent. Who sends more of them leaves.
const SIGNALS_MAX: usize = 4;

/// Whether the command has a terminal: there, keys that send signals are input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    Terminal,
    Nothing,
}

/// The signals that this process gets.
pub(super) struct Signals {
    behind: Behind,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hang_up: Signal,
    resized: Signal,
    sizes: watch::Sender<Option<TerminalSize>>,
    signals: mpsc::Sender<SignalName>,
}

impl Signals {
    /// From now on, signals do not end this process.
    pub(super) fn listen(behind: Behind) -> Result<(Self, Wishes), Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot wait for signals: {error}"))
            })
        };
        let (sizes, sizes_wanted) = watch::channel(None);
        let (signals, signals_wanted) = mpsc::channel(SIGNALS_MAX);
        let listening = Self {
            behind,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            resized: listen(SignalKind::window_change())?,
            sizes,
            signals,
        };
        let wishes = Wishes {
            sizes: sizes_wanted,
            signals: signals_wanted,
        };
        Ok((listening, wishes))
    }

    /// Passes on what this process is told, until it has to leave: the signal that says so.
    pub(super) async fn pass_on(mut self) -> Result<SignalName, Failure> {
        let mut passed_on = false;
        loop {
            // Cancel-safe, all of them.
            let signal = tokio::select! {
                _ = self.interrupt.recv() => SignalName::Int,
                _ = self.quit.recv() => SignalName::Quit,
                _ = self.terminate.recv() => SignalName::Term,
                _ = self.hang_up.recv() => SignalName::Hup,
                _ = self.resized.recv(), if self.behind == Behind::Terminal => {
                    self.sizes.send_replace(Some(terminal::size()?));
                    continue;
                }
            };
            // Behind a terminal, only the one that is to go with it is left.
            let leaves = self.behind == Behind::Terminal || passed_on;
            if leaves || self.signals.try_send(signal).is_err() {
                return Ok(signal);
            }
            passed_on = true;
        }
    }
}
