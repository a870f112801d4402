//! What operators ask of nodes: labels, taints, and whether there is work for them.

use std::sync::Arc;

use windlass_api::{
    duration::Span,
    event::{Severity, Subject},
    ids::{NodeName, Version},
    resource::{DrainRequest, NodePatch, Scheduling, SchedulingChange},
    status::NodeState,
    validate::{FieldError, validate_node},
};

use super::{Refusal, note, unchanged};
use crate::{
    cluster::Cluster,
    lease,
    record::{Change, ClusterRecord, NodeRecord},
    transaction::Transaction,
};

/// The most removed nodes that are remembered, so that an agent of one that comes back is told to
/// run nothing: years of machines of a large cluster.
pub(crate) const REMOVED_NODES_MAX: usize = 1_000;
/// The longest deadline of a drain: a week is more than anybody waits for.
const DEADLINE_MAX: Span = Span::from_secs(7 * 24 * 3_600);

/// Whether a node is removed whatever is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It is not, if something would be stopped.
    No,
    /// It is.
    Yes,
}

/// Changes what operators may change about a node.
///
/// # Errors
/// If there is no such node, it changed or was removed, or a label makes no sense.
pub fn patch_node(
    txn: &mut Transaction,
    name: &NodeName,
    patch: &NodePatch,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    let node = find(txn.cluster(), name, expected)?;
    if node.is_removed() {
        return Err(removed(name));
    }
    let mut patched = NodeRecord::clone(&node);
    for (key, value) in &patch.labels {
        match value {
            Some(value) => patched.labels.insert(key.clone(), value.clone()),
            None => patched.labels.remove(key),
        };
    }
    patched.scheduling = match patch.scheduling {
        Some(SchedulingChange::Enabled) => Scheduling::Enabled,
        Some(SchedulingChange::Cordoned) => Scheduling::Cordoned,
        None => patched.scheduling,
    };
    patched.taints = patch.taints.clone().unwrap_or(patched.taints);
    let errors = validate_node(&patched.labels, &patched.taints);
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    if patched == *node {
        return Ok(());
    }
    if patched.scheduling != node.scheduling {
        let (reason, message) = match patched.scheduling {
            Scheduling::Enabled => ("Uncordoned", "it can be given work again"),
            Scheduling::Cordoned | Scheduling::Draining { .. } | Scheduling::Removed { .. } => {
                ("Cordoned", "nothing new is placed on it")
            }
        };
        note(txn, Subject::node(name), reason, message);
    }
    put(txn, patched);
    Ok(())
}

/// Has everything leave a node. Asked again, it only changes the deadline.
///
/// # Errors
/// If there is no such node, it changed or was removed, or the deadline is absurd.
pub fn drain(
    txn: &mut Transaction,
    name: &NodeName,
    request: &DrainRequest,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    if request.deadline.is_some_and(|span| span > DEADLINE_MAX) {
        let error = FieldError::new("deadline", format!("at most {DEADLINE_MAX}"));
        return Err(Refusal::Invalid(vec![error]));
    }
    let node = find(txn.cluster(), name, expected)?;
    let now = txn.now();
    let drain_deadline = request
        .deadline
        .and_then(|span| now.checked_add(span.as_std()).ok());
    let (drain_since, drained_at) = match node.scheduling {
        Scheduling::Removed { .. } => return Err(removed(name)),
        Scheduling::Draining {
            drain_since,
            drained_at,
            ..
        } => (drain_since, drained_at),
        Scheduling::Enabled | Scheduling::Cordoned => (now, None),
    };
    let scheduling = Scheduling::Draining {
        drain_since,
        drain_deadline,
        drained_at,
    };
    if node.scheduling == scheduling {
        return Ok(());
    }
    let message = match request.deadline {
        Some(span) => format!("what is on it leaves; what is left after {span} is stopped"),
        None => "what is on it leaves".to_owned(),
    };
    note(txn, Subject::node(name), "Draining", message);
    let node = NodeRecord::clone(&node);
    put(txn, NodeRecord { scheduling, ..node });
    Ok(())
}

