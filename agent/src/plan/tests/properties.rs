//! What holds in any world.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::json;
use windlass_api::template::InstanceTemplate;

use super::*;
use crate::{
    history::{History, Role},
    plan::seat::{Seats, roles},
};

/// All parts that an instance of these tests may have.
const PARTS: [&str; 8] = ["_pause", "i0", "i1", "s0", "s1", "m0", "m1", "old"];

fn any_state() -> impl Strategy<Value = ContainerState> {
    let at = |secs: i64| NOW - SignedDuration::from_secs(secs);
    prop_oneof![
        1 => Just(ContainerState::Created),
        1 => Just(ContainerState::Removing),
        4 => (0_i64..2000).prop_map(move |s| ContainerState::Running { started_at: at(s) }),
        3 => (0_i64..2000, 0_i64..3).prop_map(move |(s, code)| ended(at(2 * s), code, at(s))),
    ]
}

/// Up to two init containers, two sidecars and two main ones.
fn any_template() -> impl Strategy<Value = InstanceTemplate> {
    let restart = select(vec!["Always", "OnFailure", "Never"]);
    let pull = select(vec!["Always", "IfNotPresent", "Never"]);
    let retries = option::of(0_u32..3);
    (0..3_usize, 0..3_usize, 1..3_usize, restart, pull, retries).prop_map(
        |(inits, sidecars, mains, restart, pull, retries)| {
            let made = |prefix: &'static str, count: usize| {
                (0..count).map(move |n| {
                    json!({
                        "name": format!("{prefix}{n}"), "image": "web:1",
                        "imagePullPolicy": pull, "sidecar": prefix == "s",
                        "retries": retries.filter(|_| prefix == "i"),
                    })
                })
            };
            // Sidecars behind the others: their place in the manifest does not matter.
            let containers: Vec<_> = made("m", mains).chain(made("s", sidecars)).collect();
            let init_containers: Vec<_> = made("i", inits).collect();
            serde_json::from_value(json!({
                "kind": "Service", "containers": containers, "initContainers": init_containers,
                "restart": restart, "stopGracePeriod": "10s",
            }))
            .unwrap()
        },
    )
}

fn number(n: usize) -> InstanceId {
    id(&format!("web-{n}-{n}"))
}

fn any_assigned(n: usize) -> impl Strategy<Value = AssignedInstance> {
    let goal = select(vec![Goal::Run, Goal::Run, Goal::Prepare, Goal::Stop]);
    (goal, any_template(), 1_u32..3).prop_map(move |(goal, template, revision)| AssignedInstance {
        goal,
        revision: RevisionNumber(revision),
        template: Arc::new(template),
        ..instance(&format!("web-{n}-{n}"))
    })
}

fn any_part() -> impl Strategy<Value = Part> {
    select(PARTS.to_vec()).prop_map(|text| text.parse().unwrap())
}

fn any_history(n: usize) -> impl Strategy<Value = Option<(InstanceId, InstanceHistory)>> {
    (any_part(), 0..6_u32, 0..1000_i64).prop_map(move |(part, failures, ago)| {
        let member = Member {
            instance: number(n),
            part,
        };
        let mut history = InstanceHistory::default();
        let at = NOW - SignedDuration::from_secs(ago);
        for _ in 0..failures {
            let of_it: &mut History = history.part_mut(&member.part);
            of_it.step_failed(&member, "no".to_owned(), at);
        }
        (failures > 0).then_some((member.instance, history))
    })
}

/// Some containers of one instance, now and then two for one place.
fn any_containers(n: usize) -> impl Strategy<Value = Vec<Container>> {
    let revision = prop_oneof![5 => Just(1_u32), 1 => Just(2)];
    vec((any_part(), any_state(), revision), 0..8).prop_map(move |found| {
        let made = found.into_iter().enumerate();
        made.map(|(k, (part, state, revision))| {
            let rank = match part.to_string().as_str() {
                "_pause" => u16::MAX,
                "s0" => 2,
                "s1" => 1,
                _ => 0,
            };
            Container {
                part,
                revision: RevisionNumber(revision),
                stop_rank: crate::runtime::StopRank(rank),
                ..seen(&format!("web-{n}-{n}"), &format!("c{n}{k}"), state)
            }
        })
        .collect()
    })
}

