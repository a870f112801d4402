//! A container engine in memory, whose faults are scripted, for tests. Its time is tokio's, which
//! tests can pause.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        oneshot, watch,
    },
    time::{Instant, sleep, timeout},
};
use windlass_api::{
    duration::Span,
    ids::{InstanceId, Namespace, VolumeName},
    image::ImageRef,
    quantity::{CpuMillis, MemoryBytes},
    resource::Capacity,
    status::Exit,
    wire::{AssignedInstance, LogOptions},
};

use crate::runtime::{
    BoxStream, Container, ContainerId, ContainerState, EngineInfo, Error, ErrorKind, ExecOutcome,
    ExecOutput, Healthcheck, Owner, Part, Result, Runtime,
};

mod reach;

/// When every fake engine was switched on.
const EPOCH: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// How long a call to an engine that hangs takes until it fails.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The events that can wait for a reader; one that is slower is told that it missed some.
const EVENTS_MAX: usize = 256;

/// A call to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the methods of `Runtime`")]
pub enum Call {
    Info,
    List,
    Images,
    ImageId,
    Pull,
    Create,
    Start,
    Stop,
    Remove,
    RemoveVolumes,
    PruneVolumes,
    PruneNetworks,
    Logs,
    Exec,
    Events,
}

/// A container engine in memory. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct Fake {
    switched_on: Instant,
    hangs: Arc<watch::Sender<bool>>,
    events: broadcast::Sender<Event>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<ContainerId, (Owner, Container)>,
    /// The images' ids by their names.
    images: BTreeMap<String, String>,
    remote_images: BTreeSet<String>,
    namespaces: BTreeSet<Namespace>,
    volumes: BTreeSet<(InstanceId, VolumeName)>,
    logs: BTreeMap<InstanceId, Vec<Bytes>>,
    execs: BTreeMap<Vec<String>, Exec>,
    executed: Vec<(ContainerId, Vec<String>)>,
    started: Vec<ContainerId>,
    crashing: BTreeMap<InstanceId, i64>,
    delays: BTreeMap<Call, Duration>,
    late: BTreeMap<Call, Duration>,
    failures: BTreeMap<Call, VecDeque<Error>>,
    panics: BTreeSet<Call>,
    calls: BTreeMap<Call, usize>,
    reached: Vec<String>,
    events_lost: bool,
    serial: u64,
}

/// What a command does.
#[derive(Debug, Clone)]
struct Exec {
    takes: Duration,
    code: i64,
    output: ExecOutput,
}

#[derive(Debug, Clone)]
enum Event {
    Changed(Owner, ContainerId),
    Broken,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            switched_on: Instant::now(),
            hangs: Arc::new(watch::Sender::new(false)),
            events: broadcast::Sender::new(EVENTS_MAX),
            state: Arc::default(),
        }
    }
}

