//! What the brain makes of clocks that are set.

use windlass_api::ids::ClusterId;

use super::*;

fn brain() -> Brain {
    let cluster = Cluster::new(ClusterId(Uuid::nil()));
    Brain::new(cluster, Arc::new(Metrics::new()), Box::new(Uuid::nil))
}

fn at(wall: &str, seconds: u64) -> Now {
    Now {
        wall: wall.parse().unwrap(),
        moment: Duration::from_secs(seconds),
    }
}

/// Lets it decide on nothing, of which the store makes that.
fn decide(brain: &mut Brain, now: Now, stored: impl FnOnce(Version) -> store::Result<Version>) {
    let decision = brain.decide([], now);
    let (decided, to_store) = brain.close(decision);
    let version = decided.cluster.version;
    brain
        .settle(decided, to_store.map(|_| stored(version)))
        .unwrap();
}

fn told(brain: &Brain) -> Vec<String> {
    let events = brain.cluster.events.values();
    events.map(|event| event.message.clone()).collect()
}

#[test]
fn a_clock_that_is_set_is_noticed_and_one_that_only_goes_on_is_not() {
    let mut brain = brain();
    decide(&mut brain, at("2026-01-01T00:00:00Z", 1), Ok);
    decide(&mut brain, at("2026-01-01T00:10:00Z", 601), Ok);
    // It is kept right.
    decide(&mut brain, at("2026-01-01T00:10:05Z", 602), Ok);
    assert_eq!(told(&brain), Vec::<String>::new());
    decide(&mut brain, at("2026-01-02T00:10:06Z", 603), Ok);
    decide(&mut brain, at("2026-01-01T23:10:07Z", 604), Ok);
    decide(&mut brain, at("2026-01-01T23:10:08Z", 605), Ok);
    let told = told(&brain);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("forward by 1d"), "{told:?}");
    assert!(told[1].contains("back by 1h"), "{told:?}");
}

#[test]
fn a_clock_that_is_set_while_the_disk_is_full_is_noticed_when_it_is_not() {
    let mut brain = brain();
    decide(&mut brain, at("2026-01-01T00:00:00Z", 1), Ok);
    let full = |_| {
        Err(store::Error::NoSpace {
            dir: "state".into(),
            available_bytes: 0,
            needed_bytes: 1,
            landed: store::Landed::No,
        })
    };
    decide(&mut brain, at("2026-01-02T00:00:01Z", 2), full);
    assert_eq!(told(&brain), Vec::<String>::new());
    brain.storage.send_replace(Storage::Writable);
    decide(&mut brain, at("2026-01-02T00:00:02Z", 3), Ok);
    assert_eq!(told(&brain).len(), 1, "{:?}", told(&brain));
}
