use proptest::prelude::*;
use serde_json::json;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Probes of a container with these parts, each with an interval of a second and thresholds of
/// 1 and 3 unless it says otherwise.
fn probes(parts: serde_json::Value) -> Probes {
    let mut probes = json!({});
    for (role, part) in parts.as_object().unwrap() {
        let mut probe = json!({
            "tcp": { "port": 80 }, "interval": "1s", "successThreshold": 1, "failureThreshold": 3,
        });
        for (key, value) in part.as_object().unwrap() {
            probe[key] = value.clone();
        }
        probes[role] = probe;
    }
    serde_json::from_value(probes).unwrap()
}

/// A life, and the time in it.
struct Story {
    life: Life,
    now: Instant,
}

impl Story {
    fn new(parts: serde_json::Value) -> Self {
        let now = Instant::now();
        Self {
            life: Life::new(&probes(parts), Duration::ZERO, 0, None, now),
            now,
        }
    }

    /// Makes the check that is due next, and tells which one it was and after how long.
    fn check(&mut self, outcome: Outcome) -> (Role, Duration) {
        let (at, role) = self.life.due().min().expect("a check is due");
        let waited = at - self.now;
        self.now = at;
        self.life.begin(role, self.now);
        self.life.finish(role, outcome, self.now);
        (role, waited)
    }

    fn fail(&mut self) -> (Role, Duration) {
        self.check(failed("closed"))
    }

    fn pass(&mut self) -> (Role, Duration) {
        self.check(Outcome::Passed)
    }

    fn is_ready(&self) -> bool {
        self.life.health().readiness.is_ready()
    }

    fn reason(&self) -> Option<String> {
        match self.life.health().readiness {
            Readiness::NotReady { reason } => reason,
            Readiness::Ready => panic!("it is ready"),
        }
    }
}

fn failed(saw: &str) -> Outcome {
    Outcome::Failed(saw.to_owned())
}

fn restart(reason: &str) -> Verdict {
    Verdict::Restart {
        reason: reason.to_owned(),
    }
}

#[test]
fn a_container_is_ready_when_its_readiness_probe_passes() {
    let mut story = Story::new(json!({ "readiness": {} }));
    assert_eq!(story.reason(), None);
    story.fail();
    assert_eq!(story.reason().unwrap(), "readiness probe: closed");
    story.pass();
    assert!(story.is_ready());
}

#[test]
fn readiness_flips_with_its_thresholds() {
    let mut story = Story::new(json!({ "readiness": { "successThreshold": 2 } }));
    story.pass();
    assert_eq!(
        story.reason().unwrap(),
        "readiness probe: passed 1 of 2 times in a row"
    );
    story.pass();
    story.fail();
    story.fail();
    assert!(story.is_ready(), "two failures of three");
    story.fail();
    assert_eq!(story.reason().unwrap(), "readiness probe: closed");
    story.pass();
    story.fail();
    story.pass();
    assert!(!story.is_ready(), "not two in a row");
    story.pass();
    assert!(story.is_ready());
}

#[test]
fn readiness_never_restarts() {
    let mut story = Story::new(json!({ "readiness": { "failureThreshold": 1 } }));
    for _ in 0..100 {
        story.fail();
        assert_eq!(story.life.health().verdict, Verdict::Fine);
    }
}

#[test]
fn a_container_without_a_readiness_probe_is_ready_once_it_has_started() {
    assert!(Story::new(json!({ "liveness": {} })).is_ready());
    let mut story = Story::new(json!({ "startup": {} }));
    assert!(!story.is_ready());
    story.pass();
    assert!(story.is_ready());
}

#[test]
fn liveness_restarts_after_failures_in_a_row() {
    let mut story = Story::new(json!({ "liveness": {} }));
    for _ in 0..2 {
        story.fail();
        story.fail();
        assert!(story.is_ready());
        story.pass();
    }
    story.fail();
    story.fail();
    assert_eq!(story.life.health().verdict, Verdict::Fine);
    story.fail();
    let reason = "liveness probe: closed (3 times in a row)";
    assert_eq!(story.life.health().verdict, restart(reason));
    assert_eq!(story.reason().unwrap(), reason);
    assert_eq!(story.life.due().next(), None);
}

#[test]
fn startup_holds_the_others_back() {
    let mut story = Story::new(json!({ "startup": {}, "readiness": {}, "liveness": {} }));
    assert_eq!(story.fail(), (Role::Startup, Duration::ZERO));
    assert_eq!(story.reason().unwrap(), "startup probe: closed");
    assert_eq!(story.fail(), (Role::Startup, SECOND));
    assert_eq!(story.pass(), (Role::Startup, SECOND));
    assert_eq!(story.reason(), None);
    let mut due: Vec<_> = story.life.due().collect();
    due.sort();
    assert_eq!(
        due,
        [(story.now, Role::Readiness), (story.now, Role::Liveness)]
    );
}

