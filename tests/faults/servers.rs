//! The server dies, or is suspended: nothing that runs is touched.

use std::{thread, time::Duration};

use crate::{harness::demo, lab::Lab};

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root, and makes a lab"]
fn a_server_that_is_killed_or_suspended_for_a_minute_touches_nothing() {
    let mut lab = Lab::start(3);
    lab.apply(&demo("web", "replicas: 3"));
    let settled = lab.recorder().mark();

    // Killed, away for longer than a lease, started.
    lab.kill_server();
    thread::sleep(12 * SECOND);
    lab.start_server();
    lab.eventually("all nodes are back", Lab::all_connected);

    // Suspended for much longer than a lease. When it goes on, everybody was silent for that long.
    lab.after_grace();
    lab.suspend_server();
    thread::sleep(60 * SECOND);
    lab.resume_server();
    lab.eventually("all nodes are back", Lab::all_connected);
    // By now it would have noticed that nobody was heard from.
    thread::sleep(5 * SECOND);
    for host in &lab.hosts {
        lab.never_lost(&host.name);
    }
    lab.untouched_since(settled);
    assert_eq!(lab.recorder().running("web").len(), 3);

    // It does what it is asked to do, too.
    lab.ok(&["scale", "web", "4"]);
    assert_eq!(lab.recorder().running("web").len(), 4);
}
