//! What the agent remembers of an instance that its containers do not tell: how often each was
//! started, how often it failed in a row, when to try again, and what it last said.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use windlass_api::{ids::InstanceId, status::Exit};

use crate::{
    backoff,
    runtime::{Container, ContainerId, ContainerState, Part},
};

pub(crate) use instance::InstanceHistory;

mod instance;

/// A container that ran this long was well: its next end is a first one again.
const STABLE_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How long a container waits after the engine did not answer about it. It is not to blame, but
/// an engine that answers some calls only must not be asked in a tight loop.
const UNREACHABLE_DELAY: Duration = Duration::from_secs(1);

/// Why a container ended that was stopped because its network had gone.
pub(crate) const NETWORK_LOST: &str = "the network that it shared was lost";

/// The memory of every instance that has some.
pub(crate) type Histories = BTreeMap<InstanceId, InstanceHistory>;

/// One of the containers of an instance: what steps are for, and what is remembered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Member {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// Which of its containers.
    pub(crate) part: Part,
}

/// What a container is for, as far as its ends are judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It holds the network of the others.
    Pause,
    /// It runs to its end before the others start.
    Init,
    /// It accompanies the main containers.
    Sidecar,
    /// It is what the instance is for.
    Main,
}

/// Why we stopped a container that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Halt {
    /// A probe says that it is not well.
    Unwell(String),
    /// The network that it shares is gone.
    NetworkLost,
    /// What it accompanied came to its end.
    Over,
}

/// What was new when a container was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum News {
    /// Nothing that anybody has to look into.
    None,
    /// It failed.
    Failed,
}

