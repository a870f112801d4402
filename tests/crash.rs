//! The server is killed at random moments while clients write: nothing acknowledged is lost.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::harness::{PATIENCE, WINDLASS, free_address, http, kill};

/// How often the server is killed.
const KILLS: u32 = 200;
/// How many clients write.
const CLIENTS: u64 = 8;
/// The longest time that a server lives, in milliseconds.
const LIFE_MS_MAX: u64 = 120;

/// What a client knows about a workload.
#[derive(Debug, Clone, Default)]
struct Acknowledged {
    /// The value that the server said it had stored.
    value: u64,
    /// The last value that was sent. It and all since the acknowledged one were not answered: the
    /// last of them that the server got may be there, or none.
    sent: u64,
    version: u64,
    revision: u64,
}

fn manifest(name: &str, value: u64) -> String {
    // No node ever joins, so nothing runs; what counts is what is kept.
    format!(
        r#"{{"kind":"Service","name":"{name}","spec":{{"image":"none","env":{{"N":"{value}"}}}}}}"#
    )
}

/// Not a good generator, but a different moment each time.
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// What all clients share.
struct Load {
    address: SocketAddr,
    known: Mutex<BTreeMap<String, Acknowledged>>,
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

impl Load {
    /// Changes a workload again and again, and notes what the server said it had stored.
    fn write_on(&self, name: &str) {
        let path = format!("/v1/workloads/default/{name}");
        for value in 1.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let body = manifest(name, value);
            self.note(name, |known| known.sent = value);
            match http::send(self.address, "PUT", &path, &[], body.as_bytes()) {
                Ok(answer) if answer.status < 300 => {
                    let workload = answer.json();
                    let version = workload["meta"]["version"].as_u64().unwrap();
                    let revision = workload["status"]["revision"].as_u64().unwrap();
                    self.note(name, |known| {
                        assert!(version > known.version, "versions only grow");
                        assert!(revision > known.revision, "revisions only grow");
                        *known = Acknowledged {
                            value,
                            sent: value,
                            version,
                            revision,
                        };
                    });
                    self.acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                Ok(answer) => panic!("refused: {} {}", answer.head, answer.text()),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn note(&self, name: &str, note: impl FnOnce(&mut Acknowledged)) {
        note(
            self.known
                .lock()
                .unwrap()
                .entry(name.to_owned())
                .or_default(),
        );
    }

    /// Whether the server still has what it acknowledged.
    fn check(&self) {
        for (name, entry) in &*self.known.lock().unwrap() {
            let path = format!("/v1/workloads/default/{name}");
            let workload = http::get(self.address, &path).unwrap().json();
            let value: u64 = workload["spec"]["env"]["N"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(
                (entry.value..=entry.sent).contains(&value),
                "{name} has {value}, acknowledged was {entry:?}"
            );
            assert!(workload["meta"]["version"].as_u64().unwrap() >= entry.version);
        }
    }
}

#[test]
fn a_server_killed_at_random_moments_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::TempDir::new().unwrap();
    let load = Load {
        address: free_address(),
        known: Mutex::default(),
        stop: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.write_on(&format!("w{client}")));
        }
        // Stops the clients also when an assertion below fails.
        let _stopper = Stopper(&load.stop);
        let mut random_state = 1;
        for round in 0..KILLS {
            let mut server = Some(start(dir.path(), load.address, round));
            thread::sleep(Duration::from_millis(
                random(&mut random_state) % LIFE_MS_MAX,
            ));
            kill(&mut server);
        }
    });
    let mut server = Some(start(dir.path(), load.address, KILLS));
    load.check();
    kill(&mut server);
    let acknowledged = load.acknowledged.load(Ordering::SeqCst);
    assert!(
        acknowledged > u64::from(KILLS),
        "there was load: {acknowledged}"
    );
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn start(dir: &std::path::Path, address: SocketAddr, round: u32) -> Child {
    let log = std::fs::File::create(dir.join("server.log")).unwrap();
    let mut server = Command::new(WINDLASS)
        .args(["server", "--listen", &address.to_string(), "--data-dir"])
        .arg(dir.join("data"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !http::get(address, "/readyz").is_ok_and(|answer| answer.status == 200) {
        let log = || std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
        if let Some(status) = server.try_wait().unwrap() {
            panic!("round {round}: the server ended with {status}\n{}", log());
        }
        assert!(
            began.elapsed() < PATIENCE,
            "round {round}: no answer\n{}",
            log()
        );
        thread::sleep(Duration::from_millis(5));
    }
    server
}
