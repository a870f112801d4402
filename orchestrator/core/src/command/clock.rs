//! The clock of the server's machine was set: by hand, or by what keeps it right where it does not
//! survive a power cut.
//!
//! What is under way counts from times that the clock had told before. They are moved with it, so that
//! as much time is left as was: no update fails because a day seems to have passed, and none waits
//! until the clock gets to where it has been. Schedules are about the time of day, so they stay; so
//! does what only tells when something happened.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use windlass_api::{
    duration::Span,
    event::{Severity, Subject},
    resource::{JobState, Scheduling},
    status::NodeState,
};

use super::node;
use crate::{
    record::{
        Change, IdempotencyRecord, IndexRecord, IndexState, InstanceRecord, JobRecord, NodeRecord,
        RolloutRecord, WorkloadRecord,
    },
    transaction::Transaction,
};

/// By how much a clock has to be set to count: less is how clocks are kept right, and less than what
/// anything here waits for.
pub const STEP_MIN: SignedDuration = SignedDuration::from_secs(5);

/// Notes that the clock was set forward by so much, or back.
pub fn set(txn: &mut Transaction, by: SignedDuration) {
    let move_by = |at: &mut Timestamp| *at = at.checked_add(by).unwrap_or(*at);
    let before = txn.cluster().clone();
    for instance in before.instances.values() {
        txn.update_instance(&instance.id, |instance| {
            times_of_instance(instance).for_each(move_by);
        });
    }
    for (key, workload) in &before.workloads {
        let mut workload = WorkloadRecord::clone(workload);
        if let Some(rollout) = workload.rollout.as_mut().filter(|r| !r.state.is_over()) {
            times_of_rollout(rollout).for_each(move_by);
            txn.put(Change::Workload(key.clone(), Some(Arc::new(workload))));
        }
    }
    for node in before.nodes.values() {
        let mut node = NodeRecord::clone(node);
        times_of_node(&mut node).for_each(move_by);
        node::put(txn, node);
    }
    for (key, job) in &before.jobs {
        let mut job = JobRecord::clone(job);
        times_of_job(&mut job).for_each(move_by);
        txn.put(Change::Job(key.clone(), Some(Arc::new(job))));
    }
    for (key, index) in &before.indices {
        let mut index = IndexRecord::clone(index);
        if let IndexState::Open { retry_at } = &mut index.state {
            move_by(retry_at);
            txn.put(Change::Index(key.clone(), Some(Arc::new(index))));
        }
    }
    for (key, answer) in &before.idempotency {
        let mut answer = IdempotencyRecord::clone(answer);
        move_by(&mut answer.at);
        txn.put(Change::Idempotency(key.clone(), Some(Arc::new(answer))));
    }
    let millis = u64::try_from(by.unsigned_abs().as_millis()).unwrap_or(u64::MAX);
    let span = Span::from_millis(millis);
    let way = if by.is_negative() { "back" } else { "forward" };
    txn.event(
        Subject::Cluster,
        Severity::Warning,
        "ClockSet",
        format!("the server's clock was set {way} by {span}: what is under way goes on, only schedules follow it"),
    );
}

fn times_of_instance(instance: &mut InstanceRecord) -> impl Iterator<Item = &mut Timestamp> {
    let relocation = instance.relocation.as_deref_mut();
    let (asked, given_up) = match relocation {
        Some(relocation) => (
            Some(&mut relocation.asked_at),
            relocation.given_up_at.as_mut(),
        ),
        None => (None, None),
    };
    // Which of two is the older one must not change either.
    [
        Some(&mut instance.created_at),
        Some(&mut instance.phase_since),
        instance.ready_since.as_mut(),
        instance.moved_at.as_mut(),
        asked,
        given_up,
    ]
    .into_iter()
    .flatten()
}

fn times_of_rollout(rollout: &mut RolloutRecord) -> impl Iterator<Item = &mut Timestamp> {
    [
        &mut rollout.started_at,
        &mut rollout.progressed_at,
        &mut rollout.judged_from,
    ]
    .into_iter()
}

fn times_of_node(node: &mut NodeRecord) -> impl Iterator<Item = &mut Timestamp> {
    let since = match &mut node.state {
        NodeState::Lost { since, .. } => Some(since),
        NodeState::Ready | NodeState::RuntimeUnhealthy { .. } => None,
    };
    let deadline = match &mut node.scheduling {
        Scheduling::Draining { drain_deadline, .. } => drain_deadline.as_mut(),
        Scheduling::Enabled | Scheduling::Cordoned | Scheduling::Removed { .. } => None,
    };
    [
        Some(&mut node.state_since),
        node.returned_at.as_mut(),
        since,
        deadline,
    ]
    .into_iter()
    .flatten()
}

fn times_of_job(job: &mut JobRecord) -> impl Iterator<Item = &mut Timestamp> {
    let finished = match &mut job.state {
        JobState::Running => None,
        JobState::Completed { finished_at } | JobState::Failed { finished_at, .. } => {
            Some(finished_at)
        }
    };
    [Some(&mut job.started_at), finished].into_iter().flatten()
}
