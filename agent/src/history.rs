//! What the agent remembers of an instance that its container does not tell: how often it was
//! started, how often it failed in a row, and when to try again.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use windlass_api::{ids::InstanceId, status::Exit};

use crate::{
    backoff,
    runtime::{Container, ContainerId, ContainerState},
};

/// A container that ran this long was well: its next end is a first one again.
const STABLE_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How long an instance waits after the engine did not answer about it. It is not to blame, but
/// an engine that answers some calls only must not be asked in a tight loop.
const UNREACHABLE_DELAY: Duration = Duration::from_secs(1);

/// The memory of every instance that has some.
pub(crate) type Histories = BTreeMap<InstanceId, History>;

/// What is remembered of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct History {
    /// How often a container of it was started.
    starts: u32,
    /// How often in a row its container ended without having run for [`STABLE_AFTER`].
    crashes: u32,
    /// How often in a row a step failed.
    step_failures: u32,
    /// How its container last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_exit: Option<Exit>,
    /// The container that it had when last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<Retry>,
}

/// When to try again, and what failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retry {
    /// When to try again.
    pub(crate) at: Timestamp,
    /// What failed, for people.
    pub(crate) reason: String,
}

impl History {
    /// How often its container was restarted.
    pub(crate) fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    /// How its container last ended.
    pub(crate) fn last_exit(&self) -> Option<&Exit> {
        self.last_exit.as_ref()
    }

    /// What must be waited for before the next attempt, if anything. A time further off than
    /// any wait can be is a clock that was set back, and not waited for.
    pub(crate) fn waits_for(&self, now: Timestamp) -> Option<&Retry> {
        let retry = self.retry.as_ref()?;
        let left = retry.at.duration_since(now);
        let longest = SignedDuration::try_from(backoff::RETRY_MAX).expect("minutes fit");
        (left > SignedDuration::ZERO && left <= longest).then_some(retry)
    }

    /// Its container, or that there is none, was seen. Counts an end that was not counted yet.
    pub(crate) fn observe(
        &mut self,
        instance: &InstanceId,
        container: Option<&Container>,
        now: Timestamp,
    ) {
        let Some(container) = container else {
            if self.container.take().is_some() {
                let reason = "its container was removed by somebody else".to_owned();
                self.crash(instance, reason, now);
            }
            return;
        };
        self.container = Some(container.id.0.clone());
        match &container.state {
            ContainerState::Running { .. } => {
                self.starts = self.starts.max(1);
                self.retry = None;
            }
            ContainerState::Exited { started_at, exit } => {
                self.starts = self.starts.max(1);
                if self.last_exit.as_ref() != Some(exit) {
                    self.last_exit = Some(exit.clone());
                    if exit.finished_at.duration_since(*started_at) >= STABLE_AFTER {
                        self.crashes = 0;
                    }
                    self.crash(instance, exit.to_string(), exit.finished_at.min(now));
                }
            }
            ContainerState::Created | ContainerState::Removing => {}
        }
    }

    /// A container of it was started.
    pub(crate) fn started(&mut self, container: &ContainerId) {
        self.starts = self.starts.saturating_add(1);
        self.step_failures = 0;
        self.container = Some(container.0.clone());
        self.retry = None;
    }

    /// Its image was made ready. Only a start ends a row of failures: an image that is there and
    /// still cannot be used would be tried without a pause otherwise.
    pub(crate) fn fetched(&mut self) {
        self.retry = None;
    }

    /// Its container was removed by us.
    pub(crate) fn removed(&mut self) {
        self.container = None;
        self.step_failures = 0;
        self.retry = None;
    }

    /// A step for it failed.
    pub(crate) fn step_failed(&mut self, instance: &InstanceId, reason: String, now: Timestamp) {
        self.step_failures = self.step_failures.saturating_add(1);
        self.retry_in(
            backoff::retry_delay(instance, self.step_failures),
            reason,
            now,
        );
    }

    /// The engine did not answer about it.
    pub(crate) fn unreachable(&mut self, reason: String, now: Timestamp) {
        self.retry_in(UNREACHABLE_DELAY, reason, now);
    }

