//! The place of a lab on this machine: a directory, and what the names of all else begin with.

use std::{
    fs::File,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// How many labs there may be at the same time. Tests mostly wait, so that two take half the time; a
/// soak has room beside them.
const SITES: usize = 3;

/// A place that nobody else has.
#[derive(Debug)]
pub(crate) struct Site {
    number: usize,
    /// Until it is closed, the site is taken: also if nobody could clean up.
    _lock: File,
}

impl Site {
    /// Waits for a place.
    pub(crate) fn take() -> Self {
        loop {
            for number in 1..=SITES {
                let lock = File::create(format!("/var/tmp/windlass-lab{number}.lock"));
                let lock = lock.expect("a lock file");
                if lock.try_lock().is_ok() {
                    return Self {
                        number,
                        _lock: lock,
                    };
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Where everything is kept. It is short, since the paths of sockets are.
    pub(crate) fn dir(&self) -> PathBuf {
        PathBuf::from(format!("/var/tmp/windlass-lab{}", self.number))
    }

    /// What the names of all namespaces begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("windlass-lab{}-", self.number)
    }

    /// The control group of all containers of all hosts.
    pub(crate) fn group(&self) -> String {
        format!("windlass-lab{}", self.number)
    }

    /// Where the kernel lists the processes of the containers of a host.
    pub(crate) fn group_of(&self, host: &str) -> PathBuf {
        let root = Path::new("/sys/fs/cgroup");
        let split = root.join("pids");
        let root = if split.is_dir() { &split } else { root };
        root.join(self.group()).join(host)
    }
}