fn any_busy() -> impl Strategy<Value = BTreeMap<Member, Activity>> {
    let activity = select(vec![
        Activity::Fetching,
        Activity::Starting,
        Activity::Removing,
    ]);
    let member = (0..4_usize, any_part()).prop_map(|(n, part)| Member {
        instance: number(n),
        part,
    });
    vec((member, activity), 0..4).prop_map(|busy| busy.into_iter().collect())
}

prop_compose! {
    fn any_world()(
        assigned in (0..4_usize).map(|n| option::weighted(0.8, any_assigned(n))).collect::<Vec<_>>(),
        known in proptest::bool::weighted(0.9),
        containers in (0..4_usize).map(any_containers).collect::<Vec<_>>(),
        histories in (0..4_usize).map(any_history).collect::<Vec<_>>(),
        images in vec((0..4_usize, any_part(), select(vec![ImageState::Ready, ImageState::Missing])), 0..6),
        busy in any_busy(),
    ) -> World {
        let world = World::of(assigned.into_iter().flatten().collect());
        let images = images.into_iter().map(|(n, part, image)| {
            (Member { instance: number(n), part }, image)
        });
        World {
            assignment: world.assignment.filter(|_| known),
            containers: containers.into_iter().flatten().collect(),
            histories: histories.into_iter().flatten().collect(),
            images: images.collect(),
            health: Healths::new(),
            busy,
        }
    }
}

