//! The lab: a server and hosts with Docker engines of their own, each in a network of its own, whose
//! links can be cut.
//!
//! It needs root, `ip`, `nft` and `dockerd`, and touches neither this machine's network nor its
//! engine. What a killed lab left is removed by the next one.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    PATIENCE, WINDLASS,
    api::{Api, tail},
    kill,
    namespace::Namespace,
    signal,
};

use self::{
    clock::Clock,
    host::Host,
    network::{Network, PORT},
    recorder::{Lookout, Recorder},
    site::Site,
    sweep::sweep,
};

pub(crate) mod clock;
pub(crate) mod host;
pub(crate) mod network;
pub(crate) mod recorder;
pub(crate) mod relay;
pub(crate) mod site;
pub(crate) mod slots;
pub(crate) mod sweep;

/// How soon a lab of three hosts has to be there. It takes a third of that where nothing else runs.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// For how long after its start a server declares no node lost.
const GRACE: Duration = Duration::from_secs(30);

/// A server and hosts. Everything is removed when it is dropped.
pub(crate) struct Lab {
    api: Api,
    place: Namespace,
    server: Option<Child>,
    server_started: Instant,
    /// The clock of the server, if that is not this machine's.
    pub(crate) server_clock: Option<Clock>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    recorder: Option<Recorder>,
    /// Last, so that everything is gone when somebody else takes it.
    site: Site,
}

impl Deref for Lab {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Lab {
    /// A lab of so many hosts, `h1`, `h2` and so on, whose agents are connected.
    pub(crate) fn start(hosts: usize) -> Self {
        Self::start_with(hosts, |_| {})
    }

