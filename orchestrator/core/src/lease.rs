//! Leases: how long a node may be silent before it counts as lost.
//!
//! These are all the numbers about it. They are counted on a monotonic clock that the caller
//! reads, so that a jump of the time of day means nothing.
//!
//! A node's lease is renewed when a heartbeat arrives, whatever the controller and the disk do
//! meanwhile. Its agent counts the same lease from when it sent that heartbeat, so that for the
//! agent it is over first. A lease that is over is not renewed: the agent has to be let in again.

use std::{collections::BTreeMap, time::Duration};

use windlass_api::{
    duration::Span, ids::NodeName, resource::Evictions, template::InstanceTemplate,
};

use crate::{
    cluster::Cluster,
    record::{InstanceRecord, NodeRecord},
};

/// How often an agent says that it lives, in a cluster of up to 200 nodes.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// The most heartbeats per second that the nodes of a cluster send together. A server with 500 of
/// them each second took 4 to 9 % of a core in all, so that these take at most a fiftieth.
pub const HEARTBEATS_PER_SECOND_MAX: u32 = 100;
/// How many heartbeats may be missed before a node is lost.
pub const MISSED_MAX: u32 = 4;
/// How much longer than that a node may be silent: a heartbeat that is on its way takes time.
pub const LEASE_SLACK: Duration = Duration::from_secs(2);
/// How long a node may be silent before it is declared lost, in a cluster of up to 200 nodes: 10 s.
pub const LOST_AFTER: Duration = Pace::of(1).lease;
/// How much longer a node may be silent after the server started or was itself suspended: agents
/// reconnect within 5 s, and a thousand of them need a few seconds more.
pub const RETURN_GRACE: Duration = Duration::from_secs(20);
/// How often leases are looked at.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The server itself was suspended if it did not look at leases for so long.
const GAP_MAX: Duration = Duration::from_secs(5);
/// A node that missed so many heartbeats counts as dark, though it is not lost yet, when it is asked
/// whether most of the cluster is.
const MISSED_DARK: u32 = 2;
/// How many nodes have to be dark before the cluster may be cut in two: one can always fail.
const DARK_MIN: usize = 2;
/// How long after an exclusive instance must have been killed by its agent another one is started:
/// the engine's kill, and an agent that is busy.
pub const FENCE_MARGIN: Span = Span::from_secs(5);
/// How much slower the clock of a node may be than that of the server, as a fraction of the time
/// that both count: crystals are off by a ten-thousandth, bad virtual clocks by more.
const DRIFT_PER: u64 = 100;
/// A lease that is longer than that of a thousand nodes: what drift is counted on.
const LEASE_LONG: Span = Span::from_secs(60);
/// How soon a slot may move again because a node was lost: a link that comes and goes is not to
/// move its workloads around.
pub const MOVE_PAUSE: Span = Span::from_secs(60);
/// How long the original instance may take to serve once its node is back.
pub const RETURN_LIMIT: Span = Span::from_secs(30);

/// A moment on the caller's monotonic clock, as the time since some fixed point.
pub type Moment = Duration;

/// How often the agents of a cluster say that they live, and how long their leases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How often.
    pub heartbeat: Duration,
    /// How long a node may be silent.
    pub lease: Duration,
}

impl Pace {
    /// The pace of a cluster with so many nodes.
    #[must_use]
    pub const fn of(nodes: usize) -> Self {
        let millis = nodes as u64 * 1_000 / HEARTBEATS_PER_SECOND_MAX as u64;
        let shared = Duration::from_millis(millis);
        let heartbeat = if shared.as_millis() > HEARTBEAT.as_millis() {
            shared
        } else {
            HEARTBEAT
        };
        Self {
            heartbeat,
            lease: Duration::from_millis(
                heartbeat.as_millis() as u64 * MISSED_MAX as u64 + LEASE_SLACK.as_millis() as u64,
            ),
        }
    }
}

/// What is known of a node's lease.
#[derive(Debug, Clone, Copy)]
enum Lease {
    /// It was renewed at this moment, for this long.
    Held { heard: Moment, pace: Pace },
    /// It is over since this moment.
    Over { since: Moment },
}

/// When each node's lease ends.
#[derive(Debug, Clone)]
pub struct Leases {
    leases: BTreeMap<NodeName, Lease>,
    pace: Pace,
    /// Before this moment no node is lost.
    grace_ends: Moment,
    checked: Moment,
}

/// What a look at the leases found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The nodes whose lease is over, and that are not lost yet.
    pub lost: Vec<NodeName>,
    /// The lost nodes, and for how long they have been so at least.
    pub waited: Vec<(NodeName, Span)>,
    /// How many nodes are not heard from: those that are lost, and those that are about to be.
    pub dark: usize,
}

