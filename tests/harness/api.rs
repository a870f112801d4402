//! The API of a server, as tests read it.

use std::{
    io,
    net::SocketAddr,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::{
    WINDLASS, forget,
    http::{self, Answer},
    namespace::Namespace,
};

/// Where a server is reached.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    /// Where from, if that is not everybody's network.
    pub(crate) from: Option<Namespace>,
}

impl Api {
    pub(crate) fn get(&self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, b"")
    }

    /// Sends a request with a JSON body.
    pub(crate) fn send(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let send = || http::send(self.address, method, path, &[], body);
        match &self.from {
            Some(namespace) => namespace.inside(send),
            None => send(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs a command of the command line against it.
    pub(crate) fn windlass(&self, args: &[&str]) -> Output {
        let mut command = match &self.from {
            Some(namespace) => namespace.command(WINDLASS),
            None => Command::new(WINDLASS),
        };
        forget(&mut command);
        command
            .args(args)
            .env("WINDLASS_SERVER", self.url())
            .stdin(Stdio::null());
        command.output().expect("the command line")
    }

    /// The same, of a command that is to succeed. Returns what it printed, or what is to be said of
    /// its failure.
    pub(crate) fn done(&self, args: &[&str]) -> Result<String, String> {
        let output = self.windlass(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        match output.status.success() {
            true => Ok(out),
            false => Err(format!(
                "windlass {args:?} ended with {}\n{out}{err}",
                output.status
            )),
        }
    }

    /// The objects of a list, as JSON; none while the server does not answer.
    pub(crate) fn list(&self, resource: &str) -> Vec<Value> {
        match self.get(&format!("/v1/{resource}")) {
            Ok(answer) if answer.status == 200 => answer.json()["items"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The instances of a workload that are wanted, ordered by slot.
    pub(crate) fn instances(&self, workload: &str) -> Vec<Value> {
        let mut instances: Vec<Value> = self
            .list("instances")
            .into_iter()
            .filter(|i| i["workload"] == workload && i["goal"] != "Stop")
            .collect();
        instances.sort_by_key(|i| (i["slot"].as_u64(), i["revision"].as_u64()));
        instances
    }

    pub(crate) fn workload(&self, name: &str) -> Value {
        self.list("workloads")
            .into_iter()
            .find(|w| w["name"] == name)
            .unwrap_or_default()
    }

    /// Everything that there is, as somebody wants to read it who looks for a cause.
    pub(crate) fn story(&self) -> String {
        let mut story = String::new();
        for resource in ["workloads", "instances", "nodes", "events"] {
            for object in self.list(resource) {
                story.push_str(&format!("{resource}: {object}\n"));
            }
        }
        story
    }
}

/// The last lines of a log.
pub(crate) fn tail(path: &std::path::Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
