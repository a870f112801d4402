//! An agent is killed while the engine does what it was told to.

use crate::{
    engine::{call::Call, fake::FakeEngine, script::Fault},
    harness::{Cluster, Docker, demo},
};

/// Kills the agent while a call is carried out and not answered, and starts it again.
fn killed_during(call: Call) -> Vec<String> {
    let engine = FakeEngine::start();
    let mut cluster = Cluster::start_with(1, Docker::Pretended(engine.address()));
    engine.once(call, Fault::Hold);
    cluster.apply_no_wait(&demo("web", ""));
    engine.until_waiting(call);
    cluster.kill_agent(0);
    engine.heal();
    cluster.start_agent(0);
    cluster.ok(&["wait", "web", "--for", "settled", "--timeout", "60s"]);
    let instance = cluster.instances("web").remove(0);
    assert_eq!(instance["status"]["restarts"], 0, "{instance}");
    engine.deeds_at_rest()
}

#[test]
fn an_agent_killed_between_create_and_record_takes_over_what_it_made() {
    assert_eq!(
        killed_during(Call::Create),
        ["create web-0-1", "start web-0-1"]
    );
}

#[test]
fn an_agent_killed_between_start_and_record_takes_over_what_runs() {
    assert_eq!(
        killed_during(Call::Start),
        ["create web-0-1", "start web-0-1"]
    );
}