#[test]
fn a_container_that_never_starts_is_restarted() {
    let mut story = Story::new(json!({ "startup": { "failureThreshold": 1 }, "liveness": {} }));
    story.fail();
    assert_eq!(
        story.life.health().verdict,
        restart("startup probe: closed")
    );
    assert_eq!(story.life.due().next(), None);
}

#[test]
fn the_others_wait_for_the_rest_of_their_delay_after_the_startup() {
    let mut story = Story::new(json!({ "startup": {}, "liveness": { "delay": "5s" } }));
    story.fail();
    story.pass();
    assert_eq!(story.pass(), (Role::Liveness, 4 * SECOND));
    assert_eq!(story.pass(), (Role::Liveness, SECOND));
}

#[test]
fn a_delay_counts_from_the_start_of_the_container() {
    let now = Instant::now();
    let probes = probes(json!({ "readiness": { "delay": "30s" } }));
    let due = |age| {
        Life::new(&probes, age, 0, None, now)
            .due()
            .next()
            .unwrap()
            .0
    };
    assert_eq!(due(Duration::ZERO), now + 30 * SECOND);
    assert_eq!(due(20 * SECOND), now + 10 * SECOND);
    assert_eq!(due(90 * SECOND), now);
}

#[test]
fn a_container_that_is_not_ready_yet_is_checked_sooner_at_first() {
    let mut story = Story::new(json!({ "readiness": { "interval": "2s" } }));
    let mut waits = Vec::new();
    for _ in 0..6 {
        waits.push(story.fail().1.as_millis());
    }
    assert_eq!(waits, [0, 250, 500, 1000, 2000, 2000]);
    story.pass();
    for _ in 0..4 {
        assert_eq!(story.fail().1, 2 * SECOND);
    }
}

#[test]
fn a_slow_check_is_followed_at_once_by_the_next() {
    let mut story = Story::new(json!({ "liveness": {} }));
    story.life.begin(Role::Liveness, story.now);
    let ended = story.now + 5 * SECOND;
    story.life.finish(Role::Liveness, Outcome::Passed, ended);
    assert_eq!(story.life.due().next(), Some((ended, Role::Liveness)));
}

#[test]
fn what_could_not_be_checked_counts_for_nothing() {
    let mut story = Story::new(json!({ "liveness": {} }));
    for _ in 0..10 {
        story.fail();
        story.fail();
        story.check(Outcome::Unknown);
        assert_eq!(story.life.health().verdict, Verdict::Fine);
        story.pass();
    }
}

#[test]
fn a_reason_stands_for_a_while() {
    let mut story = Story::new(json!({ "readiness": {} }));
    story.pass();
    let mut reasons = std::collections::BTreeSet::new();
    for n in 0..60 {
        story.check(failed(&format!("it is {n} o'clock")));
        reasons.extend((!story.is_ready()).then(|| story.reason()));
    }
    // Not ready for 57 s.
    assert!(reasons.len() <= 6, "{reasons:?}");
    // But one of another kind is told at once.
    story.pass();
    for _ in 0..3 {
        story.fail();
    }
    assert_eq!(story.reason().unwrap(), "readiness probe: closed");
}

#[test]
fn what_started_and_served_does_so_for_the_next_agent() {
    let probes = probes(json!({ "startup": {}, "readiness": { "successThreshold": 3 } }));
    let mut story = Story {
        life: Life::new(&probes, SECOND, 0, None, Instant::now()),
        now: Instant::now(),
    };
    assert_eq!(story.life.started(), None);
    for _ in 0..4 {
        story.pass();
    }
    let before = story.life.started();
    assert_eq!(before, Some(Serving::Yes));
    story.life = Life::new(&probes, 9 * SECOND, 0, before, story.now);
    assert!(story.is_ready());
    for _ in 0..3 {
        assert!(story.is_ready());
        assert_eq!(story.fail().0, Role::Readiness);
    }
    assert!(!story.is_ready());
    assert_eq!(story.life.started(), Some(Serving::NoLonger));
}

#[test]
fn first_checks_are_spread() {
    let now = Instant::now();
    let probes = probes(json!({ "readiness": {} }));
    let first = |seed| {
        Life::new(&probes, SECOND, seed, None, now)
            .due()
            .next()
            .unwrap()
            .0
    };
    let times: std::collections::BTreeSet<_> = (0..1000).map(first).collect();
    assert_eq!(times.len(), 1000);
    assert!(*times.last().unwrap() < now + SPREAD_MAX);
}

fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Passed),
        4 => Just(failed("closed")),
        1 => Just(Outcome::Unknown),
    ];
    proptest::collection::vec(outcome, 0..40)
}

/// How many failures in a row come first in `outcomes` that are `enough`.
fn fails_in_a_row(outcomes: &[Outcome], enough: usize) -> bool {
    let mut row = 0;
    outcomes.iter().any(|outcome| {
        match outcome {
            Outcome::Passed => row = 0,
            Outcome::Failed(_) => row += 1,
            Outcome::Unknown => {}
        }
        row >= enough
    })
}

proptest! {
    #[test]
    fn liveness_restarts_exactly_after_that_many_failures_in_a_row(
        outcomes in outcomes(), threshold in 1_usize..6,
    ) {
        let mut story = Story::new(json!({ "liveness": { "failureThreshold": threshold } }));
        for n in 0..outcomes.len() {
            if story.life.due().next().is_some() {
                story.check(outcomes[n].clone());
            }
            let doomed = story.life.health().verdict != Verdict::Fine;
            prop_assert_eq!(doomed, fails_in_a_row(&outcomes[..=n], threshold));
        }
    }

    #[test]
    fn readiness_follows_the_last_row_that_was_long_enough(
        outcomes in outcomes(), success in 1_u32..4, failure in 1_u32..4,
    ) {
        let mut story = Story::new(json!({
            "readiness": { "successThreshold": success, "failureThreshold": failure },
        }));
        let (mut ready, mut passes, mut failures) = (false, 0, 0);
        for outcome in outcomes {
            match outcome {
                Outcome::Passed => (passes, failures) = (passes + 1, 0),
                Outcome::Failed(_) => (passes, failures) = (0, failures + 1),
                Outcome::Unknown => {}
            }
            ready = (ready || passes >= success) && failures < failure;
            story.check(outcome);
            prop_assert_eq!(story.is_ready(), ready);
            prop_assert_eq!(story.life.health().verdict, Verdict::Fine);
        }
    }

    /// What one probe saw makes no difference to when the other one's results count.
    #[test]
    fn the_order_of_results_of_different_probes_does_not_matter(
        readiness in outcomes(), liveness in outcomes(), turns in proptest::collection::vec(any::<bool>(), 80),
    ) {
        let end = |order: &mut dyn Iterator<Item = Role>| {
            let mut story = Story::new(json!({ "readiness": {}, "liveness": {} }));
            let (mut readiness, mut liveness) = (readiness.iter(), liveness.iter());
            for role in order {
                let results = match role {
                    Role::Readiness => &mut readiness,
                    Role::Startup | Role::Liveness => &mut liveness,
                };
                if let Some(outcome) = results.next() && story.life.due().next().is_some() {
                    story.life.begin(role, story.now);
                    story.life.finish(role, outcome.clone(), story.now);
                }
            }
            (story.is_ready(), story.life.health().verdict)
        };
        let role = |first: bool| if first { Role::Readiness } else { Role::Liveness };
        let rest = [Role::Readiness, Role::Liveness].into_iter().flat_map(|r| [r; 40]);
        let mixed = end(&mut turns.into_iter().map(role).chain(rest.clone()));
        prop_assert_eq!(mixed, end(&mut rest.clone()));
        let backwards: Vec<Role> = rest.collect();
        prop_assert_eq!(end(&mut backwards.iter().copied()), end(&mut backwards.into_iter().rev()));
    }

    /// The others are never checked before the startup probe passed, nor anything after a verdict.
    #[test]
    fn a_life_is_always_in_one_stage(outcomes in outcomes()) {
        let mut story = Story::new(json!({
            "startup": { "failureThreshold": 5 }, "readiness": {}, "liveness": {},
        }));
        let mut started = false;
        for outcome in outcomes {
            let doomed = story.life.health().verdict != Verdict::Fine;
            let due: Vec<Role> = story.life.due().map(|(_, role)| role).collect();
            match (doomed, started) {
                (true, _) => prop_assert_eq!(due, []),
                (false, false) => prop_assert_eq!(due, [Role::Startup]),
                (false, true) => prop_assert_eq!(due, [Role::Readiness, Role::Liveness]),
            }
            if doomed {
                break;
            }
            let passed = outcome == Outcome::Passed;
            let (role, waited) = story.check(outcome);
            prop_assert!(waited <= SECOND);
            started |= passed && role == Role::Startup;
        }
    }
}
