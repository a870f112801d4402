//! How far a workload is. Pure.

use clap::ValueEnum;
use windlass_api::{
    resource::{Goal, Instance, Workload},
    status::Phase,
};

use super::{Scene, Target};
use crate::trouble;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// All that is wanted runs, and nothing else
    Settled,
    /// As many instances run as are wanted, of whatever revision
    Running,
    /// The workload and all its instances are gone
    Deleted,
}

impl Until {
    /// The state's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Running => "running",
            Self::Deleted => "deleted",
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
    /// It will never be there: it was deleted, and was to run.
    Gone,
}

/// Where `target` is on its way.
pub(super) fn of(target: &Target, until: Until, scene: &Scene<'_>) -> Standing {
    let reached = match (until, scene.workload(target)) {
        (Until::Deleted, Some(_)) => false,
        // A new workload of the same name has instances of its own.
        (Until::Deleted, None) => {
            scene.workloads.contains_key(&target.key.to_string())
                || scene.instances_of(&target.key).is_empty()
        }
        (Until::Settled | Until::Running, None) => return Standing::Gone,
        (Until::Running, Some(workload)) => workload.status.running >= workload.status.wanted,
        (Until::Settled, Some(workload)) => {
            workload.status.settled && is_caught_up(workload, &scene.instances_of(&target.key))
        }
    };
    if reached {
        Standing::Reached
    } else {
        Standing::Underway
    }
}

/// Whether the instances are as new as the workload. The two are watched apart, and what is
/// shown last should be how things are.
fn is_caught_up(workload: &Workload, instances: &[&Instance]) -> bool {
    let done = |i: &&Instance| i.status.phase.is_running() || i.status.phase == Phase::Succeeded;
    instances.len() == workload.status.wanted as usize && instances.iter().all(done)
}

/// Whether an instance is as its workload wants it, so that there is nothing to show.
pub(super) fn is_done(instance: &Instance, workload: Option<&Workload>) -> bool {
    instance.goal == Goal::Run
        && !instance.node_lost
        && workload.is_some_and(|w| w.status.revision == instance.revision)
        && (instance.status.phase.is_running() || instance.status.phase == Phase::Succeeded)
}

/// How far `target` is, in words.
pub(super) fn describe(target: &Target, until: Until, scene: &Scene<'_>) -> String {
    let name = &target.key.name;
    let Some(workload) = scene.workload(target) else {
        return match scene.instances_of(&target.key).len() {
            0 => format!("{name}: gone"),
            left if until == Until::Deleted => format!("{name}: {left} left to stop"),
            _ => format!("{name}: deleted"),
        };
    };
    let status = &workload.status;
    let mut text = format!("{name}: {}/{} running", status.running, status.wanted);
    if status.updated != status.running {
        let revision = status.revision;
        text.push_str(&format!(", {} of them revision {revision}", status.updated));
    }
    if let Some(reason) = status.reasons.first() {
        text.push_str(&format!(", {reason}"));
    }
    text
}

/// What an instance does, in words.
pub(super) fn describe_instance(instance: &Instance) -> String {
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
    match &instance.status.phase {
        Phase::Pending { .. } => format!("waits for a node{why}"),
        Phase::Assigned => format!("assigned{on}"),
        Phase::Pulling => format!("pulls {}{on}", instance.images.join(", ")),
        Phase::Prepared => format!("waits for its predecessor{on}"),
        Phase::Starting => format!("starts{on}"),
        Phase::Running { .. } if instance.goal == Goal::Stop => format!("is to stop{on}"),
        Phase::Running { .. } => format!("running{on}"),
        Phase::BackingOff { .. } => format!("backs off{on}{why}"),
        Phase::Stopping => format!("stops{on}"),
        Phase::Succeeded => format!("succeeded{on}"),
        Phase::Failed { .. } => format!("failed{on}{why}"),
    }
}
