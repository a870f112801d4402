//! The clocks of a machine: one that only grows, and the time of day, both a little wrong.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// When every run begins, for a clock that is right.
const EPOCH: Timestamp = Timestamp::constant(1_800_000_000, 0);

const MILLION: i128 = 1_000_000;

/// The clocks of a machine.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// The true time at which it was switched on.
    pub(crate) since: Duration,
    /// How much faster it runs, in millionths.
    pub(crate) drift_ppm: i64,
    /// How far the time of day is ahead.
    pub(crate) ahead: SignedDuration,
}

impl Clock {
    /// The time since it was switched on, as it counts.
    pub(crate) fn moment(&self, now: Duration) -> Duration {
        scaled(now.saturating_sub(self.since), self.drift_ppm)
    }

    /// The true time at which it counts `moment`, or a little later.
    pub(crate) fn when(&self, moment: Duration) -> Duration {
        let counted = nanos(moment);
        let truly = counted * MILLION / (MILLION + i128::from(self.drift_ppm));
        self.since.saturating_add(duration(truly + 1_000))
    }

    /// The time of day, in whole milliseconds.
    pub(crate) fn wall(&self, now: Duration) -> Timestamp {
        let since = i64::try_from(now.as_millis()).expect("a run is short");
        EPOCH + SignedDuration::from_millis(since) + self.ahead
    }
}

fn scaled(time: Duration, ppm: i64) -> Duration {
    let truly = nanos(time);
    duration(truly + truly * i128::from(ppm) / MILLION)
}

fn nanos(time: Duration) -> i128 {
    // Further than any run goes.
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / MILLION / MILLION)
}

fn duration(nanos: i128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
