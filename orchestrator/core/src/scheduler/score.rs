//! Scores: which of the nodes that fit is best. The smaller is the better.
//!
//! What counts, in this order:
//! 1. fewest recent failures of the workload on the node;
//! 2. for each attribute to spread over, the [`Population`] of the node's domain. The domains of
//!    the second attribute lie within those of the first: racks within a zone;
//! 3. the node itself, as [`NodeScore`] says.
//!
//! All nodes differ in the last part, so that there is always one best node.

use std::cmp::Reverse;

use windlass_api::{resource::Capacity, spec::Strategy};

use super::{
    filter::Offer,
    table::{NodeIndex, plus},
};

/// How many copies are in a domain: the nodes that have the same value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Population {
    /// A domain with a value.
    Of(u32),
    /// The nodes without the attribute. They come last, however few copies they have.
    Unlabelled(u32),
}

impl Population {
    /// The population with one copy more.
    pub(super) fn grown(self) -> Self {
        match self {
            Self::Of(copies) => Self::Of(copies + 1),
            Self::Unlabelled(copies) => Self::Unlabelled(copies + 1),
        }
    }
}

/// Whether a node has the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Image {
    Present,
    Absent,
}

/// How good a node is in itself. The fields stand in the order in which they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NodeScore {
    /// The emptiest is best.
    Spread {
        /// How many copies are there to stay.
        copies: u32,
        /// The node's load with the instance, in tenths. It is rough so that an image that is
        /// there outweighs a small difference, but does not draw everything to one node.
        load_tenths: u32,
        image: Image,
        load_permille: u32,
        node: NodeIndex,
    },
    /// The fullest is best.
    BinPack {
        load_permille: Reverse<u32>,
        copies: u32,
        image: Image,
        node: NodeIndex,
    },
}

impl NodeScore {
    /// The score of the node at `index` if it is given an instance of the image `image`.
    pub(super) fn new(offer: &Offer<'_>, image: Image, node: NodeIndex) -> Self {
        let load = plus(offer.node.load, offer.demand.load);
        let load_permille = permille(load, offer.node.record.capacity);
        let copies = offer.standing.staying;
        match offer.placement.strategy {
            Strategy::Spread => Self::Spread {
                copies,
                load_tenths: load_permille / 100,
                image,
                load_permille,
                node,
            },
            Strategy::BinPack => Self::BinPack {
                load_permille: Reverse(load_permille),
                copies,
                image,
                node,
            },
        }
    }

    /// The node whose score this is.
    pub(super) fn node(&self) -> NodeIndex {
        match self {
            Self::Spread { node, .. } | Self::BinPack { node, .. } => *node,
        }
    }
}

/// The larger of the shares of cpu and memory, in thousandths. It may exceed 1,000.
fn permille(load: Capacity, capacity: Capacity) -> u32 {
    let share = |load: u64, capacity: u64| {
        let share = u128::from(load) * 1_000 / u128::from(capacity.max(1));
        u32::try_from(share).unwrap_or(u32::MAX)
    };
    share(load.cpu.0, capacity.cpu.0).max(share(load.memory.0, capacity.memory.0))
}
