//! Small clusters, written down briefly.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use uuid::Uuid;
use windlass_api::{
    ids::{AgentId, ClusterId, InstanceId, NodeName, RevisionNumber, Slot, Version, WorkloadKey},
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, Goal, Manifest, NodeInfo, Scheduling},
    spec::Placement,
    status::{Exit, InstanceStatus, NodeState, Phase},
    template::InstanceTemplate,
};

use super::super::{Group, Placed, Scheduler};
use crate::{
    cluster::Cluster,
    record::{
        Accounted, Change, Declared, InstanceRecord, NodeRecord, RevisionKey, RevisionRecord,
    },
};

pub(super) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

pub(super) fn seconds_ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() - seconds).unwrap()
}

/// A workload, as far as placement is concerned.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) key: WorkloadKey,
    pub(super) revision: RevisionNumber,
    pub(super) placement: Placement,
    pub(super) template: Arc<InstanceTemplate>,
}

impl Service {
    /// The service `name` whose spec has the fields of `spec` (YAML's flow style, as JSON).
    pub(super) fn new(name: &str, spec: &str) -> Self {
        let head = format!(r#"{{"kind": "Service", "name": "{name}", "spec": {{"image": "app:1""#);
        let comma = if spec.is_empty() { "" } else { ", " };
        let manifest: Manifest = serde_json::from_str(&format!("{head}{comma}{spec}}}}}")).unwrap();
        Self {
            key: manifest.key(),
            revision: RevisionNumber(1),
            placement: manifest.spec.instance().placement.clone(),
            template: Arc::new(manifest.spec.template(0)),
        }
    }

    pub(super) fn group(&self) -> Group<'_> {
        Group {
            workload: &self.key,
            revision: self.revision,
            placement: &self.placement,
            template: &self.template,
        }
    }
}

/// A node with 4 cores and 4Gi, ready, on an engine of its own.
pub(super) fn node(name: &str) -> NodeRecord {
    NodeRecord {
        name: name.parse().unwrap(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        declared: Declared::default(),
        scheduling: Scheduling::Enabled,
        state: NodeState::Ready,
        state_since: now(),
        info: NodeInfo {
            agent_id: AgentId(Uuid::nil()),
            agent_version: "0".to_owned(),
            engine_id: format!("engine-of-{name}"),
            boot_id: "boot".to_owned(),
            engine_version: "0".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
        },
        capacity: Capacity {
            cpu: CpuMillis(4_000),
            memory: MemoryBytes(4 << 30),
        },
        rejects: None,
        sight: Default::default(),
        returned_at: None,
        created_at: now(),
        version: Version(1),
    }
}

/// The node with these labels.
pub(super) fn labelled(name: &str, labels: &[(&str, &str)]) -> NodeRecord {
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    NodeRecord {
        labels,
        ..node(name)
    }
}

/// Instance number `serial` of the first revision of a service, running on a node.
pub(super) fn instance(service: &Service, node: &str, serial: u64) -> InstanceRecord {
    InstanceRecord {
        id: InstanceId::new(&service.key.name, Slot(0), serial),
        workload: service.key.clone(),
        slot: Slot(0),
        revision: RevisionNumber(1),
        pinned: None,
        node: Some(node.parse().unwrap()),
        goal: Goal::Run,
        stop_generation: None,
        created_at: now(),
        phase_since: now(),
        ready_since: Some(now()),
        moved_at: None,
        status: InstanceStatus::new(Phase::Running { started_at: now() }),
        accounted: Accounted::default(),
        images: BTreeMap::new(),
        relocation: None,
        version: Version(1),
    }
}

pub(super) fn exit(code: i64, finished_at: Timestamp) -> Option<Exit> {
    Some(Exit {
        code,
        oom_killed: false,
        reason: None,
        finished_at,
    })
}

pub(super) fn cluster(nodes: impl IntoIterator<Item = NodeRecord>) -> Cluster {
    let mut cluster = Cluster::new(ClusterId(Uuid::nil()));
    for node in nodes {
        cluster.apply(&Change::Node(node.name.clone(), Some(Arc::new(node))));
    }
    cluster
}

pub(super) fn add_revision(cluster: &mut Cluster, service: &Service, number: u32) {
    let key = RevisionKey {
        workload: service.key.clone(),
        number: RevisionNumber(number),
    };
    let record = RevisionRecord {
        key: key.clone(),
        template: Arc::clone(&service.template),
        created_at: now(),
        good_since: None,
        images: BTreeMap::new(),
    };
    cluster.apply(&Change::Revision(key, Some(Arc::new(record))));
}

pub(super) fn add_instance(cluster: &mut Cluster, instance: InstanceRecord) {
    cluster.apply(&Change::Instance(
        instance.id.clone(),
        Some(Arc::new(instance)),
    ));
}

/// Runs the service on these nodes; the serial numbers follow those in use.
pub(super) fn run(cluster: &mut Cluster, service: &Service, nodes: &[&str]) {
    add_revision(cluster, service, 1);
    for node in nodes {
        let serial = cluster.instances.len() as u64 + 1;
        add_instance(cluster, instance(service, node, serial));
    }
}

pub(super) fn place(cluster: &Cluster, service: &Service, count: usize) -> Placed {
    Scheduler::new(cluster, now()).place(&service.group(), count)
}

/// The nodes on which `count` instances are placed, in order.
pub(super) fn chosen(cluster: &Cluster, service: &Service, count: usize) -> Vec<String> {
    place(cluster, service, count)
        .nodes
        .iter()
        .map(NodeName::to_string)
        .collect()
}

/// Why not all of `count` instances can be placed.
pub(super) fn why_not(cluster: &Cluster, service: &Service, count: usize) -> String {
    place(cluster, service, count)
        .unplaced
        .expect("some are not placed")
        .to_string()
}
