//! What server and agents use: none of it may grow without bound.

use std::{fmt, fs, path::Path};

use crate::lab::Lab;

/// What a process uses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Memory of its own, without what it maps of its program.
    memory_kib: u64,
    descriptors: u64,
    /// What its state takes on the disk.
    disk_kib: u64,
}

/// The most that a server may use that has three workloads and four clients. In half an hour it
/// came to 12 MiB, 21 descriptors and 5 MiB.
const SERVER_MAX: Usage = Usage {
    memory_kib: 32 << 10,
    descriptors: 64,
    disk_kib: 32 << 10,
};
/// The same of an agent: 4 MiB, 16 descriptors and less than 50 KiB.
const AGENT_MAX: Usage = Usage {
    memory_kib: 16 << 10,
    descriptors: 64,
    disk_kib: 1 << 10,
};

impl Usage {
    fn of(pid: u32, dir: &Path) -> Self {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let rollup = rollup.expect("the process lives");
        let line = rollup.lines().find_map(|l| l.strip_prefix("Anonymous:"));
        let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse().ok());
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
        Self {
            memory_kib: kib.expect("the kernel says how much"),
            descriptors: u64::try_from(descriptors.count()).expect("a few"),
            disk_kib: bytes_below(dir).div_ceil(1 << 10),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            memory_kib: self.memory_kib.max(other.memory_kib),
            descriptors: self.descriptors.max(other.descriptors),
            disk_kib: self.disk_kib.max(other.disk_kib),
        }
    }

    fn is_within(self, limit: Self) -> bool {
        self.memory_kib <= limit.memory_kib
            && self.descriptors <= limit.descriptors
            && self.disk_kib <= limit.disk_kib
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(
            f,
            "{:.1} MiB, {} descriptors, {:.1} MiB on disk",
            mib(self.memory_kib),
            self.descriptors,
            mib(self.disk_kib)
        )
    }
}

/// What the files below a directory hold. Those that are removed meanwhile hold nothing.
fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

/// The most that was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Peak {
    pub(crate) server: Usage,
    pub(crate) agents: Usage,
}

impl Peak {
    /// Looks, and fails if it is too much.
    pub(crate) fn look(&mut self, lab: &Lab) {
        let server = Usage::of(lab.server_pid(), &lab.server_dir());
        assert!(server.is_within(SERVER_MAX), "the server uses {server}");
        self.server = self.server.most(server);
        for host in &lab.hosts {
            let agent = Usage::of(host.agent_pid(), &host.agent_dir());
            let name = &host.name;
            assert!(
                agent.is_within(AGENT_MAX),
                "the agent of {name} uses {agent}"
            );
            self.agents = self.agents.most(agent);
        }
    }
}
