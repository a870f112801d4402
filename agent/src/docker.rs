//! The Docker engine as a [`Runtime`].
//!
//! Nothing outside this module knows the engine's API. Each call has a time limit, and every
//! error says what was tried; see [`crate::runtime`] for what the calls promise.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{
    models::ContainerCreateBody,
    query_parameters::{
        CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
        ListImagesOptions, RemoveContainerOptionsBuilder, StartContainerOptions,
        StopContainerOptionsBuilder,
    },
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;
use windlass_api::{
    clock,
    duration::Span,
    ids::{InstanceId, Namespace, VolumeName},
    image::ImageRef,
    quantity::{CpuMillis, MemoryBytes},
    resource::Capacity,
    wire::{AssignedInstance, LogOptions},
};

use crate::runtime::{
    BoxStream, Container, ContainerId, EngineInfo, Error, ErrorKind, ExecOutcome, Owner, Part,
    Result, Runtime, shares_network,
};
use containers::{Inspected, Listed};
use digests::Digests;
use engine::{CHANGE_WITHIN, Engine, READ_WITHIN};
use inspections::{Inspections, Lookup};
use networks::Networks;
use pause::Pause;
use payload::Network;

mod containers;
mod credentials;
mod digests;
mod engine;
mod error;
mod events;
mod exec;
mod inspections;
mod logs;
mod names;
mod networks;
mod pack;
mod pause;
mod payload;
mod pull;
mod reach;
mod volumes;

pub use pack::PackOutcome;

/// How much longer than its grace period a container may take to stop: to be killed and reaped.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// How many containers are read at a time: enough to read 200 in a fraction of a second.
const READS_AT_ONCE: usize = 8;

/// A Docker engine on this machine. An agent has its own, since it keeps what it read of the
/// containers that it lists.
#[derive(Debug, Clone)]
pub struct Docker {
    engine: Arc<Engine>,
    inspections: Arc<Mutex<Inspections>>,
    digests: Arc<Digests>,
    networks: Arc<Networks>,
    pause: Arc<Pause>,
}

impl Docker {
    /// An engine at `address` (`unix:///path` or a path), or where `DOCKER_HOST` says, or at the
    /// usual socket. It need not answer yet, nor be there.
    ///
    /// # Errors
    /// If the address is not that of a socket on this machine.
    pub fn new(address: Option<&str>) -> Result<Self> {
        Ok(Self {
            engine: Arc::new(Engine::new(address)?),
            inspections: Arc::default(),
            digests: Arc::default(),
            networks: Arc::default(),
            pause: Arc::default(),
        })
    }

    /// The same engine, with pause containers that run `executable` with these arguments in place
    /// of this program's `pause`. It may need no more shared objects than this process has.
    #[must_use]
    pub fn pausing_with(self, executable: &Path, command: &[&str]) -> Self {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        Self {
            pause: Arc::new(Pause::new(executable.to_owned(), command)),
            ..self
        }
    }

    /// An engine that answers.
    ///
    /// # Errors
    /// In one line: the socket that was tried, and what to do.
    pub async fn connect(address: Option<&str>) -> Result<Self> {
        let docker = Self::new(address)?;
        docker.engine.client().await?;
        Ok(docker)
    }

