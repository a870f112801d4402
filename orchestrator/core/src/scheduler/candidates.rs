//! The candidates for a group's instances, kept so that the best is always at hand.
//!
//! They form a tree: a level for each attribute to spread over, with the nodes as its leaves, and
//! in each inner place a heap. An instance that is placed changes the score of its own node
//! and the populations of the domains around it; these are the tops of the heaps on the way to it,
//! so that each heap has only its top to move.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap, binary_heap::PeekMut},
};

use windlass_api::expression::NodeAttribute;

use super::{
    placing::Placing,
    score::{NodeScore, Population},
    table::NodeIndex,
};

/// Nodes or domains, the best on top. Its order is that of its best.
#[derive(Debug)]
pub(super) struct Candidates(BinaryHeap<Reverse<Candidate>>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Candidate {
    Domain {
        population: Population,
        members: Candidates,
    },
    Node(NodeScore),
}

/// What came of trying the best candidate.
enum Attempt {
    /// It took an instance.
    Placed(NodeIndex),
    /// It does not fit any more and was dropped: another one is the best now.
    Dropped,
    /// There is none.
    Exhausted,
}

impl Candidates {
    /// The nodes in `fitting`, as candidates.
    pub(super) fn new(placing: &Placing<'_>, fitting: &[NodeIndex]) -> Self {
        let attributes = &placing.group().placement.spread;
        let copies = if attributes.is_empty() {
            Vec::new()
        } else {
            placing.copies()
        };
        Self::within(placing, attributes, fitting, &copies)
    }

    /// The candidates of a domain: its nodes in `fitting`, by the `attributes` that are left to
    /// spread over. `copies` are the copies in the domain, on nodes that fit and others.
    fn within(
        placing: &Placing<'_>,
        attributes: &[NodeAttribute],
        fitting: &[NodeIndex],
        copies: &[(NodeIndex, u32)],
    ) -> Self {
        let Some((attribute, inner)) = attributes.split_first() else {
            let nodes = fitting
                .iter()
                .map(|node| Candidate::Node(placing.score(*node)));
            return Self(nodes.map(Reverse).collect());
        };
        let value = |node: NodeIndex| attribute.of(placing.table().node(node).record.facts());
        let mut domains: BTreeMap<Option<&str>, (Vec<NodeIndex>, Vec<_>)> = BTreeMap::new();
        for node in fitting {
            domains.entry(value(*node)).or_default().0.push(*node);
        }
        for (node, copies) in copies {
            if let Some(domain) = domains.get_mut(&value(*node)) {
                domain.1.push((*node, *copies));
            }
        }
        let domains = domains.into_iter().map(|(value, (fitting, copies))| {
            let count = copies.iter().map(|(_, copies)| copies).sum();
            Reverse(Candidate::Domain {
                population: value.map_or(Population::Unlabelled(count), |_| Population::Of(count)),
                members: Self::within(placing, inner, &fitting, &copies),
            })
        });
        Self(domains.collect())
    }

    /// Places an instance on the best node that fits; `None` if no node does.
    pub(super) fn place_on_best(&mut self, placing: &mut Placing<'_>) -> Option<NodeIndex> {
        loop {
            match self.attempt(placing) {
                Attempt::Placed(node) => return Some(node),
                Attempt::Dropped => {}
                Attempt::Exhausted => return None,
            }
        }
    }

    fn attempt(&mut self, placing: &mut Placing<'_>) -> Attempt {
        let Some(mut best) = self.0.peek_mut() else {
            return Attempt::Exhausted;
        };
        let attempt = match &mut best.0 {
            Candidate::Node(score) if placing.fits(score.node()) => {
                let node = score.node();
                placing.occupy(node);
                *score = placing.score(node);
                Attempt::Placed(node)
            }
            // It is full, or another node took a host port of the engine that both share.
            Candidate::Node(_) => Attempt::Exhausted,
            Candidate::Domain {
                population,
                members,
            } => {
                let attempt = members.attempt(placing);
                if let Attempt::Placed(_) = attempt {
                    *population = population.grown();
                }
                attempt
            }
        };
        match attempt {
            Attempt::Exhausted => {
                PeekMut::pop(best);
                Attempt::Dropped
            }
            Attempt::Placed(_) | Attempt::Dropped => attempt,
        }
    }

    fn best(&self) -> Option<&Candidate> {
        self.0.peek().map(|best| &best.0)
    }
}

impl Ord for Candidates {
    fn cmp(&self, other: &Self) -> Ordering {
        self.best().cmp(&other.best())
    }
}

impl PartialOrd for Candidates {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidates {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidates {}
