//! How long to wait before trying again.

use std::time::Duration;

use crate::history::Member;

/// The wait after the second failure in a row of a container; after the first one there is none.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest wait of a container: what fails every five minutes costs a node next to nothing,
/// and what was mended is noticed within the time it takes to look.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(300);

/// The longest wait before a server is dialled again. A thousand agents then dial two hundred
/// times a second, which a server bears.
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(5);

const RECONNECT_MIN: Duration = Duration::from_millis(100);

/// How long to wait before a container is tried again that failed `failures` times in a row: not at
/// all, then 1 s doubling to 5 min, of which up to a fifth is taken off, so that those that failed
/// together do not come back together. The same container and number give the same wait.
pub(crate) fn retry_delay(member: &Member, failures: u32) -> Duration {
    #[cfg(feature = "mutants")]
    if windlass_api::mutants::Mutant::ForgottenBackoff.is_on() {
        return Duration::ZERO;
    }
    let Some(doublings) = failures.checked_sub(2) else {
        return Duration::ZERO;
    };
    let full = doubled(RETRY_MIN, doublings, RETRY_MAX);
    let seed = crc32c::crc32c_append(failures, member.instance.as_str().as_bytes());
    let seed = crc32c::crc32c_append(seed, member.part.to_string().as_bytes());
    full - full / 5 * (seed % 1000) / 1000
}

/// How long to wait before a server is dialled again after `attempts` attempts in vain: any time
/// ("full jitter") up to 100 ms doubling to 5 s. `random` is any random number.
pub(crate) fn reconnect_delay(attempts: u32, random: u64) -> Duration {
    let full = doubled(RECONNECT_MIN, attempts, RECONNECT_MAX);
    let millis = u64::try_from(full.as_millis()).expect("a few seconds fit into 64 bits");
    Duration::from_millis(random % (millis + 1))
}

fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Member {
        crate::testing::main_of(text)
    }

    #[test]
    fn the_wait_doubles_from_a_second_to_five_minutes() {
        assert_eq!(retry_delay(&id("web-0-1"), 0), Duration::ZERO);
        assert_eq!(retry_delay(&id("web-0-1"), 1), Duration::ZERO);
        for (failures, secs) in [
            (2, 1),
            (3, 2),
            (4, 4),
            (5, 8),
            (10, 256),
            (11, 300),
            (12, 300),
            (40, 300),
            (u32::MAX, 300),
        ] {
            let full = Duration::from_secs(secs);
            let delay = retry_delay(&id("web-0-1"), failures);
            assert!(
                delay <= full && delay >= full * 4 / 5,
                "{failures}: {delay:?}"
            );
        }
    }

    #[test]
    fn the_wait_is_spread_over_instances_and_the_same_for_one() {
        let delays: std::collections::BTreeSet<_> = (0..50)
            .map(|n| retry_delay(&id(&format!("web-{n}-{n}")), 12))
            .collect();
        assert!(delays.len() > 25, "only {} different waits", delays.len());
        assert_eq!(
            retry_delay(&id("web-0-1"), 9),
            retry_delay(&id("web-0-1"), 9)
        );
    }

    #[test]
    fn a_reconnect_waits_at_most_its_bound() {
        for (attempts, millis) in [(0, 100), (1, 200), (5, 3200), (6, 5000), (1000, 5000)] {
            let longest = reconnect_delay(attempts, millis);
            assert_eq!(longest, Duration::from_millis(millis), "{attempts}");
            assert_eq!(reconnect_delay(attempts, millis + 1), Duration::ZERO);
        }
    }
}
