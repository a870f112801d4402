//! How far a workload is. Pure.

use clap::ValueEnum;
use jiff::Timestamp;
use windlass_api::{
    resource::{Goal, Instance, JobState, RolloutState, Workload, WorkloadStatus},
    status::{ContainerPhase, Phase},
};

use super::{Scene, Target};
use crate::{
    output::state::{self, first_line},
    trouble,
};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// All that is wanted is available, and nothing else is there; a job has ended
    Settled,
    /// As many instances are available as are wanted, of whatever revision
    Ready,
    /// As many instances run as are wanted, of whatever revision
    Running,
    /// The job has completed
    Completed,
    /// The workload and all its instances are gone
    Deleted,
    /// What was asked for is there, or nothing more will come of it by itself
    #[value(skip)]
    Done,
    /// What ran before runs again
    #[value(skip)]
    RolledBack,
}

impl Until {
    /// The state's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Settled | Self::Done => "settled",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Deleted => "deleted",
            Self::RolledBack => "rolled back",
        }
    }
}

/// Where a workload is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There.
    Reached,
    /// Not there yet.
    Underway,
    /// It will not be there by itself; the [`Stop`] says why.
    Stopped,
    /// It will never be there: it was deleted, and was to run.
    Gone,
}

/// Why a workload goes no further by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop<'a> {
    /// Its update failed, and what ran before runs again.
    RolledBack { reason: &'a str },
    /// Its update waits for an operator.
    Paused { reason: &'a str },
    /// It is a job, and has failed.
    JobFailed { reason: &'a str },
}

/// Where `target` is on its way.
pub(super) fn of(target: &Target, until: Until, scene: &Scene<'_>) -> Standing {
    let Some(workload) = scene.workload(target) else {
        // A new workload of the same name has instances of its own, and nobody knows when a lost node
        // is back.
        let is_gone = scene.workloads.contains_key(&target.key.to_string())
            || scene.instances_of(&target.key).iter().all(|i| i.node_lost);
        return match (until, is_gone) {
            (Until::Deleted, true) => Standing::Reached,
            (Until::Deleted, false) => Standing::Underway,
            _ => Standing::Gone,
        };
    };
    if stop_of(workload, until).is_some() {
        return Standing::Stopped;
    }
    let instances = scene.instances_of(&target.key);
    if is_reached(workload, until, &instances, scene.now) {
        Standing::Reached
    } else {
        Standing::Underway
    }
}

fn is_reached(workload: &Workload, until: Until, instances: &[&Instance], now: Timestamp) -> bool {
    let status = &workload.status;
    match until {
        Until::Deleted => false,
        Until::Running => status.running >= status.wanted,
        Until::Ready => {
            let of_any = |_: &Instance| true;
            status.ready >= status.wanted
                && are_available(workload, instances, status.wanted, now, of_any)
        }
        Until::Completed => status
            .job
            .as_ref()
            .is_some_and(|job| matches!(job.state, JobState::Completed { .. })),
        Until::Settled => is_settled(workload, instances, now),
        Until::Done => {
            let of_the_new = |i: &Instance| i.revision == status.revision;
            let canaries_are_up = are_canaries_waiting(workload)
                && are_available(workload, instances, canaries(workload), now, of_the_new);
            canaries_are_up || is_settled(workload, instances, now)
        }
        Until::RolledBack => is_rolled_back(status) && is_settled(workload, instances, now),
    }
}

/// Whether all that is wanted is available, and nothing else is there, as far as anything can be
/// done about it.
fn is_settled(workload: &Workload, instances: &[&Instance], now: Timestamp) -> bool {
    let status = &workload.status;
    status.settled
        && is_caught_up(workload, instances)
        && are_available(workload, instances, status.ready, now, |_| true)
}

/// Whether the instances are as new as the workload. The two are watched apart, and what is
/// shown last should be how things are.
fn is_caught_up(workload: &Workload, instances: &[&Instance]) -> bool {
    // The instances of jobs come and go, and what became of them is in the status.
    if workload.manifest.spec.update().is_none() {
        return true;
    }
    let seen = || instances.iter().filter(|i| !i.node_lost);
    let serving = seen().filter(|i| serves(i)).count();
    serving == workload.status.ready as usize && seen().all(|i| i.goal == Goal::Run)
}

fn is_rolled_back(status: &WorkloadStatus) -> bool {
    let rollout = status.rollout.as_ref();
    rollout.is_none_or(|r| r.state.is_over())
}

/// Why `workload` will not be as `until` says by itself, if it will not.
pub(crate) fn stop_of(workload: &Workload, until: Until) -> Option<Stop<'_>> {
    let rollout = workload.status.rollout.as_ref().map(|r| &r.state);
    let job = workload.status.job.as_ref().map(|job| &job.state);
    match until {
        Until::Done => match (rollout, job) {
            (Some(RolloutState::RolledBack { reason }), _) => Some(Stop::RolledBack { reason }),
            (Some(RolloutState::Paused { reason }), _) => Some(Stop::Paused { reason }),
            (_, Some(JobState::Failed { reason, .. })) => Some(Stop::JobFailed { reason }),
            _ => None,
        },
        Until::Completed => match job {
            Some(JobState::Failed { reason, .. }) => Some(Stop::JobFailed { reason }),
            _ => None,
        },
        // Somebody else may go on, or mend it.
        Until::Settled | Until::Ready | Until::Running | Until::Deleted | Until::RolledBack => None,
    }
}

/// Whether the canaries are ready, so that somebody has to say how it goes on.
pub(crate) fn are_canaries_waiting(workload: &Workload) -> bool {
    let status = &workload.status;
    let in_canary = status
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.state == RolloutState::Canary);
    in_canary && status.updated >= canaries(workload)
}

