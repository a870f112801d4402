//! The state of a workload, in the few words that fit a column.

use anstyle::Style;
use jiff::Timestamp;
use windlass_api::{
    resource::{
        JobState, JobStatus, RolloutState, RolloutStatus, ScheduleStatus, Workload, WorkloadStatus,
    },
    spec::WorkloadSpec,
};

use super::{age::until, style};

/// A state, and how it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) style: Style,
    pub(crate) text: String,
}

impl State {
    fn new(style: Style, text: impl Into<String>) -> Self {
        Self {
            style,
            text: text.into(),
        }
    }
}

/// The state of a workload.
pub(crate) fn of(workload: &Workload, now: Timestamp) -> State {
    let status = &workload.status;
    if let Some(job) = &status.job {
        return of_job(job);
    }
    if let Some(schedule) = &status.schedule {
        return of_schedule(schedule, &workload.manifest.spec, now);
    }
    match &status.rollout {
        Some(rollout) => of_rollout(rollout, workload),
        None => of_instances(status),
    }
}

fn of_job(job: &JobStatus) -> State {
    let done = format!("{}/{}", job.succeeded, job.completions);
    match &job.state {
        JobState::Running => State::new(style::BUSY, format!("running {done}")),
        JobState::Completed { .. } => State::new(style::GOOD, format!("completed {done}")),
        JobState::Failed { .. } => State::new(style::BAD, format!("failed {done}")),
    }
}

fn of_schedule(schedule: &ScheduleStatus, spec: &WorkloadSpec, now: Timestamp) -> State {
    let suspended = matches!(spec, WorkloadSpec::CronJob(spec) if spec.suspend);
    match (schedule.active.len(), schedule.next) {
        (0, _) if suspended => State::new(style::DIM, "suspended"),
        (0, Some(next)) => State::new(style::PLAIN, format!("next in {}", until(now, next))),
        (0, None) => State::new(style::BUSY, "never due"),
        (1, _) => State::new(style::BUSY, "running"),
        (active, _) => State::new(style::BUSY, format!("running {active}")),
    }
}

fn of_rollout(rollout: &RolloutStatus, workload: &Workload) -> State {
    let status = &workload.status;
    let (updated, wanted) = (status.updated, status.wanted);
    match &rollout.state {
        RolloutState::Progressing if rollout.from.is_some() => {
            State::new(style::BUSY, format!("rolling {updated}/{wanted}"))
        }
        RolloutState::Canary => {
            let canaries = workload.manifest.spec.update().map_or(0, |u| u.canary);
            State::new(style::BUSY, format!("canary {updated}/{canaries}"))
        }
        RolloutState::Paused { .. } => {
            State::new(style::BUSY, format!("paused {updated}/{wanted}"))
        }
        RolloutState::RollingBack { .. } => State::new(style::BAD, "rolling back"),
        RolloutState::RolledBack { .. } => State::new(style::BAD, "rolled back"),
        RolloutState::Progressing | RolloutState::Completed => of_instances(status),
    }
}

fn of_instances(status: &WorkloadStatus) -> State {
    if status.settled {
        State::new(style::GOOD, "settled")
    } else if status.moving > 0 && status.reasons.is_empty() {
        State::new(style::BUSY, format!("moving {}", status.moving))
    } else if status.reasons.is_empty() {
        State::new(style::BUSY, "in progress")
    } else {
        State::new(style::BAD, "in trouble")
    }
}

/// Why a workload is in its state, where there is something to say: each reason in one line.
pub(crate) fn reasons(workload: &Workload) -> Vec<&str> {
    let status = &workload.status;
    let rollout = status.rollout.as_ref().and_then(|r| r.state.reason());
    let job = status.job.as_ref().and_then(|job| match &job.state {
        JobState::Failed { reason, .. } => Some(reason.as_str()),
        JobState::Running | JobState::Completed { .. } => None,
    });
    let mut reasons: Vec<&str> = rollout.into_iter().chain(job).map(first_line).collect();
    for reason in status.reasons.iter().map(|r| first_line(r)) {
        // The server may say the same with a word in front, like `paused: ...`.
        if !reasons.iter().any(|told| reason.ends_with(told)) {
            reasons.push(reason);
        }
    }
    reasons
}

/// A reason without the lines of a log that may follow it.
pub(crate) fn first_line(reason: &str) -> &str {
    reason.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::{self, NOW};

    fn rolling(rollout: serde_json::Value) -> String {
        let mut workload = fixtures::workload("web", 3, 3);
        workload.status.updated = 2;
        workload.status.rollout = Some(fixtures::rollout(rollout));
        of(&workload, NOW).text
    }

    #[test]
    fn an_update_says_how_far_it_is() {
        let rolling = |state| rolling(state);
        assert_eq!(rolling(json!({ "state": "Progressing" })), "rolling 2/3");
        assert_eq!(
            rolling(json!({ "state": "Paused", "reason": "x" })),
            "paused 2/3"
        );
        assert_eq!(
            rolling(json!({ "state": "RolledBack", "reason": "x" })),
            "rolled back"
        );
        assert_eq!(rolling(json!({ "state": "Completed" })), "settled");
        let mut canary = fixtures::workload("web", 3, 3);
        let WorkloadSpec::Service(spec) = &mut canary.manifest.spec else {
            panic!("it is a service");
        };
        spec.update.canary = 2;
        canary.status.updated = 1;
        canary.status.rollout = Some(fixtures::rollout(json!({ "state": "Canary" })));
        assert_eq!(of(&canary, NOW).text, "canary 1/2");
    }

    #[test]
    fn the_first_start_is_no_update() {
        let mut workload = fixtures::workload("web", 1, 3);
        let mut rollout = fixtures::rollout(json!({ "state": "Progressing" }));
        rollout.from = None;
        workload.status.rollout = Some(rollout);
        assert_eq!(of(&workload, NOW).text, "in progress");
        workload.status.moving = 2;
        assert_eq!(of(&workload, NOW).text, "moving 2");
        workload.status.reasons = vec!["exit code 1".to_owned()];
        assert_eq!(of(&workload, NOW).text, "in trouble");
    }

    #[test]
    fn a_job_says_what_is_done_and_a_schedule_what_comes() {
        let job = fixtures::job("load", json!({ "state": "Running" }));
        assert_eq!(of(&job, NOW).text, "running 2/5");
        let failed = json!({ "state": "Failed", "finishedAt": NOW, "reason": "exit code 3\n| no" });
        let failed = fixtures::job("load", failed);
        assert_eq!(of(&failed, NOW).text, "failed 2/5");
        assert_eq!(reasons(&failed), ["exit code 3"]);
        let schedule = |value| of(&fixtures::schedule("backup", value), NOW).text;
        let later = "2026-01-01T03:00:00Z";
        assert_eq!(schedule(json!({ "next": later })), "next in 3h");
        assert_eq!(schedule(json!({})), "never due");
        let active = json!({ "next": later, "active": ["backup-1", "backup-2"] });
        assert_eq!(schedule(active), "running 2");
    }

    #[test]
    fn a_reason_is_told_once_and_without_its_log() {
        let mut workload = fixtures::workload("web", 1, 3);
        let paused = json!({ "state": "Paused", "reason": "exit code 1\nline of the log" });
        workload.status.rollout = Some(fixtures::rollout(paused));
        workload.status.reasons = vec!["paused: exit code 1".to_owned(), "no node".to_owned()];
        assert_eq!(reasons(&workload), ["exit code 1", "no node"]);
    }
}
