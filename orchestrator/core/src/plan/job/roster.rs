//! Which instances of a job are there, which are missing, and which are too many.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use windlass_api::{
    ids::{Slot, WorkloadKey},
    resource::Goal,
    spec::JobSpec,
};

use super::{
    super::moves::{Move, Moves, Place, Spot},
    BACKOFF_MAX, JOB_ENDED_KEPT,
};
use crate::{
    cluster::Cluster,
    lease,
    leaving::{Leaving, Terms},
    record::{IndexKey, IndexState, InstanceRecord, WorkloadRecord},
};

/// Why an instance is placed.
const NEEDED: &str = "the index is to be completed";

/// The instances of a job.
struct Roster<'a> {
    /// Those on their way, by index.
    live: BTreeMap<Slot, Vec<&'a InstanceRecord>>,
    /// The indices of which one is being stopped and may still run.
    leaving: BTreeSet<Slot>,
    /// Those that have ended, and are kept for their logs.
    ended: Vec<&'a InstanceRecord>,
    /// Those that are none of this job's: of an earlier revision, or of a deleted job whose name
    /// it has.
    foreign: Vec<&'a InstanceRecord>,
}

impl<'a> Roster<'a> {
    fn new(cluster: &'a Cluster, workload: &WorkloadRecord) -> Self {
        let mut roster = Self {
            live: BTreeMap::new(),
            leaving: BTreeSet::new(),
            ended: Vec::new(),
            foreign: Vec::new(),
        };
        for instance in cluster.instances_of(&workload.manifest.key()) {
            let wanted = instance.goal != Goal::Stop;
            if instance.revision != workload.revision {
                if wanted {
                    roster.foreign.push(instance);
                }
            } else if instance.has_ended() {
                if wanted {
                    roster.ended.push(instance);
                }
            } else if wanted {
                let of_index = roster.live.entry(instance.slot).or_default();
                of_index.push(instance);
            } else if !cluster.is_out_of_sight(instance) {
                // For one that nobody can see, there is no waiting.
                roster.leaving.insert(instance.slot);
            }
        }
        roster
    }
}

impl Roster<'_> {
    /// Stops what is to leave its node at once. That is no failure of it.
    fn expel(&mut self, cluster: &Cluster, now: Timestamp, moves: &mut Moves) {
        for (index, instances) in &mut self.live {
            instances.retain(|instance| {
                // What nobody can see may still complete its index.
                let seen = !cluster.is_out_of_sight(instance);
                let Some(leaving) = cluster.leaving(instance).filter(|_| seen) else {
                    return true;
                };
                if leaving.terms(now) == Terms::AtOnce {
                    moves.stop(instance, leaving.to_string());
                    self.leaving.insert(*index);
                    return false;
                }
                leaving
                    .deadline()
                    .into_iter()
                    .for_each(|at| moves.wake_at(at));
                true
            });
        }
        self.live.retain(|_, instances| !instances.is_empty());
    }
}

/// What is to be done about the instances of a job.
pub(super) fn moves(
    cluster: &Cluster,
    workload: &WorkloadRecord,
    spec: &JobSpec,
    now: Timestamp,
) -> Moves {
    let mut moves = Moves::default();
    let key = workload.manifest.key();
    let mut roster = Roster::new(cluster, workload);
    for instance in &roster.foreign {
        moves.stop(instance, "it is not of this job");
    }
    roster.expel(cluster, now, &mut moves);
    forget_ended(cluster, &mut roster, &mut moves);
    let job = cluster.jobs.get(&key);
    if job.is_some_and(|job| job.state.finished_at().is_some()) {
        for instance in roster.live.values().flatten() {
            moves.stop(instance, "the job has ended");
        }
        return moves;
    }
    let standing = |index| standing(cluster, &key, index, now);
    let mut active = BTreeMap::new();
    for (index, instances) in roster.live {
        let why = if index.0 >= spec.completions {
            // Possible as long as the job has not begun: its instances waited for nodes.
            "`completions` was lowered"
        } else if standing(index) == Standing::Done {
            "its index is done"
        } else {
            active.insert(index, instances);
            continue;
        };
        for instance in instances {
            moves.stop(instance, why);
        }
    }
    let parallelism = usize::try_from(spec.parallelism).unwrap_or(usize::MAX);
    while active.len() > parallelism {
        let (_, instances) = active.pop_last().expect("there are more than some");
        for instance in instances {
            moves.stop(instance, "`parallelism` was lowered");
        }
    }
    let leaving = roster.leaving.iter().filter(|i| !active.contains_key(i));
    let mut room = parallelism.saturating_sub(active.len() + leaving.count());
    let occupied: BTreeSet<Slot> = active.keys().copied().chain(roster.leaving).collect();
    for (index, instances) in active {
        let standing = standing(index);
        keep_one(cluster, workload, (index, standing), instances, &mut moves);
    }
    for index in (0..spec.completions).map(Slot) {
        if room == 0 {
            break;
        }
        match standing(index) {
            _ if occupied.contains(&index) => {}
            Standing::Done => {}
            Standing::Waits(until) => moves.wake_at(until),
            Standing::Due => {
                room -= 1;
                place(workload, index, None, NEEDED, &mut moves);
            }
        }
    }
    moves
}