/// How many canaries are wanted.
fn canaries(workload: &Workload) -> u32 {
    let canaries = workload.manifest.spec.update().map_or(0, |u| u.canary);
    canaries.min(workload.status.wanted)
}

/// Whether `count` of those instances are available, which is what an update wants of them, too:
/// what ends again and again may be ready again and again for a moment.
fn are_available(
    workload: &Workload,
    instances: &[&Instance],
    count: u32,
    now: Timestamp,
    of: impl Fn(&Instance) -> bool,
) -> bool {
    let available = instances.iter().filter(|i| of(i)).filter(|i| {
        let at = available_at(workload, i);
        at.is_some_and(|at| at <= now)
    });
    // The instances of jobs come and go, and need not stay.
    workload.manifest.spec.update().is_none() || available.count() >= count as usize
}

/// When an instance will count as available, or did, if it goes on as it is.
fn available_at(workload: &Workload, instance: &Instance) -> Option<Timestamp> {
    if instance.goal != Goal::Run || instance.node_lost {
        return None;
    }
    let min_ready = workload.manifest.spec.update()?.min_ready;
    instance
        .status
        .available_at(instance.phase_since, instance.ready_since, min_ready)
}

/// When to look again although nothing changes until then.
pub(super) fn next_available(
    targets: &[Target],
    until: Until,
    scene: &Scene<'_>,
) -> Option<Timestamp> {
    match until {
        Until::Settled | Until::Ready | Until::Done | Until::RolledBack => {}
        Until::Running | Until::Completed | Until::Deleted => return None,
    }
    let late = targets.iter().filter_map(|target| {
        let workload = scene.workload(target)?;
        let instances = scene.instances_of(&target.key).into_iter();
        instances
            .filter_map(|i| available_at(workload, i))
            .filter(|at| *at > scene.now)
            .min()
    });
    late.min()
}

/// Whether an instance does what it is there for, or has done it.
fn serves(instance: &Instance) -> bool {
    let status = &instance.status;
    (status.phase.is_running() && status.readiness.is_ready()) || status.phase == Phase::Succeeded
}

/// Whether an instance is as its workload wants it, so that there is nothing to show.
pub(super) fn is_done(instance: &Instance, workload: Option<&Workload>) -> bool {
    let is_wanted = |workload: &Workload| {
        let status = &workload.status;
        let beside_canaries = status.rollout.as_ref().is_some_and(|rollout| {
            rollout.state == RolloutState::Canary && rollout.from == Some(instance.revision)
        });
        status.revision == instance.revision || beside_canaries
    };
    instance.goal == Goal::Run
        && !instance.node_lost
        && workload.is_some_and(is_wanted)
        && serves(instance)
}