    /// The same, with hosts that are changed before anything runs on them.
    pub(crate) fn start_with(hosts: usize, prepare: impl Fn(&mut Host)) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the lab needs root: it makes namespaces and starts engines"
        );
        let site = Site::take();
        let began = Instant::now();
        sweep(&site);
        std::fs::create_dir_all(site.dir()).expect("a directory");
        let network = Network::create(site.prefix());
        let place = network.add_server();
        let mut lab = Self {
            api: Api {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
                from: Some(place.clone()),
            },
            place,
            server: None,
            server_started: began,
            server_clock: None,
            hosts: Vec::new(),
            network,
            recorder: None,
            site,
        };
        lab.start_server();
        for number in 1..=hosts {
            let name = format!("h{number}");
            let namespace = lab.network.add_host(&name, number);
            let mut host = Host::new(&name, namespace, &lab.site);
            prepare(&mut host);
            lab.hosts.push(host);
        }
        let foreign = lab.start_hosts();
        lab.eventually("all nodes are there", Self::all_connected);
        let took = began.elapsed();
        eprintln!(
            "a lab of {hosts} hosts was there after {:.1} s",
            took.as_secs_f64()
        );
        assert!(hosts > 3 || took < UP_WITHIN, "that took too long");
        let lookouts = lab
            .hosts
            .iter()
            .zip(foreign)
            .map(|(host, foreign)| Lookout {
                host: host.name.clone(),
                data: host.data(),
                group: lab.site.group_of(&host.name),
                foreign,
            });
        lab.recorder = Some(Recorder::start(lookouts.collect()));
        lab
    }

    /// Starts all engines and agents, and on each host a container that is none of ours, whose ids
    /// are returned. Engines need the same image, not only the same tag: whatever one of them packs
    /// has an identity of its own.
    fn start_hosts(&mut self) -> Vec<String> {
        thread::scope(|scope| {
            for host in &mut self.hosts {
                scope.spawn(|| host.start_engine());
            }
        });
        let first = self.hosts.first().expect("a lab has hosts");
        first.pack_image();
        let (packed, image) = (first.name.clone(), first.save_image());
        let start = |host: &mut Host| {
            if host.name != packed {
                host.load_image(&image);
            }
            let foreign = host.run_foreign();
            host.start_agent();
            foreign
        };
        thread::scope(|scope| {
            let starting = |host| scope.spawn(|| start(host));
            let starting: Vec<_> = self.hosts.iter_mut().map(starting).collect();
            let started = starting.into_iter().map(|thread| thread.join());
            started.map(|foreign| foreign.expect("it starts")).collect()
        })
    }

    /// Whether the agents of all hosts are connected, and their nodes are ready.
    pub(crate) fn all_connected(&self) -> bool {
        let ready = |host: &Host| self.state(&host.name) == "Ready";
        let metrics = self.get("/metrics").map(|answer| answer.text());
        let connected = format!("windlass_agents_connected {}\n", self.hosts.len());
        metrics.is_ok_and(|metrics| metrics.contains(&connected)) && self.hosts.iter().all(ready)
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        self.recorder
            .as_ref()
            .expect("it is there from the start on")
    }

    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    fn server_log(&self) -> PathBuf {
        self.site.dir().join("server.log")
    }

    pub(crate) fn start_server(&mut self) {
        assert!(self.server.is_none(), "the server runs");
        let mut options = File::options();
        let log = options.create(true).append(true).open(self.server_log());
        let mut command = self.place.command(WINDLASS);
        command
            .args(["server", "--listen", &self.api.address.to_string()])
            .arg("--data-dir")
            .arg(self.server_dir())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"));
        if let Some(clock) = &self.server_clock {
            clock.give(&mut command);
        }
        self.server_started = Instant::now();
        self.server = Some(command.spawn().expect("a server"));
        self.eventually("the server answers", |lab| {
            lab.get("/readyz").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Waits until the server has run for so long that it takes silence for what it is.
    pub(crate) fn after_grace(&self) {
        let over = self.server_started + GRACE + Duration::from_secs(1);
        thread::sleep(over.saturating_duration_since(Instant::now()));
    }

    /// SIGKILL.
    pub(crate) fn kill_server(&mut self) {
        kill(&mut self.server);
    }

    pub(crate) fn suspend_server(&self) {
        signal(self.server_pid(), Signal::STOP);
    }

    pub(crate) fn resume_server(&self) {
        signal(self.server_pid(), Signal::CONT);
    }

    pub(crate) fn server_pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").id()
    }

    /// What the server keeps.
    pub(crate) fn server_dir(&self) -> PathBuf {
        self.site.dir().join("server")
    }

    pub(crate) fn host(&mut self, name: &str) -> &mut Host {
        let mut hosts = self.hosts.iter_mut();
        hosts
            .find(|host| host.name == name)
            .expect("a host of that name")
    }

    /// The state of a node, as the API says.
    pub(crate) fn state(&self, node: &str) -> String {
        let nodes = self.list("nodes");
        let found = nodes.iter().find(|found| found["name"] == node);
        let state = found.and_then(|node| node["status"]["state"].as_str());
        state.unwrap_or_default().to_owned()
    }

    /// How often something happened to a node, a workload or an instance, as events say.
    pub(crate) fn happened(&self, name: &str, reason: &str) -> u64 {
        let events = self.list("events").into_iter();
        let of_it = events.filter(|e| e["subject"]["name"] == name && e["reason"] == reason);
        of_it.filter_map(|event| event["count"].as_u64()).sum()
    }

    /// Fails if a node was ever lost, or is not known any more.
    pub(crate) fn never_lost(&self, node: &str) {
        assert_eq!(self.happened(node, "Lost"), 0, "{}", self.story());
        assert!(self.happened(node, "Joined") > 0, "{}", self.story());
    }

    /// Fails if anything was started, ended, made or removed after a moment, on any host.
    pub(crate) fn untouched_since(&self, since: Duration) {
        self.recorder().mark();
        let changes = self.recorder().changes_since(since);
        assert_eq!(changes, 0, "{}", self.story());
    }

    /// Fails if a container that is none of ours was touched: it goes on all the time, unless its
    /// engine ends, and is never removed.
    pub(crate) fn foreign_untouched(&self) {
        for host in &self.hosts {
            let starts = self.recorder().foreign_starts(&host.name);
            let allowed = 1..=1 + host.engine_ends();
            assert!(
                starts.is_some_and(|starts| allowed.contains(&starts)),
                "the container of {} that is none of ours was touched (starts: {starts:?})\n{}",
                host.name,
                self.story()
            );
        }
    }

    /// From now on it does not matter what runs on the hosts.
    pub(crate) fn give_up(&mut self) {
        self.recorder = None;
    }

    /// Runs a command beside the server that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let done = self.api.done(args);
        done.unwrap_or_else(|failure| panic!("{failure}\n{}", self.story()))
    }

    fn write(&self, yaml: &str) -> String {
        let path = self.site.dir().join("manifest.yaml");
        std::fs::write(&path, yaml).expect("a file");
        path.display().to_string()
    }

    /// Applies a manifest and waits until it has settled.
    pub(crate) fn apply(&self, yaml: &str) {
        self.ok(&["apply", "-f", &self.write(yaml)]);
    }

    /// The same without waiting.
    pub(crate) fn apply_no_wait(&self, yaml: &str) {
        self.ok(&["apply", "--no-wait", "-f", &self.write(yaml)]);
    }

    /// Waits until something holds, and fails with the lab's story if it never does.
    pub(crate) fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        self.within(PATIENCE, what, holds)
    }

    /// Waits until something holds, which must not take longer than that.
    pub(crate) fn within(
        &self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&Self) -> bool,
    ) -> Duration {
        let began = Instant::now();
        while !holds(self) {
            assert!(
                began.elapsed() < limit,
                "not so within {limit:?}: {what}\n{}",
                self.story()
            );
            thread::sleep(Duration::from_millis(50));
        }
        began.elapsed()
    }

    /// Fails if something does not hold all the time.
    pub(crate) fn always(&self, what: &str, during: Duration, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while began.elapsed() < during {
            assert!(holds(self), "not so all the time: {what}\n{}", self.story());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What somebody wants to know who looks for the cause of a failure.
    pub(crate) fn story(&self) -> String {
        let mut story = self.api.story();
        let agents = self.hosts.iter().map(Host::agent_log);
        for log in std::iter::once(self.server_log()).chain(agents) {
            story.push_str(&format!("--- {}\n{}\n", log.display(), tail(&log)));
        }
        if let Some(recorder) = &self.recorder {
            let gap = recorder.longest_gap();
            story.push_str(&format!(
                "--- what ran (seen every {gap:?} or more often)\n"
            ));
            story.push_str(&recorder.story());
        }
        story
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whatever a test is about, that holds.
        let watched = self.recorder.is_some() && !thread::panicking();
        let foreign = watched.then(|| catch_unwind(AssertUnwindSafe(|| self.foreign_untouched())));
        // Nothing of what dies now is of interest.
        self.recorder = None;
        kill(&mut self.server);
        for host in &mut self.hosts {
            host.reap();
        }
        sweep(&self.site);
        if let Some(Err(touched)) = foreign {
            resume_unwind(touched);
        }
    }
}

/// The value of a field of an object that the API returned.
pub(crate) fn text(object: &Value, pointer: &str) -> String {
    let value = object.pointer(pointer).and_then(Value::as_str);
    value.unwrap_or_default().to_owned()
}