impl Fake {
    /// The time of day, as this engine has it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        EPOCH + self.switched_on.elapsed()
    }

    /// Puts an image on the node.
    pub fn add_image(&self, name: &str) {
        let mut state = self.state();
        state.images.insert(name.to_owned(), id_of(name));
    }

    /// Puts an image into its registry.
    pub fn add_remote_image(&self, name: &str) {
        self.state().remote_images.insert(name.to_owned());
    }

    /// Makes every call of a kind take that long.
    pub fn delay(&self, call: Call, delay: Duration) {
        self.state().delays.insert(call, delay);
    }

    /// Makes every create or start take that long until it is answered, after it was done.
    pub fn answer_late(&self, call: Call, delay: Duration) {
        self.state().late.insert(call, delay);
    }

    /// Makes the next call of a kind fail, or the one after those that are to fail already.
    pub fn fail_next(&self, call: Call, kind: ErrorKind, message: &str) {
        let error = Error {
            kind,
            message: message.to_owned(),
        };
        let mut state = self.state();
        state.failures.entry(call).or_default().push_back(error);
    }

    /// Makes the next call of a kind panic.
    pub fn panic_next(&self, call: Call) {
        self.state().panics.insert(call);
    }

    /// Makes every call wait, until [`Self::resume`] or until [`CALL_LIMIT`].
    pub fn hang(&self) {
        self.hangs.send_replace(true);
    }

    /// Ends [`Self::hang`].
    pub fn resume(&self) {
        self.hangs.send_replace(false);
    }

    /// Tells nobody of changes any more.
    pub fn lose_events(&self) {
        self.state().events_lost = true;
    }

    /// Ends all event streams with an error.
    pub fn break_events(&self) {
        // Nobody listening is fine: then there is nothing to break.
        let _ = self.events.send(Event::Broken);
    }

    /// Makes the containers of an instance end right after their start.
    pub fn crash_on_start(&self, instance: &InstanceId, code: i64) {
        self.state().crashing.insert(instance.clone(), code);
    }

    /// Ends the containers of an instance.
    pub fn exit(&self, instance: &InstanceId, code: i64) {
        self.exit_all(&self.ids_of(instance), code);
    }

    /// Ends one of the containers of an instance.
    pub fn exit_part(&self, instance: &InstanceId, part: &Part, code: i64) {
        let mut ids = self.ids_of(instance);
        let state = self.state();
        ids.retain(|id| {
            state
                .containers
                .get(id)
                .is_some_and(|(_, c)| c.part == *part)
        });
        drop(state);
        self.exit_all(&ids, code);
    }

    fn exit_all(&self, ids: &[ContainerId], code: i64) {
        for id in ids {
            let now = self.now();
            let mut state = self.state();
            let serial = state.next_serial();
            if let Some((_, container)) = state.containers.get_mut(id) {
                end(container, code, now, serial);
            }
            drop(state);
            self.tell(id);
        }
    }

    /// Says what the image's health check of an instance's containers found.
    pub fn set_healthcheck(&self, instance: &InstanceId, healthcheck: Healthcheck) {
        for id in self.ids_of(instance) {
            if let Some((_, container)) = self.state().containers.get_mut(&id) {
                container.healthcheck = Some(healthcheck.clone());
            }
            self.tell(&id);
        }
    }

    /// Removes the containers of an instance behind the agent's back.
    pub fn remove_behind(&self, instance: &InstanceId) {
        for id in self.ids_of(instance) {
            let removed = self.state().containers.remove(&id);
            if let Some((owner, _)) = removed {
                self.tell_owner(owner, &id);
            }
        }
    }

    /// Adds the main container of an instance, which runs, as if an agent had started it.
    pub fn run(&self, owner: &Owner, assigned: &AssignedInstance) -> ContainerId {
        let main = assigned.template.main().expect("it has a container");
        self.run_part(owner, assigned, &Part::Named(main.name.clone()))
    }

    /// Adds a container of an instance, which runs, as if an agent had started it.
    pub fn run_part(&self, owner: &Owner, assigned: &AssignedInstance, part: &Part) -> ContainerId {
        let started_at = self.now();
        let mut state = self.state();
        let id = state.add(owner, assigned, part);
        if let Some((_, container)) = state.containers.get_mut(&id) {
            container.state = ContainerState::Running { started_at };
        }
        id
    }

    /// Sets the output of an instance's containers.
    pub fn set_logs(&self, instance: &InstanceId, chunks: Vec<Bytes>) {
        self.state().logs.insert(instance.clone(), chunks);
    }

    /// Makes a command take that long, write that and end so. One that nothing is said of ends at
    /// once with 0.
    pub fn set_exec(&self, command: &[&str], takes: Duration, code: i64, output: &str) {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let mut kept = ExecOutput::default();
        kept.push(output.as_bytes());
        let exec = Exec {
            takes,
            code,
            output: kept,
        };
        self.state().execs.insert(command, exec);
    }

    /// The commands that were run, in their order.
    #[must_use]
    pub fn executed(&self) -> Vec<(ContainerId, Vec<String>)> {
        self.state().executed.clone()
    }

    /// The containers that were started, once for each time that they were.
    #[must_use]
    pub fn started(&self) -> Vec<ContainerId> {
        self.state().started.clone()
    }

    /// All containers, of any owner.
    #[must_use]
    pub fn containers(&self) -> Vec<Container> {
        let state = self.state();
        state.containers.values().map(|(_, c)| c.clone()).collect()
    }

    /// The volumes of instances.
    #[must_use]
    pub fn volumes(&self) -> BTreeSet<(InstanceId, VolumeName)> {
        self.state().volumes.clone()
    }

    /// The namespaces that have a network.
    #[must_use]
    pub fn networks(&self) -> BTreeSet<Namespace> {
        self.state().namespaces.clone()
    }

    /// How many calls of a kind were made.
    #[must_use]
    pub fn count(&self, call: Call) -> usize {
        self.state().calls.get(&call).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ids_of(&self, instance: &InstanceId) -> Vec<ContainerId> {
        let state = self.state();
        let of_it = state
            .containers
            .values()
            .filter(|(_, c)| c.instance == *instance);
        of_it.map(|(_, c)| c.id.clone()).collect()
    }

    fn tell(&self, id: &ContainerId) {
        let owner = self.state().containers.get(id).map(|(o, _)| o.clone());
        if let Some(owner) = owner {
            self.tell_owner(owner, id);
        }
    }

    fn tell_owner(&self, owner: Owner, id: &ContainerId) {
        if !self.state().events_lost {
            // Nobody listening is fine: events only wake.
            let _ = self.events.send(Event::Changed(owner, id.clone()));
        }
    }

    /// What every call does first.
    async fn enter(&self, call: Call) -> Result<()> {
        let panics = self.state().panics.remove(&call);
        assert!(!panics, "{call:?} panics, as it was told to");
        let (delay, failure) = {
            let mut state = self.state();
            *state.calls.entry(call).or_default() += 1;
            let failure = state.failures.get_mut(&call).and_then(VecDeque::pop_front);
            (state.delays.get(&call).copied(), failure)
        };
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        let mut hangs = self.hangs.subscribe();
        if timeout(CALL_LIMIT, hangs.wait_for(|h| !h)).await.is_err() {
            return Err(error(ErrorKind::Unreachable, "the engine does not answer"));
        }
        failure.map_or(Ok(()), Err)
    }

    /// What a call does last that can be answered late.
    async fn leave(&self, call: Call) {
        let late = self.state().late.get(&call).copied();
        if let Some(late) = late {
            sleep(late).await;
        }
    }

    fn create_now(
        &self,
        owner: &Owner,
        instance: &AssignedInstance,
        part: &Part,
        image: Option<&ImageRef>,
    ) -> Result<ContainerId> {
        let mut state = self.state();
        if let Part::Named(name) = part {
            let spec = instance.template.container(name).map(|spec| &spec.image);
            let image = image.or(spec).map(ImageRef::with_tag).unwrap_or_default();
            if !state.images.contains_key(&image) {
                let message = format!("the node does not have {image}");
                return Err(error(ErrorKind::ImageMissing, &message));
            }
        }
        let same = |(o, c): &&(Owner, Container)| {
            o == owner && c.instance == instance.id && c.part == *part
        };
        let existing = state.containers.values().find(same);
        let id = existing.map(|(_, c)| c.id.clone());
        Ok(id.unwrap_or_else(|| state.add(owner, instance, part)))
    }

    fn start_now(&self, id: &ContainerId) -> Result<()> {
        let now = self.now();
        let mut state = self.state();
        let serial = state.next_serial();
        let Some((_, container)) = state.containers.get_mut(id) else {
            return Err(error(ErrorKind::NoSuchContainer, "no such container"));
        };
        if !matches!(container.state, ContainerState::Running { .. }) {
            let (instance, part) = (container.instance.clone(), container.part.clone());
            if !state.has_network(&instance, &part) {
                let message = "cannot join the network of a container that does not run";
                return Err(error(ErrorKind::Other, message));
            }
            let Some((_, container)) = state.containers.get_mut(id) else {
                return Ok(());
            };
            container.state = ContainerState::Running { started_at: now };
            state.started.push(id.clone());
            let Some((_, container)) = state.containers.get_mut(id) else {
                return Ok(());
            };
            let instance = container.instance.clone();
            if let Some(code) = state.crashing.get(&instance).copied()
                && let Some((_, container)) = state.containers.get_mut(id)
            {
                end(container, code, now, serial);
            }
        }
        Ok(())
    }
}

