//! A cluster of real processes: one server, some agents, one Docker engine.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use api::{Api, tail};

pub(crate) mod api;
pub(crate) mod engine;
pub(crate) mod http;
pub(crate) mod load;
#[allow(dead_code, reason = "only the lab makes namespaces")]
pub(crate) mod namespace;
pub(crate) mod proxy;
pub(crate) mod random;

/// The binary under test.
pub(crate) const WINDLASS: &str = env!("CARGO_BIN_EXE_windlass");

/// How long anything may take that is not measured: far beyond what it takes, since machines of
/// continuous integration are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The Docker engine that agents drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Docker {
    /// The machine's, where it usually is.
    Machine,
    /// The machine's, through this socket.
    Through(String),
    /// A pretended one at this socket, of which nothing is left after the test.
    #[allow(dead_code, reason = "only tests on a pretended engine use it")]
    Pretended(String),
}

/// A server and its agents, in processes of their own. What they made is removed when this is
/// dropped, also after a failure.
pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) address: SocketAddr,
    server: Option<Child>,
    agents: Vec<(String, Option<Child>)>,
    docker: Docker,
}

impl Cluster {
    /// Starts a server and `nodes` agents, and waits until they are ready.
    pub(crate) fn start(nodes: usize) -> Self {
        Self::start_with(nodes, Docker::Machine)
    }

    /// The same, with agents that drive this engine.
    pub(crate) fn start_with(nodes: usize, docker: Docker) -> Self {
        let mut cluster = Self::at(free_address(), docker);
        cluster.start_server();
        cluster.join(nodes);
        cluster
    }

    /// Starts agents of a server that runs elsewhere, and waits until they are ready.
    #[allow(dead_code, reason = "only tests on a pretended engine use it")]
    pub(crate) fn joined_to(server: SocketAddr, nodes: usize, docker: Docker) -> Self {
        let mut cluster = Self::at(server, docker);
        cluster.join(nodes);
        cluster
    }

    /// A cluster whose server is to listen there; without nodes.
    fn at(address: SocketAddr, docker: Docker) -> Self {
        if !matches!(docker, Docker::Pretended(_)) {
            engine::ensure_image();
        }
        Self {
            dir: TempDir::new().expect("a temporary directory"),
            address,
            server: None,
            agents: Vec::new(),
            docker,
        }
    }

    /// Starts `nodes` agents, and waits until they are ready.
    fn join(&mut self, nodes: usize) {
        for n in 1..=nodes {
            self.agents.push((format!("n{n}"), None));
            self.start_agent(n - 1);
        }
        self.eventually("all nodes are ready", |cluster| {
            let ready = |node: &Value| node["status"]["state"] == "Ready";
            cluster
                .list("nodes")
                .iter()
                .filter(|node| ready(node))
                .count()
                == nodes
        });
    }

    pub(crate) fn server_dir(&self) -> PathBuf {
        self.dir.path().join("server")
    }

    pub(crate) fn start_server(&mut self) {
        assert!(self.server.is_none(), "the server runs");
        let log = self.log("server.log");
        let mut command = Command::new(WINDLASS);
        command.args(["server", "--listen", &self.address.to_string()]);
        command.arg("--data-dir").arg(self.server_dir());
        self.server = Some(
            command
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("a server"),
        );
        self.wait_for_server();
    }

