//! How a server bears many agents, instances and watchers: `cargo bench --bench scale`.
//!
//! A real server process, with agents that are real to it (WebSockets, greetings, heartbeats,
//! reports) and have no engine: their instances run as soon as they are assigned. What must hold is
//! asserted; what is measured is printed. As a test there are fewer of everything.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and real time is what is measured"
)]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

mod scale {
    pub(crate) mod agents;
    pub(crate) mod server;
    pub(crate) mod watchers;
}

#[path = "harness/http.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod http;

use scale::{agents::Agents, server::Server, watchers};

/// How much of everything there is.
struct Size {
    agents: usize,
    services: usize,
    replicas: usize,
    watchers: usize,
    writes: usize,
    rest: Duration,
    /// The most that a pass of the planner may take on average. Searching all replicas of a
    /// service for each of them took 140 ms.
    planning_within: Duration,
    /// The most that a server may need to serve again, and its agents to be back.
    serving_within: Duration,
    back_within: Duration,
}

/// What a large site would have; the limits are the design's.
const LARGE: Size = Size {
    agents: 1_000,
    services: 10,
    replicas: 1_000,
    watchers: 500,
    writes: 1_600,
    rest: Duration::from_secs(60),
    planning_within: Duration::from_millis(50),
    serving_within: Duration::from_secs(2),
    back_within: Duration::from_secs(30),
};

/// Enough to break on what is wrong with many; its limits are those of a slow machine.
const SMALL: Size = Size {
    agents: 60,
    services: 3,
    replicas: 100,
    watchers: 40,
    writes: 64,
    rest: Duration::from_secs(2),
    planning_within: Duration::from_secs(1),
    serving_within: Duration::from_secs(60),
    back_within: Duration::from_secs(60),
};

/// What the server may take in memory with the largest of these, in KiB.
const PSS_KIB_MAX: u64 = 200 << 10;

fn main() {
    let measured = std::env::args().any(|arg| arg == "--bench");
    let size = if measured { LARGE } else { SMALL };
    raise_file_limit();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut server = Server::start();
    let agents = Agents::start(&runtime, server.address(), size.agents);
    let took = agents.wait_until_connected(size.agents);
    println!("{} agents joined within {took:.1?}", size.agents);
    fill(&server, &size);
    settle(&server, &size);
    planning(&server, &size);
    let before = instances(&server);

    restart(&mut server, &agents, &size);
    crash(&mut server, &agents, &size);
    assert_eq!(instances(&server), before, "instances were moved");
    assert_eq!(events(&server, "Lost"), 0, "nodes were lost");

    rest(&server, &size);
    watch(&runtime, &server, &size);
    assert_eq!(events(&server, "Lost"), 0, "nodes were lost");
    let peak = server.pss_kib_max();
    println!("server at most: {:.1} MiB PSS", peak as f64 / 1024.0);
    assert!(peak <= PSS_KIB_MAX, "{peak} KiB");
}

/// A socket for each agent and each watcher is more than the usual limit.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

fn fill(server: &Server, size: &Size) {
    let began = Instant::now();
    for n in 0..size.services {
        let spec = json!({
            "image": "app:1", "replicas": size.replicas,
            "resources": { "cpu": "10m", "memory": "16Mi" },
        });
        server.put(&format!("service-{n}"), &json!({ "spec": spec }));
    }
    let took = began.elapsed();
    let count = size.services * size.replicas;
    println!("{count} instances were placed within {took:.1?}");
}

/// What passes of the planner took so far.
fn planning(server: &Server, size: &Size) {
    let text = http::get(server.address(), "/metrics").unwrap().text();
    let value = |name: &str| -> f64 {
        let prefix = format!("windlass_plan_duration_seconds_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap().parse().unwrap()
    };
    let mean = Duration::from_secs_f64(value("sum") / value("count"));
    println!(
        "{} passes of the planner took {mean:.1?} each",
        value("count")
    );
    assert!(mean <= size.planning_within, "{mean:?}");
}

/// Waits until everything runs and nothing changes any more.
fn settle(server: &Server, size: &Size) {
    let began = Instant::now();
    let running = json!({ "Running": size.services * size.replicas });
    let ready = json!({ "Ready": size.agents });
    let settled = json!({ "settled": size.services });
    let mut version = Value::Null;
    loop {
        let info = server.info();
        let is_so =
            info["instances"] == running && info["nodes"] == ready && info["workloads"] == settled;
        if is_so && info["version"] == version {
            break;
        }
        version = info["version"].clone();
        assert!(began.elapsed() < Duration::from_secs(120), "{info}");
        std::thread::sleep(Duration::from_millis(300));
    }
    println!("and reported to run within {:.1?}", began.elapsed());
}

/// The server comes back while nobody wants anything of it, and then all agents at once.
fn restart(server: &mut Server, agents: &Agents, size: &Size) {
    agents.pause();
    server.kill();
    let serving = server.start_again();
    let count = size.services * size.replicas;
    println!("serving {count} instances {serving:.2?} after its start");
    assert!(serving <= size.serving_within, "{serving:?}");
    agents.resume();
    let back = agents.wait_until_connected(size.agents);
    println!("all agents, which dialled at the same moment, are back after {back:.2?}");
    assert!(back <= size.back_within, "{back:?}");
    settle(server, size);
}

/// The server dies, and agents dial as they do.
fn crash(server: &mut Server, agents: &Agents, size: &Size) {
    server.kill();
    agents.wait_until_disconnected();
    std::thread::sleep(Duration::from_secs(3));
    let serving = server.start_again();
    let back = agents.wait_until_connected(size.agents);
    println!(
        "after 3 s without a server: serving {serving:.2?} after its start, all agents back {back:.2?} \
         later"
    );
    assert!(serving <= size.serving_within, "{serving:?}");
    assert!(back <= size.back_within, "{back:?}");
    settle(server, size);
}

/// What it costs when nothing happens.
fn rest(server: &Server, size: &Size) {
    let version = server.info()["version"].clone();
    let before = server.cpu();
    std::thread::sleep(size.rest);
    let used = server.cpu() - before;
    let share = 100.0 * used.as_secs_f64() / size.rest.as_secs_f64();
    println!(
        "at rest: {share:.1} % of a core, {:.1} MiB PSS",
        server.pss_kib() as f64 / 1024.0
    );
    assert_eq!(server.info()["version"], version, "nothing was to happen");
}

/// Many watch the same, one of them does not read.
fn watch(runtime: &Runtime, server: &Server, size: &Size) {
    let seen = watchers::run(runtime, server, size.watchers, size.writes);
    println!(
        "{} watchers, one of which does not read: {} changes in {:.1?}, seen by all after {:.1?} \
         (median) to {:.1?}; the slow one {}",
        size.watchers, size.writes, seen.writing, seen.median, seen.longest, seen.slow
    );
}

/// Which instance is where.
fn instances(server: &Server) -> BTreeSet<String> {
    let place = |i: &Value| format!("{} on {}", i["name"], i["node"].as_str().unwrap());
    server.list("instances").iter().map(place).collect()
}

fn events(server: &Server, reason: &str) -> usize {
    let events = server.list(&format!("events?fieldSelector=reason={reason}"));
    events.len()
}
