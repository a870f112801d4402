//! Bulk data, each stream over a connection of its own that the agent opens when the server asks.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_api::{
    ids::{ContainerName, InstanceId, NodeName},
    socket::{self, Incoming, Outgoing},
    wire::{Control, StreamRequest, stream_path},
};

use crate::{
    board::Board,
    dial::Dial,
    ledger::Ledger,
    reach::Reach,
    runtime::{ContainerId, Runtime},
};

mod exec;
mod files;
mod forward;
mod logs;
mod stats;

/// How many streams may be open at a time: more people than ever look at one node.
const STREAMS_MAX: usize = 64;
/// How long commands have to be told that the agent stops: Docker is asked which process each is.
const FAREWELL_WITHIN: Duration = Duration::from_secs(3);

/// A stream that the server asked for.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its id.
    pub(crate) stream: Uuid,
    /// What it is to carry.
    pub(crate) what: StreamRequest,
}

/// A stream that cannot be served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Its id.
    pub(crate) stream: Uuid,
    /// Why, for a person.
    pub(crate) reason: String,
}

/// Serves what is asked for.
pub(crate) struct Streams<D, R> {
    /// The way to the server.
    pub(crate) dial: Arc<D>,
    /// The engine.
    pub(crate) runtime: Arc<R>,
    /// Which containers an instance has.
    pub(crate) board: Arc<Board>,
    /// Which of them is the main one.
    pub(crate) ledger: Arc<Ledger>,
    /// The node's name.
    pub(crate) node: NodeName,
    /// What is asked for.
    pub(crate) requests: mpsc::Receiver<Request>,
    /// What cannot be served.
    pub(crate) failures: mpsc::Sender<Failure>,
}

/// Where a queue of requests or failures is bounded: all streams asked for at once.
pub(crate) const QUEUE_MAX: usize = STREAMS_MAX;

impl<D: Dial, R: Runtime + Reach> Streams<D, R> {
    /// Serves until `shutdown`, which cuts all streams off.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut open: JoinSet<Option<Failure>> = JoinSet::new();
        // Both waits can be cancelled: they only take from queues.
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(request) = self.requests.recv() => {
                    if open.len() < STREAMS_MAX {
                        self.open(&mut open, request, &shutdown);
                    } else {
                        let reason = format!("the node serves {STREAMS_MAX} streams already; try again later");
                        self.fail(Failure { stream: request.stream, reason });
                    }
                }
                Some(ended) = open.join_next() => match ended {
                    Ok(None) => {}
                    Ok(Some(failure)) => self.fail(failure),
                    Err(error) => tracing::error!(reason = %error, "a stream broke down"),
                },
            }
        }
        let farewells = async { while open.join_next().await.is_some() {} };
        if timeout(FAREWELL_WITHIN, farewells).await.is_err() {
            tracing::warn!("some streams do not end, and are cut off");
        }
        open.shutdown().await;
    }

    fn fail(&self, failure: Failure) {
        // Without a session to tell it to, nobody waits for the stream any more either.
        if self.failures.try_send(failure).is_err() {
            tracing::debug!("nobody could be told that a stream failed");
        }
    }

    fn open(
        &self,
        open: &mut JoinSet<Option<Failure>>,
        request: Request,
        stop: &CancellationToken,
    ) {
        let Request { stream, what } = request;
        let service = Service {
            dial: Arc::clone(&self.dial),
            runtime: Arc::clone(&self.runtime),
            board: Arc::clone(&self.board),
            ledger: Arc::clone(&self.ledger),
            node: self.node.clone(),
            stream,
            stop: stop.clone(),
        };
        open.spawn(async move {
            match Box::pin(service.until_stopped(what)).await {
                Ok(()) => None,
                Err(Trouble::CutOff(error)) => {
                    tracing::debug!(%stream, reason = %error, "a stream was cut off");
                    None
                }
                Err(Trouble::NotOpened(reason)) => Some(Failure { stream, reason }),
            }
        });
    }
}

/// What went wrong with a stream.
#[derive(Debug)]
enum Trouble {
    /// It was not opened: the server is told on the session.
    NotOpened(String),
    /// It broke off: the server saw it.
    CutOff(socket::Error),
}

impl From<socket::Error> for Trouble {
    fn from(error: socket::Error) -> Self {
        Self::CutOff(error)
    }
}

impl From<String> for Trouble {
    fn from(reason: String) -> Self {
        Self::NotOpened(reason)
    }
}

/// One stream.
struct Service<D, R> {
    dial: Arc<D>,
    runtime: Arc<R>,
    board: Arc<Board>,
    ledger: Arc<Ledger>,
    node: NodeName,
    stream: Uuid,
    /// Cancelled when the agent stops.
    stop: CancellationToken,
}

