//! Answers that make no sense, are cut, or break off.

use crate::{
    engine::{call::Call, script::Fault, site::Site},
    harness::demo,
};

/// What an agent asks for from its start until a container runs.
const CALLS: [Call; 11] = [
    Call::Version,
    Call::Info,
    Call::Containers,
    Call::Inspect,
    Call::Create,
    Call::Start,
    Call::Images,
    Call::Image,
    Call::Networks,
    Call::CreateNetwork,
    Call::Volumes,
];

/// An agent is started and given something to do while a call of each kind is answered like this: it
/// lives, and everything is made once.
fn answers(fault: Fault) {
    let mut site = Site::start();
    site.cluster.kill_agent(0);
    CALLS
        .into_iter()
        .for_each(|call| site.engine.once(call, fault));
    // In a namespace of its own, so that it needs a network.
    let manifest = format!("namespace: other\n{}", demo("web", ""));
    site.cluster.apply_no_wait(&manifest);
    site.cluster.start_agent(0);
    site.engine
        .eventually("each has happened, and all is well", |engine| {
            engine.is_well() && engine.running().contains_key("web-0-2")
        });
    assert!(site.cluster.agent_runs(0), "it did not break down");
    site.until_node_is("Ready");
    assert_eq!(site.deeds(), ["create web-0-2", "start web-0-2"]);
}

#[test]
fn answers_that_make_no_sense_break_nothing() {
    answers(Fault::Garbage);
}

#[test]
fn answers_that_are_cut_break_nothing() {
    answers(Fault::Truncate);
}

#[test]
fn connections_that_break_off_in_an_answer_break_nothing() {
    answers(Fault::BreakOff);
}

/// What an engine answers that is no JSON is told to people as what it is.
#[test]
fn an_engine_whose_answers_make_no_sense_says_so_at_its_node() {
    let site = Site::start();
    site.engine.always(Call::Containers, Fault::Garbage);
    site.engine.exit("kept-0-1", 1);
    let node = site.until_node_is("RuntimeUnhealthy");
    let reason = node["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("cannot list containers"), "{reason}");
    let before = site.engine.deeds();
    site.until_called(Call::Containers, 1);
    assert_eq!(
        site.engine.deeds(),
        before,
        "what is not seen is not touched"
    );
    site.engine.heal();
    site.until_node_is("Ready");
    site.cluster.eventually("it is started again", |_| {
        site.engine.running().contains_key("kept-0-1")
    });
    assert_eq!(site.engine.deeds_at_rest().len(), before.len() + 1);
}