    fn crash(&mut self, instance: &InstanceId, reason: String, ended: Timestamp) {
        self.crashes = self.crashes.saturating_add(1);
        self.retry_in(backoff::retry_delay(instance, self.crashes), reason, ended);
    }

    fn retry_in(&mut self, delay: Duration, reason: String, from: Timestamp) {
        self.retry = Some(Retry {
            at: from + delay,
            reason,
        });
    }
}

#[cfg(test)]
mod tests {
    use windlass_api::{duration::Span, ids::RevisionNumber};

    use super::*;

    const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn id() -> InstanceId {
        "web-0-1".parse().unwrap()
    }

    fn container(state: ContainerState) -> Container {
        Container {
            id: ContainerId("c1".to_owned()),
            instance: id(),
            namespace: Default::default(),
            revision: RevisionNumber(1),
            image_id: String::new(),
            address: None,
            healthcheck: None,
            stop_grace: Span::from_secs(10),
            state,
        }
    }

    fn exited(started_at: Timestamp, finished_at: Timestamp) -> Container {
        let exit = Exit {
            code: 1,
            oom_killed: false,
            finished_at,
        };
        container(ContainerState::Exited { started_at, exit })
    }

    fn secs(n: i64) -> SignedDuration {
        SignedDuration::from_secs(n)
    }

    #[test]
    fn an_end_is_counted_once() {
        let mut history = History::default();
        let seen = exited(START, START + secs(5));
        history.observe(&id(), Some(&seen), START + secs(6));
        let once = history.clone();
        history.observe(&id(), Some(&seen), START + secs(16));
        assert_eq!(history, once);
        assert_eq!(history.crashes, 1);
        assert_eq!(history.waits_for(START + secs(6)), None);
    }

    #[test]
    fn a_container_that_ran_long_begins_anew() {
        let mut history = History::default();
        let mut at = START;
        for _ in 0..5 {
            history.observe(&id(), Some(&exited(at, at + secs(1))), at + secs(1));
            at += secs(2);
        }
        let retry = history.waits_for(at).unwrap();
        assert_eq!(retry.reason, "exit code 1");
        assert!(retry.at <= at + secs(8) && retry.at > at + secs(4));
        let end = at + secs(600);
        history.observe(&id(), Some(&exited(at, end)), end);
        assert_eq!((history.crashes, history.waits_for(end)), (1, None));
    }

    #[test]
    fn a_container_that_vanishes_again_and_again_backs_off() {
        let mut history = History::default();
        history.observe(&id(), None, START);
        assert_eq!(history, History::default());
        for _ in 0..3 {
            history.started(&ContainerId("c".to_owned()));
            history.observe(&id(), None, START);
        }
        assert_eq!(history.restarts(), 2);
        let retry = history.waits_for(START).unwrap();
        assert_eq!(retry.reason, "its container was removed by somebody else");
    }

    #[test]
    fn an_engine_that_does_not_answer_is_not_the_instances_failure() {
        let mut history = History::default();
        for _ in 0..10 {
            history.unreachable("no answer".to_owned(), START);
        }
        let retry = history.waits_for(START).unwrap();
        assert_eq!(retry.at, START + secs(1));
    }

    #[test]
    fn a_clock_that_was_set_back_is_not_waited_for() {
        let mut history = History::default();
        for _ in 0..20 {
            history.step_failed(&id(), "no space".to_owned(), START);
        }
        assert!(history.waits_for(START).is_some());
        assert_eq!(history.waits_for(START - secs(86_400)), None);
        assert_eq!(history.waits_for(START + secs(301)), None);
    }

    #[test]
    fn a_pull_that_failed_for_long_does_not_delay_the_first_restart() {
        let mut history = History::default();
        for _ in 0..9 {
            history.step_failed(&id(), "registry is down".to_owned(), START);
        }
        history.fetched();
        history.started(&ContainerId("c1".to_owned()));
        let end = START + secs(60);
        history.observe(&id(), Some(&exited(START, end)), end);
        assert_eq!(history.waits_for(end), None);
    }
}
