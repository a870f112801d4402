use std::sync::Arc;

use jiff::SignedDuration;
use windlass_api::{
    spec::RestartPolicy,
    status::{Exit, Phase},
    wire::AssignedInstance,
};

use super::*;
use crate::{
    runtime::Part,
    testing::{id, instance, main_of, seen, template},
};

mod properties;
mod several;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// Everything that a plan is made from, to be changed by carrying plans out.
#[derive(Debug, Clone, Default)]
struct World {
    assignment: Option<Assignment>,
    containers: Vec<Container>,
    histories: Histories,
    images: BTreeMap<Member, ImageState>,
    health: Healths,
    busy: BTreeMap<Member, Activity>,
}

impl World {
    fn of(assigned: Vec<AssignedInstance>) -> Self {
        let instances = assigned.into_iter().map(|a| (a.id.clone(), a)).collect();
        Self {
            assignment: Some(Assignment {
                instances,
                ..Assignment::default()
            }),
            ..Self::default()
        }
    }

    fn with(mut self, containers: Vec<Container>) -> Self {
        self.containers = containers;
        self
    }

    fn plan(&self, now: Timestamp) -> Plan {
        plan(&Input {
            assignment: self.assignment.as_ref(),
            containers: &self.containers,
            histories: &self.histories,
            images: &self.images,
            health: &self.health,
            busy: &self.busy,
            now,
        })
    }

    fn phase(&self, text: &str) -> Phase {
        self.plan(NOW).statuses[&id(text)].phase.clone()
    }

    fn container(&mut self, id: &ContainerId) -> &mut Container {
        let found = self.containers.iter_mut().find(|c| c.id == *id);
        found.expect("a step names a container that exists")
    }

    /// Sees what there is, as the reconciler does before it plans.
    fn look(&mut self, now: Timestamp) {
        let Some(assignment) = &self.assignment else {
            return;
        };
        let (histories, busy) = (&mut self.histories, &self.busy);
        observe(histories, assignment, &self.containers, busy, now);
    }

    /// Carries a step out as an engine that never fails would.
    fn carry_out(&mut self, step: &Step, now: Timestamp) {
        let Step { member, action } = step;
        let history = self.histories.entry(member.instance.clone()).or_default();
        let history = history.part_mut(&member.part);
        match action {
            Action::Fetch { .. } | Action::Launch(_) => {}
            Action::Start { container } => history.started(container),
            Action::Halt { run, why, .. } => history.halt(*run, why.clone()),
            Action::Stop { .. } | Action::Remove { .. } => history.removed(),
        }
        match action {
            Action::Fetch { .. } => {
                self.images.insert(member.clone(), ImageState::Ready);
            }
            Action::Launch(assigned) => {
                let taken = |c: &Container| c.instance == assigned.id && c.part == member.part;
                assert!(!self.containers.iter().any(taken), "a second container");
                let name = format!("{}.{}", member.instance, member.part);
                let mut made = running(member.instance.as_str(), &name, now);
                made.part = member.part.clone();
                made.revision = assigned.revision;
                made.stop_rank = member.part.stop_rank(&assigned.template);
                self.join_network(&made);
                self.containers.push(made);
            }
            Action::Start { container } => {
                let started = self.container(container).clone();
                assert!(!matches!(started.state, ContainerState::Running { .. }));
                self.join_network(&started);
                self.container(container).state = ContainerState::Running { started_at: now };
            }
            Action::Halt { container, run, .. } => {
                let container = self.container(container);
                assert!(matches!(container.state, ContainerState::Running { .. }));
                container.state = ended(*run, 143, now);
            }
            Action::Stop { container, .. } => {
                let state = &self.container(container).state;
                assert!(matches!(state, ContainerState::Running { .. }));
                self.containers.retain(|c| c.id != *container);
            }
            Action::Remove { container, .. } => {
                let state = &self.container(container).state;
                assert!(!matches!(state, ContainerState::Running { .. }));
                self.containers.retain(|c| c.id != *container);
            }
        }
    }

    /// An engine starts no container in the network of one that does not run.
    fn join_network(&self, joining: &Container) {
        let mut pauses = self
            .containers
            .iter()
            .filter(|c| c.instance == joining.instance && c.part == Part::Pause)
            .peekable();
        let joined = pauses.peek().is_none()
            || joining.part == Part::Pause
            || pauses.any(|c| matches!(c.state, ContainerState::Running { .. }));
        assert!(joined, "{joining:?} has no network");
    }
}

