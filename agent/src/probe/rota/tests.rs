use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::probe::Verdict;

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn spec(fields: serde_json::Value) -> ContainerSpec {
    let mut spec = json!({ "name": "web", "image": "web:1" });
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn liveness() -> ContainerSpec {
    spec(json!({ "probes": {
        "liveness": { "tcp": { "port": 80 }, "interval": "1s", "failureThreshold": 1 },
    }}))
}

fn id(name: &str) -> ContainerId {
    ContainerId(name.to_owned())
}

fn subject<'a>(
    container: &'a ContainerId,
    spec: &'a ContainerSpec,
    started_at: Timestamp,
) -> Subject<'a> {
    Subject {
        container,
        started_at,
        address: Some("10.0.0.2".parse().unwrap()),
        spec,
        healthcheck: None,
    }
}

fn failed() -> Outcome {
    Outcome::Failed("closed".to_owned())
}

/// All checks that are due in the next ten seconds.
fn take(rota: &mut Rota, now: Instant) -> Vec<Order> {
    std::iter::from_fn(|| rota.take_due(now + Duration::from_secs(10))).collect()
}

#[test]
fn a_result_of_an_earlier_life_says_nothing_about_the_next() {
    let (container, spec, now) = (id("a"), liveness(), Instant::now());
    let mut rota = Rota::default();
    rota.observe(&[subject(&container, &spec, START)], START, now);
    let order = take(&mut rota, now).remove(0);
    let later = START + Duration::from_secs(1);
    rota.observe(&[subject(&container, &spec, later)], later, now);
    assert!(!rota.attends(order.ticket.life));
    assert_eq!(rota.finish(order.ticket, failed(), now), Change::None);
    assert_eq!(rota.healths()[&container].verdict, Verdict::Fine);
}

#[test]
fn a_verdict_stands_until_the_next_life() {
    let (container, spec, now) = (id("a"), liveness(), Instant::now());
    let mut rota = Rota::default();
    rota.observe(&[subject(&container, &spec, START)], START, now);
    let order = take(&mut rota, now).remove(0);
    assert_eq!(rota.finish(order.ticket, failed(), now), Change::Health);
    rota.observe(&[subject(&container, &spec, START)], START, now);
    let doomed = |rota: &Rota| rota.healths()[&container].verdict != Verdict::Fine;
    assert!(doomed(&rota));
    assert_eq!(rota.next_at(), None);
    let later = START + Duration::from_secs(1);
    rota.observe(&[subject(&container, &spec, later)], later, now);
    assert!(!doomed(&rota));
    assert!(rota.next_at().is_some());
}

#[test]
fn what_does_not_run_is_not_probed() {
    let (container, spec, now) = (id("a"), liveness(), Instant::now());
    let mut rota = Rota::default();
    rota.observe(&[subject(&container, &spec, START)], START, now);
    rota.observe(&[], START, now);
    assert_eq!(rota.next_at(), None);
    assert!(rota.healths().is_empty());
    assert!(rota.lives.is_empty() && rota.patients.is_empty());
}

#[test]
fn a_check_is_not_due_again_while_it_is_made() {
    let (container, spec, now) = (id("a"), liveness(), Instant::now());
    let mut rota = Rota::default();
    rota.observe(&[subject(&container, &spec, START)], START, now);
    let order = take(&mut rota, now).remove(0);
    rota.observe(&[subject(&container, &spec, START)], START, now);
    assert_eq!(rota.next_at(), None);
    rota.finish(order.ticket, Outcome::Passed, now);
    assert!(rota.next_at().is_some());
}

#[test]
fn a_container_without_probes_is_as_its_image_says() {
    let (container, now) = (id("a"), Instant::now());
    let (plain, probed) = (spec(json!({})), liveness());
    let mut rota = Rota::default();
    let mut look = |spec: &ContainerSpec, healthcheck: Option<Healthcheck>| {
        let subject = Subject {
            healthcheck: healthcheck.as_ref(),
            ..subject(&container, spec, START)
        };
        rota.observe(&[subject], START, now);
        rota.healths().get(&container).cloned()
    };
    assert_eq!(look(&plain, None), None);
    let starting = look(&plain, Some(Healthcheck::Starting)).unwrap();
    assert!(!starting.readiness.is_ready() && starting.verdict == Verdict::Fine);
    let healthy = look(&plain, Some(Healthcheck::Healthy)).unwrap();
    assert!(healthy.readiness.is_ready());
    let fails = Healthcheck::Unhealthy {
        exit_code: 7,
        output: "trying\ncurl: refused\n\n".to_owned(),
    };
    let unhealthy = look(&plain, Some(fails.clone())).unwrap();
    let reason = "the image's health check ended with 7: curl: refused".to_owned();
    assert_eq!(unhealthy.verdict, Verdict::Restart { reason });
    // A manifest that names a probe switches it off.
    let probed = look(&probed, Some(fails)).unwrap();
    assert_eq!(probed.verdict, Verdict::Fine);
}

