//! How containers are: what their probes say, and what follows from it.

//!
//! [`Prober`] makes the checks; `rota` knows which one is next, and `life` what follows from what
//! they saw. An image's own health check is made by the engine, and only read here.

use std::{collections::BTreeMap, time::Duration};

use windlass_api::{duration::Span, status::Readiness};

use crate::runtime::{ContainerId, Healthcheck};

pub(crate) use check::get;
pub(crate) use prober::Prober;
#[cfg(feature = "simulation")]
pub(crate) use rota::Rota;
pub(crate) use rota::{Memory, Subject};

mod check;
mod life;
mod prober;
mod rota;

/// How much of what a program wrote is repeated to people, in characters.
const WORDS_CHARS_MAX: usize = 120;

/// How the running containers are that are probed.
pub(crate) type Healths = BTreeMap<ContainerId, Health>;

/// How a running container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether it has started.
    pub(crate) start: Start,
    /// Whether it can serve.
    pub(crate) readiness: Readiness,
    /// What is to be done about it.
    pub(crate) verdict: Verdict,
}

/// Whether a container has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Its startup probe has not passed yet, or it is to be restarted.
    Pending,
    /// It has passed, or there is none.
    Done,
}

/// What is to be done about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// It does not start, or lives no longer: it is to be restarted.
    Restart {
        /// Which probe says so, and what it saw, for people.
        reason: String,
    },
}

impl Health {
    /// What follows from what the engine says.
    fn of(healthcheck: &Healthcheck) -> Self {
        let not_ready = |reason: &str| Readiness::NotReady {
            reason: Some(reason.to_owned()),
        };
        match healthcheck {
            Healthcheck::Starting => Self {
                start: Start::Done,
                readiness: not_ready("the image's health check has not passed yet"),
                verdict: Verdict::Fine,
            },
            Healthcheck::Healthy => Self {
                start: Start::Done,
                readiness: Readiness::Ready,
                verdict: Verdict::Fine,
            },
            Healthcheck::Unhealthy { exit_code, output } => {
                let ended = ended_with(*exit_code, output);
                let reason = format!("the image's health check {ended}");
                Self {
                    start: Start::Done,
                    readiness: not_ready(&reason),
                    verdict: Verdict::Restart { reason },
                }
            }
        }
    }
}

/// How a command ended, with the last line that it wrote.
fn ended_with(exit_code: i64, output: &str) -> String {
    let line = output.lines().rfind(|line| !line.trim().is_empty());
    match line {
        Some(line) => {
            let line = shortened(line.trim(), WORDS_CHARS_MAX);
            format!("ended with {exit_code}: {line}")
        }
        None => format!("ended with {exit_code}"),
    }
}

/// A text on one line, without characters that do something to a terminal, and not too long.
fn shortened(text: &str, chars_max: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(chars_max).collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
}

/// A time limit as it stands in a manifest.
fn in_words(limit: Duration) -> Span {
    Span::from_millis(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}
