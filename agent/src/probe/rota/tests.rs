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