/// Keeps the newest of the instances that have ended, unless their node was removed.
fn forget_ended(cluster: &Cluster, roster: &mut Roster<'_>, moves: &mut Moves) {
    roster
        .ended
        .retain(|instance| match cluster.leaving(instance) {
            Some(leaving @ Leaving::Removed { .. }) => {
                moves.stop(instance, leaving.to_string());
                false
            }
            Some(Leaving::Drain { .. } | Leaving::Asked(_)) | None => true,
        });
    let by_age = |i: &&InstanceRecord| (Reverse((i.phase_since, i.created_at)), i.id.clone());
    roster.ended.sort_by_key(by_age);
    for instance in roster.ended.iter().skip(JOB_ENDED_KEPT) {
        moves.stop(
            instance,
            format!("only the last {JOB_ENDED_KEPT} instances that ended are kept"),
        );
    }
}

/// Of the instances of an index, keeps the one that is furthest. Those on lost nodes may still
/// complete the index, so they are neither stopped nor counted on.
fn keep_one(
    cluster: &Cluster,
    workload: &WorkloadRecord,
    (index, standing): (Slot, Standing),
    instances: Vec<&InstanceRecord>,
    moves: &mut Moves,
) {
    let mut seen: Vec<_> = instances
        .into_iter()
        .filter(|i| !cluster.is_out_of_sight(i))
        .collect();
    seen.sort_by_key(|i| {
        let runs = i.status.phase.is_running();
        (
            Reverse((runs, i.node.is_some())),
            i.created_at,
            i.id.clone(),
        )
    });
    let mut seen = seen.into_iter();
    match (seen.next(), standing) {
        (Some(kept), _) if kept.node.is_some() => {}
        (Some(waiting), _) => place(workload, index, Some(waiting), NEEDED, moves),
        // One that replaced it has failed meanwhile.
        (None, Standing::Waits(until)) => moves.wake_at(until),
        // It looks as if the server were cut off, and not they.
        (None, Standing::Due | Standing::Done) if !lease::evicts(cluster) => {}
        (None, Standing::Due | Standing::Done) => {
            place(
                workload,
                index,
                None,
                "the node of its predecessor is lost",
                moves,
            );
        }
    }
    for surplus in seen {
        moves.stop(surplus, "another instance of its index runs");
    }
}

fn place(
    workload: &WorkloadRecord,
    index: Slot,
    waiting: Option<&InstanceRecord>,
    why: &str,
    moves: &mut Moves,
) {
    moves.list.push(Move::Place(Place {
        slot: index,
        revision: workload.revision,
        waiting: waiting.map(|instance| instance.id.clone()),
        pinned: None,
        lost: None,
        spot: Spot::Free,
        why: why.to_owned(),
    }));
}

/// Whether an index needs an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It needs none any more.
    Done,
    /// It needs one at this time, since it has failed.
    Waits(Timestamp),
    /// It needs one.
    Due,
}

fn standing(cluster: &Cluster, job: &WorkloadKey, index: Slot, now: Timestamp) -> Standing {
    let key = IndexKey {
        job: job.clone(),
        index,
    };
    match cluster.indices.get(&key).map(|record| record.state) {
        None => Standing::Due,
        Some(IndexState::Completed | IndexState::GivenUp) => Standing::Done,
        Some(IndexState::Open { retry_at }) if retry_at <= now => Standing::Due,
        // No wait is longer than the longest: the clock was put back.
        Some(IndexState::Open { retry_at }) if retry_at.duration_since(now) > BACKOFF_MAX => {
            Standing::Due
        }
        Some(IndexState::Open { retry_at }) => Standing::Waits(retry_at),
    }
}
