//! One probe of one life of a container: what it saw in a row, and when it is made next.

use std::time::Duration;

use tokio::time::Instant;
use windlass_api::spec::Probe;

use super::Outcome;

/// The first interval of a readiness probe that has not passed yet, doubling up to its own: most
/// programs listen within a second, and a rollout waits for each of them.
const EAGER_INTERVAL: Duration = Duration::from_millis(250);

/// One probe of a container.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) interval: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    /// The end of its delay.
    pub(super) ripe: Instant,
    streak: Streak,
    pub(super) next: Next,
}

/// What was seen last, and how often in a row.
#[derive(Debug)]
enum Streak {
    Unseen,
    Passes(u32),
    Failures { count: u32, saw: String },
}

/// The next check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is due then.
    At(Instant),
    /// It began then, and is being made.
    Begun(Instant),
    /// None is to be made.
    Never,
}

impl Track {
    pub(super) fn new(probe: &Probe, age: Duration, now: Instant) -> Self {
        Self {
            interval: probe.interval.as_std(),
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
            ripe: now + probe.delay.as_std().saturating_sub(age),
            streak: Streak::Unseen,
            next: Next::Never,
        }
    }

    /// A check came to its end.
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.streak.add(outcome);
    }

    /// Whether it passed often enough in a row.
    pub(super) fn passed(&self) -> bool {
        matches!(self.streak, Streak::Passes(count) if count >= self.success_threshold)
    }

    /// What it saw, if it failed too often in a row.
    pub(super) fn exhausted(&self) -> Option<String> {
        match &self.streak {
            Streak::Failures { count, saw } if *count >= self.failure_threshold => {
                Some(match count {
                    1 => saw.clone(),
                    _ => format!("{saw} ({count} times in a row)"),
                })
            }
            Streak::Unseen | Streak::Passes(_) | Streak::Failures { .. } => None,
        }
    }

    /// What it saw, for one that has not passed often enough.
    pub(super) fn saw(&self) -> Option<String> {
        match &self.streak {
            Streak::Unseen => None,
            Streak::Passes(count) => Some(format!(
                "passed {count} of {} times in a row",
                self.success_threshold
            )),
            Streak::Failures { saw, .. } => Some(saw.clone()),
        }
    }

    /// The interval of a probe that is waited for.
    pub(super) fn eager_pace(&self) -> Duration {
        match &self.streak {
            Streak::Unseen | Streak::Passes(_) => self.interval,
            Streak::Failures { count, .. } => {
                let factor = 1_u32.checked_shl(count - 1).unwrap_or(u32::MAX);
                EAGER_INTERVAL.saturating_mul(factor).min(self.interval)
            }
        }
    }
}

impl Streak {
    fn add(&mut self, outcome: Outcome) {
        let next = match (&*self, outcome) {
            (_, Outcome::Unknown) => return,
            (Self::Passes(count), Outcome::Passed) => Self::Passes(count.saturating_add(1)),
            (Self::Unseen | Self::Failures { .. }, Outcome::Passed) => Self::Passes(1),
            (Self::Failures { count, .. }, Outcome::Failed(saw)) => Self::Failures {
                count: count.saturating_add(1),
                saw,
            },
            (Self::Unseen | Self::Passes(_), Outcome::Failed(saw)) => {
                Self::Failures { count: 1, saw }
            }
        };
        *self = next;
    }
}
