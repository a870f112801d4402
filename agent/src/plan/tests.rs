use std::sync::Arc;

use jiff::SignedDuration;
use proptest::{collection::vec, prelude::*, sample::select};
use windlass_api::{
    spec::RestartPolicy,
    status::{Exit, Phase},
    wire::AssignedInstance,
};

use super::*;
use crate::testing::{id, instance, template};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// Everything that a plan is made from, to be changed by carrying plans out.
#[derive(Debug, Clone, Default)]
struct World {
    assignment: Option<Assignment>,
    containers: Vec<Container>,
    histories: Histories,
    health: Healths,
    images: BTreeMap<InstanceId, ImageState>,
    busy: BTreeMap<InstanceId, Activity>,
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
            health: &self.health,
            images: &self.images,
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

    /// Carries a step out as an engine that never fails would.
    fn carry_out(&mut self, step: &Step, now: Timestamp) {
        match step {
            Step::Fetch { instance, .. } => {
                self.images.insert(instance.clone(), ImageState::Ready);
            }
            Step::Launch(assigned) => {
                let taken = |c: &Container| c.instance == assigned.id;
                assert!(!self.containers.iter().any(taken), "a second container");
                self.containers.push(Container {
                    revision: assigned.revision,
                    ..running(assigned.id.as_str(), assigned.id.as_str(), now)
                });
            }
            Step::Start { container, .. } => {
                let state = &mut self.container(container).state;
                assert!(!matches!(state, ContainerState::Running { .. }));
                *state = ContainerState::Running { started_at: now };
            }
            Step::Stop { container, .. } => {
                let state = &self.container(container).state;
                assert!(matches!(state, ContainerState::Running { .. }));
                self.containers.retain(|c| c.id != *container);
            }
            Step::Remove { container, .. } => {
                let state = &self.container(container).state;
                assert!(!matches!(state, ContainerState::Running { .. }));
                self.containers.retain(|c| c.id != *container);
            }
        }
    }
}

fn container(instance: &str, container: &str, state: ContainerState) -> Container {
    Container {
        id: ContainerId(container.to_owned()),
        instance: id(instance),
        namespace: Default::default(),
        revision: RevisionNumber(1),
        image_id: "sha256:1".to_owned(),
        address: None,
        healthcheck: None,
        stop_grace: Span::from_secs(7),
        state,
    }
}

fn running(instance: &str, name: &str, started_at: Timestamp) -> Container {
    container(instance, name, ContainerState::Running { started_at })
}

fn exited(instance: &str, name: &str, code: i64) -> Container {
    let exit = Exit {
        code,
        oom_killed: false,
        finished_at: NOW,
    };
    let started_at = NOW - SignedDuration::from_secs(5);
    container(instance, name, ContainerState::Exited { started_at, exit })
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
    assert_eq!(plan.steps, [Step::Launch(instance("web-0-1"))]);
    assert_eq!(world.phase("web-0-1"), Phase::Starting);
}

#[test]
fn an_image_is_fetched_where_it_must_be() {
    let fetches = |world: &World| matches!(world.plan(NOW).steps[..], [Step::Fetch { .. }]);
    let always = World::of(vec![pulling("web-0-1", PullPolicy::Always)]);
    assert!(fetches(&always));
    assert_eq!(always.phase("web-0-1"), Phase::Pulling);
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        let mut world = World::of(vec![pulling("web-0-1", policy)]);
        assert!(!fetches(&world));
        world.images.insert(id("web-0-1"), ImageState::Missing);
        assert!(fetches(&world));
        world.images.insert(id("web-0-1"), ImageState::Ready);
        assert!(!fetches(&world));
    }
}

