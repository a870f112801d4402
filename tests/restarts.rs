//! Losing the server or the agent costs no container anything.

use std::time::Duration;

use crate::harness::{Cluster, demo, engine};

#[test]
fn server_and_agent_are_restarted_and_killed_and_the_container_runs_on() {
    let mut cluster = Cluster::start(1);
    cluster.apply(&demo("web", ""));
    let id = cluster.id();
    let container = engine::running(&id).remove(0);
    let started = engine::started_at(&container);

    cluster.stop_server();
    cluster.start_server();
    cluster.kill_server();
    cluster.start_server();
    cluster.stop_agent(0);
    cluster.start_agent(0);
    cluster.kill_agent(0);
    cluster.start_agent(0);
    cluster.kill_server();
    cluster.kill_agent(0);
    cluster.start_server();
    cluster.start_agent(0);

    cluster.ok(&["wait", "web", "--for", "settled", "--timeout", "30s"]);
    // Longer than a relist, so that whatever anybody wants to do has been done.
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(engine::containers(&id).len(), 1);
    assert_eq!(engine::started_at(&container), started);
    // And it is still looked after.
    engine::kill(&container);
    cluster.eventually("it was restarted", |_| {
        engine::running(&id).contains(&container) && engine::started_at(&container) != started
    });
}

#[test]
fn an_agent_restarts_containers_while_the_server_is_away() {
    let mut cluster = Cluster::start(1);
    cluster.apply(&demo("web", ""));
    let id = cluster.id();
    let container = engine::running(&id).remove(0);
    let started = engine::started_at(&container);
    cluster.kill_server();
    // Also after its own restart: it goes by its ledger.
    cluster.kill_agent(0);
    cluster.start_agent(0);
    engine::kill(&container);
    cluster.eventually("the agent restarted it alone", |_| {
        engine::running(&id).contains(&container) && engine::started_at(&container) != started
    });
    cluster.start_server();
    cluster.eventually("the server hears of it", |cluster| {
        cluster
            .instances("web")
            .first()
            .is_some_and(|i| i["status"]["restarts"] == 1)
    });
}

#[test]
fn what_was_deleted_while_an_agent_was_away_is_stopped_when_it_returns() {
    let mut cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 2"));
    let id = cluster.id();
    cluster.kill_agent(0);
    cluster.ok(&["delete", "web", "--no-wait"]);
    cluster.apply_no_wait(&demo("other", ""));
    assert_eq!(engine::running(&id).len(), 2);
    cluster.start_agent(0);
    cluster.eventually("only the other one is left", |cluster| {
        engine::containers(&id).len() == 1 && cluster.list("instances").len() == 1
    });
}

#[test]
fn an_agent_that_lost_its_ledger_adopts_what_runs() {
    let mut cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 2"));
    let id = cluster.id();
    let mut before: Vec<_> = engine::running(&id)
        .iter()
        .map(|c| engine::started_at(c))
        .collect();
    cluster.kill_agent(0);
    std::fs::remove_file(cluster.dir.path().join("n1").join("ledger.json")).unwrap();
    cluster.start_agent(0);
    cluster.eventually("the node is back", |cluster| {
        cluster
            .list("nodes")
            .iter()
            .any(|n| n["status"]["state"] == "Ready" && n["status"]["instances"] == 2)
    });
    std::thread::sleep(Duration::from_secs(11));
    let mut after: Vec<_> = engine::running(&id)
        .iter()
        .map(|c| engine::started_at(c))
        .collect();
    before.sort();
    after.sort();
    assert_eq!(after, before);
}

#[test]
fn a_lost_nodes_instances_move_and_exactly_one_of_each_slot_remains() {
    let mut cluster = Cluster::start(2);
    cluster.apply(&demo("web", "replicas: 4"));
    let id = cluster.id();
    cluster.kill_agent(1);
    cluster.eventually("n2 is lost and its instances run on n1", |cluster| {
        let instances = cluster.instances("web");
        let on_n1 = |i: &&serde_json::Value| i["node"] == "n1" && i["status"]["phase"] == "Running";
        instances.iter().filter(on_n1).count() == 4
    });
    cluster.start_agent(1);
    cluster.eventually("the old ones are gone", |cluster| {
        engine::containers(&id).len() == 4 && cluster.list("instances").len() == 4
    });
    cluster.ok(&["wait", "web", "--for", "settled", "--timeout", "30s"]);
}

/// Found in review: nobody told the server that an instance was gone which had come and gone
/// while its agent was away, so it was shown as stopping until the agent connected once more.
#[test]
fn an_instance_that_came_and_went_while_its_agent_was_away_is_not_left_over() {
    let mut cluster = Cluster::start(1);
    cluster.apply(&demo("web", ""));
    cluster.kill_agent(0);
    cluster.apply_no_wait(&demo("brief", ""));
    cluster.eventually("it is placed", |cluster| {
        cluster
            .instances("brief")
            .first()
            .is_some_and(|i| i["node"] == "n1")
    });
    cluster.ok(&["delete", "brief", "--no-wait"]);
    cluster.start_agent(0);
    cluster.eventually("nothing of it is left", |cluster| {
        cluster.list("instances").len() == 1
    });
}
