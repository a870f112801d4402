//! The resources of the API, made from the state.

use std::sync::Arc;

use windlass_api::{
    access::Token,
    ids::{TokenId, WorkloadKey},
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, Goal, Instance, Node, NodeStatus, Scheduling, Workload},
};

use crate::{
    cluster::Cluster,
    record::{InstanceRecord, NodeRecord, TokenRecord, WorkloadRecord},
    scheduler::needs,
};

mod job;
mod revision;
mod workload;

pub use revision::revisions;
pub use workload::workload_status;

/// A workload as it is shown.
#[must_use]
pub fn workload(cluster: &Cluster, record: &WorkloadRecord) -> Workload {
    Workload {
        manifest: record.manifest.clone(),
        meta: record.meta.clone(),
        status: workload_status(cluster, record),
    }
}

/// An instance as it is shown.
#[must_use]
pub fn instance(cluster: &Cluster, record: &InstanceRecord) -> Instance {
    let workload = cluster.workloads.get(&record.workload);
    let template = cluster.template_of(record);
    Instance {
        name: record.id.clone(),
        namespace: record.workload.namespace.clone(),
        workload: record.workload.name.clone(),
        labels: workload
            .map(|w| w.manifest.labels.clone())
            .unwrap_or_default(),
        slot: record.slot,
        revision: record.revision,
        images: template
            .map(|t| t.containers.iter().map(|c| c.image.to_string()).collect())
            .unwrap_or_default(),
        ports: template
            .map(|t| t.ports().cloned().collect())
            .unwrap_or_default(),
        probes: template.map(|t| t.probes()).unwrap_or_default(),
        node: record.node.clone(),
        goal: record.goal,
        node_lost: cluster.is_out_of_sight(record),
        leaving: cluster.why_leaving(record),
        version: record.version,
        created_at: record.created_at,
        phase_since: record.phase_since,
        ready_since: record.ready_since,
        status: record.status.clone(),
    }
}

/// A token as it is shown.
#[must_use]
pub fn token(cluster: &Cluster, id: &TokenId) -> Option<Token> {
    cluster.tokens.get(id).map(|record| shown_token(id, record))
}

/// All tokens as they are shown.
pub fn tokens(cluster: &Cluster) -> impl Iterator<Item = Token> {
    let tokens = cluster.tokens.iter();
    tokens.map(|(id, record)| shown_token(id, record))
}

fn shown_token(id: &TokenId, record: &TokenRecord) -> Token {
    Token {
        id: id.clone(),
        usage: record.usage.clone(),
        description: record.description.clone(),
        created_at: record.created_at,
        expires_at: record.expires_at,
        version: record.version,
    }
}

/// A node as it is shown.
#[must_use]
pub fn node(cluster: &Cluster, record: &NodeRecord) -> Node {
    let mut allocated = Capacity {
        cpu: CpuMillis(0),
        memory: MemoryBytes(0),
    };
    let mut instances = 0;
    for instance in cluster.instances_on(&record.name) {
        instances += 1;
        // One that is being prepared takes over what its predecessor holds.
        if instance.goal != Goal::Prepare
            && !instance.has_ended()
            && let Some(template) = cluster.template_of(instance)
        {
            let needs = needs(template);
            allocated.cpu.0 += needs.cpu.0;
            allocated.memory.0 += needs.memory.0;
        }
    }
    let leaving = match record.scheduling {
        Scheduling::Draining { .. } | Scheduling::Removed { .. } => {
            u32::try_from(cluster.to_leave(record).count()).unwrap_or(u32::MAX)
        }
        Scheduling::Enabled | Scheduling::Cordoned => 0,
    };
    Node {
        name: record.name.clone(),
        labels: record.labels.clone(),
        taints: record.taints.clone(),
        scheduling: record.scheduling,
        version: record.version,
        created_at: record.created_at,
        status: NodeStatus {
            state: record.state.clone(),
            state_since: record.state_since,
            info: record.info.clone(),
            capacity: record.capacity,
            allocated,
            instances,
            leaving,
            generation: cluster.generation(&record.name),
            rejects: record.rejects.clone(),
        },
    }
}

/// The workload of that name.
#[must_use]
pub fn find_workload(cluster: &Cluster, key: &WorkloadKey) -> Option<Workload> {
    cluster
        .workloads
        .get(key)
        .map(|record: &Arc<WorkloadRecord>| workload(cluster, record))
}