#[test]
fn the_queue_holds_each_check_once_and_in_order() {
    let now = Instant::now();
    let both = spec(json!({ "probes": {
        "readiness": { "tcp": { "port": 80 }, "interval": "3s" },
        "liveness": { "tcp": { "port": 80 }, "interval": "1s" },
    }}));
    let ids: Vec<ContainerId> = (0..50).map(|n| id(&n.to_string())).collect();
    let subjects: Vec<_> = ids.iter().map(|id| subject(id, &both, START)).collect();
    let mut rota = Rota::default();
    rota.observe(&subjects, START, now);
    let (mut made, mut last) = (0, now);
    while let Some(at) = rota
        .next_at()
        .filter(|at| *at <= now + Duration::from_secs(30))
    {
        assert!(at >= last);
        last = at;
        let order = rota.take_due(at).unwrap();
        assert!(rota.queue.len() < 100);
        rota.finish(order.ticket, Outcome::Passed, at);
        assert_eq!(rota.queue.len(), 100);
        made += 1;
    }
    // Each container 10 and 30 times in 30 s, and those whose first check was in the spread.
    assert!((2_000..=2_100).contains(&made), "{made}");
}

#[test]
fn the_next_agent_finds_ready_what_was() {
    let (container, now) = (id("a"), Instant::now());
    let probed = spec(json!({ "probes": { "readiness": { "tcp": { "port": 80 } } } }));
    let is_ready = |rota: &Rota| rota.healths()[&container].readiness.is_ready();
    let mut rota = Rota::default();
    rota.observe(&[subject(&container, &probed, START)], START, now);
    let order = take(&mut rota, now).remove(0);
    rota.finish(order.ticket, Outcome::Passed, now);
    assert!(is_ready(&rota));
    let kept = serde_json::to_string(&rota.memory()).unwrap();
    let next = || Rota::new(serde_json::from_str(&kept).unwrap());

    let mut rota = next();
    rota.observe(&[subject(&container, &probed, START)], START, now);
    assert!(is_ready(&rota));
    // Not so in another life.
    let later = START + Duration::from_secs(1);
    rota.observe(&[subject(&container, &probed, later)], later, now);
    assert!(!is_ready(&rota));
    let mut rota = next();
    rota.observe(&[subject(&container, &probed, later)], later, now);
    assert!(!is_ready(&rota));
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    /// A list shows these containers, each in this life.
    Listed(BTreeMap<u8, u8>),
    /// Time passes, and what is due begins.
    Passed(u16),
    /// One of the checks that were ever begun ends, perhaps long after its container.
    Ended {
        which: prop::sample::Index,
        outcome: Outcome,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    let lives = prop::collection::btree_map(0..4_u8, 0..3_u8, 0..4);
    let outcome = prop_oneof![
        Just(Outcome::Passed),
        Just(failed()),
        Just(Outcome::Unknown)
    ];
    prop_oneof![
        1 => lives.prop_map(Happening::Listed),
        2 => (0..3_000_u16).prop_map(Happening::Passed),
        4 => (any::<prop::sample::Index>(), outcome)
            .prop_map(|(which, outcome)| Happening::Ended { which, outcome }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_each_check_is_made_once_at_a_time_and_counts_for_its_own_life(
        happenings in prop::collection::vec(happening(), 0..120),
    ) {
        let all = spec(json!({ "probes": {
            "startup": { "tcp": { "port": 80 }, "interval": "1s" },
            "readiness": { "tcp": { "port": 80 }, "interval": "1s" },
            "liveness": { "tcp": { "port": 80 }, "interval": "2s" },
        }}));
        let (mut rota, mut now) = (Rota::default(), Instant::now());
        let (mut begun, mut open) = (Vec::<Ticket>::new(), BTreeSet::new());
        let ids: Vec<ContainerId> = (0..4).map(|n| id(&n.to_string())).collect();
        for happening in happenings {
            match happening {
                Happening::Listed(lives) => {
                    let subjects = lives.iter().map(|(n, life)| {
                        let started_at = START + Duration::from_secs(u64::from(*life));
                        subject(&ids[usize::from(*n)], &all, started_at)
                    });
                    let subjects: Vec<_> = subjects.collect();
                    rota.observe(&subjects, START, now);
                    let listed: Vec<_> = subjects.iter().map(|s| s.container).collect();
                    prop_assert_eq!(rota.healths().keys().collect::<Vec<_>>(), listed);
                    open.retain(|ticket: &Ticket| rota.attends(ticket.life));
                }
                Happening::Passed(millis) => {
                    now += Duration::from_millis(millis.into());
                    while let Some(order) = rota.take_due(now) {
                        prop_assert!(rota.attends(order.ticket.life));
                        prop_assert!(open.insert(order.ticket), "it is being made");
                        begun.push(order.ticket);
                    }
                    prop_assert!(rota.next_at().is_none_or(|at| at > now));
                }
                Happening::Ended { which, outcome } if !begun.is_empty() => {
                    let ticket = *which.get(&begun);
                    let before = rota.healths().clone();
                    let counts = open.remove(&ticket);
                    let change = rota.finish(ticket, outcome, now);
                    prop_assert_eq!(change == Change::Health, before != *rota.healths());
                    prop_assert!(counts || change == Change::None);
                    let others = |healths: &Healths| {
                        let mut healths = healths.clone();
                        if let Some(patient) = rota.patients.get(&ticket.life) {
                            healths.remove(&patient.container);
                        }
                        healths
                    };
                    prop_assert_eq!(others(&before), others(rota.healths()));
                }
                Happening::Ended { .. } => {}
            }
            let queued: Vec<Ticket> = rota.queue.iter().map(|(_, ticket)| *ticket).collect();
            prop_assert!(queued.iter().all(|t| rota.attends(t.life) && !open.contains(t)));
            prop_assert_eq!(queued.iter().collect::<BTreeSet<_>>().len(), queued.len());
        }
    }
}