#[test]
fn a_prepared_instance_waits_with_its_image() {
    let mut world = World::of(vec![prepared("web-0-1")]);
    assert!(matches!(world.plan(NOW).steps[..], [Step::Fetch { .. }]));
    world.images.insert(id("web-0-1"), ImageState::Ready);
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
                [Step::Start {
                    instance: id("web-0-1"),
                    container: ContainerId("c1".to_owned())
                }],
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
        history.step_failed(&id(text), "port 80 is taken".to_owned(), NOW);
        history.step_failed(&id(text), "port 80 is taken".to_owned(), NOW);
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
            Step::Stop {
                instance: id("web-0-1"),
                container: ContainerId("c1".to_owned()),
                grace: Span::from_secs(7)
            },
            Step::Remove {
                instance: id("web-1-2"),
                container: ContainerId("c2".to_owned())
            }
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
    assert!(matches!(steps[..], [Step::Stop { .. }]));
    world.carry_out(&steps[0], NOW);
    assert_eq!(world.plan(NOW).steps, [Step::Launch(newer)]);
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
        world.busy.insert(id("web-0-1"), activity);
        assert_eq!(world.plan(NOW).steps, []);
        assert_eq!(world.phase("web-0-1"), phase);
    }
    // It is seen to run before the call that started it returns.
    let world = world.with(vec![running("web-0-1", "c1", NOW)]);
    assert!(world.phase("web-0-1").is_running());
}

// Properties.

fn any_state() -> impl Strategy<Value = ContainerState> {
    let at = |secs: i64| NOW - SignedDuration::from_secs(secs);
    prop_oneof![
        Just(ContainerState::Created),
        Just(ContainerState::Removing),
        (0_i64..2000).prop_map(move |s| ContainerState::Running { started_at: at(s) }),
        (0_i64..2000, 0_i64..3).prop_map(move |(s, code)| ContainerState::Exited {
            started_at: at(2 * s),
            exit: Exit {
                code,
                oom_killed: false,
                finished_at: at(s)
            }
        }),
    ]
}

fn any_assigned(n: usize) -> impl Strategy<Value = AssignedInstance> {
    let goal = select(vec![Goal::Run, Goal::Run, Goal::Prepare, Goal::Stop]);
    let restart = select(vec![
        RestartPolicy::Always,
        RestartPolicy::OnFailure,
        RestartPolicy::Never,
    ]);
    let pull = select(vec![
        PullPolicy::Always,
        PullPolicy::IfNotPresent,
        PullPolicy::Never,
    ]);
    (goal, restart, pull, 1_u32..3).prop_map(move |(goal, restart, pull, revision)| {
        let assigned = with_template(&format!("web-{n}-{n}"), |t| {
            t.restart = restart;
            t.containers[0].image_pull_policy = pull;
        });
        AssignedInstance {
            goal,
            revision: RevisionNumber(revision),
            ..assigned
        }
    })
}

fn any_history(n: usize) -> impl Strategy<Value = Option<(InstanceId, History)>> {
    (0..6_u32, 0..1000_i64).prop_map(move |(failures, ago)| {
        let id = id(&format!("web-{n}-{n}"));
        let mut history = History::default();
        let at = NOW - SignedDuration::from_secs(ago);
        for _ in 0..failures {
            history.step_failed(&id, "no".to_owned(), at);
        }
        (failures > 0).then_some((id, history))
    })
}

/// Up to three containers of one instance.
fn any_containers(n: usize) -> impl Strategy<Value = Vec<Container>> {
    vec((any_state(), 1_u32..3), 0..3).prop_map(move |states| {
        let made = states.into_iter().enumerate();
        made.map(|(k, (state, revision))| Container {
            revision: RevisionNumber(revision),
            ..container(&format!("web-{n}-{n}"), &format!("c{n}{k}"), state)
        })
        .collect()
    })
}

prop_compose! {
    fn any_world()(
        assigned in (0..5_usize).map(|n| proptest::option::weighted(0.7, any_assigned(n))).collect::<Vec<_>>(),
        known in proptest::bool::weighted(0.9),
        containers in (0..5_usize).map(any_containers).collect::<Vec<_>>(),
        histories in (0..5_usize).map(any_history).collect::<Vec<_>>(),
        images in vec(proptest::option::of(select(vec![ImageState::Ready, ImageState::Missing])), 5),
        busy in vec(proptest::option::weighted(0.2, select(vec![Activity::Fetching, Activity::Starting, Activity::Removing])), 5),
    ) -> World {
        let by_number = |n: usize| id(&format!("web-{n}-{n}"));
        let world = World::of(assigned.into_iter().flatten().collect());
        World {
            health: Healths::new(),
            assignment: world.assignment.filter(|_| known),
            containers: containers.into_iter().flatten().collect(),
            histories: histories.into_iter().flatten().collect(),
            images: images.into_iter().enumerate().filter_map(|(n, i)| Some((by_number(n), i?))).collect(),
            busy: busy.into_iter().enumerate().filter_map(|(n, b)| Some((by_number(n), b?))).collect(),
        }
    }
}

