//! What people who reach into containers need of a container engine: interactive commands, files,
//! and what containers use. [`crate::runtime`] is what the agent itself needs.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncWrite;
use windlass_api::{
    ids::{InstanceId, Namespace},
    wire::{Channel, ExecOptions, FileInfo, SignalName, TerminalSize},
};

use crate::runtime::{BoxStream, ContainerId, Owner, Result};

/// The engine's id of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecId(pub String);

/// A command that runs. Dropping it closes its input; it does not end it.
pub struct Running {
    /// Where its input goes. Shutting it down ends the input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it writes, until it ends.
    pub output: BoxStream<Output>,
}

/// A piece of what a command wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where to.
    pub channel: Channel,
    /// What: at most 32 KiB.
    pub bytes: Bytes,
}

/// What a container has used since it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumption {
    /// The container.
    pub id: ContainerId,
    /// Its instance.
    pub instance: InstanceId,
    /// The namespace.
    pub namespace: Namespace,
    /// CPU time, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory at the moment, without what the kernel can take back, in bytes.
    pub memory_bytes: u64,
    /// What came over its network, in bytes.
    pub received_bytes: u64,
    /// What went over its network, in bytes.
    pub sent_bytes: u64,
}

/// An archive on its way into a container; an error in it breaks the writing off.
pub type Archive = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A container engine, for reaching into containers. Every call but [`Reach::write_files`], which
/// takes as long as its archive, has a time limit of its own.
pub trait Reach: Send + Sync + 'static {
    /// Makes ready to run a command. Fails if the container does not run.
    fn prepare(
        &self,
        id: &ContainerId,
        options: &ExecOptions,
    ) -> impl Future<Output = Result<ExecId>> + Send;

    /// Runs a command that was prepared with these options.
    fn begin(
        &self,
        exec: &ExecId,
        options: &ExecOptions,
    ) -> impl Future<Output = Result<Running>> + Send;

    /// Changes the size of a command's terminal.
    fn resize(&self, exec: &ExecId, size: TerminalSize) -> impl Future<Output = Result<()>> + Send;

    /// Sends a command a signal. Content if it has ended.
    fn signal(&self, exec: &ExecId, signal: SignalName) -> impl Future<Output = Result<()>> + Send;

    /// The exit code of a command, or `None` while it runs.
    fn exit_code(&self, exec: &ExecId) -> impl Future<Output = Result<Option<i64>>> + Send;

    /// What is at a path of a container, and where that is once symbolic links are followed. `None`
    /// if there is nothing.
    fn file_info(
        &self,
        id: &ContainerId,
        path: &str,
    ) -> impl Future<Output = Result<Option<(FileInfo, String)>>> + Send;

    /// A file or folder of a container, as a tar archive.
    fn read_files(
        &self,
        id: &ContainerId,
        path: &str,
    ) -> impl Future<Output = Result<BoxStream<Bytes>>> + Send;

    /// Unpacks a tar archive in a folder of a container.
    fn write_files(
        &self,
        id: &ContainerId,
        path: &str,
        archive: Archive,
    ) -> impl Future<Output = Result<()>> + Send;

    /// What the containers of `owner` that run have used.
    fn consumption(&self, owner: &Owner) -> impl Future<Output = Result<Vec<Consumption>>> + Send;
}
