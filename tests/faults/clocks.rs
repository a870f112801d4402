//! Clocks of the wall that are wrong by a day, or by an hour: nothing is lost or moved because of it,
//! and work is done.

use std::{thread, time::Duration};

use crate::{
    harness::demo,
    lab::{Lab, clock::Clock, recorder::Run},
};

const SECOND: Duration = Duration::from_secs(1);

/// A lab in which server and agents have clocks that can be set wrong.
fn start() -> Lab {
    let mut lab = Lab::start(3);
    let dir = lab.site().dir();
    for host in &mut lab.hosts {
        host.clock = Some(Clock::new(dir.join(&host.name).join("clock")));
        host.kill_agent();
        host.start_agent();
    }
    lab.server_clock = Some(Clock::new(dir.join("server.clock")));
    lab.kill_server();
    lab.start_server();
    lab.eventually("all of them are back", Lab::all_connected);
    lab
}

/// Sets the clocks of server and agents wrong.
fn set(lab: &Lab, server: &str, agents: &str) {
    let clock = lab.server_clock.as_ref().expect("it has one");
    clock.set(server);
    for host in &lab.hosts {
        host.clock.as_ref().expect("it has one").set(agents);
    }
}

#[test]
#[ignore = "needs root and libfaketime, and makes a lab"]
fn clocks_that_jump_by_a_day_or_an_hour_lose_no_node_and_touch_nothing() {
    let lab = start();
    lab.apply(&demo("web", "replicas: 3"));
    lab.apply(&demo("single", "exclusive: true"));
    lab.apply(&demo("brief", "disconnect: { stopAfter: 5s }"));
    lab.after_grace();
    let settled = lab.recorder().mark();
    for (server, agents) in [
        ("+24h", "+0"),
        ("-1h", "+0"),
        ("+0", "+24h"),
        ("+0", "-1h"),
        ("+24h", "-1h"),
        ("+0", "+0"),
    ] {
        set(&lab, server, agents);
        // Longer than a lease, so that one that does not survive it would be over.
        thread::sleep(13 * SECOND);
        assert!(lab.all_connected(), "{server} {agents}\n{}", lab.story());
        lab.untouched_since(settled);
    }
    for host in &lab.hosts {
        lab.never_lost(&host.name);
    }
}
#[test]
#[ignore = "needs root and libfaketime, and makes a lab"]
fn a_rollout_ends_well_though_the_clock_of_the_server_jumps_in_the_middle_of_it() {
    let lab = start();
    let fields = |message: &str| {
        format!(
            "replicas: 3\nenv: {{ DEMO_MESSAGE: {message} }}\n\
             update: {{ minReady: 3s, progressDeadline: 60s }}"
        )
    };
    lab.apply(&demo("web", &fields("zero")));
    for (server, message) in [("+24h", "one"), ("+0", "two"), ("-1h", "three")] {
        lab.apply_no_wait(&demo("web", &fields(message)));
        lab.eventually("it is in the middle", |lab| {
            lab.workload("web")["status"]["updated"] == 1
        });
        set(&lab, server, "+0");
        lab.eventually("it is there", |lab| {
            let status = &lab.workload("web")["status"];
            status["settled"] == true
        });
        let rollout = &lab.workload("web")["status"]["rollout"]["state"];
        assert_eq!(rollout, "Completed", "{server}\n{}", lab.story());
        let running = lab.recorder().running("web");
        let is_new = |run: &Run| run.variable("DEMO_MESSAGE").as_deref() == Some(message);
        assert!(running.iter().all(is_new), "{}", lab.story());
    }
}
