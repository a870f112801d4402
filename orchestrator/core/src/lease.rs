//! Leases: how long a node may be silent before it counts as lost.
//!
//! These are all the numbers about it. They are counted on a monotonic clock that the caller
//! reads, so that a jump of the time of day means nothing.

use std::{collections::BTreeMap, time::Duration};

use windlass_api::ids::NodeName;

/// How often an agent says that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a node may be silent before it is declared lost: four heartbeats may be missed.
pub const LOST_AFTER: Duration = Duration::from_secs(10);
/// How much longer a node may be silent after the server started or was itself suspended: agents
/// reconnect within 5 s, and a thousand of them need a few seconds more.
pub const RETURN_GRACE: Duration = Duration::from_secs(20);
/// How often leases are looked at.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The server itself was suspended if it did not look at leases for so long.
const GAP_MAX: Duration = Duration::from_secs(5);

/// A moment on the caller's monotonic clock, as the time since some fixed point.
pub type Moment = Duration;

/// When each node's lease ends.
#[derive(Debug, Clone)]
pub struct Leases {
    ends: BTreeMap<NodeName, Moment>,
    /// Before this moment no node is lost.
    grace_ends: Moment,
    checked: Moment,
}

impl Leases {
    /// The leases of a server that starts.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self {
            ends: BTreeMap::new(),
            grace_ends: now + LOST_AFTER + RETURN_GRACE,
            checked: now,
        }
    }

    /// Renews a node's lease.
    pub fn renew(&mut self, node: &NodeName, now: Moment) {
        self.ends.insert(node.clone(), now + LOST_AFTER);
    }

    /// Those of `nodes` whose lease is over. Call it every [`CHECK_INTERVAL`].
    pub fn expired<'a>(
        &mut self,
        nodes: impl Iterator<Item = &'a NodeName>,
        now: Moment,
    ) -> Vec<NodeName> {
        if now.saturating_sub(self.checked) > GAP_MAX {
            // What we did not hear while we were not listening proves nothing.
            self.grace_ends = self.grace_ends.max(now + LOST_AFTER + RETURN_GRACE);
        }
        self.checked = now;
        if now < self.grace_ends {
            return Vec::new();
        }
        nodes
            .filter(|node| self.ends.get(*node).is_none_or(|end| *end <= now))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn look_every_second(
        leases: &mut Leases,
        node: &NodeName,
        seconds: std::ops::Range<u32>,
    ) -> Option<u32> {
        seconds
            .into_iter()
            .find(|s| !leases.expired([node].into_iter(), SECOND * *s).is_empty())
    }

    #[test]
    fn a_silent_node_is_lost_neither_too_early_nor_too_late() {
        let node = "n1".parse().unwrap();
        let mut leases = Leases::new(Duration::ZERO);
        assert_eq!(look_every_second(&mut leases, &node, 0..100), Some(30));
        leases.renew(&node, SECOND * 30);
        assert_eq!(look_every_second(&mut leases, &node, 31..100), Some(40));
    }

    #[test]
    fn nothing_is_lost_because_the_server_was_suspended() {
        let node = "n1".parse().unwrap();
        let mut leases = Leases::new(Duration::ZERO);
        assert_eq!(look_every_second(&mut leases, &node, 0..20), None);
        assert_eq!(look_every_second(&mut leases, &node, 600..700), Some(630));
    }
}
