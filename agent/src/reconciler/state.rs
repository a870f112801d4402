//! What the reconciler knows: the containers as last listed, what is being done about them, and
//! what came of it. No I/O; the time is passed in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;
use windlass_api::{
    ids::{InstanceId, Namespace},
    spec::PullPolicy,
    wire::{AssignedInstance, Assignment},
};

use crate::{
    history::{Halt, Histories, Member},
    plan::{self, Action, Activity, ImageState, Input, Plan, Step},
    probe::{Healths, Subject},
    runtime::{Container, ContainerId, ContainerState, Error, ErrorKind, Part},
    worker::{LastLines, Outcome},
};

/// What is known.
#[derive(Debug, Default)]
pub(super) struct State {
    containers: Vec<Container>,
    histories: Histories,
    images: BTreeMap<Member, ImageState>,
    busy: BTreeMap<Member, Busy>,
    /// The containers whose last lines are being read.
    reading: BTreeSet<Member>,
    /// How many times the listing of containers was begun.
    lists: u64,
}

#[derive(Debug)]
struct Busy {
    activity: Activity,
    until: Until,
}

/// When something new may be done for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// When its step is done.
    Done,
    /// When a list is there that was begun after this many: an earlier one may show the time
    /// before the step.
    Listed(u64),
}

/// What to do after an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Plan: the containers are as they were.
    Plan,
    /// List the containers, which have changed.
    List,
}

/// What is used, or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InUse {
    pub(super) namespaces: BTreeSet<Namespace>,
    pub(super) instances: BTreeSet<InstanceId>,
}

/// What to do now.
#[derive(Debug)]
pub(super) struct Advance {
    /// The plan, whose steps are taken for begun.
    pub(super) plan: Plan,
    /// The containers that have failed and whose last lines are to be read.
    pub(super) failed: Vec<(Member, ContainerId)>,
}

impl State {
    pub(super) fn new(histories: Histories) -> Self {
        Self {
            histories,
            ..Self::default()
        }
    }

    pub(super) fn histories(&self) -> &Histories {
        &self.histories
    }

