//! What is promised of updates, daemons, jobs and dependencies, checked for every single pass. What
//! users, agents and nodes did is in the state before a pass and in the one after it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use windlass_api::{
    ids::{NodeName, Slot, WorkloadKey},
    resource::{Goal, JobState, RolloutState, Scheduling},
    spec::{DependencyCondition, JobSpec, Kind, UpdateOrder, WorkloadSpec},
    status::NodeState,
};

use crate::{
    cluster::Cluster,
    leaving::Terms,
    record::{IndexState, InstanceRecord, NodeRecord, RevisionKey, WorkloadRecord},
    rollout::Bounds,
    view::workload_status,
};

/// The most instances of a job that are kept after their end, as the documentation says.
const ENDED_MAX: usize = 10;

/// Panics if what the planner did between the two states breaks a promise.
pub(super) fn check(before: &Cluster, after: &Cluster, now: Timestamp) {
    for (key, workload) in &after.workloads {
        match &workload.manifest.spec {
            WorkloadSpec::Service(_) | WorkloadSpec::Daemon(_) => {
                check_update(before, after, workload, now);
            }
            WorkloadSpec::Job(spec) => check_job(after, key, workload, spec),
            WorkloadSpec::CronJob(_) => {}
        }
        check_dependencies(before, after, workload);
    }
}

/// Panics if an index that had completed no longer has, or completed a second time, while its job
/// was there.
pub(super) fn check_completions(before: &Cluster, after: &Cluster) {
    for (key, index) in &before.indices {
        let same_job = before.jobs.get(&key.job).map(|job| job.started_at)
            == after.jobs.get(&key.job).map(|job| job.started_at);
        if index.state == IndexState::Completed && same_job {
            let is = after.indices.get(key);
            assert_eq!(is, Some(index), "{key:?} had completed");
        }
    }
}

fn check_update(before: &Cluster, after: &Cluster, workload: &WorkloadRecord, now: Timestamp) {
    let key = workload.manifest.key();
    let bounds = bounds(after, &key, workload);
    let wanted = Wanted::of(before, workload);
    let was = View::of(before, workload, &wanted, &bounds, now);
    let is = View::of(after, workload, &wanted, &bounds, now);
    // Where a successor fits only in the stead of its predecessor, that has to go first.
    let in_stead = was.prepared || bounds.order == UpdateOrder::StopFirst;
    let may_be_missing = if in_stead {
        bounds.unavailable_in_stead.max(bounds.unavailable)
    } else {
        bounds.unavailable
    };
    let replicas = wanted.count();
    let promised = replicas.saturating_sub(may_be_missing as usize);
    assert!(
        is.available.len() >= promised.min(was.available.len()),
        "{key}: {:?} of {replicas} are available, {:?} were",
        is.available,
        was.available
    );
    let surge = bounds.surge.max(bounds.surge_of_moves);
    // Where an update is held, what it has put there is nothing to a move.
    let held = workload.rollout.as_ref().is_some_and(|r| match r.state {
        RolloutState::Canary | RolloutState::Paused { .. } => true,
        RolloutState::Progressing
        | RolloutState::RollingBack { .. }
        | RolloutState::RolledBack { .. }
        | RolloutState::Completed => false,
    });
    let moves = if held { bounds.surge_of_moves } else { 0 };
    let most = replicas + (surge.max(bounds.canary) + moves) as usize;
    assert!(
        is.live <= most.max(was.live),
        "{key}: {} instances of {replicas} live, {} did",
        is.live,
        was.live
    );
    // How many may be in hand is looked at when another one is taken up.
    let begun = is.in_hand.iter().any(|seat| was.old_only.contains(seat));
    assert!(
        !begun || is.in_hand.len() <= bounds.parallelism as usize,
        "{key}: {:?} are replaced at the same time",
        is.in_hand
    );
}

fn check_job(cluster: &Cluster, key: &WorkloadKey, workload: &WorkloadRecord, spec: &JobSpec) {
    let status = workload_status(cluster, workload).job.unwrap();
    assert!(status.succeeded <= spec.completions, "{key}: {status:?}");
    let kept = || cluster.instances_of(key).filter(|i| i.goal != Goal::Stop);
    let seen = kept().filter(|i| !i.has_ended() && !cluster.is_out_of_sight(i));
    let seen: Vec<_> = seen.map(|i| i.slot).collect();
    assert!(seen.len() <= spec.parallelism as usize, "{key}: {seen:?}");
    assert!(kept().filter(|i| i.has_ended()).count() <= ENDED_MAX);
    if status.state.finished_at().is_some() {
        assert_eq!(seen, [], "{key}: something runs on after the end");
    }
    for slot in seen {
        let done = cluster.indices_of(key).find(|i| i.key.index == slot);
        let done = done.is_some_and(|i| i.state == IndexState::Completed);
        assert!(!done, "{key}: index {slot} runs again after it completed");
    }
}

/// Panics if the planner started something before what it waits for was there.
fn check_dependencies(before: &Cluster, after: &Cluster, workload: &WorkloadRecord) {
    let key = workload.manifest.key();
    let is_started = |cluster: &Cluster| {
        let mut instances = cluster.instances_of(&key);
        instances.any(|i| i.goal != Goal::Stop && i.node.is_some())
    };
    if is_started(before) || !is_started(after) {
        return;
    }
    for dependency in workload.manifest.spec.instance().depends_on {
        let namespace = key.namespace.clone();
        let other = WorkloadKey::new(namespace, dependency.workload.clone());
        // What the pass itself stopped was there when it looked.
        let met = [before, after].map(|cluster| is_met(cluster, &other, dependency.condition));
        assert!(
            met.contains(&true),
            "{key} was started before {other} was {:?}",
            dependency.condition
        );
    }
}

