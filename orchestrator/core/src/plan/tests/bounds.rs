//! What an update promises, checked for every single pass.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use windlass_api::{
    ids::{Slot, WorkloadKey},
    resource::Goal,
    spec::{UpdateOrder, WorkloadSpec},
};

use crate::{
    cluster::Cluster,
    record::{InstanceRecord, RevisionKey, WorkloadRecord},
    rollout::Bounds,
};

/// Panics if what the planner did between the two states breaks a promise. What users, agents and
/// nodes did is in both.
pub(super) fn check(before: &Cluster, after: &Cluster, now: Timestamp) {
    for (key, workload) in &after.workloads {
        if let WorkloadSpec::Service(spec) = &workload.manifest.spec {
            check_service(before, after, key, workload, spec.replicas, now);
        }
    }
}

fn check_service(
    before: &Cluster,
    after: &Cluster,
    key: &WorkloadKey,
    workload: &WorkloadRecord,
    replicas: u32,
    now: Timestamp,
) {
    let bounds = bounds(after, key, workload);
    let was = View::of(before, key, workload, replicas, &bounds, now);
    let is = View::of(after, key, workload, replicas, &bounds, now);
    // Where a successor fits only in the stead of its predecessor, that has to go first.
    let in_stead = was.prepared || bounds.order == UpdateOrder::StopFirst;
    let may_be_missing = if in_stead {
        bounds.unavailable_in_stead.max(bounds.unavailable)
    } else {
        bounds.unavailable
    };
    let promised = replicas.saturating_sub(may_be_missing) as usize;
    assert!(
        is.available.len() >= promised.min(was.available.len()),
        "{key}: {:?} of {replicas} are available, {:?} were",
        is.available,
        was.available
    );
    let most = (replicas + bounds.surge.max(bounds.canary)) as usize;
    assert!(
        is.live <= most.max(was.live),
        "{key}: {} instances of {replicas} live, {} did",
        is.live,
        was.live
    );
    // How many may be in hand is looked at when another one is taken up.
    let begun = is.in_hand.iter().any(|slot| was.old_only.contains(slot));
    assert!(
        !begun || is.in_hand.len() <= bounds.parallelism as usize,
        "{key}: {:?} are replaced at the same time",
        is.in_hand
    );
}

fn bounds(cluster: &Cluster, key: &WorkloadKey, workload: &WorkloadRecord) -> Bounds {
    let revision = RevisionKey {
        workload: key.clone(),
        number: workload.revision,
    };
    let template = cluster.revisions.get(&revision).map(|r| &*r.template);
    Bounds::of(&workload.manifest.spec, template)
}

/// What there is of a service.
#[derive(Debug, Default)]
struct View {
    /// How many instances are to run, and have a node to do so.
    live: usize,
    /// The slots with an available instance.
    available: BTreeSet<Slot>,
    /// The slots with an instance of the wanted revision that is not available.
    in_hand: BTreeSet<Slot>,
    /// The slots with old instances only.
    old_only: BTreeSet<Slot>,
    /// Whether an instance waits for another one to make room.
    prepared: bool,
}

impl View {
    fn of(
        cluster: &Cluster,
        key: &WorkloadKey,
        workload: &WorkloadRecord,
        replicas: u32,
        bounds: &Bounds,
        now: Timestamp,
    ) -> Self {
        let mut view = Self::default();
        let mut slots: BTreeMap<Slot, Vec<&InstanceRecord>> = BTreeMap::new();
        for instance in cluster.instances_of(key) {
            let counts = instance.slot.0 < replicas && !cluster.is_out_of_sight(instance);
            if counts && instance.goal != Goal::Stop {
                slots.entry(instance.slot).or_default().push(instance);
            }
        }
        let passed_over = workload.rollout.as_ref().map(|r| r.passed_over.clone());
        let passed_over = passed_over.unwrap_or_default();
        for (slot, instances) in slots {
            let available = |i: &&InstanceRecord| i.is_available(now, bounds.min_ready);
            let is_new = |i: &&InstanceRecord| i.revision == workload.revision;
            let live = |i: &&&InstanceRecord| i.goal == Goal::Run && i.node.is_some();
            view.live += instances.iter().filter(live).count();
            view.prepared |= instances.iter().any(|i| i.goal == Goal::Prepare);
            if instances.iter().any(available) {
                view.available.insert(slot);
            }
            let mut new = instances.iter().filter(|i| is_new(i)).peekable();
            if new.peek().is_none() {
                view.old_only.insert(slot);
            } else if !new.any(available) && !passed_over.contains(&slot) {
                view.in_hand.insert(slot);
            }
        }
        view
    }
}