/// How far `target` is, in words.
pub(super) fn describe(target: &Target, until: Until, scene: &Scene<'_>) -> String {
    let name = &target.key.name;
    let Some(workload) = scene.workload(target) else {
        let instances = scene.instances_of(&target.key);
        let lost = instances.iter().filter(|i| i.node_lost).count();
        return match (instances.len() - lost, lost) {
            (0, 0) => format!("{name}: gone"),
            (0, lost) if until == Until::Deleted => {
                format!("{name}: gone, but for {lost} on lost nodes: stopped when these are back")
            }
            (left, _) if until == Until::Deleted => format!("{name}: {left} left to stop"),
            _ => format!("{name}: deleted"),
        };
    };
    let mut text = format!("{name}: {}", describe_status(workload));
    let told = text.clone();
    let reasons = state::reasons(workload).into_iter();
    if let Some(reason) = reasons.into_iter().find(|reason| !told.contains(reason)) {
        text.push_str(&format!(", {reason}"));
    }
    text
}

fn describe_status(workload: &Workload) -> String {
    let status = &workload.status;
    if let Some(job) = &status.job {
        let mut text = format!("{}/{} completed", job.succeeded, job.completions);
        for (count, what) in [(job.active, "on their way"), (job.failed, "failed")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        return text;
    }
    if let Some(schedule) = &status.schedule {
        return match schedule.next {
            Some(next) => format!("due next at {next}"),
            None => "not due".to_owned(),
        };
    }
    let mut text = format!("{}/{} ready", status.ready, status.wanted);
    if status.updated != status.ready {
        let revision = status.revision;
        text.push_str(&format!(", {} of them revision {revision}", status.updated));
    }
    match status.rollout.as_ref().map(|r| &r.state) {
        Some(RolloutState::Canary) => text.push_str(", canaries"),
        Some(RolloutState::Paused { reason }) => {
            text.push_str(&format!(", paused: {}", first_line(reason)));
        }
        Some(RolloutState::RollingBack { reason }) => {
            text.push_str(&format!(", rolling back: {}", first_line(reason)));
        }
        Some(RolloutState::RolledBack { reason }) => {
            text.push_str(&format!(", rolled back: {}", first_line(reason)));
        }
        Some(RolloutState::Progressing | RolloutState::Completed) | None => {}
    }
    text
}

/// What an instance does, in words.
pub(crate) fn describe_instance(instance: &Instance) -> String {
    let on = instance
        .node
        .as_ref()
        .map(|node| format!(" on {node}"))
        .unwrap_or_default();
    let why = trouble::reason(instance)
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    if instance.node_lost {
        return format!("unknown{why}");
    }
    let status = &instance.status;
    match &status.phase {
        Phase::Pending { .. } => format!("waits for a node{why}"),
        Phase::Assigned => format!("assigned{on}"),
        Phase::Pulling => format!("pulls {}{on}", instance.images.join(", ")),
        Phase::Prepared => format!("waits for its predecessor{on}"),
        Phase::Starting => format!("starts{on}{}", waiting_for(instance)),
        Phase::Running { .. } if instance.goal == Goal::Stop => format!("is to stop{on}"),
        Phase::Running { .. } if !status.readiness.is_ready() => format!("not ready{on}{why}"),
        Phase::Running { .. } => format!("ready{on}"),
        Phase::BackingOff { .. } => format!("backs off{on}{why}"),
        Phase::Stopping => format!("stops{on}"),
        Phase::Succeeded => format!("succeeded{on}"),
        Phase::Failed { .. } => format!("failed{on}{why}"),
    }
}

/// What the first container that waits says it waits for.
fn waiting_for(instance: &Instance) -> String {
    let reasons = instance.status.containers.iter();
    let mut reasons = reasons.filter_map(|container| match &container.state {
        ContainerPhase::Waiting { reason } => Some((&container.name, reason.as_ref()?)),
        ContainerPhase::Running { .. } | ContainerPhase::Exited => None,
    });
    reasons
        .next()
        .map(|(name, reason)| format!(": {name} {reason}"))
        .unwrap_or_default()
}
