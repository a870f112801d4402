//! Disks of hosts that are full: what runs runs on, and what cannot be done says why, until there is
//! room.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    harness::{demo, namespace::run},
    lab::{Lab, host::Host, text},
};

const SECOND: Duration = Duration::from_secs(1);

/// A disk in memory, of which only as much can be used as is wanted.
struct Disk(PathBuf);

impl Disk {
    /// Puts a disk with room where nothing is yet.
    fn at(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2g", "windlass-lab"])
            .arg(dir));
        Self(dir.to_owned())
    }

    /// Leaves no room, beyond what is used.
    fn fill(&self) {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        self.resize((disk.f_blocks - disk.f_bfree) * disk.f_frsize);
    }

    fn make_room(&self) {
        self.resize(2 << 30);
    }

    fn resize(&self, bytes: u64) {
        run(Command::new("mount")
            .args(["-o", &format!("remount,size={bytes}")])
            .arg(&self.0));
    }
}

/// Where an instance of `web` is that does not run, and why.
fn waiting(lab: &Lab) -> Vec<(String, String)> {
    let instances = lab.instances("web");
    let waiting = instances
        .iter()
        .filter(|i| i["status"]["phase"] != "Running");
    let why = |i: &serde_json::Value| (text(i, "/node"), i["status"].to_string());
    waiting.map(why).collect()
}

/// Fills the disk on which one of two hosts keeps something: what runs runs on, what is to be made
/// waits and says why, as `is_named` sees, and is made when there is room.
fn fill(dir: fn(&Host) -> PathBuf, is_named: fn(&Lab) -> bool) {
    let mut lab = Lab::start_with(2, |host| {
        if host.name == "h1" {
            Disk::at(&dir(host));
        }
    });
    lab.apply(&demo("web", "replicas: 2"));
    lab.after_grace();
    let disk = Disk(dir(lab.host("h1")));
    let settled = lab.recorder().mark();
    let before = lab.recorder().running("web");
    disk.fill();
    thread::sleep(12 * SECOND);
    lab.untouched_since(settled);

    lab.ok(&["scale", "web", "4", "--no-wait"]);
    lab.eventually("it is said why nothing is made on the full disk", is_named);
    lab.eventually("the other one runs", |lab| {
        lab.recorder().running("web").len() == 3
    });
    disk.make_room();
    lab.eventually("all of them run", |lab| {
        lab.recorder().running("web").len() == 4 && waiting(lab).is_empty()
    });
    lab.never_lost("h1");
    // Those that ran are still those.
    let after = lab.recorder().running("web");
    assert!(
        before.iter().all(|run| after.contains(run)),
        "{}",
        lab.story()
    );
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn a_full_disk_of_an_engine_stops_nothing_that_runs_and_is_named() {
    fill(Host::data, |lab| {
        let waiting = waiting(lab);
        let named = |(node, why): &(String, String)| node == "h1" && why.contains("no space left");
        waiting.len() == 1 && waiting.iter().any(named)
    });
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn a_full_disk_of_an_agent_stops_nothing_that_runs_and_is_named() {
    // What the agent cannot write down it does not begin.
    fill(Host::agent_dir, |lab| {
        let nodes = lab.list("nodes");
        let h1 = nodes.iter().find(|node| node["name"] == "h1");
        h1.is_some_and(|h1| text(h1, "/status/rejects").contains("written down"))
    });
}