impl State {
    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Whether a container has a network: its own, or that of a pause container that runs.
    fn has_network(&self, instance: &InstanceId, part: &Part) -> bool {
        let mut pauses = self
            .containers
            .values()
            .map(|(_, c)| c)
            .filter(|c| c.instance == *instance && c.part == Part::Pause)
            .peekable();
        *part == Part::Pause
            || pauses.peek().is_none()
            || pauses.any(|c| matches!(c.state, ContainerState::Running { .. }))
    }

    fn add(&mut self, owner: &Owner, assigned: &AssignedInstance, part: &Part) -> ContainerId {
        let id = ContainerId(format!("c{:04}", self.next_serial()));
        let template = &assigned.template;
        let spec = match part {
            Part::Named(name) => template.container(name),
            Part::Pause => None,
        };
        let image = spec.map_or("pause".to_owned(), |spec| spec.image.with_tag());
        let container = Container {
            id: id.clone(),
            instance: assigned.id.clone(),
            part: part.clone(),
            namespace: assigned.workload.namespace.clone(),
            revision: assigned.revision,
            image_id: id_of(&image),
            image_digest: None,
            address: None,
            healthcheck: None,
            stop_grace: template.stop_grace_period,
            stop_rank: part.stop_rank(template),
            pre_stop: spec.and_then(|spec| spec.pre_stop.clone()),
            volumes: template.volumes.iter().map(|v| v.name.clone()).collect(),
            state: ContainerState::Created,
        };
        let mounts = spec.into_iter().flat_map(|spec| &spec.mounts);
        let mounted = mounts.map(|mount| (assigned.id.clone(), mount.volume.clone()));
        self.volumes.extend(mounted);
        self.namespaces.insert(container.namespace.clone());
        self.containers
            .insert(id.clone(), (owner.clone(), container));
        id
    }
}

/// The id that this engine gives to the image of a name.
fn id_of(image: &str) -> String {
    format!("sha256:{:08x}", crc32c::crc32c(image.as_bytes()))
}

/// Ends a container that runs. Two ends at one time differ by a nanosecond, as on a real clock.
fn end(container: &mut Container, code: i64, now: Timestamp, serial: u64) {
    if let ContainerState::Running { started_at } = container.state {
        let exit = Exit {
            code,
            oom_killed: false,
            reason: None,
            finished_at: now + Duration::from_nanos(serial),
        };
        container.state = ContainerState::Exited { started_at, exit };
    }
}

fn error(kind: ErrorKind, message: &str) -> Error {
    Error {
        kind,
        message: message.to_owned(),
    }
}

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