impl World {
    fn seats_of<'a>(
        &'a self,
        assigned: &'a AssignedInstance,
        history: &'a InstanceHistory,
    ) -> Seats<'a> {
        let found = by_instance(&self.containers, self.assignment.as_ref());
        let found = found.get(&assigned.id).cloned().unwrap_or_default();
        Seats::new(assigned, &found, history)
    }

    /// Whether a step that starts something respects the order of an instance.
    fn is_in_order(&self, step: &Step) -> bool {
        let (Action::Launch(_) | Action::Start { .. }) = step.action else {
            return true;
        };
        let id = &step.member.instance;
        let assigned = assigned(self.assignment.as_ref(), id).expect("only what is wanted starts");
        let history = self.histories.get(id).cloned().unwrap_or_default();
        let seats = self.seats_of(assigned, &history);
        let role = |part: &Part| roles(&assigned.template).find(|(p, _)| p == part);
        let (_, role) = role(&step.member.part).expect("only what has a place starts");
        let inits_done = seats.of(Role::Init).all(|init| init.is_done()) || seats.is_past_init();
        let mut sidecars = seats.of(Role::Sidecar);
        let main_lives = seats.of(Role::Main).any(|main| main.lives());
        let mine = |part: Part| part == step.member.part;
        match role {
            Role::Pause => true,
            Role::Init => {
                let mut before = seats.of(Role::Init).take_while(|init| !mine(init.part()));
                seats.has_network() && before.all(|init| init.is_done())
            }
            Role::Sidecar => {
                let mut before = sidecars.take_while(|sidecar| !mine(sidecar.part()));
                let in_turn = before.all(|sidecar| sidecar.runs()) || main_lives;
                seats.has_network() && inits_done && in_turn
            }
            Role::Main => {
                let sidecars_run = sidecars.all(|sidecar| sidecar.runs()) || main_lives;
                seats.has_network() && inits_done && sidecars_run
            }
        }
    }

    /// Plans and carries out until nothing is left to do. Init containers succeed at once.
    fn settle(&mut self, now: Timestamp) -> Result<(), TestCaseError> {
        // Each round brings every instance at least one stage further: at most its places once to
        // clear and once to fill.
        for _ in 0..4 * PARTS.len() {
            self.look(now);
            let steps = self.plan(now).steps;
            if steps.is_empty() {
                break;
            }
            for step in &steps {
                prop_assert!(self.is_in_order(step), "{step:?} comes too early");
            }
            for step in &steps {
                self.carry_out(step, now);
            }
            for container in &mut self.containers {
                let is_init = container.part.to_string().starts_with('i');
                if let (true, ContainerState::Running { started_at }) = (is_init, &container.state)
                {
                    container.state = ended(*started_at, 0, now);
                }
            }
        }
        let plan = self.plan(now);
        prop_assert_eq!(plan.steps, vec![]);
        prop_assert_eq!(plan.wake_at, None);
        Ok(())
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
    fn steps_are_few_in_order_and_about_our_own(world in any_world()) {
        let plan = world.plan(NOW);
        let mut taken = BTreeSet::new();
        for step in &plan.steps {
            let Step { member, action } = step;
            prop_assert!(taken.insert(member.clone()), "two steps for {member:?}");
            prop_assert!(!world.busy.contains_key(member), "a step for busy {member:?}");
            let wanted = assigned(world.assignment.as_ref(), &member.instance);
            let of_it = |c: &&Container| c.instance == member.instance && c.part == member.part;
            match action {
                Action::Launch(a) => {
                    prop_assert_eq!(Some(a), wanted);
                    prop_assert_eq!(a.goal, Goal::Run);
                    prop_assert_eq!(world.containers.iter().find(of_it), None);
                }
                Action::Fetch { .. } => prop_assert!(wanted.is_some()),
                Action::Start { container, .. }
                | Action::Halt { container, .. }
                | Action::Stop { container, .. }
                | Action::Remove { container, .. } => {
                    let mut found = world.containers.iter().filter(of_it);
                    prop_assert!(found.any(|c| c.id == *container));
                }
            }
            prop_assert!(world.is_in_order(step), "{step:?} comes too early");
        }
        if world.assignment.is_none() {
            prop_assert_eq!(plan.steps, vec![]);
        }
    }

    #[test]
    fn everything_that_is_wanted_or_exists_has_a_status(world in any_world()) {
        let statuses = world.plan(NOW).statuses;
        for assigned in wanted(world.assignment.as_ref()) {
            let status = &statuses[&assigned.id];
            prop_assert_eq!(status.containers.len(), assigned.template.all_containers().count());
            if status.readiness.is_ready() {
                prop_assert!(status.phase.is_running());
            }
        }
        for container in &world.containers {
            prop_assert!(statuses.contains_key(&container.instance));
        }
    }

    #[test]
    fn a_healthy_container_of_what_is_wanted_is_never_touched(world in any_world()) {
        let plan = world.plan(NOW);
        let no_history = InstanceHistory::default();
        for assigned in wanted(world.assignment.as_ref()) {
            let seats = world.seats_of(assigned, &no_history);
            if !seats.has_network() || seats.end(assigned.template.restart).is_some() {
                continue;
            }
            let kept = seats.all.iter().filter(|seat| seat.runs());
            for kept in kept.filter_map(|seat| seat.container) {
                let touches = |step: &&Step| match &step.action {
                    Action::Start { container, .. }
                    | Action::Halt { container, .. }
                    | Action::Stop { container, .. }
                    | Action::Remove { container, .. } => *container == kept.id,
                    Action::Fetch { .. } | Action::Launch(_) => false,
                };
                prop_assert_eq!(plan.steps.iter().find(touches), None);
            }
        }
    }

    #[test]
    fn after_its_steps_everything_runs_and_nothing_is_left_to_do(
        world in any_world(),
        lost in 0..4_usize,
    ) {
        let mut world = world;
        world.busy.clear();
        // Later than any wait.
        let now = NOW + SignedDuration::from_secs(1000);
        world.settle(now)?;
        let Some(assignment) = world.assignment.clone() else { return Ok(()) };
        // Whatever the network of one of them does then, it comes back as a whole.
        let later = now + SignedDuration::from_secs(1000);
        for container in &mut world.containers {
            let is_pause = container.part == Part::Pause && container.instance == number(lost);
            if let (true, ContainerState::Running { started_at }) = (is_pause, &container.state) {
                container.state = ended(*started_at, 137, later);
            }
        }
        world.settle(later)?;
        let statuses = world.plan(later).statuses;
        for container in &world.containers {
            prop_assert!(assigned(Some(&assignment), &container.instance).is_some());
        }
        for wanted in wanted(Some(&assignment)).filter(|a| a.goal == Goal::Run) {
            let phase = &statuses[&wanted.id].phase;
            let ended = matches!(phase, Phase::Succeeded | Phase::Failed { .. });
            let retries = wanted.template.init_containers.iter().any(|c| c.retries.is_some());
            let may_end = wanted.template.restart != RestartPolicy::Always || retries;
            prop_assert!(phase.is_running() || (ended && may_end), "{phase:?}");
        }
    }
}
