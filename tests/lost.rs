//! Nodes that are lost, and servers that are not heard from, on real Docker.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cluster, chore, demo, engine};

/// The index of the agent that has the only copy of a workload that is placed.
fn agent_of(cluster: &Cluster, workload: &str) -> usize {
    let instances = cluster.instances(workload);
    let node = instances.iter().find_map(|i| i["node"].as_str()).unwrap();
    node.strip_prefix('n').unwrap().parse::<usize>().unwrap() - 1
}

/// Its agent is dead, and its containers are not: both copies run, until the agent is back.
#[test]
fn a_lost_node_is_replaced_and_its_own_copy_stays_when_it_is_back() {
    let mut cluster = Cluster::start(2);
    let id = cluster.id();
    cluster.apply(&demo("web", "replicas: 1"));
    let original = engine::running(&id);
    let lost = agent_of(&cluster, "web");
    // A server that has just started declares nothing lost for 30 s.
    std::thread::sleep(Duration::from_secs(31));
    cluster.kill_agent(lost);
    cluster.always("nothing happens too early", Duration::from_secs(6), |_| {
        engine::running(&id) == original
    });
    cluster.eventually("there is a replacement", |_| {
        engine::running(&id).len() == 2
    });
    cluster.start_agent(lost);
    cluster.eventually("one is left", |_| engine::running(&id).len() == 1);
    assert_eq!(engine::running(&id), original);
    let settled = |c: &Cluster| c.workload("web")["status"]["settled"] == true;
    cluster.eventually("all is as it should be", settled);
    assert_eq!(engine::running(&id), original);
}

/// The agents live and hear nothing: they stop what may not run unheard, by themselves, and leave the
/// rest alone.
#[test]
fn agents_stop_what_is_exclusive_when_the_server_is_silent() {
    let mut cluster = Cluster::start(2);
    let id = cluster.id();
    cluster.apply(&demo("kept", ""));
    let kept = engine::running(&id);
    cluster.apply(&demo("single", "exclusive: true"));
    cluster.apply(&demo("brief", "disconnect: { stopAfter: 5s }"));
    assert_eq!(engine::running(&id).len(), 3);
    cluster.kill_server();
    cluster.eventually("only the rest runs", |_| engine::running(&id) == kept);
    // An agent that is started again remembers that its lease is over.
    cluster.kill_agent(0);
    cluster.start_agent(0);
    cluster.always("nothing is run unheard", Duration::from_secs(5), |_| {
        engine::running(&id) == kept
    });
    cluster.start_server();
    cluster.eventually("all run again", |_| engine::running(&id).len() == 3);
    let settled = |c: &Cluster| {
        ["kept", "single", "brief"]
            .iter()
            .all(|name| c.workload(name)["status"]["settled"] == true)
    };
    cluster.eventually("all is as it should be", settled);
    assert!(kept.iter().all(|k| engine::running(&id).contains(k)));
}

/// Regression: whoever changed or deleted what a lost node has waited in vain for that node.
#[test]
fn what_is_changed_or_deleted_while_a_node_is_lost_is_done_without_it() {
    let mut cluster = Cluster::start(2);
    let id = cluster.id();
    let watch = |every: &str| chore("Daemon", "watch", &format!("--every, {every}"), "");
    cluster.apply(&demo("web", "replicas: 2"));
    cluster.apply(&watch("30s"));
    cluster.kill_agent(0);
    cluster.eventually("its copy is replaced", |cluster| {
        let on_n2 = |i: &&Value| i["node"] == "n2" && i["status"]["phase"] == "Running";
        cluster.instances("web").iter().filter(on_n2).count() == 2
    });
    cluster.ok(&["scale", "web", "3", "--timeout", "60s"]);
    cluster.apply(&demo("web", "env: { DEMO_MESSAGE: two }"));
    cluster.apply(&watch("31s"));
    let told = cluster.ok(&["describe", "workload", "watch"]);
    assert!(told.contains("node n1 is lost"), "{told}");
    cluster.ok(&["delete", "web", "--timeout", "60s"]);
    cluster.start_agent(0);
    cluster.eventually("the node has caught up", |cluster| {
        let updated = cluster.workload("watch")["status"]["updated"] == 2;
        updated && engine::running(&id).len() == 2
    });
}
