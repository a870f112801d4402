//! A pretended Docker engine behind a Unix socket, for the real binary.
//!
//! It has containers, networks and images, of which it remembers only what agents read, and goes
//! wrong as its test says. Once it is dropped, no agent may have touched what is somebody else's,
//! started a second container of an instance, or asked for what it does not know.
//!
//! It shares nothing with `windlass_agent::fake`. That one stands in for the agent's own idea of
//! an engine, in which a container belongs to an instance and has neither a name nor labels; here
//! just how the agent makes these from names, labels and answers is what is tested.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Runtime, sync::watch, task::AbortHandle};

use super::{
    call::{ApiVersion, Call},
    events::Telling,
    script::{Fault, Script, Times},
    socket,
    state::{Container, Life, Maker, Network, State},
};
use crate::harness::{PATIENCE, engine::IMAGE};

/// How often agents are given reason to look before nothing more is expected of them.
const LOOKS: usize = 4;

/// A pretended engine.
pub(crate) struct FakeEngine {
    dir: TempDir,
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    listening: Mutex<Option<AbortHandle>>,
}

/// What all connections share.
pub(crate) struct Shared {
    state: Mutex<State>,
    script: Mutex<Script>,
    /// How long each call takes.
    pub(crate) pace: watch::Sender<Duration>,
    /// How events are told.
    pub(crate) telling: watch::Sender<Telling>,
    /// How often something may have happened.
    pub(crate) happened: watch::Sender<u64>,
    /// How often it got well again.
    pub(crate) healed: watch::Sender<u64>,
    /// How often all connections were cut.
    pub(crate) cut: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeEngine {
    /// An engine with the image that the tests run, and nothing else.
    pub(crate) fn start() -> Self {
        let engine = Self {
            dir: TempDir::new().expect("a temporary directory"),
            runtime: Some(Runtime::new().expect("a runtime")),
            shared: Arc::new(Shared {
                state: Mutex::new(State::new("fake-1")),
                script: Mutex::default(),
                pace: watch::Sender::new(Duration::ZERO),
                telling: watch::Sender::new(Telling::Faithful),
                happened: watch::Sender::new(0),
                healed: watch::Sender::new(0),
                cut: watch::Sender::new(0),
            }),
            listening: Mutex::new(None),
        };
        engine.add_image(IMAGE);
        engine.switch_on();
        engine
    }

    /// Where its socket is, while it is on.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Its address, as agents take it.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Whoever connects is answered.
    pub(crate) fn switch_on(&self) {
        let runtime = self.runtime.as_ref().expect("it was not dropped");
        let _entered = runtime.enter();
        let listener = UnixListener::bind(self.socket()).expect("a socket");
        let listening = runtime.spawn(socket::listen(listener, Arc::clone(&self.shared)));
        *self.listening.lock().expect("nothing panics with it") = Some(listening.abort_handle());
    }

    /// All connections are cut, and no more are taken. Its containers stay as they are.
    pub(crate) fn switch_off(&self) {
        let listening = self
            .listening
            .lock()
            .expect("nothing panics with it")
            .take();
        listening.expect("it is on").abort();
        std::fs::remove_file(self.socket()).expect("the socket is there");
        self.shared.cut.send_modify(|n| *n += 1);
    }

    /// In its place there is another engine, which has the same images and nothing else.
    pub(crate) fn replace(&self, id: &str, version: &str, api: (ApiVersion, ApiVersion)) {
        let mut state = self.state();
        let other = State::new(id);
        let before = std::mem::replace(&mut *state, other);
        state.version = version.to_owned();
        state.api = api;
        state.images = before.images;
        state.offences = before.offences;
        state.deeds = before.deeds;
    }

    /// The next call of a kind goes wrong, or the one after those that do already.
    pub(crate) fn once(&self, call: Call, fault: Fault) {
        self.shared.script().add(call, Times::Once, fault);
    }

    /// All calls of a kind go wrong until [`Self::heal`].
    pub(crate) fn always(&self, call: Call, fault: Fault) {
        self.shared.script().add(call, Times::UntilHealed, fault);
    }

    /// Whether nothing is to go wrong any more.
    pub(crate) fn is_well(&self) -> bool {
        self.shared.script().is_well()
    }

    /// Nothing goes wrong any more, and what hangs is carried out and answered.
    pub(crate) fn heal(&self) {
        self.shared.script().heal();
        self.shared.pace.send_replace(Duration::ZERO);
        self.shared.telling.send_replace(Telling::Faithful);
        self.shared.healed.send_modify(|n| *n += 1);
    }

    /// Each call takes so long.
    pub(crate) fn slow_down(&self, pace: Duration) {
        self.shared.pace.send_replace(pace);
    }

    /// Events are told like this.
    pub(crate) fn tell_events(&self, telling: Telling) {
        self.shared.telling.send_replace(telling);
    }

    /// Waits until a call hangs or is held.
    pub(crate) fn until_waiting(&self, call: Call) {
        self.eventually(&format!("{call:?} waits"), |engine| {
            engine.shared.script().waiting.contains(&call)
        });
    }

    /// How many calls of a kind came.
    pub(crate) fn count(&self, call: Call) -> usize {
        let script = self.shared.script();
        script.calls.iter().filter(|came| **came == call).count()
    }

    /// What was changed over the socket, like `create web-0-1`, in its order.
    pub(crate) fn deeds(&self) -> Vec<String> {
        self.state().deeds.clone()
    }

    /// The changes until now, once the agents have had reason to look at their containers several
    /// times and nothing is being done: what was not done by then is not going to be. At least one
    /// container has to be there.
    pub(crate) fn deeds_at_rest(&self) -> Vec<String> {
        for _ in 0..LOOKS {
            let before = self.count(Call::Containers);
            for container in self.containers() {
                self.state().tell("pause", &container.id, Timestamp::now());
            }
            self.shared.happened.send_modify(|n| *n += 1);
            self.eventually("the containers are looked at, and all is done", |engine| {
                engine.count(Call::Containers) > before && engine.shared.script().under_way == 0
            });
        }
        self.deeds()
    }

    /// All containers.
    pub(crate) fn containers(&self) -> Vec<Container> {
        self.state().containers.values().cloned().collect()
    }

    /// The containers that run, by the instances that they belong to.
    pub(crate) fn running(&self) -> BTreeMap<String, Container> {
        let running = self.containers().into_iter().filter(Container::runs);
        running.map(|c| (c.called().to_owned(), c)).collect()
    }

    /// Ends the container of an instance, as if its program had.
    pub(crate) fn exit(&self, instance: &str, code: i64) {
        let id = self.container_of(instance).id;
        self.state().end(&id, code, Timestamp::now());
        self.shared.happened.send_modify(|n| *n += 1);
    }

    /// Removes the container of an instance behind its agent's back.
    pub(crate) fn remove(&self, instance: &str) {
        let id = self.container_of(instance).id;
        self.state().forget(&id, Timestamp::now());
        self.shared.happened.send_modify(|n| *n += 1);
    }

    /// Starts the container of an instance behind its agent's back.
    pub(crate) fn begin(&self, instance: &str) {
        let id = self.container_of(instance).id;
        self.state().begin(&id, Timestamp::now());
        self.shared.happened.send_modify(|n| *n += 1);
    }

    /// The container of an instance, or one that is nobody's of this name.
    pub(crate) fn container_of(&self, called: &str) -> Container {
        let mut containers = self.containers().into_iter();
        let found = containers.find(|c| c.called() == called);
        found.unwrap_or_else(|| panic!("there is no {called}: {:?}", self.containers()))
    }

    /// The container of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Container> {
        self.containers().into_iter().find(|c| c.name == name)
    }

