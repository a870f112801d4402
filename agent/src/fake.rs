//! A container engine in memory, whose faults are scripted, for tests. Its time is tokio's, which
//! tests can pause.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{
    sync::{
        broadcast::{self},
        watch,
    },
    time::{Instant, sleep, timeout},
};
use windlass_api::{
    ids::{InstanceId, Namespace, VolumeName},
    image::ImageRef,
    wire::AssignedInstance,
};

use crate::runtime::{
    Container, ContainerId, ContainerState, Error, ErrorKind, ExecOutput, Healthcheck, Owner, Part,
    Result,
};

mod reach;
mod runtime;
mod state;

use state::{Exec, State, end, id_of};

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

fn error(kind: ErrorKind, message: &str) -> Error {
    Error {
        kind,
        message: message.to_owned(),
    }
}