fn ended(started_at: Timestamp, code: i64, finished_at: Timestamp) -> ContainerState {
    let exit = Exit {
        code,
        oom_killed: false,
        reason: None,
        finished_at,
    };
    ContainerState::Exited { started_at, exit }
}

fn running(instance: &str, name: &str, started_at: Timestamp) -> Container {
    seen(instance, name, ContainerState::Running { started_at })
}

fn exited(instance: &str, name: &str, code: i64) -> Container {
    let started_at = NOW - SignedDuration::from_secs(5);
    seen(instance, name, ended(started_at, code, NOW))
}

/// What is done for the only container of an instance.
fn step(instance: &str, action: Action) -> Step {
    Step {
        member: main_of(instance),
        action,
    }
}

fn launch(assigned: AssignedInstance) -> Step {
    step(assigned.id.clone().as_str(), Action::Launch(assigned))
}

fn is_fetch(steps: &[Step]) -> bool {
    matches!(
        steps,
        [Step {
            action: Action::Fetch { .. },
            ..
        }]
    )
}

fn with_template(
    text: &str,
    change: impl FnOnce(&mut windlass_api::template::InstanceTemplate),
) -> AssignedInstance {
    let mut template = template();
    change(&mut template);
    AssignedInstance {
        template: Arc::new(template),
        ..instance(text)
    }
}

fn restarting(text: &str, policy: RestartPolicy) -> AssignedInstance {
    with_template(text, |t| t.restart = policy)
}

fn pulling(text: &str, policy: PullPolicy) -> AssignedInstance {
    with_template(text, |t| t.containers[0].image_pull_policy = policy)
}

fn prepared(text: &str) -> AssignedInstance {
    AssignedInstance {
        goal: Goal::Prepare,
        ..instance(text)
    }
}

#[test]
fn an_absent_instance_is_launched_at_once() {
    let world = World::of(vec![instance("web-0-1")]);
    let plan = world.plan(NOW);
    assert_eq!(plan.steps, [launch(instance("web-0-1"))]);
    assert_eq!(world.phase("web-0-1"), Phase::Starting);
}

#[test]
fn an_image_is_fetched_where_it_must_be() {
    let fetches = |world: &World| is_fetch(&world.plan(NOW).steps);
    let always = World::of(vec![pulling("web-0-1", PullPolicy::Always)]);
    assert!(fetches(&always));
    assert_eq!(always.phase("web-0-1"), Phase::Pulling);
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        let mut world = World::of(vec![pulling("web-0-1", policy)]);
        assert!(!fetches(&world));
        world.images.insert(main_of("web-0-1"), ImageState::Missing);
        assert!(fetches(&world));
        world.images.insert(main_of("web-0-1"), ImageState::Ready);
        assert!(!fetches(&world));
    }
}

#[test]
fn a_prepared_instance_waits_with_its_image() {
    let mut world = World::of(vec![prepared("web-0-1")]);
    assert!(is_fetch(&world.plan(NOW).steps));
    world.images.insert(main_of("web-0-1"), ImageState::Ready);
    assert_eq!(world.plan(NOW).steps, []);
    assert_eq!(world.phase("web-0-1"), Phase::Prepared);
    // What runs is not stopped to be prepared.
    let world = world.with(vec![running("web-0-1", "c1", NOW)]);
    assert_eq!(world.plan(NOW).steps, []);
    assert!(world.phase("web-0-1").is_running());
}

#[test]
fn what_runs_is_left_alone() {
    let world = World::of(vec![instance("web-0-1")]).with(vec![running("web-0-1", "c1", NOW)]);
    let plan = world.plan(NOW);
    assert_eq!((plan.steps.len(), plan.wake_at), (0, None));
    let status = &plan.statuses[&id("web-0-1")];
    assert_eq!(status.phase, Phase::Running { started_at: NOW });
    assert_eq!(status.containers[0].id.as_deref(), Some("c1"));
}

#[test]
fn the_restart_policy_decides_after_an_end() {
    use RestartPolicy::{Always, Never, OnFailure};
    let failed = Phase::Failed {
        reason: "exit code 3".to_owned(),
    };
    for (policy, code, last) in [
        (Always, 0, None),
        (Always, 3, None),
        (OnFailure, 0, Some(Phase::Succeeded)),
        (OnFailure, 3, None),
        (Never, 0, Some(Phase::Succeeded)),
        (Never, 3, Some(failed)),
    ] {
        let world = World::of(vec![restarting("web-0-1", policy)])
            .with(vec![exited("web-0-1", "c1", code)]);
        match last {
            Some(phase) => {
                assert_eq!(world.plan(NOW).steps, [], "{policy:?} {code}");
                assert_eq!(world.phase("web-0-1"), phase);
            }
            None => assert_eq!(
                world.plan(NOW).steps,
                [step(
                    "web-0-1",
                    Action::Start {
                        container: ContainerId("c1".to_owned())
                    }
                )],
                "{policy:?} {code}"
            ),
        }
    }
}

