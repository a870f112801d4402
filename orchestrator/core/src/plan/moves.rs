//! What a kind of workload asks of a pass of the planner.

use jiff::Timestamp;
use windlass_api::{
    ids::{InstanceId, NodeName, RevisionNumber, Slot, WorkloadKey},
    resource::Goal,
};

use crate::{cluster::Cluster, record::InstanceRecord};

/// What is to be done for a workload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// In order.
    pub(super) list: Vec<Move>,
    /// When to look again if nothing happens until then.
    pub(super) wake: Option<Timestamp>,
}

/// Something to do for a slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// An instance is no longer wanted.
    Stop { id: InstanceId, why: String },
    /// A prepared instance can run: what it waited for is gone.
    Run { id: InstanceId },
    /// An instance is needed, or waits for a node.
    Place(Place),
}

/// An instance that needs a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The slot that it is to fill.
    pub(super) slot: Slot,
    /// The revision that it is to be made from.
    pub(super) revision: RevisionNumber,
    /// The record that waits for a node; `None` if there is none yet.
    pub(super) waiting: Option<InstanceId>,
    /// The only node that it may run on, if it may not run on any.
    pub(super) pinned: Option<NodeName>,
    /// Where it may go.
    pub(super) spot: Spot,
    /// The instance that it replaces since nobody hears from its node, if it does.
    pub(super) lost: Option<InstanceId>,
    /// Why it is needed.
    pub(super) why: String,
}

/// Where an instance may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spot {
    /// To the best node.
    Free,
    /// To the best node or, if none has room beside this running instance, in its stead: then it
    /// only gets ready until the other one is gone.
    BesideOrInstead(InstanceId),
    /// Where this instance is, or else to the best node; and it only gets ready until the other
    /// one is gone.
    Instead(InstanceId),
    /// To this node, which is better for it than where this instance is. If it does not fit there
    /// any more, the instance stays where it is.
    At {
        node: NodeName,
        instead_of: InstanceId,
    },
    /// Nowhere yet, and this is why.
    Nowhere(String),
}

impl Place {
    /// The only node that it may go to, if it is a certain one.
    pub(super) fn only_node(&self) -> Option<&NodeName> {
        match &self.spot {
            Spot::At { node, .. } => Some(node),
            Spot::Free | Spot::BesideOrInstead(_) | Spot::Instead(_) | Spot::Nowhere(_) => {
                self.pinned.as_ref()
            }
        }
    }
}

impl Moves {
    /// Looks again at this time at the latest.
    pub(super) fn wake_at(&mut self, at: Timestamp) {
        self.wake = [self.wake, Some(at)].into_iter().flatten().min();
    }

    /// Stops an instance.
    pub(super) fn stop(&mut self, instance: &InstanceRecord, why: impl Into<String>) {
        self.list.push(Move::Stop {
            id: instance.id.clone(),
            why: why.into(),
        });
    }
}

/// The instances of a workload that are not to stop already.
pub(super) fn live<'a>(cluster: &'a Cluster, key: &WorkloadKey) -> Vec<&'a InstanceRecord> {
    cluster
        .instances_of(key)
        .map(|i| &**i)
        .filter(|i| i.goal != Goal::Stop)
        .collect()
}
