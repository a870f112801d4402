//! Placement: which node takes an instance.
//!
//! A node is a candidate if it passes every [`Filter`]; the best candidate is the one with the
//! smallest score (`score.rs` says what counts, and in which order). Instances of one revision are
//! placed together: the nodes are filtered once, and each instance then costs about the logarithm
//! of their number (`candidates.rs`).
//!
//! What holds room on a node (cpu, memory, host ports, the limit per node) is every instance
//! that has a record there, since one that is to stop uses them until it is gone; only one of a job
//! that has ended uses nothing. What a score counts is only those that are there to stay.

mod better;
mod candidates;
mod explanation;
mod filter;
mod placing;
mod score;
mod standing;
mod table;

use std::collections::BTreeMap;

use jiff::Timestamp;
use windlass_api::{
    ids::{NodeName, RevisionNumber, WorkloadKey},
    resource::Capacity,
    spec::{ContainerSpec, Placement},
    template::InstanceTemplate,
};

pub(crate) use self::better::Better;
pub use self::{
    explanation::{Explanation, Failure},
    filter::Filter,
};
use self::{
    placing::Placing,
    table::{Demand, NodeIndex, Table},
};
use crate::{cluster::Cluster, record::InstanceRecord};

/// Instances that are alike: those of one revision of a workload.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// The workload.
    pub workload: &'a WorkloadKey,
    /// The revision.
    pub revision: RevisionNumber,
    /// Which nodes may run the instances, and which of those to prefer.
    pub placement: &'a Placement,
    /// What the instances are made from.
    pub template: &'a InstanceTemplate,
}

/// Where the instances of a group go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// A node for each instance that found one, in the order in which they were chosen.
    pub nodes: Vec<NodeName>,
    /// Why the others found none; `None` if there are no others.
    pub unplaced: Option<Explanation>,
}

/// Places instances on the nodes of one snapshot, each on top of those placed before.
#[derive(Debug)]
pub struct Scheduler {
    cluster: Cluster,
    now: Timestamp,
    table: Table,
    /// What was placed on top of the snapshot.
    placed: BTreeMap<WorkloadKey, Vec<(RevisionNumber, NodeIndex)>>,
}

impl Scheduler {
    /// A scheduler for the nodes of `cluster`. It counts what every instance with a node uses.
    #[must_use]
    pub fn new(cluster: &Cluster, now: Timestamp) -> Self {
        let table = Table::new(cluster);
        Self {
            cluster: cluster.clone(),
            now,
            table,
            placed: BTreeMap::new(),
        }
    }

    /// Places up to `count` instances. What is placed counts as used from then on.
    pub fn place(&mut self, group: &Group<'_>, count: usize) -> Placed {
        if count == 0 {
            return Placed {
                nodes: Vec::new(),
                unplaced: None,
            };
        }
        let mut placing = self.placing(group);
        let nodes = placing.place(count);
        let unplaced = (nodes.len() < count).then(|| placing.explain());
        let names = nodes
            .iter()
            .map(|node| self.table.node(*node).record.name.clone())
            .collect();
        self.remember(group, nodes);
        Placed {
            nodes: names,
            unplaced,
        }
    }

    /// Places one instance as if `predecessor`, an instance of the same slot, were not there: for
    /// a replacement that fits only once its predecessor is gone. Only the predecessor's own node
    /// is an answer.
    ///
    /// What is placed counts as used from then on, and the predecessor still does, too, so that
    /// nobody else is given the room that both of them fill.
    pub fn place_instead_of(
        &mut self,
        group: &Group<'_>,
        predecessor: &InstanceRecord,
    ) -> Option<NodeName> {
        // The snapshot's record is the one that was counted.
        let counted = self.cluster.instances.get(&predecessor.id)?.clone();
        if counted.workload != *group.workload {
            return None;
        }
        let name = counted.node.as_ref()?;
        let node = self.table.index_of(name)?;
        let demand = Demand::of_instance(&self.cluster, &counted);
        let mut placing = self.placing(group);
        if !placing.fits_without(&counted, &demand, node) {
            return None;
        }
        placing.occupy(node);
        self.remember(group, vec![node]);
        Some(name.clone())
    }

    /// Places one instance on this node. What is placed counts as used from then on.
    ///
    /// # Errors
    /// Why it does not fit there.
    pub fn place_on(&mut self, group: &Group<'_>, name: &NodeName) -> Result<(), String> {
        let Some(node) = self.table.index_of(name) else {
            return Err(format!("there is no node {name}"));
        };
        let mut placing = self.placing(group);
        if let Some(why) = placing.reason_against(node) {
            return Err(format!("does not fit on node {name}: {why}"));
        }
        placing.occupy(node);
        self.remember(group, vec![node]);
        Ok(())
    }

    fn placing<'a>(&'a mut self, group: &Group<'a>) -> Placing<'a> {
        let placed = self
            .placed
            .get(group.workload)
            .map_or(&[][..], Vec::as_slice);
        let standings = standing::standings(&self.cluster, &self.table, group, placed, self.now);
        Placing::new(&mut self.table, group, standings)
    }

    fn remember(&mut self, group: &Group<'_>, nodes: Vec<NodeIndex>) {
        if !nodes.is_empty() {
            self.placed
                .entry(group.workload.clone())
                .or_default()
                .extend(nodes.into_iter().map(|node| (group.revision, node)));
        }
    }
}

/// What is set aside for an instance. A limit without a request is a request, as in Kubernetes:
/// who bounds what a copy may use has said what it needs.
#[must_use]
pub fn needs(template: &InstanceTemplate) -> Capacity {
    // Init containers run one at a time, and before the others: the most that one of them needs
    // is enough, if it is more than what all the others need together.
    let init = template.init_containers.iter().map(needs_of);
    let init = init.fold(Capacity::default(), |a, b| Capacity {
        cpu: a.cpu.max(b.cpu),
        memory: a.memory.max(b.memory),
    });
    let sum = template.containers.iter().map(needs_of);
    let sum = sum.fold(Capacity::default(), table::plus);
    Capacity {
        cpu: sum.cpu.max(init.cpu),
        memory: sum.memory.max(init.memory),
    }
}

fn needs_of(container: &ContainerSpec) -> Capacity {
    let resources = &container.resources;
    Capacity {
        cpu: resources.cpu.or(resources.limits.cpu).unwrap_or_default(),
        memory: resources
            .memory
            .or(resources.limits.memory)
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