impl Leases {
    /// The leases of a server that starts.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self {
            leases: BTreeMap::new(),
            pace: Pace::of(1),
            grace_ends: now + LOST_AFTER + RETURN_GRACE,
            checked: now,
        }
    }

    /// Begins a node's lease: its agent was let in. Returns how it goes on.
    pub fn grant(&mut self, node: &NodeName, now: Moment) -> Pace {
        let pace = self.pace;
        self.leases
            .insert(node.clone(), Lease::Held { heard: now, pace });
        pace
    }

    /// Renews a node's lease, for a heartbeat that arrived now. `None` if it is over: the server has
    /// acted on that, or will, so that the agent has to be let in again.
    pub fn renew(&mut self, node: &NodeName, now: Moment) -> Option<Pace> {
        match self.leases.get(node) {
            Some(Lease::Held { .. }) => Some(self.grant(node, now)),
            Some(Lease::Over { .. }) | None => None,
        }
    }

    /// Looks at the leases of all nodes. Call it every [`CHECK_INTERVAL`].
    pub fn check(&mut self, cluster: &Cluster, now: Moment) -> Found {
        let nodes = &cluster.nodes;
        self.pace = Pace::of(nodes.len());
        self.leases.retain(|name, _| nodes.contains_key(name));
        if now.saturating_sub(self.checked) > GAP_MAX {
            // What we did not hear while we were not listening proves nothing.
            let grace_ends = now + self.pace.lease + RETURN_GRACE;
            self.grace_ends = self.grace_ends.max(grace_ends);
        }
        self.checked = now;
        #[cfg(feature = "mutants")]
        if windlass_api::mutants::Mutant::NoReturnGrace.is_on() {
            self.grace_ends = now;
        }
        let mut found = Found::default();
        for node in nodes.values() {
            self.check_node(node, now, &mut found);
        }
        found
    }

    fn check_node(&mut self, node: &NodeRecord, now: Moment, found: &mut Found) {
        // One that an operator took out of the cluster is not missed.
        let counts = usize::from(!node.is_removed());
        if node.is_lost() {
            found.dark += counts;
            // One that was lost before this server started is counted from the start: nobody knows
            // how long it had been so, nor whether it was just told that it is not.
            let start = Lease::Over { since: now };
            let lease = self.leases.entry(node.name.clone()).or_insert(start);
            match lease {
                Lease::Over { since } => {
                    let waited = u64::try_from(now.saturating_sub(*since).as_millis());
                    let waited = Span::from_millis(waited.unwrap_or(u64::MAX));
                    found.waited.push((node.name.clone(), waited));
                }
                // It was let in, which is not durable yet.
                Lease::Held { .. } => {}
            }
            return;
        }
        let silent = match self.leases.get(&node.name) {
            Some(Lease::Held { heard, pace }) => {
                let silent = now.saturating_sub(*heard);
                if silent > pace.heartbeat * MISSED_DARK {
                    found.dark += counts;
                }
                silent >= pace.lease
            }
            Some(Lease::Over { .. }) | None => {
                found.dark += counts;
                true
            }
        };
        if silent && now >= self.grace_ends {
            self.leases
                .insert(node.name.clone(), Lease::Over { since: now });
            found.lost.push(node.name.clone());
        }
    }
}

/// Whether instances on lost nodes are to be replaced, when so many of all nodes are dark. If most
/// of a cluster goes dark, it is more likely that the server is cut off than that all of them are
/// gone. Of two nodes, one may always fail.
#[must_use]
pub fn may_evict(dark: usize, all: usize) -> bool {
    #[cfg(feature = "mutants")]
    if windlass_api::mutants::Mutant::ForgottenBrake.is_on() {
        return true;
    }
    dark < DARK_MIN || dark * 2 <= all
}

/// How long after its node was declared lost an exclusive instance is certainly gone: its agent
/// began to stop it when its own lease ended, which was before, and killed it after the grace
/// period, by a clock that may be slow.
#[must_use]
pub fn fenced_after(template: &InstanceTemplate) -> Span {
    #[cfg(feature = "mutants")]
    if windlass_api::mutants::Mutant::HastyFence.is_on() {
        return Span::default();
    }
    let grace = template.stop_grace_period.as_secs_ceil() * 1_000;
    let drift = (grace + LEASE_LONG.as_millis()) / DRIFT_PER;
    Span::from_millis(grace + FENCE_MARGIN.as_millis() + drift)
}

/// How long after its node was declared lost an instance may be replaced, if it is to be at all.
#[must_use]
pub fn replaced_after(cluster: &Cluster, instance: &InstanceRecord) -> Option<Span> {
    let workload = cluster.workloads.get(&instance.workload);
    let policy = workload.and_then(|w| w.manifest.spec.disconnect());
    let fence = fence(cluster, instance);
    let wait = policy.map_or(Span::default(), |policy| policy.lost_after);
    let never = policy.is_some_and(|policy| !policy.replace);
    (!never).then(|| wait.max(fence.unwrap_or_default()))
}

/// Whether something on a lost node is waited for that is over after `waited`, and was not after
/// `before`.
pub(crate) fn passes(cluster: &Cluster, node: &NodeName, before: Span, waited: Span) -> bool {
    let passed = |wait: Span| before < wait && wait <= waited;
    cluster.instances_on(node).any(|instance| {
        replaced_after(cluster, instance).is_some_and(passed)
            || fence(cluster, instance).is_some_and(passed)
    })
}

/// Whether instances on lost nodes are replaced now.
#[must_use]
pub fn evicts(cluster: &Cluster) -> bool {
    match cluster.record.evictions {
        Evictions::Allowed => true,
        Evictions::Stopped { .. } => false,
    }
}

/// Whether an instance is certainly gone though nobody has confirmed it.
#[must_use]
pub fn is_fenced(cluster: &Cluster, instance: &InstanceRecord, waited: Span) -> bool {
    fence(cluster, instance).is_none_or(|fence| fence <= waited)
}

/// [`fenced_after`] of an instance, if it is exclusive.
fn fence(cluster: &Cluster, instance: &InstanceRecord) -> Option<Span> {
    let template = cluster.template_of(instance).filter(|t| t.exclusive);
    template.map(|template| fenced_after(template))
}

#[cfg(test)]
mod tests;