    /// Whether nothing is being done.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.is_empty() && self.reading.is_empty()
    }

    /// The instances of which nothing new is to be told yet: why they failed is being read.
    pub(super) fn withheld(&self) -> impl Iterator<Item = &InstanceId> {
        self.reading.iter().map(|member| &member.instance)
    }

    /// What is in use or will be.
    pub(super) fn in_use(&self, assignment: &Assignment) -> InUse {
        let assigned = || assignment.instances.values();
        let namespaces = assigned().map(|a| &a.workload.namespace);
        let namespaces = namespaces.chain(self.containers.iter().map(|c| &c.namespace));
        let instances = assigned().map(|a| &a.id);
        let instances = instances.chain(self.containers.iter().map(|c| &c.instance));
        InUse {
            namespaces: namespaces.cloned().collect(),
            instances: instances.cloned().collect(),
        }
    }

    /// A listing begins. Returns its number, for [`Self::listed`].
    pub(super) fn list_begins(&mut self) -> u64 {
        self.lists += 1;
        self.lists
    }

    /// The containers, as the listing with that number found them.
    pub(super) fn listed(&mut self, number: u64, containers: Vec<Container>) {
        self.containers = containers;
        self.busy.retain(|_, busy| match busy.until {
            Until::Done => true,
            Until::Listed(after) => number <= after,
        });
    }

    /// There is another assignment: forgets the images of instances that are made from another
    /// template now.
    pub(super) fn reassigned(&mut self, old: Option<&Assignment>, new: &Assignment) {
        self.images.retain(|member, _| {
            let made_from = |a: Option<&Assignment>| {
                let assigned = plan::assigned(a, &member.instance);
                assigned.map(|a: &AssignedInstance| (a.template.clone(), a.images.clone()))
            };
            let new = made_from(Some(new));
            new.is_some() && new == made_from(old)
        });
    }

    /// The containers whose images are being made ready though they are not wanted any more. From
    /// now on nothing is being done for them.
    pub(super) fn abandon_fetches(&mut self, assignment: &Assignment) -> Vec<Member> {
        let abandoned = self.busy.extract_if(.., |member, busy| {
            busy.activity == Activity::Fetching
                && plan::assigned(Some(assignment), &member.instance).is_none()
        });
        abandoned.map(|(member, _)| member).collect()
    }

    /// Plans, and takes the steps of the plan for begun.
    pub(super) fn advance(
        &mut self,
        assignment: Option<&Assignment>,
        health: &Healths,
        now: Timestamp,
    ) -> Advance {
        let busy = self
            .busy
            .iter()
            .map(|(member, busy)| (member.clone(), busy.activity))
            .collect();
        let failed = assignment.map_or_else(Vec::new, |assignment| {
            plan::observe(
                &mut self.histories,
                assignment,
                &self.containers,
                &busy,
                now,
            )
        });
        self.reading
            .extend(failed.iter().map(|(member, _)| member.clone()));
        let plan = plan::plan(&Input {
            assignment,
            containers: &self.containers,
            histories: &self.histories,
            images: &self.images,
            health,
            busy: &busy,
            now,
        });
        for step in &plan.steps {
            let busy = Busy {
                activity: step.activity(),
                until: Until::Done,
            };
            self.busy.insert(step.member.clone(), busy);
            if let Action::Halt { run, why, .. } = &step.action {
                self.halts(&step.member, *run, why);
            }
        }
        Advance { plan, failed }
    }

    /// The containers that run and are wanted, to be probed.
    pub(super) fn subjects<'a>(&'a self, assignment: Option<&'a Assignment>) -> Vec<Subject<'a>> {
        // The pause container has the address of all that share its network.
        let pauses = self.containers.iter().filter(|c| c.part == Part::Pause);
        let shared: BTreeMap<&InstanceId, IpAddr> = pauses
            .filter_map(|pause| Some((&pause.instance, pause.address?)))
            .collect();
        let subject = |container: &'a Container| {
            let ContainerState::Running { started_at } = container.state else {
                return None;
            };
            let assigned = plan::assigned(assignment, &container.instance)?;
            let current = assigned.revision == container.revision;
            let name = match &container.part {
                Part::Pause => return None,
                Part::Named(name) => name,
            };
            let shared = shared.get(&container.instance).copied();
            Some(Subject {
                container: &container.id,
                started_at,
                address: container.address.or(shared),
                spec: assigned.template.container(name).filter(|_| current)?,
                healthcheck: container.healthcheck.as_ref(),
            })
        };
        self.containers.iter().filter_map(subject).collect()
    }

    /// Remembers why a container is stopped before that can be seen.
    fn halts(&mut self, member: &Member, run: Timestamp, why: &Halt) {
        if let Halt::Unwell(reason) = why {
            let (instance, container) = (&member.instance, &member.part);
            tracing::warn!(%instance, %container, reason, "a container is not well and is restarted");
        }
        self.part(member).halt(run, why.clone());
    }

    /// The last lines of a container that failed are there.
    pub(super) fn lines_read(&mut self, LastLines { member, lines }: LastLines) {
        self.reading.remove(&member);
        if let Some(history) = self.histories.get_mut(&member.instance) {
            history.log_read(lines);
        }
    }

    /// A step came to its end.
    pub(super) fn finished(&mut self, outcome: Outcome, now: Timestamp) -> Then {
        let Outcome { step, result } = outcome;
        let then = match (&step.action, &result) {
            (Action::Fetch { .. }, _) => Then::Plan,
            (Action::Launch(_), Err(error)) if error.kind == ErrorKind::ImageMissing => Then::Plan,
            (
                Action::Launch(_)
                | Action::Start { .. }
                | Action::Halt { .. }
                | Action::Stop { .. }
                | Action::Remove { .. },
                _,
            ) => Then::List,
        };
        match result {
            Ok(container) => self.succeeded(&step, container),
            Err(error) => self.failed(&step, error, now),
        }
        match then {
            Then::Plan => {
                self.busy.remove(&step.member);
            }
            Then::List => {
                if let Some(busy) = self.busy.get_mut(&step.member) {
                    busy.until = Until::Listed(self.lists);
                }
            }
        }
        then
    }

    fn part(&mut self, member: &Member) -> &mut crate::history::History {
        let history = self.histories.entry(member.instance.clone());
        history.or_default().part_mut(&member.part)
    }

    fn succeeded(&mut self, step: &Step, container: Option<ContainerId>) {
        let history = self.part(&step.member);
        match &step.action {
            Action::Fetch { .. } => {
                history.fetched();
                self.images.insert(step.member.clone(), ImageState::Ready);
            }
            Action::Launch(_) | Action::Start { .. } => {
                if let Some(container) = container {
                    history.started(&container);
                }
                self.images.remove(&step.member);
            }
            Action::Halt { .. } => history.stopped(),
            Action::Stop { .. } | Action::Remove { .. } => history.removed(),
        }
    }

    fn failed(&mut self, step: &Step, error: Error, now: Timestamp) {
        let member = &step.member;
        if let (Action::Launch(assigned), Part::Named(name)) = (&step.action, &member.part)
            && error.kind == ErrorKind::ImageMissing
        {
            let before = self.images.insert(member.clone(), ImageState::Missing);
            let container = assigned.template.container(name);
            let policy = container.map(|container| container.image_pull_policy);
            // That it was not there yet is no failure; that it is still missing after it was made
            // ready, or must not be pulled, is one.
            if before.is_none() && policy != Some(PullPolicy::Never) {
                return;
            }
        }
        tracing::warn!(
            instance = %member.instance, container = %member.part, activity = ?step.activity(),
            reason = %error, "a step failed"
        );
        let history = self.part(member);
        if error.kind == ErrorKind::Unreachable {
            history.unreachable(error.message, now);
        } else {
            history.step_failed(member, error.message, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use windlass_api::status::Phase;

    use super::*;
    use crate::{
        runtime::ContainerState,
        testing::{held, id, instance, main_of, seen},
    };

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn launch() -> Step {
        Step {
            member: main_of("web-0-1"),
            action: Action::Launch(instance("web-0-1")),
        }
    }

    fn advance(state: &mut State, assignment: &Assignment) -> Plan {
        state.advance(Some(assignment), &Healths::new(), NOW).plan
    }

    fn launched() -> Outcome {
        Outcome {
            step: launch(),
            result: Ok(Some(ContainerId("c1".to_owned()))),
        }
    }

    fn running() -> Container {
        seen("web-0-1", "c1", ContainerState::Running { started_at: NOW })
    }

    #[test]
    fn a_list_from_before_a_step_ended_says_nothing_about_it() {
        let assignment = held(1, vec![instance("web-0-1")]).assignment;
        let mut state = State::default();
        let plan = advance(&mut state, &assignment);
        assert_eq!(plan.steps, [launch()]);

        let early = state.list_begins();
        assert_eq!(state.finished(launched(), NOW), Then::List);
        state.listed(early, vec![]);
        let plan = advance(&mut state, &assignment);
        assert_eq!(plan.steps, []);
        assert_eq!(plan.statuses[&id("web-0-1")].phase, Phase::Starting);

        let late = state.list_begins();
        state.listed(late, vec![running()]);
        let plan = advance(&mut state, &assignment);
        assert_eq!(plan.steps, []);
        assert!(plan.statuses[&id("web-0-1")].phase.is_running());
        assert_eq!(plan.statuses[&id("web-0-1")].restarts, 0);

        // And when it is missing in a list from after, it is gone.
        let later = state.list_begins();
        state.listed(later, vec![]);
        let plan = advance(&mut state, &assignment);
        assert_eq!(plan.steps, [launch()]);
    }
}
