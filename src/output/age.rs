//! How long ago something was, or how long until it will be: `5s`, `3m`, `2h`, `4d`.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The time since `then` in its largest unit of which there are at least two, so that the error
/// stays below a half. A time in the future, from a clock that goes wrong, is `0s`.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    seconds(now.as_second().saturating_sub(then.as_second()))
}

/// The time until `then`, in the same way. A time that has passed is `0s`.
pub(crate) fn until(now: Timestamp, then: Timestamp) -> String {
    seconds(then.as_second().saturating_sub(now.as_second()))
}

fn seconds(secs: i64) -> String {
    match secs {
        ..0 => "0s".to_owned(),
        secs if secs < 2 * MINUTE => format!("{secs}s"),
        secs if secs < 2 * HOUR => format!("{}m", secs / MINUTE),
        secs if secs < 2 * DAY => format!("{}h", secs / HOUR),
        secs => format!("{}d", secs / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        for (secs, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (400 * DAY, "400d"),
        ] {
            assert_eq!(seconds(secs), text);
        }
    }

    #[test]
    fn an_age_is_the_difference_of_two_times() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        assert_eq!(age(now, "2026-01-01T00:00:00Z".parse().unwrap()), "10m");
        assert_eq!(age(now, Timestamp::MAX), "0s");
        assert_eq!(until(now, "2026-01-01T03:10:30Z".parse().unwrap()), "3h");
        assert_eq!(until(now, Timestamp::MIN), "0s");
    }
}