fn is_met(cluster: &Cluster, key: &WorkloadKey, condition: DependencyCondition) -> bool {
    let job = cluster.jobs.get(key);
    if job.is_some_and(|job| matches!(job.state, JobState::Completed { .. })) {
        return true;
    }
    let Some(workload) = cluster.workloads.get(key) else {
        return false;
    };
    let wanted = match &workload.manifest.spec {
        WorkloadSpec::Job(spec) => spec.completions.min(spec.parallelism) as usize,
        _ => Wanted::of(cluster, workload).count(),
    };
    let instances = cluster.instances_of(key);
    let counted = instances.filter(|i| i.goal == Goal::Run && !cluster.is_out_of_sight(i));
    let counted = counted.filter(|i| match condition {
        DependencyCondition::Started => i.status.phase.is_running(),
        DependencyCondition::Ready => i.serves(),
        DependencyCondition::Completed => false,
    });
    wanted > 0 && counted.count() >= wanted
}

fn bounds(cluster: &Cluster, key: &WorkloadKey, workload: &WorkloadRecord) -> Bounds {
    let revision = RevisionKey {
        workload: key.clone(),
        number: workload.revision,
    };
    let template = cluster.revisions.get(&revision).map(|r| &*r.template);
    Bounds::of(&workload.manifest.spec, template)
}

/// What is to be filled: a slot of a service, a node of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seat {
    Slot(Slot),
    Node(NodeName),
}

/// The seats of a workload.
pub(super) struct Wanted {
    /// Those that are counted on: nobody can tell of those whose node is lost.
    pub(super) present: BTreeSet<Seat>,
}

impl Wanted {
    pub(super) fn of(cluster: &Cluster, workload: &WorkloadRecord) -> Self {
        let mut wanted = Self {
            present: BTreeSet::new(),
        };
        if let WorkloadSpec::Service(spec) = &workload.manifest.spec {
            wanted.present = (0..spec.replicas).map(|n| Seat::Slot(Slot(n))).collect();
        } else if workload.manifest.kind == Kind::Daemon {
            let key = workload.manifest.key();
            let has_one = |node: &NodeRecord| {
                let mut instances = cluster.instances_of(&key);
                instances.any(|i| i.goal != Goal::Stop && i.node.as_ref() == Some(&node.name))
            };
            let placement = workload.manifest.spec.instance().placement;
            for node in cluster.nodes.values() {
                let tolerated = |t| {
                    placement
                        .tolerate
                        .iter()
                        .any(|toleration| toleration.covers(t))
                };
                let required = placement.require.iter().all(|r| r.is_met_by(node.facts()));
                if !required || !node.taints.iter().all(tolerated) {
                    continue;
                }
                let free = node.state == NodeState::Ready && node.scheduling == Scheduling::Enabled;
                if !node.is_out_of_sight() && (free || has_one(node)) {
                    wanted.present.insert(Seat::Node(node.name.clone()));
                }
            }
        }
        wanted
    }

    fn count(&self) -> usize {
        self.present.len()
    }

    /// The seat that an instance is for, if it is wanted.
    fn seat_of(&self, instance: &InstanceRecord) -> Option<Seat> {
        let seat = match &instance.pinned {
            Some(node) => Seat::Node(node.clone()),
            None => Seat::Slot(instance.slot),
        };
        self.present.contains(&seat).then_some(seat)
    }
}

/// What there is of a workload that rolls.
#[derive(Debug, Default)]
struct View {
    /// How many instances are to run, and have a node to do so.
    live: usize,
    /// The seats with an available instance.
    available: BTreeSet<Seat>,
    /// The seats with an instance of the wanted revision that is not available.
    in_hand: BTreeSet<Seat>,
    /// The seats with old instances only.
    old_only: BTreeSet<Seat>,
    /// Whether an instance waits for another one to make room.
    prepared: bool,
}

impl View {
    fn of(
        cluster: &Cluster,
        workload: &WorkloadRecord,
        wanted: &Wanted,
        bounds: &Bounds,
        now: Timestamp,
    ) -> Self {
        let mut view = Self::default();
        let mut seats: BTreeMap<Seat, Vec<&InstanceRecord>> = BTreeMap::new();
        for instance in cluster.instances_of(&workload.manifest.key()) {
            // What has to leave at once was taken away by an operator, and not by the planner.
            let leaving = cluster.leaving(instance).map(|leaving| leaving.terms(now));
            let counts = instance.goal != Goal::Stop
                && !cluster.is_out_of_sight(instance)
                && leaving != Some(Terms::AtOnce);
            if let Some(seat) = wanted.seat_of(instance).filter(|_| counts) {
                seats.entry(seat).or_default().push(instance);
            }
        }
        let passed_over = workload.rollout.as_ref().map(|r| r.passed_over.clone());
        let passed_over = passed_over.unwrap_or_default();
        for (seat, instances) in seats {
            let available = |i: &&InstanceRecord| i.is_available(now, bounds.min_ready);
            let is_new = |i: &&InstanceRecord| i.revision == workload.revision;
            let live = |i: &&&InstanceRecord| i.goal == Goal::Run && i.node.is_some();
            let tried = instances.iter().any(|i| passed_over.contains(&i.slot));
            view.live += instances.iter().filter(live).count();
            view.prepared |= instances.iter().any(|i| i.goal == Goal::Prepare);
            if instances.iter().any(available) {
                view.available.insert(seat.clone());
            }
            let mut new = instances.iter().filter(|i| is_new(i)).peekable();
            if new.peek().is_none() {
                view.old_only.insert(seat);
            } else if !new.any(available) && !tried {
                view.in_hand.insert(seat);
            }
        }
        view
    }
}
