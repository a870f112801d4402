use uuid::Uuid;
use windlass_api::{ids::ClusterId, status::NodeState};

use super::*;
use crate::record::Change;

const SECOND: Duration = Duration::from_secs(1);

fn cluster(nodes: &[(&str, NodeState)]) -> Cluster {
    let mut cluster = Cluster::new(ClusterId(Uuid::nil()));
    for (name, state) in nodes {
        let record = serde_json::json!({
            "name": name, "labels": {}, "taints": [], "scheduling": "Enabled", "state": state,
            "state_since": "2026-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z",
            "info": {
                "agentId": Uuid::nil(), "agentVersion": "1", "engineId": "e", "engineVersion": "1",
                "os": "linux", "arch": "x86_64",
            },
            "capacity": { "cpu": "1", "memory": "1Gi" }, "version": 1,
        });
        let record: NodeRecord = serde_json::from_value(record).unwrap();
        let name = record.name.clone();
        cluster.apply(&Change::Node(name, Some(record.into())));
    }
    cluster
}

fn ready(names: &[&str]) -> Cluster {
    let nodes: Vec<_> = names.iter().map(|name| (*name, NodeState::Ready)).collect();
    cluster(&nodes)
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// Looks every second; when something was lost first.
fn first_lost(
    leases: &mut Leases,
    cluster: &Cluster,
    seconds: std::ops::Range<u32>,
) -> Option<u32> {
    let mut seconds = seconds;
    seconds.find(|s| !leases.check(cluster, SECOND * *s).lost.is_empty())
}

#[test]
fn a_silent_node_is_lost_neither_too_early_nor_too_late() {
    let cluster = ready(&["n1"]);
    let mut leases = Leases::new(Duration::ZERO);
    assert_eq!(first_lost(&mut leases, &cluster, 0..100), Some(30));
    let mut leases = Leases::new(Duration::ZERO);
    assert_eq!(first_lost(&mut leases, &cluster, 0..30), None);
    leases.grant(&name("n1"), SECOND * 30);
    assert_eq!(first_lost(&mut leases, &cluster, 31..100), Some(40));
}

#[test]
fn a_lease_that_is_over_is_not_renewed() {
    let cluster = ready(&["n1"]);
    let mut leases = Leases::new(Duration::ZERO);
    first_lost(&mut leases, &cluster, 0..30);
    leases.grant(&name("n1"), SECOND * 30);
    assert_eq!(first_lost(&mut leases, &cluster, 30..35), None);
    assert!(leases.renew(&name("n1"), SECOND * 35).is_some());
    assert_eq!(first_lost(&mut leases, &cluster, 35..100), Some(45));
    assert_eq!(leases.renew(&name("n1"), SECOND * 45), None);
    assert_eq!(leases.renew(&name("n2"), SECOND * 45), None);
    leases.grant(&name("n1"), SECOND * 46);
    assert!(leases.renew(&name("n1"), SECOND * 47).is_some());
}

#[test]
fn nothing_is_lost_because_the_server_was_suspended() {
    let cluster = ready(&["n1"]);
    let mut leases = Leases::new(Duration::ZERO);
    assert_eq!(first_lost(&mut leases, &cluster, 0..20), None);
    assert_eq!(first_lost(&mut leases, &cluster, 600..700), Some(630));
}

#[test]
fn a_thousand_nodes_send_a_hundred_heartbeats_a_second() {
    assert_eq!(Pace::of(1).heartbeat, SECOND * 2);
    assert_eq!(Pace::of(200), Pace::of(1));
    assert_eq!(LOST_AFTER, SECOND * 10);
    assert_eq!(Pace::of(1_000).heartbeat, SECOND * 10);
    assert_eq!(Pace::of(1_000).lease, SECOND * 42);
}

#[test]
fn a_lease_lasts_as_long_as_was_promised_though_the_cluster_shrinks() {
    let names: Vec<String> = (0..1_000).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let large = ready(&names);
    let small = ready(&["n1"]);
    let mut leases = Leases::new(Duration::ZERO);
    for second in 0..63 {
        leases.check(&large, SECOND * second);
        for name in &names {
            leases.grant(&name.parse().unwrap(), SECOND * second);
        }
    }
    // Granted at 62 s for 42 s.
    assert_eq!(first_lost(&mut leases, &small, 63..200), Some(104));
}

#[test]
fn the_time_that_a_node_is_lost_is_counted_on() {
    let state = NodeState::Lost {
        since: "2026-01-01T00:00:00Z".parse().unwrap(),
        waited: Span::default(),
    };
    let cluster = cluster(&[("n1", state)]);
    let mut leases = Leases::new(Duration::ZERO);
    // Of one that was lost before the start nobody knows since when.
    let waited = |leases: &mut Leases, second| {
        let found = leases.check(&cluster, SECOND * second);
        assert_eq!(found.dark, 1);
        found.waited[0].1
    };
    assert_eq!(waited(&mut leases, 1), Span::default());
    assert_eq!(waited(&mut leases, 4), Span::from_secs(3));
}

#[test]
fn those_that_are_about_to_be_lost_count_as_dark() {
    let cluster = ready(&["n1", "n2", "n3"]);
    let mut leases = Leases::new(Duration::ZERO);
    for second in 0..40 {
        leases.check(&cluster, SECOND * second);
        for node in ["n1", "n2", "n3"] {
            leases.grant(&name(node), SECOND * second);
        }
    }
    // Cut off within two seconds of each other; the third one goes on.
    leases.grant(&name("n2"), SECOND * 41);
    for second in 40..49 {
        leases.grant(&name("n3"), SECOND * second);
        assert_eq!(leases.check(&cluster, SECOND * second).lost, []);
    }
    leases.grant(&name("n3"), SECOND * 49);
    let found = leases.check(&cluster, SECOND * 49);
    assert_eq!((found.lost, found.dark), (vec![name("n1")], 2));
    assert!(!may_evict(found.dark, 3));
}

#[test]
fn one_of_two_nodes_may_fail_and_most_of_more_may_not() {
    for (dark, all, evicts) in [
        (0, 1, true),
        (1, 1, true),
        (1, 2, true),
        (2, 2, false),
        (1, 3, true),
        (2, 3, false),
        (2, 4, true),
        (3, 4, false),
        (5, 12, true),
        (6, 12, true),
        (7, 12, false),
    ] {
        assert_eq!(may_evict(dark, all), evicts, "{dark} of {all}");
    }
}
