//! A container that ignores SIGTERM is killed when its grace period is over: not before, and whatever
//! happens to its agent meanwhile.

use std::{thread, time::Duration};

use crate::{
    harness::demo,
    lab::{Lab, recorder::Run},
};

const SECOND: Duration = Duration::from_secs(1);
/// What the demo is given to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How much earlier than that it may seem to have ended: it was told to stop a moment after the
/// recorder looked, and may have gone a moment before it looked again.
const BLUR: Duration = Duration::from_millis(500);

/// Lets one run, which is deleted while `meanwhile` happens. Returns it, and for how long it ran after
/// that.
fn delete(lab: &mut Lab, meanwhile: impl FnOnce(&mut Lab, &Run)) -> Duration {
    lab.apply(&demo("web", "env: { DEMO_IGNORE_SIGTERM: 'true' }"));
    let run = lab.recorder().running("web").pop().expect("it runs");
    let deleted = lab.recorder().mark();
    lab.ok(&["delete", "web", "--no-wait"]);
    meanwhile(lab, &run);
    lab.eventually("nothing is left of it", |lab| {
        lab.list("instances").is_empty() && lab.recorder().containers() == 0
    });
    let runs = lab.recorder().runs("web");
    let same = |other: &&Run| other.instance == run.instance;
    assert_eq!(runs.iter().filter(same).count(), 1, "{}", lab.story());
    let ended = runs.iter().find(same).and_then(|run| run.until);
    ended.expect("it has ended") - deleted
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn what_ignores_sigterm_is_killed_after_its_grace_period_also_when_its_agent_dies() {
    let mut lab = Lab::start(2);
    let after = delete(&mut lab, |_, _| {});
    assert!(after + BLUR > GRACE, "killed after {after:?}");

    // An agent that died while it waited for that sees it through when it is back.
    let after = delete(&mut lab, |lab, run| {
        let host = run.host.clone();
        thread::sleep(2 * SECOND);
        lab.host(&host).kill_agent();
        thread::sleep(SECOND);
        lab.host(&host).start_agent();
    });
    assert!(after + BLUR > GRACE, "killed after {after:?}");
    lab.never_lost("h1");
    lab.never_lost("h2");
}