proptest! {
    #[test]
    fn the_same_world_gives_the_same_plan_in_any_order(
        world in any_world(),
        seed in any::<u64>(),
    ) {
        let mut shuffled = world.clone();
        shuffled.containers.sort_by_key(|c| {
            crc32c::crc32c_append(seed as u32, c.id.0.as_bytes())
        });
        prop_assert_eq!(world.plan(NOW), world.plan(NOW));
        prop_assert_eq!(world.plan(NOW), shuffled.plan(NOW));
    }

    #[test]
    fn steps_are_few_and_about_our_own(world in any_world()) {
        let plan = world.plan(NOW);
        let mut seen = BTreeSet::new();
        for step in &plan.steps {
            let id = step.instance();
            prop_assert!(seen.insert(id.clone()), "two steps for {id}");
            prop_assert!(!world.busy.contains_key(id), "a step for busy {id}");
            let wanted = assigned(world.assignment.as_ref(), id);
            let of_it = |c: &&Container| c.instance == *id;
            match step {
                Step::Launch(a) => {
                    prop_assert_eq!(Some(a), wanted);
                    prop_assert_eq!(a.goal, Goal::Run);
                    prop_assert_eq!(world.containers.iter().find(of_it), None);
                }
                Step::Fetch { .. } => prop_assert!(wanted.is_some()),
                Step::Start { container, .. }
                | Step::Stop { container, .. }
                | Step::Remove { container, .. } => {
                    let mut found = world.containers.iter().filter(of_it);
                    prop_assert!(found.any(|c| c.id == *container));
                }
            }
        }
        if world.assignment.is_none() {
            prop_assert_eq!(plan.steps, vec![]);
        }
    }

    #[test]
    fn everything_that_is_wanted_or_exists_has_a_status(world in any_world()) {
        let statuses = world.plan(NOW).statuses;
        for assigned in wanted(world.assignment.as_ref()) {
            prop_assert!(statuses.contains_key(&assigned.id));
        }
        for container in &world.containers {
            prop_assert!(statuses.contains_key(&container.instance));
        }
    }

    #[test]
    fn a_healthy_container_is_never_touched(world in any_world()) {
        let kept: Vec<_> = by_instance(&world.containers, world.assignment.as_ref())
            .into_iter()
            .filter_map(|(id, found)| {
                let wanted = assigned(world.assignment.as_ref(), id)?;
                let best = found[0];
                let runs = matches!(best.state, ContainerState::Running { .. });
                (runs && best.revision == wanted.revision).then(|| best.id.clone())
            })
            .collect();
        for step in world.plan(NOW).steps {
            let (Step::Start { container, .. }
            | Step::Stop { container, .. }
            | Step::Remove { container, .. }) = step
            else {
                continue;
            };
            prop_assert!(!kept.contains(&container), "{container:?} was touched");
        }
    }

    #[test]
    fn after_its_steps_there_is_nothing_left_to_do(world in any_world()) {
        let mut world = world;
        world.busy.clear();
        // Later than any wait.
        let now = NOW + SignedDuration::from_secs(1000);
        for _ in 0..8 {
            let steps = world.plan(now).steps;
            if steps.is_empty() {
                break;
            }
            for step in &steps {
                world.carry_out(step, now);
            }
        }
        let plan = world.plan(now);
        prop_assert_eq!(plan.steps, vec![]);
        prop_assert_eq!(plan.wake_at, None);
        let Some(assignment) = &world.assignment else { return Ok(()) };
        for container in &world.containers {
            prop_assert!(assigned(Some(assignment), &container.instance).is_some());
        }
        for wanted in wanted(Some(assignment)).filter(|a| a.goal == Goal::Run) {
            let phase = &plan.statuses[&wanted.id].phase;
            let ended = matches!(phase, Phase::Succeeded | Phase::Failed { .. });
            let may_end = wanted.template.restart != RestartPolicy::Always;
            prop_assert!(phase.is_running() || (ended && may_end), "{phase:?}");
        }
    }
}