#[test]
fn a_failure_is_waited_out_and_shown() {
    let mut world = World::of(vec![instance("web-0-1"), instance("web-1-2")]);
    for text in ["web-0-1", "web-1-2"] {
        let history = world.histories.entry(id(text)).or_default();
        let history = history.part_mut(&Part::only());
        history.step_failed(&main_of(text), "port 80 is taken".to_owned(), NOW);
        history.step_failed(&main_of(text), "port 80 is taken".to_owned(), NOW);
    }
    let plan = world.plan(NOW);
    assert_eq!(plan.steps, []);
    let Phase::BackingOff { until, reason } = world.phase("web-0-1") else {
        panic!("{:?}", world.phase("web-0-1"));
    };
    assert_eq!(reason, "port 80 is taken");
    let other = match world.phase("web-1-2") {
        Phase::BackingOff { until, .. } => until,
        phase => panic!("{phase:?}"),
    };
    assert_eq!(plan.wake_at, Some(until.min(other)));
    assert_eq!(world.plan(until.max(other)).steps.len(), 2);
}

#[test]
fn what_is_not_assigned_is_stopped_with_its_own_grace_and_removed() {
    let world = World::of(vec![]).with(vec![
        running("web-0-1", "c1", NOW),
        exited("web-1-2", "c2", 0),
    ]);
    assert_eq!(
        world.plan(NOW).steps,
        [
            step(
                "web-0-1",
                Action::Stop {
                    container: ContainerId("c1".to_owned()),
                    manner: StopManner {
                        grace: Span::from_secs(7),
                        pre_stop: None,
                        address: None,
                    },
                    leaves: None,
                }
            ),
            step(
                "web-1-2",
                Action::Remove {
                    container: ContainerId("c2".to_owned()),
                    leaves: None,
                }
            )
        ]
    );
    assert_eq!(world.phase("web-0-1"), Phase::Stopping);
}

#[test]
fn another_revision_is_replaced() {
    let mut newer = instance("web-0-1");
    newer.revision = RevisionNumber(2);
    let mut world = World::of(vec![newer.clone()]).with(vec![running("web-0-1", "c1", NOW)]);
    let steps = world.plan(NOW).steps;
    assert!(matches!(steps[0].action, Action::Stop { .. }));
    world.carry_out(&steps[0], NOW);
    assert_eq!(world.plan(NOW).steps, [launch(newer)]);
}

#[test]
fn of_several_containers_the_best_is_kept() {
    let mut old = running("web-0-1", "c0", NOW + SignedDuration::from_secs(1));
    old.revision = RevisionNumber(9);
    let mut world = World::of(vec![instance("web-0-1")]).with(vec![
        exited("web-0-1", "c1", 1),
        old,
        running("web-0-1", "c2", NOW),
    ]);
    for _ in 0..2 {
        assert!(world.phase("web-0-1").is_running());
        let steps = world.plan(NOW).steps;
        assert_eq!(steps.len(), 1);
        world.carry_out(&steps[0], NOW);
    }
    assert_eq!(world.plan(NOW).steps, []);
    assert_eq!(world.containers, [running("web-0-1", "c2", NOW)]);
}

#[test]
fn nothing_is_done_while_nothing_is_known_of_what_is_wanted() {
    let mut world = World::default().with(vec![
        running("web-0-1", "c1", NOW),
        exited("web-1-2", "c2", 1),
    ]);
    world.assignment = None;
    let plan = world.plan(NOW);
    assert_eq!((plan.steps.len(), plan.wake_at), (0, None));
    assert!(world.phase("web-0-1").is_running());
    assert_eq!(world.phase("web-1-2"), Phase::Assigned);
}

#[test]
fn what_is_busy_is_shown_and_not_touched() {
    let mut world = World::of(vec![instance("web-0-1")]);
    for (activity, phase) in [
        (Activity::Fetching, Phase::Pulling),
        (Activity::Starting, Phase::Starting),
    ] {
        world.busy.insert(main_of("web-0-1"), activity);
        assert_eq!(world.plan(NOW).steps, []);
        assert_eq!(world.phase("web-0-1"), phase);
    }
    // It is seen to run before the call that started it returns.
    let world = world.with(vec![running("web-0-1", "c1", NOW)]);
    assert!(world.phase("web-0-1").is_running());
}
