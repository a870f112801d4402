//! A schedule on a clock that the test turns: the server runs in this process, the agent is the real
//! binary.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;
use windlass_api::clock::Clock;
use windlass_orchestrator::Config;

use crate::{
    engine::fake::FakeEngine,
    harness::{Cluster, Docker, engine::IMAGE},
};

/// The time of day, in milliseconds since 1970, that goes on only when it is told to.
#[derive(Clone)]
struct Hands {
    millis: Arc<AtomicI64>,
    /// How often somebody looked.
    looks: Arc<AtomicU64>,
}

impl Hands {
    fn at(time: &str) -> Self {
        let time: Timestamp = time.parse().expect("a time");
        Self {
            millis: Arc::new(AtomicI64::new(time.as_millisecond())),
            looks: Arc::default(),
        }
    }

    fn turn(&self, by: SignedDuration) {
        let millis = i64::try_from(by.as_millis()).expect("days, not ages");
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Waits until the server has looked at the time and drawn its conclusions: it looks three times
    /// with each of its ticks.
    fn until_seen(&self, cluster: &Cluster) {
        let before = self.looks.load(Ordering::SeqCst);
        cluster.eventually("the server looks at the time", |_| {
            self.looks.load(Ordering::SeqCst) >= before + 9
        });
    }

    fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::new(move || {
            hands.looks.fetch_add(1, Ordering::SeqCst);
            let millis = hands.millis.load(Ordering::SeqCst);
            Timestamp::from_millisecond(millis).expect("a time of ours")
        })
    }
}

/// A server in a thread of this process. It ends when this is dropped.
struct Server {
    shutdown: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(dir: &Path, clock: Clock) -> (Self, SocketAddr) {
        let shutdown = CancellationToken::new();
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let config = Config {
            clock,
            ..Config::new(dir.join("server"))
        };
        let server = windlass_orchestrator::run(config, listener, shutdown.clone());
        let thread = thread::spawn(move || runtime.block_on(server).expect("it ends when told to"));
        let thread = Some(thread);
        (Self { shutdown, thread }, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let ended = self.thread.take().map(thread::JoinHandle::join);
        if !thread::panicking() {
            ended
                .expect("it was started")
                .expect("it did not break down");
        }
    }
}

/// The jobs that a schedule has made, with the state of each, in their order.
fn jobs(cluster: &Cluster) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let jobs = cluster
        .list("workloads")
        .into_iter()
        .filter(|w| w["kind"] == "Job");
    let mut jobs: Vec<_> = jobs
        .map(|job| (text(&job["name"]), text(&job["status"]["job"]["state"])))
        .collect();
    jobs.sort();
    jobs
}

fn completed(cluster: &Cluster) -> usize {
    jobs(cluster)
        .iter()
        .filter(|(_, state)| state == "Completed")
        .count()
}

#[test]
fn a_schedule_runs_at_its_minutes_once_however_the_clock_goes() {
    let engine = FakeEngine::start();
    engine.end_at_once(0);
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::at("2026-03-01T11:58:30Z");
    let (_server, address) = Server::start(dir.path(), hands.clock());
    let cluster = Cluster::joined_to(address, 1, Docker::Pretended(engine.address()));
    cluster.apply_no_wait(&format!(
        "kind: CronJob\nname: tick\nspec:\n  schedule: '0 * * * *'\n  image: {IMAGE}\n  \
         imagePullPolicy: Never\n  history: {{ completed: 10, failed: 10 }}\n"
    ));
    let minute = SignedDuration::from_mins(1);
    let starts = |engine: &FakeEngine| {
        let deeds = engine.deeds();
        deeds
            .iter()
            .filter(|deed| deed.starts_with("start "))
            .count()
    };

    // Half a minute before the hour there is nothing.
    hands.turn(minute);
    hands.until_seen(&cluster);
    assert_eq!(jobs(&cluster), []);
    // At the hour it runs, and then no more until the next one.
    hands.turn(minute);
    cluster.eventually("it ran at noon", |cluster| completed(cluster) == 1);
    hands.turn(minute * 58);
    hands.until_seen(&cluster);
    assert_eq!(jobs(&cluster).len(), 1);
    // Of what a day's leap leaves out, the last is made up for.
    hands.turn(SignedDuration::from_hours(24));
    cluster.eventually("it ran once more", |cluster| completed(cluster) == 2);
    hands.until_seen(&cluster);
    assert_eq!(jobs(&cluster).len(), 2);
    // An hour that comes again makes nothing run again.
    hands.turn(SignedDuration::from_hours(-3));
    hands.turn(minute * 150);
    hands.until_seen(&cluster);
    assert_eq!(jobs(&cluster).len(), 2);
    hands.turn(SignedDuration::from_hours(1));
    cluster.eventually("it ran at the next hour", |cluster| completed(cluster) == 3);
    assert_eq!(starts(&engine), 3, "{:?}", engine.deeds());
}
