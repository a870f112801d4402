//! Whether a running instance would be clearly better off on another node.
//!
//! What is gained is compared in the order of the scores: how even the copies are over the domains
//! of each attribute to spread over, then over the nodes, then the load. A move that gains in one
//! of these loses nothing in those before it. Each move makes the copies or the load strictly more
//! even, so that there is an end to them.

use std::{cmp::Ordering, fmt};

use windlass_api::{ids::NodeName, resource::Capacity, spec::Strategy};

use super::{
    Group, Scheduler,
    placing::Placing,
    standing,
    table::{Demand, Holder, NodeIndex, plus},
};
use crate::record::{Change, InstanceRecord};

/// How much fuller a node has to be than another one for a move because of load, in thousandths: a
/// move costs a start, and differences below a twentieth come and go.
const LOAD_GAIN_MIN: u64 = 50;

/// What an instance gains by a move. The fields of a variant tell why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gain {
    /// Copies are more even over the values of an attribute.
    Spread {
        attribute: String,
        from: u32,
        to: u32,
    },
    /// The node has no value of an attribute to spread over, and the other one has.
    Labelled { attribute: String },
    /// Copies are more even over the nodes.
    Copies { from: u32, to: u32 },
    /// The load is more even: thousandths of what each node has, before the move.
    Load { from: u64, to: u64 },
}

/// A node that is clearly better for an instance than its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Better {
    pub(crate) to: NodeName,
    pub(crate) gain: Gain,
}

impl Gain {
    /// Which of two gains is more: the one that counts first, then the larger one.
    pub(crate) fn rank(&self) -> (u8, u64) {
        match self {
            Self::Labelled { .. } => (3, 0),
            Self::Spread { from, to, .. } => (2, u64::from(from - to)),
            Self::Copies { from, to } => (1, u64::from(from - to)),
            Self::Load { from, to } => (0, from - to),
        }
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spread {
                attribute,
                from,
                to,
            } => write!(f, "{from} copies here and {to} there, by {attribute}"),
            Self::Labelled { attribute } => write!(f, "its node has no {attribute}"),
            Self::Copies { from, to } => {
                write!(f, "{from} copies on its node and {to} on that one")
            }
            Self::Load { from, to } => write!(
                f,
                "its node is {} % full and that one {} %",
                from / 10,
                to / 10
            ),
        }
    }
}

impl Scheduler {
    /// The node that is best for an instance of the group, if it is clearly better than its own.
    pub(crate) fn better_for(
        &mut self,
        group: &Group<'_>,
        instance: &InstanceRecord,
    ) -> Option<Better> {
        let counted = self.cluster.instances.get(&instance.id)?.clone();
        let from = self.table.index_of(counted.node.as_ref()?)?;
        let standings = standing::standings(&self.cluster, &self.table, group, &[], self.now);
        // Where its successor may start while it is there. One whose start failed is not tried.
        let placing = Placing::new(&mut self.table, group, standings.clone());
        let fit = |to: &NodeIndex| placing.failures(*to) == 0 && placing.fits(*to);
        let nodes = (0..standings.len()).filter(|to| *to != from);
        let fitting: Vec<NodeIndex> = nodes.filter(fit).collect();
        let demand = Demand::of_instance(&self.cluster, &counted);
        let holder = Holder::Instance(counted.clone());
        // What it would find elsewhere is what is there without it.
        self.table.remove(from, &demand, &holder);
        let mut placing = Placing::new(&mut self.table, group, standings);
        placing.leave(from);
        let gains = fitting
            .into_iter()
            .filter_map(|to| Some((gain(&placing, &demand, from, to)?, to)));
        // The first of several that are alike.
        let best = gains.max_by(|(a, at_a), (b, at_b)| match a.rank().cmp(&b.rank()) {
            Ordering::Equal => at_b.cmp(at_a),
            unequal => unequal,
        });
        let better = best.map(|(gain, to)| Better {
            to: placing.table().node(to).record.name.clone(),
            gain,
        });
        self.table.add(from, &demand, || holder.clone());
        better
    }

