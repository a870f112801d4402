//! What the agent needs of a container engine. [`crate::docker`] is the real one; tests have one
//! in memory.

use std::{collections::BTreeSet, future::Future, net::IpAddr, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;
use tokio::sync::oneshot;
use windlass_api::{
    duration::Span,
    ids::{ClusterId, InstanceId, Namespace, NodeName, RevisionNumber, VolumeName},
    image::ImageRef,
    resource::Capacity,
    spec::PreStop,
    status::Exit,
    wire::{AssignedInstance, LogOptions},
};

mod part;

pub use part::{Part, StopRank, shares_network};

/// Whose containers are meant: an agent sees and touches only those that carry its cluster's and
/// node's labels, since several agents can share one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeName,
}

/// What an engine says of itself and its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// The engine's own id; agents that share an engine see the same.
    pub id: String,
    /// The engine's version.
    pub version: String,
    /// The operating system (`linux`).
    pub os: String,
    /// The processor architecture (`x86_64`).
    pub arch: String,
    /// The machine's size.
    pub capacity: Capacity,
}

/// A container of ours, as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id of it.
    pub id: ContainerId,
    /// The instance that it belongs to, from its labels.
    pub instance: InstanceId,
    /// Which of the instance's containers it is, from its labels.
    pub part: Part,
    /// The namespace, from its labels.
    pub namespace: Namespace,
    /// The revision, from its labels.
    pub revision: RevisionNumber,
    /// The id of its image.
    pub image_id: String,
    /// The digest under which a registry has that image, if it came from one.
    pub image_digest: Option<String>,
    /// Its address on the node's network, while it runs; the pause container has that of all
    /// that share its network.
    pub address: Option<IpAddr>,
    /// How long it may take to stop, as it was created with.
    pub stop_grace: Span,
    /// When it is stopped in comparison with the others of its instance.
    pub stop_rank: StopRank,
    /// What is done before it is asked to stop, with ports as numbers.
    pub pre_stop: Option<PreStop>,
    /// The volumes of its instance.
    pub volumes: Vec<VolumeName>,
    /// What its image's own health check says, while it runs and has one.
    pub healthcheck: Option<Healthcheck>,
    /// Its state.
    pub state: ContainerState,
}

/// What the health check of an image says, which the engine makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// It has not passed yet, and not failed too often.
    Starting,
    /// It passes.
    Healthy,
    /// It failed too often in a row.
    Unhealthy {
        /// How its last command ended.
        exit_code: i64,
        /// What that wrote; at most the 4 kB that the engine keeps of it.
        output: String,
    },
}

impl Container {
    /// When it was started, if it ever was.
    #[must_use]
    pub fn run(&self) -> Option<Timestamp> {
        match &self.state {
            ContainerState::Running { started_at } | ContainerState::Exited { started_at, .. } => {
                Some(*started_at)
            }
            ContainerState::Created | ContainerState::Removing => None,
        }
    }
}

/// The engine's id of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// It as people see it, in the engine's own lists.
    #[must_use]
    pub fn short(&self) -> &str {
        const CHARS: usize = 12;
        &self.0[..self.0.floor_char_boundary(CHARS)]
    }
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It exists and was never started.
    Created,
    /// It runs (or is paused, which somebody else did and we leave alone).
    Running {
        /// When it was started.
        started_at: Timestamp,
    },
    /// It ran, and ended.
    Exited {
        /// When it was started.
        started_at: Timestamp,
        /// How it ended.
        exit: Exit,
    },
    /// The engine is removing it, or failed to.
    Removing,
}

/// Why the engine did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind, which decides what is done about it.
    pub kind: ErrorKind,
    /// What happened, for people; it names the image, port or path.
    pub message: String,
}

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The engine did not answer (in time). Nothing is known about the effect.
    Unreachable,
    /// The image is not there: not on the node, or not in its registry.
    ImageMissing,
    /// The registry did not let us in.
    Unauthorized,
    /// The registry did not deliver: network, time-out, stall.
    PullFailed,
    /// A host port is taken.
    PortTaken,
    /// The node has another image under the name than the one that is meant.
    OtherImage,
    /// The name is taken by a container that is not ours.
    NameTaken,
    /// The container is not there.
    NoSuchContainer,
    /// The container is being removed, and goes away by itself when the engine has done so.
    BeingRemoved,
    /// There is no such file or folder in the container.
    NoSuchFile,
    /// The disk is full.
    NoSpace,
    /// The container cannot start as it is described: no such program, user or directory.
    Invalid,
    /// Anything else.
    Other,
}

/// The result of a call to the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// A stream that a call returns.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutcome {
    /// It ended.
    Exited {
        /// Its exit code.
        code: i64,
        /// The end of what it wrote.
        output: ExecOutput,
    },
    /// It did not end within its time. It may go on.
    TimedOut {
        /// The end of what it wrote until then.
        output: ExecOutput,
    },
}

