//! A host of the lab: a network of its own, and in it a Docker engine and an agent.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    PATIENCE, WINDLASS,
    engine::IMAGE,
    kill,
    namespace::{Namespace, run},
    signal,
};

use super::{clock::Clock, network::PORT, site::Site};

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) namespace: Namespace,
    dir: PathBuf,
    /// The control group of its containers.
    group: String,
    engine: Option<Child>,
    /// How often the engine has ended: what it ran may have ended with it.
    engine_ends: usize,
    agent: Option<Child>,
    /// The clock of the agent, if that is not this machine's.
    pub(crate) clock: Option<Clock>,
}

/// What the engine of a host is to do otherwise. Before version 23 all engines of a machine were the
/// same one by their identity, unless told where to keep it.
fn settings(dir: &Path) -> Value {
    let output = Command::new("dockerd").arg("--version").output();
    let said = output.expect("`dockerd`").stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let mut words = said.split(|c: char| !c.is_ascii_digit());
    let version = words.find_map(|word| word.parse::<u32>().ok());
    match version.expect("a version") {
        ..23 => json!({ "deprecated-key-path": dir.join("key.json") }),
        23.. => json!({}),
    }
}

impl Host {
    /// A host, on which nothing runs.
    pub(crate) fn new(name: &str, namespace: Namespace, site: &Site) -> Self {
        let dir = site.dir().join(name);
        fs::create_dir_all(dir.join("data")).expect("a directory");
        // A file of this machine's own engine would otherwise be read.
        let settings = settings(&dir).to_string();
        fs::write(dir.join("daemon.json"), settings).expect("a file");
        Self {
            name: name.to_owned(),
            namespace,
            dir,
            group: format!("/{}/{name}", site.group()),
            engine: None,
            engine_ends: 0,
            agent: None,
            clock: None,
        }
    }

    /// What the engine keeps.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The state of the agent.
    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.dir.join("agent")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    pub(crate) fn docker(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn log(&self, name: &str) -> File {
        let path = self.dir.join(name);
        let mut options = File::options();
        options
            .create(true)
            .append(true)
            .open(path)
            .expect("a log file")
    }

    pub(crate) fn agent_log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Starts the engine and waits until it answers.
    pub(crate) fn start_engine(&mut self) {
        assert!(self.engine.is_none(), "the engine runs");
        let mut command = self.namespace.command("dockerd");
        let at = |flag: &str, path: PathBuf| format!("{flag}={}", path.display());
        command
            .arg(at("--config-file", self.dir.join("daemon.json")))
            .arg(at("--data-root", self.data()))
            .arg(at("--exec-root", self.dir.join("exec")))
            .arg(at("--pidfile", self.dir.join("docker.pid")))
            .arg(format!("--host={}", self.docker()))
            .arg(format!("--cgroup-parent={}", self.group))
            .arg("--exec-opt=native.cgroupdriver=cgroupfs");
        // One that was killed leaves it.
        let _ = fs::remove_file(self.dir.join("docker.pid"));
        let log = self.log("dockerd.log");
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        self.engine = Some(child.expect("`dockerd`"));
        let began = Instant::now();
        while !self.engine_answers() {
            assert!(
                began.elapsed() < PATIENCE,
                "the engine of {} does not answer, see {}",
                self.name,
                self.dir.join("dockerd.log").display()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn engine_answers(&self) -> bool {
        self.ask("GET", "/_ping", &[])
            .is_ok_and(|(status, _)| status == 200)
    }

    /// Asks the engine, behind the agent's back. Returns the status, and what came with it.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let kind = if body.first() == Some(&b'{') {
            "json"
        } else {
            "x-tar"
        };
        let head = format!(
            "{method} {path} HTTP/1.0\r\ncontent-type: application/{kind}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&answer[..end]);
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        answer.drain(..end + 4);
        Ok((status, answer))
    }

    /// Makes the image that tests run, as a user would who has no registry.
    pub(crate) fn pack_image(&self) {
        run(Command::new(WINDLASS).args(["pack", "--tag", IMAGE, "--docker", &self.docker()]));
    }

    /// An image of the engine's, to be loaded into another one.
    pub(crate) fn save_image(&self) -> Vec<u8> {
        let saved = self.ask("GET", &format!("/images/{IMAGE}/get"), &[]);
        let (status, image) = saved.expect("the engine answers");
        assert_eq!(status, 200);
        image
    }

    pub(crate) fn load_image(&self, image: &[u8]) {
        let loaded = self.ask("POST", "/images/load?quiet=1", image);
        let (status, answer) = loaded.expect("the engine answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }

    /// Runs a container that is none of ours. The engine starts it again if it ends. Returns its id.
    pub(crate) fn run_foreign(&self) -> String {
        let body = json!({
            "Image": IMAGE, "Cmd": ["demo"],
            "HostConfig": { "NetworkMode": "none", "RestartPolicy": { "Name": "always" } },
        });
        let path = "/containers/create?name=foreign";
        let made = self.ask("POST", path, body.to_string().as_bytes());
        let (status, answer) = made.expect("the engine answers");
        let answer: Value = serde_json::from_slice(&answer).expect("an object");
        assert_eq!(status, 201, "{answer}");
        let id = answer["Id"].as_str().expect("an id").to_owned();
        let started = self.ask("POST", &format!("/containers/{id}/start"), &[]);
        let (status, answer) = started.expect("the engine answers");
        assert_eq!(status, 204, "{}", String::from_utf8_lossy(&answer));
        id
    }

    /// How often the engine has ended.
    pub(crate) fn engine_ends(&self) -> usize {
        self.engine_ends
    }

    /// SIGTERM: the engine stops its containers and ends.
    pub(crate) fn stop_engine(&mut self) {
        self.engine_ends += 1;
        let mut engine = self.engine.take().expect("the engine runs");
        signal(engine.id(), Signal::TERM);
        engine.wait().expect("a process of ours can be waited for");
    }

    /// SIGKILL: what runs runs on, until the engine is started again and does not know it.
    pub(crate) fn kill_engine(&mut self) {
        self.engine_ends += 1;
        kill(&mut self.engine);
    }

    /// Suspends the engine: it hangs, and what runs runs on.
    pub(crate) fn suspend_engine(&self) {
        signal(self.engine_pid(), Signal::STOP);
    }

    pub(crate) fn resume_engine(&self) {
        signal(self.engine_pid(), Signal::CONT);
    }

    fn engine_pid(&self) -> u32 {
        self.engine.as_ref().expect("the engine runs").id()
    }

    pub(crate) fn start_agent(&mut self) {
        assert!(self.agent.is_none(), "the agent of {} runs", self.name);
        let mut command = self.namespace.command(WINDLASS);
        command
            .args(["agent", "--node", &self.name, "--docker", &self.docker()])
            .args(["--server", &format!("http://127.0.0.1:{PORT}")])
            .arg("--data-dir")
            .arg(self.agent_dir());
        if let Some(clock) = &self.clock {
            clock.give(&mut command);
        }
        let log = self.log("agent.log");
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        self.agent = Some(child.expect("an agent"));
    }

    /// SIGKILL.
    pub(crate) fn kill_agent(&mut self) {
        kill(&mut self.agent);
    }

    pub(crate) fn suspend_agent(&self) {
        signal(self.agent_pid(), Signal::STOP);
    }

    pub(crate) fn resume_agent(&self) {
        signal(self.agent_pid(), Signal::CONT);
    }

    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.as_ref().expect("the agent runs").id()
    }

    /// Reaps what ended without us.
    pub(crate) fn reap(&mut self) {
        kill(&mut self.agent);
        kill(&mut self.engine);
    }
}
