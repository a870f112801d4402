//! What the ends of instances mean for their index, and for the job.

use std::{cmp::Reverse, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use windlass_api::{
    event::Severity,
    ids::WorkloadKey,
    resource::{Goal, JobState},
    spec::JobSpec,
    status::{Exit, Phase},
};

use super::{BACKOFF_MAX, BACKOFF_MIN, after, event};
use crate::{
    cluster::Cluster,
    record::{
        Accounted, Change, End, IndexKey, IndexRecord, IndexState, InstanceRecord, JobRecord,
        WorkloadRecord,
    },
    transaction::Transaction,
};

/// Takes into account what has become of the instances, each end and each failure once.
pub(super) fn account(txn: &mut Transaction, workload: &WorkloadRecord, spec: &JobSpec) {
    let key = workload.manifest.key();
    let news: Vec<Arc<InstanceRecord>> = txn
        .cluster()
        .instances_of(&key)
        .filter(|i| i.revision == workload.revision && i.goal != Goal::Stop)
        .filter(|i| seen(i) != i.accounted)
        .cloned()
        .collect();
    for instance in news {
        account_instance(txn, &key, spec, &instance);
        let accounted = seen(&instance);
        txn.update_instance(&instance.id, |instance| instance.accounted = accounted);
    }
}

/// How much of an instance there is to take into account. It only grows: an agent that has
/// forgotten some restarts takes no failure back.
fn seen(instance: &InstanceRecord) -> Accounted {
    let status = &instance.status;
    let (failed_now, end) = match &status.phase {
        Phase::Failed { .. } => (1, End::Noted),
        Phase::Succeeded => (0, End::Noted),
        // It is not yet restarted, and counts from then on as a restart. What cannot be started,
        // like an image that cannot be had, has not failed: it leaves no exit.
        Phase::BackingOff { .. } => {
            let failed = status.last_exit.as_ref().is_some_and(|exit| exit.code != 0);
            (u32::from(failed), End::NotYet)
        }
        Phase::Pending { .. }
        | Phase::Assigned
        | Phase::Pulling
        | Phase::Prepared
        | Phase::Starting
        | Phase::Running { .. }
        | Phase::Stopping => (0, End::NotYet),
    };
    let failures = status.restarts.saturating_add(failed_now);
    let known = instance.accounted;
    Accounted {
        failures: known.failures.max(failures),
        end: if known.end == End::Noted {
            End::Noted
        } else {
            end
        },
    }
}

fn account_instance(
    txn: &mut Transaction,
    job: &WorkloadKey,
    spec: &JobSpec,
    instance: &InstanceRecord,
) {
    let now = txn.now();
    let key = IndexKey {
        job: job.clone(),
        index: instance.slot,
    };
    let known = txn.cluster().indices.get(&key);
    let mut index = known.map_or_else(
        || IndexRecord {
            key: key.clone(),
            state: IndexState::Open { retry_at: now },
            failures: 0,
            exit: None,
            failure: None,
        },
        |known| IndexRecord::clone(known),
    );
    if !matches!(index.state, IndexState::Open { .. }) {
        // The index is done: another instance of it was faster, or it was given up.
        return;
    }
    let number = key.index;
    if instance.status.phase == Phase::Succeeded {
        let exit = end_of_main(txn.cluster(), instance).unwrap_or(Exit {
            code: 0,
            oom_killed: false,
            reason: None,
            finished_at: now,
        });
        if spec.completions > 1 {
            let message = format!("index {number}: {exit}");
            event(txn, job, Severity::Normal, "IndexCompleted", message);
        }
        index.state = IndexState::Completed;
        index.exit = Some(exit);
        txn.put(Change::Index(key, Some(Arc::new(index))));
        return;
    }
    let failures = seen(instance).failures - instance.accounted.failures;
    if failures == 0 {
        return;
    }
    index.failures = index.failures.saturating_add(failures);
    index.exit = end_of_failed(instance).or(index.exit);
    let failure = how_it_failed(instance);
    let message = format!("index {number}, failure {}: {failure}", index.failures);
    event(txn, job, Severity::Warning, "IndexFailed", message);
    index.failure = Some(failure);
    let limit = spec.backoff_limit_per_index;
    if let Some(limit) = limit.filter(|limit| index.failures > *limit) {
        index.state = IndexState::GivenUp;
        let message = format!(
            "index {number}: it failed more often than `backoffLimitPerIndex`, which is {limit}"
        );
        event(txn, job, Severity::Warning, "IndexGivenUp", message);
    } else if seen(instance).end == End::Noted {
        let retry_at = now.saturating_add(backoff(index.failures));
        index.state = IndexState::Open {
            retry_at: retry_at.unwrap_or(Timestamp::MAX),
        };
    }
    txn.put(Change::Index(key, Some(Arc::new(index))));
}

/// How long an index waits after so many failures.
fn backoff(failures: u32) -> SignedDuration {
    // 2^5 times the first wait is more than the longest.
    let doublings = failures.saturating_sub(1).min(5);
    (BACKOFF_MIN * 2_i32.pow(doublings)).min(BACKOFF_MAX)
}

/// Whether a job has ended, and how.
pub(super) fn conclusion(
    cluster: &Cluster,
    key: &WorkloadKey,
    spec: &JobSpec,
    job: &JobRecord,
    now: Timestamp,
) -> Option<JobState> {
    let (mut completed, mut given_up, mut failures) = (0_u32, 0_u32, 0_u32);
    for index in cluster.indices_of(key) {
        failures = failures.saturating_add(index.failures);
        match index.state {
            IndexState::Open { .. } => {}
            IndexState::Completed => completed += 1,
            IndexState::GivenUp => given_up += 1,
        }
    }
    if completed >= spec.completions {
        return Some(JobState::Completed { finished_at: now });
    }
    let failed = |reason| JobState::Failed {
        finished_at: now,
        reason,
    };
    if completed + given_up >= spec.completions {
        let why = format!(
            "{given_up} of {} indices given up after more failures than `backoffLimitPerIndex`",
            spec.completions
        );
        return Some(failed(with_last_failure(cluster, key, why)));
    }
    if spec.backoff_limit_per_index.is_none() && failures > spec.backoff_limit {
        let why = format!(
            "{failures} failures, which is more than `backoffLimit` ({}) allows",
            spec.backoff_limit
        );
        return Some(failed(with_last_failure(cluster, key, why)));
    }
    let deadline = spec.active_deadline?;
    let over = after(job.started_at, Some(deadline)).is_some_and(|at| at <= now);
    over.then(|| {
        let why = format!(
            "deadline exceeded: {completed} of {} indices completed within {deadline}",
            spec.completions
        );
        failed(why)
    })
}

/// A reason together with what failed last, and below it the last lines of its log.
fn with_last_failure(cluster: &Cluster, key: &WorkloadKey, why: String) -> String {
    let failed = cluster
        .indices_of(key)
        .filter(|index| index.state != IndexState::Completed);
    let last = failed
        .filter_map(|index| Some((index, index.failure.as_ref()?)))
        .min_by_key(|(index, _)| {
            let finished_at = index.exit.as_ref().map(|exit| exit.finished_at);
            (Reverse(finished_at), index.key.index)
        });
    match last {
        Some((index, failure)) => format!("{why}; index {}: {failure}", index.key.index),
        None => why,
    }
}

/// How an instance failed, and below it the last lines of its log.
fn how_it_failed(instance: &InstanceRecord) -> String {
    let status = &instance.status;
    let exit = end_of_failed(instance).map(|exit| exit.to_string());
    let how = status.phase.reason().map(str::to_owned).or(exit);
    let how = how.unwrap_or_else(|| "a container was restarted".to_owned());
    let lines = status.last_log.iter();
    lines.fold(format!("{}: {how}", instance.id), |text, line| {
        format!("{text}\n  {line}")
    })
}

/// How the main container ended.
fn end_of_main(cluster: &Cluster, instance: &InstanceRecord) -> Option<Exit> {
    let template = cluster.template_of(instance)?;
    let name = &template.main()?.name;
    let mut containers = instance.status.containers.iter();
    let main = containers.find(|container| container.name == *name);
    main.and_then(|container| container.last_exit.clone())
        .or_else(|| instance.status.last_exit.clone())
}

/// How the container ended that failed last.
fn end_of_failed(instance: &InstanceRecord) -> Option<Exit> {
    let containers = instance.status.containers.iter();
    let exits = containers.filter_map(|container| container.last_exit.as_ref());
    let last = exits
        .filter(|exit| exit.code != 0)
        .max_by_key(|exit| exit.finished_at);
    last.or(instance.status.last_exit.as_ref()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_five_minutes() {
        let waits: Vec<_> = (0..8).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(waits, [10, 10, 20, 40, 80, 160, 300, 300]);
    }
}
