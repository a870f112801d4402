//! The one place where the system's clock is read.

use jiff::Timestamp;

/// The current time of day, in UTC, cut to whole milliseconds.
///
/// It can jump. Whatever must not be fooled by a jump (leases, timeouts) uses
/// `tokio::time::Instant` instead.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