/// What is remembered of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct History {
    /// How often it was started.
    starts: u32,
    /// How often in a row it ended without having run for [`STABLE_AFTER`].
    crashes: u32,
    /// How often an init container failed since it last succeeded.
    failures: u32,
    /// How often in a row a step failed.
    step_failures: u32,
    /// How it last ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exit: Option<Exit>,
    /// The start of the run that ended so, until there is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
    /// Its id when it was last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<Retry>,
    /// The run that we ended, by its start, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    halted: Option<(Timestamp, Halt)>,
    /// The run, by its start, that lost the network that it shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_off: Option<Timestamp>,
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
    /// How often it was restarted.
    pub(crate) fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    /// How often it failed since it last succeeded; of init containers only.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// How it last ended.
    pub(crate) fn last_exit(&self) -> Option<&Exit> {
        self.last_exit.as_ref()
    }

    /// How its last run ended and when that began, if it has ended. Also true after somebody
    /// removed the container.
    pub(crate) fn last_end(&self) -> Option<(Timestamp, &Exit)> {
        self.ended.zip(self.last_exit.as_ref())
    }

    /// Why we ended the run that began at this time, if we did.
    pub(crate) fn halt_of(&self, run: Timestamp) -> Option<&Halt> {
        let (halted, why) = self.halted.as_ref()?;
        (*halted == run).then_some(why)
    }

    /// How a run that began at this time ended, with the reason if it was us who ended it.
    pub(crate) fn explained(&self, run: Timestamp, exit: &Exit) -> Exit {
        let reason = match self.halt_of(run) {
            Some(Halt::Unwell(reason)) => Some(reason.clone()),
            Some(Halt::NetworkLost) => Some(NETWORK_LOST.to_owned()),
            Some(Halt::Over) | None => None,
        };
        Exit {
            reason,
            ..exit.clone()
        }
    }

    /// Whether the run that began at this time lost its network.
    pub(crate) fn is_cut_off(&self, run: Timestamp) -> bool {
        self.cut_off == Some(run)
    }

    /// What must be waited for before the next attempt, if anything. A time further off than
    /// any wait can be is a clock that was set back, and not waited for.
    pub(crate) fn waits_for(&self, now: Timestamp) -> Option<&Retry> {
        let retry = self.retry.as_ref()?;
        let left = retry.at.duration_since(now);
        let longest = SignedDuration::try_from(backoff::RETRY_MAX).expect("minutes fit");
        (left > SignedDuration::ZERO && left <= longest).then_some(retry)
    }

    /// It, or that there is none, was seen. Counts an end that was not counted yet, and tells
    /// what is new.
    pub(crate) fn observe(
        &mut self,
        member: &Member,
        role: Role,
        container: Option<&Container>,
        now: Timestamp,
    ) -> News {
        let Some(container) = container else {
            // One that has ended is often cleared away.
            if self.container.take().is_some() && self.ended.is_none() && role != Role::Init {
                let reason = "its container was removed by somebody else".to_owned();
                self.crash(member, reason, now);
            }
            return News::None;
        };
        self.container = Some(container.id.0.clone());
        match &container.state {
            ContainerState::Running { .. } => {
                self.starts = self.starts.max(1);
                self.ended = None;
                self.retry = None;
            }
            ContainerState::Exited { started_at, exit } => {
                self.starts = self.starts.max(1);
                self.ended = Some(*started_at);
                let explained = self.explained(*started_at, exit);
                if self.last_exit.as_ref() != Some(&explained) {
                    self.last_exit = Some(explained);
                    return self.ended(member, role, (*started_at, exit), now);
                }
            }
            ContainerState::Created | ContainerState::Removing => {}
        }
        News::None
    }

    /// A run came to its end, which was not known before.
    fn ended(
        &mut self,
        member: &Member,
        role: Role,
        run: (Timestamp, &Exit),
        now: Timestamp,
    ) -> News {
        let (started_at, exit) = run;
        if exit.finished_at.duration_since(started_at) >= STABLE_AFTER {
            self.crashes = 0;
        }
        let (reason, news) = match self.halt_of(started_at) {
            // It is not to blame.
            Some(Halt::NetworkLost | Halt::Over) => return News::None,
            Some(Halt::Unwell(reason)) => (reason.clone(), News::Failed),
            None if exit.code == 0 && !exit.oom_killed => {
                if role == Role::Init {
                    self.failures = 0;
                    self.crashes = 0;
                    return News::None;
                }
                (exit.to_string(), News::None)
            }
            None => (exit.to_string(), News::Failed),
        };
        if role == Role::Init {
            self.failures = self.failures.saturating_add(1);
        }
        self.crash(member, reason, exit.finished_at.min(now));
        news
    }

    /// It is about to be stopped though it is wanted.
    pub(crate) fn halt(&mut self, run: Timestamp, why: Halt) {
        self.halted = Some((run, why));
    }

    /// The network of the run that began at this time is gone.
    pub(crate) fn cut_off(&mut self, run: Timestamp) {
        self.cut_off = Some(run);
    }

    /// It was started.
    pub(crate) fn started(&mut self, container: &ContainerId) {
        self.starts = self.starts.saturating_add(1);
        self.step_failures = 0;
        self.container = Some(container.0.clone());
        self.ended = None;
        self.retry = None;
    }

    /// Its image was made ready. Only a start ends a row of failures: an image that is there and
    /// still cannot be used would be tried without a pause otherwise.
    pub(crate) fn fetched(&mut self) {
        self.retry = None;
    }

    /// It was stopped by us, and is still there.
    pub(crate) fn stopped(&mut self) {
        self.step_failures = 0;
        self.retry = None;
    }

    /// It was removed by us.
    pub(crate) fn removed(&mut self) {
        self.container = None;
        self.ended = None;
        self.step_failures = 0;
        self.retry = None;
    }

    /// A step for it failed.
    pub(crate) fn step_failed(&mut self, member: &Member, reason: String, now: Timestamp) {
        self.step_failures = self.step_failures.saturating_add(1);
        self.retry_in(
            backoff::retry_delay(member, self.step_failures),
            reason,
            now,
        );
    }

    /// The engine did not answer about it.
    pub(crate) fn unreachable(&mut self, reason: String, now: Timestamp) {
        self.retry_in(UNREACHABLE_DELAY, reason, now);
    }

    fn crash(&mut self, member: &Member, reason: String, ended: Timestamp) {
        self.crashes = self.crashes.saturating_add(1);
        self.retry_in(backoff::retry_delay(member, self.crashes), reason, ended);
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
    use crate::testing::{main_of, seen};

    use super::*;

    const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn id() -> Member {
        main_of("web-0-1")
    }

    fn container(state: ContainerState) -> Container {
        seen("web-0-1", "c1", state)
    }

    fn exited(started_at: Timestamp, finished_at: Timestamp) -> Container {
        let exit = Exit {
            code: 1,
            oom_killed: false,
            reason: None,
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
        _ = history.observe(&id(), Role::Main, Some(&seen), START + secs(6));
        let once = history.clone();
        _ = history.observe(&id(), Role::Main, Some(&seen), START + secs(16));
        assert_eq!(history, once);
        assert_eq!(history.crashes, 1);
        assert_eq!(history.waits_for(START + secs(6)), None);
    }

    #[test]
    fn a_container_that_ran_long_begins_anew() {
        let mut history = History::default();
        let mut at = START;
        for _ in 0..5 {
            _ = history.observe(
                &id(),
                Role::Main,
                Some(&exited(at, at + secs(1))),
                at + secs(1),
            );
            at += secs(2);
        }
        let retry = history.waits_for(at).unwrap();
        assert_eq!(retry.reason, "exit code 1");
        assert!(retry.at <= at + secs(8) && retry.at > at + secs(4));
        let end = at + secs(600);
        _ = history.observe(&id(), Role::Main, Some(&exited(at, end)), end);
        assert_eq!((history.crashes, history.waits_for(end)), (1, None));
    }

    #[test]
    fn a_container_that_vanishes_again_and_again_backs_off() {
        let mut history = History::default();
        _ = history.observe(&id(), Role::Main, None, START);
        assert_eq!(history, History::default());
        for _ in 0..3 {
            history.started(&ContainerId("c".to_owned()));
            _ = history.observe(&id(), Role::Main, None, START);
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
        _ = history.observe(&id(), Role::Main, Some(&exited(START, end)), end);
        assert_eq!(history.waits_for(end), None);
    }
}
