//! A cluster with certificates: who joins, and what holds while they are renewed.

use std::{
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{PATIENCE, demo, engine, free_address, kill, windlass};

/// How long the certificates of nodes hold here: the least that the server takes.
const LIFETIME: &str = "20s";

/// A server that encrypts, and its agents. What they made is removed when this is dropped.
struct Site {
    dir: TempDir,
    address: SocketAddr,
    server: Option<Child>,
    agents: Vec<Option<Child>>,
}

impl Site {
    fn begin() -> Self {
        engine::ensure_image();
        let mut site = Self {
            dir: TempDir::new().expect("a temporary directory"),
            address: free_address(),
            server: None,
            agents: Vec::new(),
        };
        let data_dir = site.server_dir();
        let init = windlass()
            .args(["server", "init", "--data-dir"])
            .arg(&data_dir)
            .output()
            .expect("a command");
        assert!(init.status.success(), "{init:?}");
        site.start_server();
        site
    }

    fn server_dir(&self) -> PathBuf {
        self.dir.path().join("server")
    }

    fn start_server(&mut self) {
        let mut command = windlass();
        command.args(["server", "--listen", &self.address.to_string()]);
        command.args(["--node-certificate-life", LIFETIME, "--data-dir"]);
        command.arg(self.server_dir());
        self.server = Some(self.spawn(command, "server"));
        self.eventually("the server answers its owner", |site| {
            site.owner(&["get", "nodes"]).status.success()
        });
    }

    /// Runs the command that lets a machine in, or the one with which it goes on.
    fn start_agent(&mut self, index: usize, invitation: Option<&str>) {
        let name = name_of(index);
        let mut command = windlass();
        command.arg("agent");
        if let Some(invitation) = invitation {
            command.args(["join", invitation]);
        }
        command.args(["--node", &name, "--data-dir"]);
        command.arg(self.dir.path().join(&name));
        let child = self.spawn(command, &name);
        self.agents
            .resize_with(self.agents.len().max(index + 1), || None);
        self.agents[index] = Some(child);
    }

    fn spawn(&self, mut command: Command, name: &str) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(name))
            .expect("a log file");
        command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("a process")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// How often something was logged.
    fn logged(&self, name: &str, what: &str) -> usize {
        let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        log.lines().filter(|line| line.contains(what)).count()
    }

    /// A command of the server's owner, through the socket.
    fn owner(&self, args: &[&str]) -> Output {
        let socket = self.server_dir().join("windlass.sock");
        windlass()
            .args(["--server", &format!("unix:{}", socket.display())])
            .args(args)
            .output()
            .expect("a command")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.owner(args);
        assert!(
            output.status.success(),
            "{args:?}: {output:?}\n{}",
            self.story()
        );
        String::from_utf8(output.stdout).expect("text")
    }

    fn invitation(&self, more: &[&str]) -> String {
        let token = self.ok(&[&["token", "create", "--join"], more].concat());
        format!("{}@{}", token.trim(), self.address)
    }

    fn node_state(&self, index: usize) -> Option<String> {
        let list = self.owner(&["get", "nodes", "-o", "json"]).stdout;
        let list: Value = serde_json::from_slice(&list).ok()?;
        let nodes = list.as_array().or_else(|| list["items"].as_array())?;
        let name = name_of(index);
        let node = nodes.iter().find(|node| node["name"] == *name)?;
        Some(node["status"]["state"].as_str()?.to_owned())
    }

    fn wait_ready(&self, index: usize) {
        self.eventually("the node is ready", |site| {
            site.node_state(index).as_deref() == Some("Ready")
        });
    }

    fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(
                began.elapsed() < PATIENCE,
                "not so in time: {what}\n{}",
                self.story()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn story(&self) -> String {
        let names = ["server", "n1", "n2"];
        let logs = names.map(|name| std::fs::read_to_string(self.log(name)).unwrap_or_default());
        logs.join("\n---\n")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        kill(&mut self.server);
        self.agents.iter_mut().for_each(kill);
        if let Some(cluster) = engine::cluster_in(self.dir.path()) {
            engine::remove_all_of(&cluster);
        }
    }
}

/// The name of a node.
fn name_of(index: usize) -> String {
    format!("n{}", index + 1)
}

#[test]
fn nodes_join_with_tokens_and_renew_their_certificates_without_losing_a_session() {
    let mut site = Site::begin();
    for index in 0..2 {
        let invitation = site.invitation(&[]);
        site.start_agent(index, Some(&invitation));
        site.wait_ready(index);
    }
    let manifest = site.dir.path().join("web.yaml");
    std::fs::write(&manifest, demo("web", "replicas: 2")).unwrap();
    site.ok(&["apply", manifest.to_str().unwrap(), "--timeout", "60s"]);
    // Each renews its certificate when half of its time is over, and goes on speaking meanwhile.
    site.eventually("both have renewed twice", |site| {
        (0..2).all(|n| site.logged(&name_of(n), "the node has another certificate") >= 2)
    });
    assert_eq!(
        site.logged("server", "agent connected"),
        2,
        "{}",
        site.story()
    );
    assert_eq!(
        site.logged("server", "agent disconnected"),
        0,
        "{}",
        site.story()
    );
    // What they reach over connections of their own is encrypted with the certificate of now.
    let command = ["exec", "web", "--", "/windlass", "--version"];
    let said = site.ok(&command);
    assert!(said.starts_with("windlass"), "{said}");
    // So do people, as far as their role goes.
    for (role, may) in [("operator", true), ("viewer", false)] {
        let token = site.ok(&["token", "create", "--role", role]);
        let output = windlass()
            .args(command)
            .env("WINDLASS_SERVER", format!("https://{}", site.address))
            .env("WINDLASS_TOKEN", token.trim())
            .output()
            .expect("a command");
        assert_eq!(output.status.success(), may, "{role}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            said.contains("this needs the role operator"),
            !may,
            "{said}"
        );
    }
    // Started again, it needs no token; and the server, too, is found again.
    kill(&mut site.agents[0]);
    kill(&mut site.server);
    site.start_server();
    site.start_agent(0, None);
    for index in 0..2 {
        site.wait_ready(index);
    }
    let keys = std::fs::read_to_string(site.dir.path().join("n1/membership.json")).unwrap();
    assert!(keys.contains("PRIVATE KEY"));
    for name in ["server", "n1", "n2"] {
        assert_eq!(
            site.logged(name, "PRIVATE KEY") + site.logged(name, "wlj_"),
            0,
            "{name}"
        );
    }
}

#[test]
fn an_invitation_is_good_once_and_lets_nobody_take_a_nodes_place() {
    let mut site = Site::begin();
    let invitation = site.invitation(&[]);
    site.start_agent(0, Some(&invitation));
    site.wait_ready(0);
    let refused = |site: &Site, invitation: &str, node: &str| {
        let dir = site.dir.path().join("intruder");
        let output = windlass()
            .args(["agent", "join", invitation, "--node", node, "--data-dir"])
            .arg(&dir)
            .output()
            .expect("a command");
        assert!(!output.status.success(), "{output:?}");
        // What makes no sense made none.
        let _ = std::fs::remove_dir_all(dir);
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&site, &invitation, "n2");
    assert!(said.contains("not known here"), "{said}");
    let another = site.invitation(&[]);
    let said = refused(&site, &another, "n1");
    assert!(said.contains("there is a node n1 already"), "{said}");
    let cut = &another[..20];
    let said = refused(&site, &format!("{cut}@{}", site.address), "n2");
    assert!(said.contains("not complete"), "{said}");
    // The machine is replaced: the new one has a token for its place, and the old one none any more.
    let place = site.invitation(&["n1"]);
    std::fs::rename(site.dir.path().join("n1"), site.dir.path().join("old")).unwrap();
    kill(&mut site.agents[0]);
    site.start_agent(0, Some(&place));
    site.wait_ready(0);
    assert_eq!(site.node_state(0).as_deref(), Some("Ready"));
}