/// The end of what a command wrote to standard output and error: at most [`Self::BYTES_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput(Vec<u8>);

impl ExecOutput {
    /// How much of it is kept: some lines for people.
    pub const BYTES_MAX: usize = 1024;

    /// Takes more of it; keeps the end.
    pub fn push(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(Self::BYTES_MAX)..];
        let surplus = (self.0.len() + new.len()).saturating_sub(Self::BYTES_MAX);
        self.0.drain(..surplus);
        self.0.extend_from_slice(new);
    }

    /// It as text, where what is no text is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// A container engine. Every call has a time limit of its own; each is idempotent as described.
pub trait Runtime: Send + Sync + 'static {
    /// What the engine says of itself. Also the check whether it answers.
    fn info(&self) -> impl Future<Output = Result<EngineInfo>> + Send;

    /// The containers of `owner`, in any state.
    fn list(&self, owner: &Owner) -> impl Future<Output = Result<Vec<Container>>> + Send;

    /// The names (with tags) of the images that the engine has.
    fn images(&self) -> impl Future<Output = Result<BTreeSet<String>>> + Send;

    /// The id of an image, if the engine has it.
    fn image_id(&self, image: &ImageRef) -> impl Future<Output = Result<Option<String>>> + Send;

    /// Pulls an image with the credentials of the machine's Docker configuration. Fails if no
    /// progress is made for two minutes.
    fn pull(&self, image: &ImageRef) -> impl Future<Output = Result<()>> + Send;

    /// Creates a container of an instance under its deterministic name: on the network of its
    /// namespace, or on that of the instance's pause container. Network, volumes and the image of
    /// pause containers are made if needed. `image` is what to run in place of what the template
    /// says. Content with a container of that name that carries the labels of this one: then
    /// returns that one.
    fn create(
        &self,
        owner: &Owner,
        instance: &AssignedInstance,
        part: &Part,
        image: Option<&ImageRef>,
    ) -> impl Future<Output = Result<ContainerId>> + Send;

    /// Starts a container. Content if it runs.
    fn start(&self, id: &ContainerId) -> impl Future<Output = Result<()>> + Send;

    /// Asks a container to stop, and kills it after `grace`. Content if it does not run or exist,
    /// or is being removed.
    fn stop(&self, id: &ContainerId, grace: Span) -> impl Future<Output = Result<()>> + Send;

    /// Removes a container that does not run, with its anonymous volumes. Content if there is none,
    /// but not if it is still being removed: that may take long, and is not to be asked for all the
    /// time.
    fn remove(&self, id: &ContainerId) -> impl Future<Output = Result<()>> + Send;

    /// Removes volumes of an instance. Content with those that are not there.
    fn remove_volumes(
        &self,
        owner: &Owner,
        namespace: &Namespace,
        instance: &InstanceId,
        volumes: &[VolumeName],
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes the volumes of `owner` that belong to none of these instances and that no
    /// container uses.
    fn prune_volumes(
        &self,
        owner: &Owner,
        keep: &BTreeSet<InstanceId>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes the networks of `owner` that belong to none of these namespaces and that no
    /// container uses.
    fn prune_networks(
        &self,
        owner: &Owner,
        keep: &BTreeSet<Namespace>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The output of a container.
    fn logs(
        &self,
        id: &ContainerId,
        options: &LogOptions,
    ) -> impl Future<Output = Result<BoxStream<Bytes>>> + Send;

    /// Runs a command in a container, and waits for its end for at most `within`. Sends or drops
    /// `begun` when the command has begun: starting it is work for the machine, running it is not.
    fn exec(
        &self,
        id: &ContainerId,
        command: &[String],
        within: Duration,
        begun: oneshot::Sender<()>,
    ) -> impl Future<Output = Result<ExecOutcome>> + Send;

    /// Tells of containers of `owner` (by engine id) whose state may have changed. The stream ends or fails when
    /// the engine goes away, which says nothing about the containers.
    fn events(&self, owner: &Owner) -> impl Future<Output = Result<BoxStream<ContainerId>>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_kept() {
        let mut output = ExecOutput::default();
        output.push(b"first ");
        output.push(&[b'x'; ExecOutput::BYTES_MAX - 2]);
        output.push(b"\xffz");
        let text = output.text();
        assert!(
            text.starts_with('x') && text.ends_with("x\u{fffd}z"),
            "{text}"
        );
        assert_eq!(output.0.len(), ExecOutput::BYTES_MAX);
        output.push(&[b'y'; 3 * ExecOutput::BYTES_MAX]);
        assert_eq!(output.text(), "y".repeat(ExecOutput::BYTES_MAX));
    }
}
