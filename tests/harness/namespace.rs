//! Network namespaces: each is a machine's network of its own, on this machine.

use std::{
    fs::File,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps them.
const NAMESPACES: &str = "/run/netns";

/// A network namespace that has a name.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, with a loopback interface and nothing else.
    pub(crate) fn create(name: &str) -> Self {
        let namespace = Self {
            name: name.to_owned(),
        };
        run(Command::new("ip").args(["netns", "add", name]));
        run(namespace.command("ip").args(["link", "set", "lo", "up"]));
        namespace
    }

    /// Those whose name begins like that.
    pub(crate) fn with_prefix(prefix: &str) -> Vec<Self> {
        let names = std::fs::read_dir(NAMESPACES).into_iter().flatten();
        names
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .map(|name| Self { name })
            .collect()
    }

    pub(crate) fn delete(&self) {
        run(Command::new("ip").args(["netns", "delete", &self.name]));
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// A program in this namespace. Only its network is another one: with `ip netns exec` it would
    /// not see the control groups.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command.arg(program);
        command
    }

    /// Does something in a thread that is in this namespace, as are the threads that it starts.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let work = || {
            let namespace = File::open(self.path()).expect("the namespace is there");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("it can be entered, by root");
            work()
        };
        std::thread::scope(|scope| match scope.spawn(work).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