    /// Counts an instance as being on another node from now on.
    pub(crate) fn relocate(&mut self, instance: &InstanceRecord, to: &NodeName) {
        let Some(counted) = self.cluster.instances.get(&instance.id).cloned() else {
            return;
        };
        let demand = Demand::of_instance(&self.cluster, &counted);
        if let Some(from) = counted.node.as_ref().and_then(|n| self.table.index_of(n)) {
            let holder = Holder::Instance(counted.clone());
            self.table.remove(from, &demand, &holder);
        }
        let moved = std::sync::Arc::new(InstanceRecord {
            node: Some(to.clone()),
            ..InstanceRecord::clone(&counted)
        });
        if let Some(to) = self.table.index_of(to) {
            self.table
                .add(to, &demand, || Holder::Instance(moved.clone()));
        }
        let change = Change::Instance(moved.id.clone(), Some(moved));
        self.cluster.apply(&change);
    }
}

/// What an instance gains that goes from one node to another, if that is clear. `placing` is the
/// state without it.
fn gain(placing: &Placing<'_>, demand: &Demand, from: NodeIndex, to: NodeIndex) -> Option<Gain> {
    let placement = placing.group().placement;
    // The nodes of the domains that are compared: within the same values of what came before.
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for attribute in &placement.spread {
        let value = |node: NodeIndex| attribute.of(placing.table().node(node).record.facts());
        here.push(value(from));
        there.push(value(to));
        if here == there {
            continue;
        }
        match (here.last()?, there.last()?) {
            (None, Some(_)) => {
                let attribute = attribute.to_string();
                return Some(Gain::Labelled { attribute });
            }
            (Some(_), None) => return None,
            _ => {}
        }
        let attributes = &placement.spread[..here.len()];
        let count = |values: &[Option<&str>]| -> u32 {
            let in_domain = |node: &NodeIndex| {
                let facts = placing.table().node(*node).record.facts();
                let mut pairs = attributes.iter().zip(values);
                pairs.all(|(attribute, value)| attribute.of(facts) == *value)
            };
            let copies = placing.copies();
            copies
                .iter()
                .filter(|(n, _)| in_domain(n))
                .map(|(_, n)| n)
                .sum()
        };
        // With the instance itself.
        let (from, to) = (count(&here) + 1, count(&there));
        if from > to + 1 {
            let attribute = attribute.to_string();
            return Some(Gain::Spread {
                attribute,
                from,
                to,
            });
        }
        if from <= to {
            return None;
        }
    }
    if placement.strategy == Strategy::BinPack {
        return None;
    }
    let (copies_here, copies_there) = (placing.staying(from) + 1, placing.staying(to));
    if copies_here > copies_there + 1 {
        let (from, to) = (copies_here, copies_there);
        return Some(Gain::Copies { from, to });
    }
    if copies_here <= copies_there {
        return None;
    }
    load(placing, demand, from, to)
}

/// The same, by how full the nodes are: the move must leave the node that it is on no emptier than
/// the other one becomes.
fn load(placing: &Placing<'_>, demand: &Demand, from: NodeIndex, to: NodeIndex) -> Option<Gain> {
    let share = |node: NodeIndex, load: Capacity| {
        let all = placing.table().node(node).record.capacity;
        let part = |load: u64, all: u64| {
            // In billionths, so that the smallest instance counts on the largest machine.
            let part = u128::from(load) * 1_000_000_000 / u128::from(all.max(1));
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        part(load.cpu.0, all.cpu.0).max(part(load.memory.0, all.memory.0))
    };
    let load = |node: NodeIndex| placing.table().node(node).load;
    let (here, there) = (load(from), load(to));
    let before = share(from, plus(here, demand.load));
    let (left, arrived) = (share(from, here), share(to, plus(there, demand.load)));
    let (from, to) = (before / 1_000_000, share(to, there) / 1_000_000);
    let clear = from >= to.saturating_add(LOAD_GAIN_MIN) && left < before && arrived <= left;
    clear.then_some(Gain::Load { from, to })
}
