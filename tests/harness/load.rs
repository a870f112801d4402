//! Clients that write all the time and remember what was acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::api::Api;

/// How soon a client tries again what was not answered.
const AGAIN: Duration = Duration::from_millis(5);

/// What a client knows about its workload.
#[derive(Debug, Clone, Copy, Default)]
struct Acknowledged {
    /// The value that the server said it had stored.
    value: u64,
    /// The last value that was sent. It and all since the acknowledged one were not answered: the
    /// last of them that the server got may be there, or none.
    sent: u64,
    version: u64,
    revision: u64,
}

/// The clients. They stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    api: Api,
    /// How long a client waits after a write.
    pause: Duration,
    known: Mutex<BTreeMap<String, Acknowledged>>,
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

impl Load {
    /// Lets so many clients write, each to a workload of its own of which nothing runs.
    pub(crate) fn start(api: Api, clients: usize, pause: Duration) -> Self {
        let shared = Arc::new(Shared {
            api,
            pause,
            known: Mutex::default(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
        });
        let client = |number| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.write_on(&format!("load-{number}")))
        };
        Self {
            clients: (0..clients).map(client).collect(),
            shared,
        }
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until all clients have stopped.
    pub(crate) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            client.join().expect("a client saw what must not be");
        }
    }

    /// Fails if the server has not what it acknowledged. It has to be there; clients may write on.
    pub(crate) fn check(&self) {
        let panicked = |client: &JoinHandle<()>| client.is_finished();
        assert!(!self.clients.iter().any(panicked), "a client has ended");
        let before = self.shared.known().clone();
        for (name, entry) in before {
            let path = format!("/v1/workloads/default/{name}");
            let answer = self.shared.api.get(&path).expect("the server answers");
            let workload = answer.json();
            let value = workload["spec"]["env"]["N"].as_str();
            let value = value.unwrap_or_else(|| panic!("{name}: {} {workload}", answer.status));
            let value: u64 = value.parse().expect("a number");
            let sent = self.shared.known()[&name].sent;
            assert!(
                (entry.value..=sent).contains(&value),
                "{name} has {value}, sent was up to {sent}, acknowledged was {entry:?}"
            );
            let version = workload["meta"]["version"].as_u64();
            assert!(version >= Some(entry.version), "{name}: {workload}");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Acknowledged>> {
        self.known.lock().expect("a client saw what must not be")
    }

    /// Changes a workload again and again, and notes what the server said it had stored.
    fn write_on(&self, name: &str) {
        let path = format!("/v1/workloads/default/{name}");
        for value in 1.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            self.known().entry(name.to_owned()).or_default().sent = value;
            let body = manifest(name, value);
            match self.api.send("PUT", &path, body.as_bytes()) {
                Ok(answer) if answer.status < 300 => {
                    let workload = answer.json();
                    let number = |pointer| workload.pointer(pointer).and_then(|n| n.as_u64());
                    let version = number("/meta/version").expect("a version");
                    let revision = number("/status/revision").expect("a revision");
                    let mut known = self.known();
                    let known = known.get_mut(name).expect("it is in there");
                    assert!(version > known.version, "versions only grow");
                    assert!(revision > known.revision, "revisions only grow");
                    *known = Acknowledged {
                        value,
                        sent: value,
                        version,
                        revision,
                    };
                    self.acknowledged.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(self.pause);
                }
                Ok(answer) => panic!("refused: {} {}", answer.head, answer.text()),
                Err(_) => thread::sleep(AGAIN.max(self.pause)),
            }
        }
    }
}

fn manifest(name: &str, value: u64) -> String {
    format!(
        r#"{{"kind":"Service","name":"{name}","spec":{{"image":"none","replicas":0,"env":{{"N":"{value}"}}}}}}"#
    )
}
