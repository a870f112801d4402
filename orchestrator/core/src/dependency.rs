//! What workloads wait for before they are first started.

use std::collections::BTreeMap;

use windlass_api::{
    ids::{WorkloadKey, WorkloadName},
    resource::{Goal, Manifest},
    spec::{Dependency, DependencyCondition, Kind},
};

use crate::{
    cluster::Cluster,
    record::{InstanceRecord, WorkloadRecord},
    tally::Tally,
};

/// What a workload waits for before an instance of it is started. Only the first start waits, and
/// one after all instances were stopped.
#[must_use]
pub fn waits_for(cluster: &Cluster, workload: &WorkloadRecord) -> Option<String> {
    let dependencies = workload.manifest.spec.instance().depends_on;
    if dependencies.is_empty() {
        return None;
    }
    let key = workload.manifest.key();
    let let_in = |i: &InstanceRecord| i.goal != Goal::Stop && i.node.is_some();
    if cluster.instances_of(&key).any(|i| let_in(i)) {
        return None;
    }
    let unmet = |dependency| unmet(cluster, &key, dependency);
    dependencies.iter().find_map(unmet)
}

/// What there is to wait for, if the other workload is not so far.
fn unmet(cluster: &Cluster, key: &WorkloadKey, dependency: &Dependency) -> Option<String> {
    let name = &dependency.workload;
    let other = WorkloadKey::new(key.namespace.clone(), name.clone());
    let completed = cluster.has_completed(&other);
    let Some(other) = cluster.workloads.get(&other) else {
        return Some(format!("waits for workload {name}, which does not exist"));
    };
    let tally = Tally::of(cluster, other);
    let kind = other.manifest.kind;
    // Nothing is not enough, also of a workload of which nothing is wanted.
    // A daemon's instance on a lost node is not waited for: nobody knows when that is back.
    let enough = |count: u32| count > 0 && count >= tally.wanted - tally.absent;
    let (met, wanted) = match dependency.condition {
        DependencyCondition::Started => (enough(tally.running), "be started"),
        DependencyCondition::Ready => (enough(tally.ready), "be ready"),
        DependencyCondition::Completed if kind == Kind::Job => (completed, "complete"),
        DependencyCondition::Completed => {
            return Some(format!(
                "waits for workload {name} to complete, which a {kind} never does: depend on \
                 `started` or `ready`"
            ));
        }
    };
    // A job that has completed was started and ready, whenever that was.
    (!met && !completed).then(|| format!("waits for workload {name} to {wanted}"))
}

/// A circle of workloads of which each waits for the next, if `manifests` would make one together
/// with what is there. It begins and ends with the same name.
#[must_use]
pub fn cycle(cluster: &Cluster, manifests: &[Manifest], from: &Manifest) -> Option<Vec<String>> {
    let applied: BTreeMap<WorkloadKey, &Manifest> =
        manifests.iter().map(|m| (m.key(), m)).collect();
    let next = |key: &WorkloadKey| -> Vec<WorkloadName> {
        let there = || cluster.workloads.get(key).map(|w| &w.manifest);
        let manifest = applied.get(key).copied().or_else(there);
        let dependencies = manifest.map(|m| m.spec.instance().depends_on);
        let names = dependencies.unwrap_or_default().iter();
        names.map(|d| d.workload.clone()).collect()
    };
    let start = from.key();
    // For each workload that was reached, the one that it was reached from.
    let mut reached: BTreeMap<WorkloadName, WorkloadName> = BTreeMap::new();
    let mut left = vec![start.name.clone()];
    while let Some(name) = left.pop() {
        for other in next(&WorkloadKey::new(start.namespace.clone(), name.clone())) {
            if other == start.name {
                return Some(path_back(&reached, &start.name, &name));
            }
            if !reached.contains_key(&other) {
                reached.insert(other.clone(), name.clone());
                left.push(other);
            }
        }
    }
    None
}

/// The names from `start` to `last` and to `start` again.
fn path_back(
    reached: &BTreeMap<WorkloadName, WorkloadName>,
    start: &WorkloadName,
    last: &WorkloadName,
) -> Vec<String> {
    let mut path = vec![start.to_string()];
    let mut at = last;
    while at != start {
        path.push(at.to_string());
        at = &reached[at];
    }
    path.push(start.to_string());
    path.reverse();
    path
}
