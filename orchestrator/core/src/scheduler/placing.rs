//! The placement of one group.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Group,
    candidates::Candidates,
    explanation::Explanation,
    filter::Offer,
    score::{Image, NodeScore},
    standing::Standing,
    table::{Demand, Holder, NodeIndex, Table},
};
use crate::record::InstanceRecord;

/// A group on its way to its nodes.
#[derive(Debug)]
pub(super) struct Placing<'a> {
    table: &'a mut Table,
    group: Group<'a>,
    demand: Demand,
    image: String,
    /// How the workload stands on each node.
    standings: Vec<Standing>,
}

impl<'a> Placing<'a> {
    pub(super) fn new(table: &'a mut Table, group: &Group<'a>, standings: Vec<Standing>) -> Self {
        let demand = Demand::of(group.template);
        let image = group
            .template
            .main()
            .map(|c| c.image.with_tag())
            .unwrap_or_default();
        Self {
            table,
            group: *group,
            demand,
            image,
            standings,
        }
    }

    /// Places up to `count` instances, at least one, each on the node that is then best.
    pub(super) fn place(&mut self, count: usize) -> Vec<NodeIndex> {
        // Nothing that is placed changes where the workload failed. So the nodes with the fewest
        // failures are used up before any other, and the rest need not be compared with them.
        let mut by_failures: BTreeMap<u32, Vec<NodeIndex>> = BTreeMap::new();
        for node in (0..self.table.len()).filter(|node| self.fits(*node)) {
            by_failures
                .entry(self.failures(node))
                .or_default()
                .push(node);
        }
        let mut nodes = Vec::new();
        for fitting in by_failures.values() {
            let mut candidates = Candidates::new(self, fitting);
            while let Some(node) = candidates.place_on_best(self) {
                nodes.push(node);
                if nodes.len() == count {
                    return nodes;
                }
            }
        }
        nodes
    }

    /// Whether the node would pass every filter without `predecessor`, which uses `demand` of it.
    pub(super) fn fits_without(
        &mut self,
        predecessor: &Arc<InstanceRecord>,
        demand: &Demand,
        node: NodeIndex,
    ) -> bool {
        let holder = Holder::Instance(Arc::clone(predecessor));
        self.table.remove(node, demand, &holder);
        self.standings[node].instances -= 1;
        let fits = self.fits(node);
        self.standings[node].instances += 1;
        self.table.add(node, demand, || holder.clone());
        fits
    }

    /// Counts one instance of the group less on the node. What it uses is no matter of this.
    pub(super) fn leave(&mut self, node: NodeIndex) {
        let standing = &mut self.standings[node];
        standing.instances = standing.instances.saturating_sub(1);
        standing.staying = standing.staying.saturating_sub(1);
    }

    /// How many copies on the node are there to stay.
    pub(super) fn staying(&self, node: NodeIndex) -> u32 {
        self.standings[node].staying
    }

    /// Why the node fails a filter, if it does.
    pub(super) fn reason_against(&self, node: NodeIndex) -> Option<String> {
        let (_, rejection) = self.offer(node).rejection()?;
        Some(rejection.to_string())
    }

    /// Why no node fits.
    pub(super) fn explain(&self) -> Explanation {
        Explanation::of((0..self.table.len()).map(|node| self.offer(node)))
    }

    /// What the group is.
    pub(super) fn group(&self) -> &Group<'a> {
        &self.group
    }

    /// The nodes, and what is used on them now.
    pub(super) fn table(&self) -> &Table {
        self.table
    }

    /// The nodes that have copies that are there to stay, and how many.
    pub(super) fn copies(&self) -> Vec<(NodeIndex, u32)> {
        let copies = self
            .standings
            .iter()
            .map(|standing| standing.staying)
            .enumerate();
        copies.filter(|(_, copies)| *copies > 0).collect()
    }

    /// How many of the workload's instances failed on the node recently.
    pub(super) fn failures(&self, node: NodeIndex) -> u32 {
        self.standings[node].failures
    }

    /// Whether the node passes every filter.
    pub(super) fn fits(&self, node: NodeIndex) -> bool {
        self.offer(node).fits()
    }

    /// How good the node is in itself.
    pub(super) fn score(&self, node: NodeIndex) -> NodeScore {
        let has_image = self.table.node(node).has_image(&self.image);
        let image = if has_image {
            Image::Present
        } else {
            Image::Absent
        };
        NodeScore::new(&self.offer(node), image, node)
    }

    /// Counts an instance as placed on the node.
    pub(super) fn occupy(&mut self, node: NodeIndex) {
        let workload = self.group.workload;
        self.table
            .add(node, &self.demand, || Holder::Placed(workload.clone()));
        self.standings[node].instances += 1;
        self.standings[node].staying += 1;
    }

    fn offer(&self, node: NodeIndex) -> Offer<'_> {
        Offer {
            node: self.table.node(node),
            ports: self.table.ports(node),
            standing: self.standings[node],
            demand: &self.demand,
            placement: self.group.placement,
        }
    }
}
