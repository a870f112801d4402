//! The resources of the API, made from the state.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use windlass_api::{
    ids::WorkloadKey,
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, Goal, Instance, Node, NodeStatus, Workload, WorkloadStatus},
    status::Phase,
};

use crate::{
    cluster::Cluster,
    record::{InstanceRecord, NodeRecord, WorkloadRecord},
    scheduler::needs,
};

/// A workload as it is shown.
#[must_use]
pub fn workload(cluster: &Cluster, record: &WorkloadRecord) -> Workload {
    Workload {
        manifest: record.manifest.clone(),
        meta: record.meta.clone(),
        status: workload_status(cluster, record),
    }
}

/// How far a workload is.
#[must_use]
pub fn workload_status(cluster: &Cluster, record: &WorkloadRecord) -> WorkloadStatus {
    let key = record.manifest.key();
    let wanted = record.manifest.spec.replicas().unwrap_or_default();
    let mut status = WorkloadStatus {
        revision: record.revision,
        wanted,
        ..WorkloadStatus::default()
    };
    let mut done = 0;
    let mut left_over = 0;
    let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
    for instance in cluster.instances_of(&key) {
        if let Some(reason) = trouble(cluster, instance) {
            *reasons.entry(reason).or_default() += 1;
        }
        if cluster.is_out_of_sight(instance) {
            continue;
        }
        if instance.goal == Goal::Run {
            let updated = u32::from(instance.revision == record.revision);
            let running = u32::from(instance.status.phase.is_running());
            status.running += running;
            status.updated += running * updated;
            done += updated * u32::from(running == 1 || instance.status.phase == Phase::Succeeded);
            left_over += 1 - updated;
        } else {
            left_over += 1;
        }
    }
    status.settled = done == wanted && left_over == 0 && reasons.is_empty();
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(reason, count)| (Reverse(*count), reason.clone()));
    status.reasons = reasons
        .into_iter()
        .map(|(reason, count)| {
            if count > 1 {
                format!("{reason} ({count} instances)")
            } else {
                reason
            }
        })
        .collect();
    status
}

/// Why an instance is not what it should be, if there is more to say than that it is on its way.
fn trouble(cluster: &Cluster, instance: &InstanceRecord) -> Option<String> {
    if cluster.is_out_of_sight(instance) {
        return Some(format!("node {} is lost", instance.node.as_ref()?));
    }
    if let Some(node) = instance
        .node
        .as_ref()
        .and_then(|name| cluster.nodes.get(name))
        && let windlass_api::status::NodeState::RuntimeUnhealthy { reason } = &node.state
    {
        return Some(format!(
            "docker on node {} does not answer: {reason}",
            node.name
        ));
    }
    match &instance.status.phase {
        Phase::Pending { reason } if reason.is_empty() => None,
        phase => phase.reason().map(str::to_owned),
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
        node: record.node.clone(),
        goal: record.goal,
        node_lost: cluster.is_out_of_sight(record),
        version: record.version,
        created_at: record.created_at,
        phase_since: record.phase_since,
        ready_since: None,
        status: record.status.clone(),
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
            && let Some(template) = cluster.template_of(instance)
        {
            let needs = needs(template);
            allocated.cpu.0 += needs.cpu.0;
            allocated.memory.0 += needs.memory.0;
        }
    }
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
            generation: cluster.generation(&record.name),
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
