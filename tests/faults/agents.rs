//! Agents die, and forget: containers run on, and are taken over.

use std::{fs, thread, time::Duration};

use serde_json::Value;

use crate::{
    harness::demo,
    lab::{Lab, recorder::Run},
};

const SECOND: Duration = Duration::from_secs(1);

fn names(lab: &Lab) -> Vec<String> {
    let instances = lab.instances("web");
    instances
        .iter()
        .map(|i: &Value| i["name"].to_string())
        .collect()
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn an_agent_that_is_killed_takes_over_what_runs_and_restarts_what_died_once() {
    let mut lab = Lab::start(2);
    lab.apply(&demo("web", "replicas: 4"));
    let settled = lab.recorder().mark();
    lab.host("h1").kill_agent();
    thread::sleep(3 * SECOND);
    lab.host("h1").start_agent();
    lab.eventually("it is back", Lab::all_connected);
    // It has listed its containers more than once by then.
    thread::sleep(12 * SECOND);
    lab.never_lost("h1");
    lab.untouched_since(settled);

    // A container that dies while its agent is dead runs again, once, when that is back.
    let runs = lab.recorder().running("web");
    let victim = runs.into_iter().find(|run| run.host == "h1");
    let victim = victim.expect("half of them run there");
    lab.host("h1").kill_agent();
    let died = lab.recorder().mark();
    victim.kill();
    thread::sleep(3 * SECOND);
    assert_eq!(lab.recorder().running("web").len(), 3);
    lab.host("h1").start_agent();
    lab.eventually("it runs again", |lab| {
        lab.recorder().running("web").len() == 4
    });
    thread::sleep(5 * SECOND);
    lab.recorder().mark();
    // It ended, and was started: nothing else did.
    assert_eq!(lab.recorder().changes_since(died), 2, "{}", lab.story());
    let again = lab.recorder().running("web");
    let same = |run: &Run| run.instance == victim.instance && run.host == "h1";
    assert!(again.iter().any(same), "{}", lab.story());
}

/// Found here: it had to wait until the agent that it had been was lost, and was replaced then.
#[test]
#[ignore = "needs root, and makes a lab"]
fn an_agent_whose_state_is_gone_takes_over_what_runs_at_once() {
    let mut lab = Lab::start(2);
    lab.apply(&demo("web", "replicas: 4"));
    lab.after_grace();
    let settled = lab.recorder().mark();
    let before = names(&lab);
    lab.host("h1").kill_agent();
    fs::remove_dir_all(lab.host("h1").agent_dir()).unwrap();
    lab.host("h1").start_agent();
    lab.eventually("it is back", Lab::all_connected);
    thread::sleep(12 * SECOND);
    lab.never_lost("h1");
    assert_eq!(lab.happened("h1", "TakenOver"), 1, "{}", lab.story());
    lab.untouched_since(settled);
    assert_eq!(names(&lab), before);
}
