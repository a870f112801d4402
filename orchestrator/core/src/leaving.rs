//! Why an instance should leave its node, and how.

use std::fmt;

use jiff::Timestamp;
use windlass_api::{ids::NodeName, resource::Scheduling, spec::Kind};

use crate::{
    cluster::Cluster,
    record::{InstanceRecord, NodeRecord, Relocation},
};

/// Why an instance should leave its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving<'a> {
    /// Its node drains.
    Drain {
        /// The node.
        node: &'a NodeName,
        /// When it is stopped, whether or not something has taken its place.
        deadline: Option<Timestamp>,
    },
    /// Its node was taken out of the cluster.
    Removed {
        /// The node.
        node: &'a NodeName,
    },
    /// It was asked to move.
    Asked(&'a Relocation),
}

/// How an instance leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terms {
    /// When another one has taken its place, or it has ended by itself.
    Orderly,
    /// Now.
    AtOnce,
}

impl Leaving<'_> {
    /// How it leaves.
    #[must_use]
    pub fn terms(&self, now: Timestamp) -> Terms {
        match self {
            Self::Drain { deadline, .. } if deadline.is_some_and(|at| at <= now) => Terms::AtOnce,
            Self::Removed { .. } => Terms::AtOnce,
            Self::Drain { .. } | Self::Asked(_) => Terms::Orderly,
        }
    }

    /// When it leaves at the latest, if that is known.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Drain { deadline, .. } => *deadline,
            Self::Removed { .. } | Self::Asked(_) => None,
        }
    }
}

impl fmt::Display for Leaving<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain { node, .. } => write!(f, "node {node} drains"),
            Self::Removed { node } => write!(f, "node {node} was removed"),
            Self::Asked(relocation) => {
                write!(f, "moves to {}: {}", relocation.to, relocation.reason)
            }
        }
    }
}

impl Cluster {
    /// Why an instance should leave its node, if it should. A daemon's stays while its node drains,
    /// and what has ended is only there for its log.
    #[must_use]
    pub fn leaving<'a>(&'a self, instance: &'a InstanceRecord) -> Option<Leaving<'a>> {
        let node = self.nodes.get(instance.node.as_ref()?)?;
        let stays = instance.pinned.is_some() || instance.has_ended();
        match node.scheduling {
            Scheduling::Removed { .. } => Some(Leaving::Removed { node: &node.name }),
            Scheduling::Draining { drain_deadline, .. } if !stays => Some(Leaving::Drain {
                node: &node.name,
                deadline: drain_deadline,
            }),
            Scheduling::Draining { .. } | Scheduling::Enabled | Scheduling::Cordoned => {
                let asked = instance.relocation.as_deref();
                asked
                    .filter(|r| r.given_up_at.is_none())
                    .map(Leaving::Asked)
            }
        }
    }

    /// The same in words, with what is done about it.
    #[must_use]
    pub fn why_leaving(&self, instance: &InstanceRecord) -> Option<String> {
        let leaving = self.leaving(instance)?;
        let workload = self.workloads.get(&instance.workload);
        let is_job = workload.is_some_and(|w| w.manifest.kind == Kind::Job);
        Some(match leaving {
            Leaving::Drain { .. } if is_job => format!("{leaving}; it runs to its end"),
            Leaving::Drain { .. } | Leaving::Removed { .. } | Leaving::Asked(_) => {
                leaving.to_string()
            }
        })
    }

    /// The instances that are still to leave a node before it can be taken away: all but those of
    /// daemons, and those that have ended.
    pub fn to_leave<'a>(
        &'a self,
        node: &'a NodeRecord,
    ) -> impl Iterator<Item = &'a InstanceRecord> + use<'a> {
        let instances = self.instances_on(&node.name).map(|instance| &**instance);
        instances.filter(|i| node.is_removed() || (i.pinned.is_none() && !i.has_ended()))
    }
}