    fn wait_for_server(&self) {
        self.eventually("the server answers", |cluster| {
            http::get(cluster.address, "/readyz").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Starts the server on a file system of its own of that size, with the state that it has.
    /// That is mounted in namespaces which only the server is in, so it needs no privileges, and
    /// is gone when the server is.
    pub(crate) fn start_server_on_small_disk(&mut self, size: &str) {
        assert!(self.server.is_none(), "the server runs");
        let state = self.dir.path().join("state");
        std::fs::rename(self.server_dir(), &state).expect("the state can be moved");
        std::fs::create_dir(self.server_dir()).expect("a directory");
        let script = r#"mount -t tmpfs -o size="$1" windlass-test "$2" &&
            cp -a "$3/." "$2" && exec "$4" server --listen "$5" --data-dir "$2""#;
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            size,
        ]);
        command.arg(self.server_dir()).arg(state).arg(WINDLASS);
        command.arg(self.address.to_string());
        let log = self.log("server.log");
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        self.server = Some(child.expect("`unshare`, of util-linux"));
        self.wait_for_server();
    }

    /// Lets `strace` do something to the server's system calls, as its option `inject` says, until
    /// the guard is dropped.
    pub(crate) fn inject(&self, what: &str) -> Injection {
        let server = self.server.as_ref().expect("the server runs");
        let said = self.dir.path().join("strace.log");
        let strace = Command::new("strace")
            .args(["-f", "-e", &format!("inject={what}"), "-p"])
            .arg(server.id().to_string())
            .stderr(std::fs::File::create(&said).expect("a log file"))
            .spawn()
            .expect("`strace`");
        let injection = Injection(Some(strace));
        self.eventually("strace is attached", |_| {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            assert!(!said.contains("not permitted"), "{said}");
            said.contains("attached")
        });
        injection
    }

    /// Waits until the server ends by itself, and says how.
    pub(crate) fn server_ended(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("the server runs");
        let began = Instant::now();
        loop {
            if let Some(status) = server.try_wait().expect("it can be waited for") {
                return status;
            }
            if began.elapsed() > PATIENCE {
                self.server = Some(server);
                panic!("the server runs on\n{}", self.story());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A path in the server's data directory, as the server sees it.
    pub(crate) fn path_of_server(&self, name: &str) -> PathBuf {
        let server = self.server.as_ref().expect("the server runs");
        let inside = self.server_dir().join(name);
        let inside = inside.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", server.id())).join(inside)
    }

    pub(crate) fn start_agent(&mut self, index: usize) {
        let name = self.agents[index].0.clone();
        assert!(self.agents[index].1.is_none(), "agent {name} runs");
        let mut command = Command::new(WINDLASS);
        command.args(["agent", "--node", &name, "--server", &self.url()]);
        command.arg("--data-dir").arg(self.dir.path().join(&name));
        if let Docker::Through(address) | Docker::Pretended(address) = &self.docker {
            command.args(["--docker", address]);
        }
        let log = self.log(&format!("{name}.log"));
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("an agent");
        self.agents[index].1 = Some(child);
    }

    /// SIGKILL: nothing is cleaned up, nothing is flushed.
    pub(crate) fn kill_server(&mut self) {
        kill(&mut self.server);
    }

    /// SIGKILL.
    pub(crate) fn kill_agent(&mut self, index: usize) {
        kill(&mut self.agents[index].1);
    }

    /// Whether an agent that was started has not ended.
    #[allow(dead_code, reason = "only tests on a pretended engine use it")]
    pub(crate) fn agent_runs(&mut self, index: usize) -> bool {
        let agent = self.agents[index].1.as_mut().expect("it was started");
        agent.try_wait().expect("it can be waited for").is_none()
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop_server(&mut self) {
        stop(&mut self.server);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop_agent(&mut self, index: usize) {
        stop(&mut self.agents[index].1);
    }

    pub(crate) fn url(&self) -> String {
        self.api().url()
    }

    fn log(&self, name: &str) -> std::fs::File {
        let path = self.dir.path().join(name);
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .expect("a log file")
    }

    /// Runs a command of the command line against this cluster.
    pub(crate) fn windlass(&self, args: &[&str]) -> Output {
        self.api().windlass(args)
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let done = self.api().done(args);
        done.unwrap_or_else(|failure| panic!("{failure}\n{}", self.story()))
    }

    /// Applies a manifest and waits until it has settled.
    pub(crate) fn apply(&self, yaml: &str) -> String {
        let path = self.write("manifest.yaml", yaml);
        self.ok(&["apply", "-f", path.to_str().expect("a plain path")])
    }

    /// Applies a manifest without waiting.
    pub(crate) fn apply_no_wait(&self, yaml: &str) {
        let path = self.write("manifest.yaml", yaml);
        self.ok(&[
            "apply",
            "--no-wait",
            "-f",
            path.to_str().expect("a plain path"),
        ]);
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a file in the temporary directory");
        path
    }

    fn api(&self) -> Api {
        Api {
            address: self.address,
            from: None,
        }
    }

    /// The objects of a list, as JSON.
    pub(crate) fn list(&self, resource: &str) -> Vec<Value> {
        self.api().list(resource)
    }

    /// The instances of a workload that are wanted, ordered by slot.
    pub(crate) fn instances(&self, workload: &str) -> Vec<Value> {
        self.api().instances(workload)
    }

    pub(crate) fn workload(&self, name: &str) -> Value {
        self.api().workload(name)
    }

    /// The cluster's id, which its containers carry.
    pub(crate) fn id(&self) -> String {
        let answer = http::get(self.address, "/v1/server").expect("the server answers");
        answer.json()["cluster"]
            .as_str()
            .expect("a cluster id")
            .to_owned()
    }

    /// Waits until something holds, and fails with the cluster's story if it never does.
    pub(crate) fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !holds(self) {
            assert!(
                began.elapsed() < PATIENCE,
                "not so in time: {what}\n{}",
                self.story()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        began.elapsed()
    }

    /// Fails if something does not hold all the time.
    pub(crate) fn always(&self, what: &str, during: Duration, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while began.elapsed() < during {
            assert!(holds(self), "not so all the time: {what}\n{}", self.story());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What somebody wants to know who looks for the cause of a failure.
    fn story(&self) -> String {
        let mut story = self.api().story();
        let logs = std::iter::once("server".to_owned());
        for name in logs.chain(self.agents.iter().map(|(name, _)| name.clone())) {
            let path = self.dir.path().join(format!("{name}.log"));
            story.push_str(&format!("--- {name}.log\n{}\n", tail(&path)));
        }
        story
    }
}

/// An `strace` that is attached to the server.
pub(crate) struct Injection(Option<Child>);

impl Drop for Injection {
    fn drop(&mut self) {
        // Killed, it would leave the server stopped.
        if let Some(strace) = &self.0 {
            signal(strace.id(), rustix::process::Signal::TERM);
        }
        if let Some(mut strace) = self.0.take() {
            strace.wait().expect("a process of ours can be waited for");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let id = http::get(self.address, "/v1/server")
            .ok()
            .and_then(|answer| answer.json()["cluster"].as_str().map(str::to_owned));
        kill(&mut self.server);
        for (_, agent) in &mut self.agents {
            kill(agent);
        }
        if matches!(self.docker, Docker::Pretended(_)) {
            return;
        }
        let id = id.or_else(|| engine::cluster_in(self.dir.path()));
        if let Some(id) = id {
            engine::remove_all_of(&id);
        }
    }
}

/// The command line, which knows nothing of whoever runs the tests.
pub(crate) fn windlass() -> Command {
    let mut command = Command::new(WINDLASS);
    forget(&mut command);
    command
}

/// Lets a command know nothing of whoever runs the tests.
pub(crate) fn forget(command: &mut Command) {
    for variable in ["SERVER", "NAMESPACE", "CONTEXT", "TOKEN"] {
        command.env_remove(format!("WINDLASS_{variable}"));
    }
}

/// Kills a process with SIGKILL and reaps it.
pub(crate) fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().expect("a process of ours can be killed");
        child.wait().expect("a process of ours can be waited for");
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("a process of ours can be signalled");
}

fn stop(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        signal(child.id(), rustix::process::Signal::TERM);
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                assert!(status.success(), "it ended with {status}");
                return;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end on SIGTERM");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

/// A manifest of the demo workload, with further fields of its spec.
pub(crate) fn demo(name: &str, fields: &str) -> String {
    format!(
        "kind: Service\nname: {name}\nspec:\n  image: {}\n  args: [demo]\n  \
         imagePullPolicy: Never\n  stopGracePeriod: 5s\n{}\n",
        engine::IMAGE,
        fields
            .lines()
            .map(|line| format!("  {line}\n"))
            .collect::<String>(),
    )
}

/// A manifest whose containers do a chore.
pub(crate) fn chore(kind: &str, name: &str, args: &str, fields: &str) -> String {
    let fields: String = fields.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "kind: {kind}\nname: {name}\nspec:\n  image: {}\n  imagePullPolicy: Never\n  \
         args: [chore, {args}]\n{fields}",
        engine::IMAGE
    )
}
