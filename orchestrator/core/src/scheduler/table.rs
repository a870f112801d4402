//! The nodes, and what is used on each.

use std::{collections::BTreeMap, fmt, sync::Arc};

use windlass_api::{
    ids::{NodeName, RevisionNumber, WorkloadKey},
    quantity::{CpuMillis, MemoryBytes},
    resource::Capacity,
    spec::Protocol,
    template::InstanceTemplate,
};

use super::needs;
use crate::{
    cluster::Cluster,
    record::{InstanceRecord, NodeRecord},
};

/// What an instance that asks for nothing is taken to use, when nodes are compared: about what a
/// small service takes. It keeps such instances, which are most, from being weightless; it never
/// keeps one off a node.
const NOMINAL_CPU: CpuMillis = CpuMillis(100);
/// The same for memory.
const NOMINAL_MEMORY: MemoryBytes = MemoryBytes(64 << 20);

/// The position of a node in the table. Nodes are in the order of their names.
pub(super) type NodeIndex = usize;

/// A port of a Docker engine's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostPort {
    number: u16,
    protocol: Protocol,
}

/// What one instance uses of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// What is set aside for it.
    pub(super) requests: Capacity,
    /// The requests, or the nominal amount of what is not requested.
    pub(super) load: Capacity,
    /// The host ports that it occupies.
    pub(super) ports: Vec<HostPort>,
}

/// Who occupies a host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// An instance of the snapshot.
    Instance(Arc<InstanceRecord>),
    /// An instance of this workload, placed on top of the snapshot: it has no id here.
    Placed(WorkloadKey),
}

/// The occupied host ports of one engine.
pub(super) type HostPorts = BTreeMap<HostPort, Vec<Holder>>;

/// A node and what is used on it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) record: Arc<NodeRecord>,
    /// The sum of the requests.
    pub(super) used: Capacity,
    /// The sum of the loads.
    pub(super) load: Capacity,
    images: Option<Arc<Vec<String>>>,
    engine: usize,
}

/// The nodes of a snapshot.
#[derive(Debug)]
pub(super) struct Table {
    /// The names of the nodes, close together, since each instance's node is looked up here.
    names: Vec<NodeName>,
    nodes: Vec<Node>,
    /// By [`Node::engine`]: nodes that share an engine share its host ports.
    engines: Vec<HostPorts>,
}

impl Demand {
    /// What an instance made from `template` uses.
    pub(super) fn of(template: &InstanceTemplate) -> Self {
        let requests = needs(template);
        let load = Capacity {
            cpu: if requests.cpu.0 == 0 {
                NOMINAL_CPU
            } else {
                requests.cpu
            },
            memory: if requests.memory.0 == 0 {
                NOMINAL_MEMORY
            } else {
                requests.memory
            },
        };
        let published = template.ports().filter_map(|port| {
            let number = port.host?;
            Some(HostPort {
                number,
                protocol: port.protocol,
            })
        });
        Self {
            requests,
            load,
            ports: published.collect(),
        }
    }

    /// What an instance of the snapshot uses: nothing that is known of, without its revision.
    pub(super) fn of_instance(cluster: &Cluster, instance: &InstanceRecord) -> Self {
        let template = cluster.template_of(instance);
        template.map_or_else(Self::default, |template| Self::of(template))
    }
}

impl Node {
    /// What is not set aside.
    pub(super) fn free(&self) -> Capacity {
        minus(self.record.capacity, self.used)
    }

    /// Whether the node has the image of this name.
    pub(super) fn has_image(&self, name: &str) -> bool {
        self.images
            .as_ref()
            .is_some_and(|images| images.iter().any(|image| image == name))
    }
}

impl Table {
    /// The nodes of `cluster`, with what its instances use of them.
    pub(super) fn new(cluster: &Cluster) -> Self {
        let mut engines: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut nodes = Vec::with_capacity(cluster.nodes.len());
        for (name, record) in there(cluster) {
            let next = engines.len();
            nodes.push(Node {
                record: Arc::clone(record),
                used: Capacity::default(),
                load: Capacity::default(),
                images: cluster.images.get(name).cloned(),
                engine: *engines.entry(record.info.engine()).or_insert(next),
            });
        }
        let mut table = Self {
            names: there(cluster).map(|(name, _)| name.clone()).collect(),
            nodes,
            engines: vec![HostPorts::new(); engines.len()],
        };
        // Instances come in the order of their ids, so that those of a revision mostly follow each
        // other: the last demand is nearly always the next.
        let mut last: Option<(&WorkloadKey, RevisionNumber, Demand)> = None;
        for instance in cluster.instances.values() {
            let Some(node) = instance.node.as_ref().and_then(|name| table.index_of(name)) else {
                continue;
            };
            if instance.has_ended() {
                continue;
            }
            let (workload, revision) = (&instance.workload, instance.revision);
            let demand = match last.take() {
                Some((w, r, demand)) if r == revision && w == workload => demand,
                _ => Demand::of_instance(cluster, instance),
            };
            table.add(node, &demand, || Holder::Instance(Arc::clone(instance)));
            last = Some((workload, revision, demand));
        }
        table
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node at `index`.
    pub(super) fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index]
    }

    /// Where the node of this name is, if it exists.
    pub(super) fn index_of(&self, name: &NodeName) -> Option<NodeIndex> {
        self.names.binary_search(name).ok()
    }

    /// The occupied host ports of the node's engine.
    pub(super) fn ports(&self, index: NodeIndex) -> &HostPorts {
        &self.engines[self.nodes[index].engine]
    }

    /// Counts an instance as being on the node.
    pub(super) fn add(&mut self, index: NodeIndex, demand: &Demand, holder: impl Fn() -> Holder) {
        let node = &mut self.nodes[index];
        node.used = plus(node.used, demand.requests);
        node.load = plus(node.load, demand.load);
        for port in &demand.ports {
            self.engines[node.engine]
                .entry(*port)
                .or_default()
                .push(holder());
        }
    }

    /// Counts an instance of the snapshot as not being on the node.
    pub(super) fn remove(&mut self, index: NodeIndex, demand: &Demand, holder: &Holder) {
        let node = &mut self.nodes[index];
        node.used = minus(node.used, demand.requests);
        node.load = minus(node.load, demand.load);
        for port in &demand.ports {
            if let Some(holders) = self.engines[node.engine].get_mut(port) {
                holders.retain(|other| other != holder);
                if holders.is_empty() {
                    self.engines[node.engine].remove(port);
                }
            }
        }
    }
}

/// The nodes that were not taken out of the cluster, by name.
fn there(cluster: &Cluster) -> impl Iterator<Item = (&NodeName, &Arc<NodeRecord>)> {
    cluster.nodes.iter().filter(|(_, node)| !node.is_removed())
}

/// The sum of two amounts. Nodes that are overcommitted beyond 16 EiB are full all the same.
pub(super) fn plus(a: Capacity, b: Capacity) -> Capacity {
    Capacity {
        cpu: CpuMillis(a.cpu.0.saturating_add(b.cpu.0)),
        memory: MemoryBytes(a.memory.0.saturating_add(b.memory.0)),
    }
}

/// What is left; nothing where more is taken than there is.
fn minus(a: Capacity, b: Capacity) -> Capacity {
    Capacity {
        cpu: CpuMillis(a.cpu.0.saturating_sub(b.cpu.0)),
        memory: MemoryBytes(a.memory.0.saturating_sub(b.memory.0)),
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(instance) => instance.id.fmt(f),
            Self::Placed(workload) => workload.fmt(f),
        }
    }
}