    /// Somebody removes the container of this name.
    pub(crate) fn remove_named(&self, name: &str) {
        let id = self.find(name).expect("it is there").id;
        self.state().forget(&id, Timestamp::now());
    }

    /// Runs a container that is somebody else's.
    pub(crate) fn run_foreign(&self, name: &str, labels: &[(&str, &str)]) {
        let labels = owned(labels);
        let mut state = self.state();
        let image_id = state.images[IMAGE].clone();
        let id = state.add(Maker::Somebody, name, (IMAGE, &image_id), labels, "bridge");
        state.begin(&id, Timestamp::now());
    }

    /// Somebody removes the network of this name.
    pub(crate) fn remove_network(&self, name: &str) {
        self.state()
            .networks
            .retain(|_, network| network.name != name);
    }

    /// Makes a network that is somebody else's.
    pub(crate) fn add_foreign_network(&self, name: &str) {
        let network = Network {
            name: name.to_owned(),
            labels: BTreeMap::new(),
        };
        self.state()
            .networks
            .insert(format!("id-of-{name}"), network);
    }

    /// Puts an image onto the machine.
    pub(crate) fn add_image(&self, name: &str) {
        let mut state = self.state();
        let id = format!("sha256:{:064x}", state.images.len() + 1);
        state.images.insert(name.to_owned(), id);
    }

    /// From now on containers end with this code as soon as they are started.
    pub(crate) fn end_at_once(&self, code: i64) {
        self.state().ends = Some(code);
    }

    /// Waits until something holds.
    pub(crate) fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "not so in time: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

/// When a container was started, if it was.
pub(crate) fn started(container: &Container) -> Option<Timestamp> {
    match container.life {
        Life::Running { started } | Life::Exited { started, .. } => Some(started),
        Life::Created => None,
    }
}

fn owned(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    labels.iter().map(pair).collect()
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let state = self.state();
        if std::thread::panicking() {
            eprintln!("what was done to the engine: {:#?}", state.deeds);
            eprintln!("what it has: {:#?}", state.containers);
            eprintln!("offences: {:#?}", state.offences);
        } else {
            assert_eq!(state.offences, Vec::<String>::new(), "what no agent may do");
        }
    }
}
