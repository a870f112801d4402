//! What a pretended engine does when an agent calls it.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        oneshot,
    },
    time::sleep,
};
use windlass_api::{
    duration::Span,
    ids::{InstanceId, Namespace, VolumeName},
    image::ImageRef,
    quantity::{CpuMillis, MemoryBytes},
    resource::Capacity,
    wire::{AssignedInstance, LogOptions},
};

use super::{
    Call, Event, Fake, error,
    state::{end, id_of},
};
use crate::runtime::{
    BoxStream, Container, ContainerId, ContainerState, EngineInfo, ErrorKind, ExecOutcome,
    ExecOutput, Owner, Part, Result, Runtime,
};

impl Runtime for Fake {
    async fn info(&self) -> Result<EngineInfo> {
        self.enter(Call::Info).await?;
        Ok(EngineInfo {
            id: "fake".to_owned(),
            version: "1".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            capacity: Capacity {
                cpu: CpuMillis(4000),
                memory: MemoryBytes(8 << 30),
            },
        })
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Container>> {
        self.enter(Call::List).await?;
        let state = self.state();
        let ours = state.containers.values().filter(|(o, _)| o == owner);
        Ok(ours.map(|(_, c)| c.clone()).collect())
    }

    async fn images(&self) -> Result<BTreeSet<String>> {
        self.enter(Call::Images).await?;
        Ok(self.state().images.keys().cloned().collect())
    }

    async fn image_id(&self, image: &ImageRef) -> Result<Option<String>> {
        self.enter(Call::ImageId).await?;
        Ok(self.state().images.get(&image.with_tag()).cloned())
    }

    async fn pull(&self, image: &ImageRef) -> Result<()> {
        self.enter(Call::Pull).await?;
        let mut state = self.state();
        if !state.remote_images.contains(&image.with_tag()) {
            let message = format!("{image} is not in its registry");
            return Err(error(ErrorKind::ImageMissing, &message));
        }
        let name = image.with_tag();
        state.images.insert(name.clone(), id_of(&name));
        Ok(())
    }

    async fn create(
        &self,
        owner: &Owner,
        instance: &AssignedInstance,
        part: &Part,
        image: Option<&ImageRef>,
    ) -> Result<ContainerId> {
        self.enter(Call::Create).await?;
        let id = self.create_now(owner, instance, part, image)?;
        self.leave(Call::Create).await;
        Ok(id)
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.enter(Call::Start).await?;
        self.start_now(id)?;
        self.tell(id);
        self.leave(Call::Start).await;
        Ok(())
    }

    async fn stop(&self, id: &ContainerId, _grace: Span) -> Result<()> {
        self.enter(Call::Stop).await?;
        let now = self.now();
        {
            let mut state = self.state();
            let serial = state.next_serial();
            if let Some((_, container)) = state.containers.get_mut(id) {
                end(container, 143, now, serial);
            }
        }
        self.tell(id);
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.enter(Call::Remove).await?;
        let removed = {
            let mut state = self.state();
            if let Some((_, container)) = state.containers.get(id)
                && matches!(container.state, ContainerState::Running { .. })
            {
                return Err(error(ErrorKind::Other, "the container runs"));
            }
            state.containers.remove(id)
        };
        if let Some((owner, _)) = removed {
            self.tell_owner(owner, id);
        }
        Ok(())
    }

    async fn remove_volumes(
        &self,
        _: &Owner,
        _: &Namespace,
        instance: &InstanceId,
        volumes: &[VolumeName],
    ) -> Result<()> {
        self.enter(Call::RemoveVolumes).await?;
        let gone = |(of, name): &(InstanceId, VolumeName)| of == instance && volumes.contains(name);
        self.state().volumes.retain(|volume| !gone(volume));
        Ok(())
    }

    async fn prune_volumes(&self, _: &Owner, keep: &BTreeSet<InstanceId>) -> Result<()> {
        self.enter(Call::PruneVolumes).await?;
        self.state().volumes.retain(|(of, _)| keep.contains(of));
        Ok(())
    }

    async fn prune_networks(&self, _: &Owner, keep: &BTreeSet<Namespace>) -> Result<()> {
        self.enter(Call::PruneNetworks).await?;
        let mut state = self.state();
        let used: BTreeSet<Namespace> = state
            .containers
            .values()
            .map(|(_, c)| c.namespace.clone())
            .collect();
        state
            .namespaces
            .retain(|n| keep.contains(n) || used.contains(n));
        Ok(())
    }

    async fn logs(&self, id: &ContainerId, _: &LogOptions) -> Result<BoxStream<Bytes>> {
        self.enter(Call::Logs).await?;
        let state = self.state();
        let Some((_, container)) = state.containers.get(id) else {
            return Err(error(ErrorKind::NoSuchContainer, "no such container"));
        };
        let chunks = state.logs.get(&container.instance);
        let chunks = chunks.cloned().unwrap_or_default();
        Ok(stream::iter(chunks.into_iter().map(Ok)).boxed())
    }

    async fn exec(
        &self,
        id: &ContainerId,
        command: &[String],
        within: Duration,
        begun: oneshot::Sender<()>,
    ) -> Result<ExecOutcome> {
        self.enter(Call::Exec).await?;
        drop(begun);
        let exec = {
            let mut state = self.state();
            let container = state.containers.get(id).map(|(_, c)| &c.state);
            if !matches!(container, Some(ContainerState::Running { .. })) {
                return Err(error(ErrorKind::Other, "the container does not run"));
            }
            state.executed.push((id.clone(), command.to_vec()));
            state.execs.get(command).cloned()
        };
        let Some(exec) = exec else {
            return Ok(ExecOutcome::Exited {
                code: 0,
                output: ExecOutput::default(),
            });
        };
        sleep(exec.takes.min(within)).await;
        Ok(if exec.takes > within {
            ExecOutcome::TimedOut {
                output: ExecOutput::default(),
            }
        } else {
            ExecOutcome::Exited {
                code: exec.code,
                output: exec.output,
            }
        })
    }

    async fn events(&self, owner: &Owner) -> Result<BoxStream<ContainerId>> {
        self.enter(Call::Events).await?;
        let (owner, events) = (owner.clone(), self.events.subscribe());
        let next = move |mut events: broadcast::Receiver<Event>| {
            let owner = owner.clone();
            async move {
                loop {
                    match events.recv().await {
                        Ok(Event::Changed(of, id)) if of == owner => {
                            return Some((Ok(id), events));
                        }
                        Ok(Event::Changed(..)) | Err(RecvError::Lagged(_)) => {}
                        Ok(Event::Broken) => {
                            let broken = error(ErrorKind::Unreachable, "the stream broke");
                            return Some((Err(broken), events));
                        }
                        Err(RecvError::Closed) => return None,
                    }
                }
            }
        };
        Ok(stream::unfold(events, next).boxed())
    }
}