/// Takes a node out of the cluster. What is there is stopped and replaced; if the node is lost,
/// its instances are taken for gone, since nobody can stop them.
///
/// # Errors
/// If there is no such node or it changed, or if something would be stopped that is not a
/// daemon's, without `force`.
pub fn remove_node(
    txn: &mut Transaction,
    name: &NodeName,
    force: Force,
    expected: Option<Version>,
) -> Result<(), Refusal> {
    let node = find(txn.cluster(), name, expected)?;
    if node.is_removed() {
        return Ok(());
    }
    let left = txn.cluster().to_leave(&node).count();
    if left > 0 && force == Force::No && !node.is_lost() {
        return Err(Refusal::Conflict(format!(
            "node {name} has {left} instances: drain it first, or force it, which stops them"
        )));
    }
    let scheduling = Scheduling::Removed {
        removed_at: txn.now(),
    };
    note(
        txn,
        Subject::node(name),
        "Removed",
        "it is no longer of the cluster",
    );
    let lost = node.is_lost();
    let node = NodeRecord::clone(&node);
    put(txn, NodeRecord { scheduling, ..node });
    if lost {
        forget_instances(txn, name);
    }
    forget_nodes(txn);
    Ok(())
}

/// Takes the instances of a node for gone that was removed and is not heard from; those that are
/// exclusive only when they are fenced. Should its agent come back, its assignment, which has a newer
/// generation, has none of them.
pub(super) fn forget_instances(txn: &mut Transaction, name: &NodeName) {
    let cluster = txn.cluster();
    let waited = match cluster.nodes.get(name).map(|node| &node.state) {
        Some(NodeState::Lost { waited, .. }) => *waited,
        Some(NodeState::Ready | NodeState::RuntimeUnhealthy { .. }) | None => Span::default(),
    };
    let instances = cluster.instances_on(name);
    let gone = instances.filter(|i| lease::is_fenced(cluster, i, waited));
    let gone: Vec<_> = gone.cloned().collect();
    if gone.is_empty() {
        return;
    }
    for instance in gone {
        let subject = Subject::instance(&instance.workload, &instance.id);
        let message = format!("node {name} was removed");
        txn.event(subject, Severity::Warning, "Forgotten", message);
        txn.put(Change::Instance(instance.id.clone(), None));
    }
    txn.bump_generation(name);
}

/// Forgets the nodes that were removed before all others, if there are too many.
fn forget_nodes(txn: &mut Transaction) {
    let removed_at = |node: &Arc<NodeRecord>| match node.scheduling {
        Scheduling::Removed { removed_at } => Some((removed_at, node.name.clone())),
        Scheduling::Enabled | Scheduling::Cordoned | Scheduling::Draining { .. } => None,
    };
    let mut removed: Vec<_> = txn
        .cluster()
        .nodes
        .values()
        .filter_map(removed_at)
        .collect();
    removed.sort();
    let too_many = removed.len().saturating_sub(REMOVED_NODES_MAX);
    for (_, name) in removed.into_iter().take(too_many) {
        forget_instances(txn, &name);
        let cluster = txn.cluster();
        if cluster.instances_on(&name).next().is_some() {
            continue;
        }
        let record = ClusterRecord {
            generation_floor: cluster
                .record
                .generation_floor
                .max(cluster.generation(&name)),
            ..ClusterRecord::clone(&cluster.record)
        };
        txn.put(Change::Cluster(Arc::new(record)));
        txn.put(Change::Images(name.clone(), None));
        txn.put(Change::Assignment(name.clone(), None));
        txn.put(Change::Admission(name.clone(), None));
        txn.put(Change::Node(name, None));
    }
}

fn find(
    cluster: &Cluster,
    name: &NodeName,
    expected: Option<Version>,
) -> Result<Arc<NodeRecord>, Refusal> {
    let what = || format!("node {name}");
    let found = cluster.nodes.get(name).cloned();
    let node = found.ok_or_else(|| Refusal::NotFound { what: what() })?;
    unchanged(what, expected, node.version)?;
    Ok(node)
}

fn removed(name: &NodeName) -> Refusal {
    Refusal::Conflict(format!(
        "node {name} was removed: its machine joins anew when its agent is started with an empty \
         data directory"
    ))
}

/// Writes what is known of a node, as of now.
pub(super) fn put(txn: &mut Transaction, mut node: NodeRecord) {
    node.version = txn.version();
    txn.put(Change::Node(node.name.clone(), Some(Arc::new(node))));
}