/// An open stream.
type Socket<D> = (Outgoing<<D as Dial>::Io>, Incoming<<D as Dial>::Io>);

impl<D: Dial, R: Runtime + Reach> Service<D, R> {
    /// Serves until the agent stops.
    async fn until_stopped(&self, what: StreamRequest) -> Result<(), Trouble> {
        // A command has to be told; everything else ends when it is dropped.
        if let StreamRequest::Exec { .. } = what {
            return self.serve(what).await;
        }
        let served = self.stop.run_until_cancelled(self.serve(what)).await;
        served.unwrap_or(Ok(()))
    }

    async fn serve(&self, what: StreamRequest) -> Result<(), Trouble> {
        match what {
            StreamRequest::Logs {
                instance,
                container,
                options,
            } => {
                let id = self.container(&instance, container.as_ref())?;
                let logs = self.runtime.logs(&id, &options).await;
                let logs =
                    logs.map_err(|e| format!("the log of {instance} cannot be read: {e}"))?;
                logs::send(logs, self.open().await?).await
            }
            StreamRequest::Exec {
                instance,
                container,
                options,
            } => {
                let id = self.container(&instance, container.as_ref())?;
                let exec = self.runtime.prepare(&id, &options).await;
                let exec = exec.map_err(|e| e.to_string())?;
                let socket = self.open().await?;
                exec::serve(&*self.runtime, &exec, &options, socket, &self.stop).await
            }
            StreamRequest::Forward { instance, port } => {
                let connection = forward::connect(self.address(&instance)?, port).await?;
                Ok(socket::tunnel(connection, self.open().await?).await?)
            }
            StreamRequest::ReadFiles {
                instance,
                container,
                path,
                part,
            } => {
                let id = self.container(&instance, container.as_ref())?;
                let found = self.runtime.file_info(&id, &path).await;
                let found = found.map_err(|e| e.to_string())?;
                files::read(&*self.runtime, &id, found, part, self.open().await?).await
            }
            StreamRequest::WriteFiles {
                instance,
                container,
                path,
            } => {
                let id = self.container(&instance, container.as_ref())?;
                files::write(&*self.runtime, &id, &path, self.open().await?).await
            }
            StreamRequest::Stats => {
                let cluster = *self.board.cluster.borrow();
                let machine = self.board.machine.borrow().clone();
                let usage = stats::measure(&*self.runtime, cluster, &self.node, machine).await?;
                stats::send(&usage, self.open().await?).await
            }
        }
    }

    async fn open(&self) -> Result<Socket<D>, Trouble> {
        let socket = self.dial.dial(&stream_path(self.stream)).await;
        Ok(socket::split(socket.map_err(|e| e.to_string())?))
    }

    /// A container of an instance: the one of that name, or the main one.
    fn container(
        &self,
        instance: &InstanceId,
        name: Option<&ContainerName>,
    ) -> Result<ContainerId, String> {
        let snapshot = self.board.snapshot.borrow();
        let status = snapshot.as_ref().and_then(|s| s.statuses.get(instance));
        let containers = status.map_or(&[][..], |status| &status.containers);
        let main = self.main_container(instance);
        let found = match name.or(main.as_ref()) {
            Some(name) => containers.iter().find(|container| container.name == *name),
            // It is not wanted any more, and nobody knows which one was the main one.
            None => containers.iter().rfind(|container| container.id.is_some()),
        };
        match (found, name) {
            (None, Some(name)) if !containers.is_empty() => {
                let names = containers.iter().map(|container| container.name.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                Err(format!(
                    "{instance} has no container {name}: it has {names}"
                ))
            }
            (Some(container), _) if let Some(id) = &container.id => Ok(ContainerId(id.clone())),
            _ => Err(format!(
                "{instance} has no container on its node at the moment"
            )),
        }
    }

    fn main_container(&self, instance: &InstanceId) -> Option<ContainerName> {
        let held = self.ledger.held()?;
        let assigned = held.assignment.instances.get(instance)?;
        Some(assigned.template.main()?.name.clone())
    }

    fn address(&self, instance: &InstanceId) -> Result<std::net::IpAddr, String> {
        let snapshot = self.board.snapshot.borrow();
        let status = snapshot.as_ref().and_then(|s| s.statuses.get(instance));
        status
            .and_then(|status| status.address)
            .ok_or_else(|| format!("{instance} has no address on its node: it does not run"))
    }
}

/// Says on an open stream that it did not work.
async fn fail<S>(
    (mut outgoing, incoming): (Outgoing<S>, Incoming<S>),
    why: Control,
) -> Result<(), Trouble>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    outgoing.control(&why).await?;
    Ok(outgoing.close(incoming).await?)
}

#[cfg(test)]
mod tests;