    /// What there is to know of a listed container, read if it is not known. `None` if it went
    /// away.
    async fn inspect(&self, id: &ContainerId, lookup: Lookup) -> Result<Option<Inspected>> {
        let ticket = match lookup {
            Lookup::Known(inspected) => return Ok(Some(inspected)),
            Lookup::Needed(ticket) => ticket,
        };
        let client = self.engine.client().await?;
        let inspect = client.inspect_container(&id.0, None::<InspectContainerOptions>);
        let doing = format!("read container {}", id.short());
        match self.engine.call(&doing, READ_WITHIN, inspect).await {
            Ok(response) => {
                let inspected = containers::inspected(&response).ok_or_else(|| Error {
                    kind: ErrorKind::Other,
                    message: format!("docker does not tell the state of container {}", id.short()),
                })?;
                self.inspections().store(id, ticket, inspected.clone());
                Ok(Some(inspected))
            }
            Err(error) if error.kind == ErrorKind::NoSuchContainer => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The container of that name, if it is that of this instance.
    async fn adopt(&self, name: &str, wanted: &HashMap<String, String>) -> Result<ContainerId> {
        let client = self.engine.client().await?;
        let inspect = client.inspect_container(name, None::<InspectContainerOptions>);
        let doing = format!("read container {name}");
        let found = self.engine.call(&doing, READ_WITHIN, inspect).await?;
        let labels = found.config.and_then(|c| c.labels).unwrap_or_default();
        let ours = [
            names::CLUSTER,
            names::NODE,
            names::NAMESPACE,
            names::INSTANCE,
            names::CONTAINER,
        ];
        match found.id {
            Some(id) if ours.iter().all(|key| labels.get(*key) == wanted.get(*key)) => {
                Ok(ContainerId(id))
            }
            _ => Err(Error {
                kind: ErrorKind::NameTaken,
                message: format!(
                    "the container name {name} is taken by a container that is not ours: \
                     rename or remove it"
                ),
            }),
        }
    }

    /// Creates a container, or takes over the one of that name that has its labels.
    async fn create_named(&self, name: &str, body: ContainerCreateBody) -> Result<ContainerId> {
        let labels = body.labels.clone().unwrap_or_default();
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let client = self.engine.client().await?;
        // Boxed, since it holds the whole payload.
        let create = Box::pin(client.create_container(Some(options), body));
        match self
            .engine
            .call("create the container", CHANGE_WITHIN, create)
            .await
        {
            Ok(created) => Ok(ContainerId(created.id)),
            Err(error) if error.kind == ErrorKind::NameTaken => self.adopt(name, &labels).await,
            Err(error) => Err(error),
        }
    }

    /// Creates the pause container of an instance, and its image if somebody removed that.
    async fn create_pause(
        &self,
        owner: &Owner,
        instance: &AssignedInstance,
    ) -> Result<ContainerId> {
        let namespace = &instance.workload.namespace;
        let bridge = self.networks.ensure(&self.engine, owner, namespace).await?;
        let name = names::container(owner, instance, &Part::Pause);
        let create = async || {
            let image = self.pause.image(self).await?;
            let program = (image, self.pause.command());
            let body = payload::pause(owner, instance, program, &bridge);
            self.create_named(&name, body).await
        };
        match create().await {
            Err(error) if error.kind == ErrorKind::ImageMissing => {
                self.pause.forget().await;
                create().await
            }
            result => result,
        }
    }

    async fn start_once(&self, id: &ContainerId) -> Result<()> {
        let client = self.engine.client().await?;
        let start = client.start_container(&id.0, None::<StartContainerOptions>);
        let result = self
            .engine
            .call("start the container", CHANGE_WITHIN, start)
            .await;
        self.inspections().mark(id);
        result
    }

    /// Makes the network of a container again, which somebody removed while nothing ran in it.
    async fn restore_network(&self, id: &ContainerId) -> Result<()> {
        let client = self.engine.client().await?;
        let inspect = client.inspect_container(&id.0, None::<InspectContainerOptions>);
        let doing = format!("read container {}", id.short());
        let found = self.engine.call(&doing, READ_WITHIN, inspect).await?;
        let labels = found.config.and_then(|c| c.labels).unwrap_or_default();
        if let Some((owner, namespace)) = names::owner_and_namespace(&labels) {
            // Docker names it by its name or by its id.
            let network = names::network(&owner, &namespace);
            tracing::warn!(network, "a network of ours is gone; making it again");
            self.networks.forget(&network);
            self.networks
                .ensure(&self.engine, &owner, &namespace)
                .await?;
        }
        Ok(())
    }

    fn inspections(&self) -> MutexGuard<'_, Inspections> {
        // Nothing panics while it is held, and at worst something is read once more.
        self.inspections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Warns, once for each, of containers that look like ours and are not.
    fn warn_of(&self, not_ours: &[(String, containers::NotOurs)]) {
        let ids = not_ours.iter().map(|(id, _)| id.clone()).collect();
        let new = self.inspections().note_not_ours(ids);
        for (id, why) in not_ours.iter().filter(|(id, _)| new.contains(id)) {
            tracing::warn!(container = id, %why, "a container has our labels and is left alone");
        }
    }
}

impl Runtime for Docker {
    async fn info(&self) -> Result<EngineInfo> {
        let info = self.engine.client().await?.info();
        let info = self
            .engine
            .call("ask docker for its state", READ_WITHIN, info)
            .await?;
        let amount = |value: Option<i64>| u64::try_from(value.unwrap_or_default()).unwrap_or(0);
        Ok(EngineInfo {
            id: info.id.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            os: info.os_type.unwrap_or_default(),
            arch: info.architecture.unwrap_or_default(),
            capacity: Capacity {
                cpu: CpuMillis(amount(info.ncpu) * 1000),
                memory: MemoryBytes(amount(info.mem_total)),
            },
        })
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Container>> {
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&names::owner_filter(owner))
            .build();
        let list = self.engine.client().await?.list_containers(Some(options));
        let summaries = self
            .engine
            .call("list containers", READ_WITHIN, list)
            .await?;
        let (mut listed, mut not_ours) = (Vec::new(), Vec::new());
        for summary in summaries {
            match Listed::read(owner, &summary) {
                Ok(container) => listed.push(container),
                Err(why) => not_ours.push((summary.id.unwrap_or_default(), why)),
            }
        }
        self.warn_of(&not_ours);
        self.digests.learn(&self.engine, &listed).await;
        let lookups = self.inspections().look_up(&listed);
        stream::iter(listed.into_iter().zip(lookups))
            .map(|(listed, lookup)| async move {
                let inspected = self.inspect(&listed.id, lookup).await?;
                let digest = self.digests.of(&listed.image_id, &listed.image);
                Ok(inspected.map(|inspected| Container {
                    image_digest: digest,
                    ..listed.with_state(inspected)
                }))
            })
            .buffered(READS_AT_ONCE)
            .try_filter_map(|container| async { Ok(container) })
            .try_collect()
            .await
    }

    async fn images(&self) -> Result<BTreeSet<String>> {
        let list = self
            .engine
            .client()
            .await?
            .list_images(None::<ListImagesOptions>);
        let images = self.engine.call("list images", READ_WITHIN, list).await?;
        let tags = images.into_iter().flat_map(|image| image.repo_tags);
        Ok(tags.filter(|tag| tag != "<none>:<none>").collect())
    }

    async fn image_id(&self, image: &ImageRef) -> Result<Option<String>> {
        let inspect = self.engine.client().await?.inspect_image(image.as_str());
        let doing = format!("look for image {image}");
        match self.engine.call(&doing, READ_WITHIN, inspect).await {
            Ok(found) => Ok(found.id),
            Err(error) if error.kind == ErrorKind::ImageMissing => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(&self, image: &ImageRef) -> Result<()> {
        pull::pull(&self.engine, image).await
    }

    async fn create(
        &self,
        owner: &Owner,
        instance: &AssignedInstance,
        part: &Part,
        image: Option<&ImageRef>,
    ) -> Result<ContainerId> {
        let name = match part {
            Part::Pause => return self.create_pause(owner, instance).await,
            Part::Named(name) => name,
        };
        let container = instance.template.container(name).ok_or_else(|| Error {
            kind: ErrorKind::Invalid,
            message: format!("{} has no container `{name}`", instance.id),
        })?;
        volumes::ensure(&self.engine, owner, instance, container).await?;
        let id = if shares_network(&instance.template) {
            let pause = names::container(owner, instance, &Part::Pause);
            let network = Network::Shared(&pause);
            let body = payload::payload(owner, instance, container, image, network);
            self.create_named(&names::container(owner, instance, part), body)
                .await?
        } else {
            let namespace = &instance.workload.namespace;
            let bridge = self.networks.ensure(&self.engine, owner, namespace).await?;
            let network = Network::Own(&bridge);
            let body = payload::payload(owner, instance, container, image, network);
            self.create_named(&names::container(owner, instance, part), body)
                .await?
        };
        volumes::open_to_all(&self.engine, &id, &container.mounts).await?;
        Ok(id)
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        match self.start_once(id).await {
            Err(error) if error::missing_network(&error).is_some() => {
                self.restore_network(id).await?;
            }
            result => return result,
        }
        match self.start_once(id).await {
            // One that ran before remembers the network that is gone, whatever its name is: only a
            // new container gets into the new one.
            Err(error) if error::missing_network(&error).is_some() => {
                self.remove(id).await?;
                Err(Error {
                    kind: ErrorKind::NoSuchContainer,
                    message: "its network was removed by somebody else; it is made again with a \
                              new one"
                        .to_owned(),
                })
            }
            result => result,
        }
    }

    async fn stop(&self, id: &ContainerId, grace: Span) -> Result<()> {
        let seconds = i32::try_from(grace.as_secs_ceil()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let stop = self
            .engine
            .client()
            .await?
            .stop_container(&id.0, Some(options));
        let within = grace.as_std() + STOP_MARGIN;
        let result = self.engine.call("stop the container", within, stop).await;
        self.inspections().mark(id);
        match result {
            Err(error) if error.kind == ErrorKind::BeingRemoved => Ok(()),
            result => content_without(result),
        }
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        let remove = self
            .engine
            .client()
            .await?
            .remove_container(&id.0, Some(options));
        content_without(
            self.engine
                .call("remove the container", CHANGE_WITHIN, remove)
                .await,
        )
    }

    async fn remove_volumes(
        &self,
        owner: &Owner,
        namespace: &Namespace,
        instance: &InstanceId,
        volumes: &[VolumeName],
    ) -> Result<()> {
        volumes::remove(&self.engine, owner, (namespace, instance), volumes).await
    }

    async fn prune_volumes(&self, owner: &Owner, keep: &BTreeSet<InstanceId>) -> Result<()> {
        volumes::prune(&self.engine, owner, keep).await
    }

    async fn prune_networks(&self, owner: &Owner, keep: &BTreeSet<Namespace>) -> Result<()> {
        self.networks.prune(&self.engine, owner, keep).await
    }

    async fn logs(&self, id: &ContainerId, options: &LogOptions) -> Result<BoxStream<Bytes>> {
        logs::read(&self.engine, id, options).await
    }

    async fn exec(
        &self,
        id: &ContainerId,
        command: &[String],
        within: Duration,
        begun: oneshot::Sender<()>,
    ) -> Result<ExecOutcome> {
        // Boxed, since every probe holds one.
        Box::pin(exec::run(&self.engine, id, command, within, begun)).await
    }

    async fn events(&self, owner: &Owner) -> Result<BoxStream<ContainerId>> {
        events::follow(&self.engine, &self.inspections, owner, clock::now()).await
    }
}

/// Makes a missing container a success: what should not be is not.
fn content_without(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind == ErrorKind::NoSuchContainer => Ok(()),
        other => other,
    }
}
