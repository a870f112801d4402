//! How long it takes until something runs, each time as a ratio to what the engine alone needs
//! for the same in the same run: `cargo bench --bench running`.
//!
//! Machines are shared and engines differ, so only the ratios mean something elsewhere.
#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

use std::{
    future::Future,
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig, NetworkCreateRequest},
    query_parameters::{
        CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
        RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt, stream};

#[allow(dead_code, reason = "the tests use the rest of it")]
mod harness;

use harness::{Cluster, WINDLASS, demo, engine, http};

/// How often each thing is measured; the median counts.
const ROUNDS: usize = 15;
/// How many replicas a burst has.
const BURST: usize = 50;
/// How many replicas are replaced in a change.
const ROLLED: usize = 10;
/// How many calls the engine gets at the same time for its own burst. More do not make it faster.
const PARALLEL: usize = 8;
const NETWORK: &str = "windlass-bench";

fn main() {
    // `cargo test --benches` runs this, too, with an argument of its own: then there is nothing
    // to do, since nothing is measured.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    engine::ensure_image();
    let floor = Floor::new();
    let cluster = Cluster::start(1);
    cluster.apply(&demo("warm", ""));
    one(&cluster, &floor);
    burst(&cluster, &floor);
    killed(&cluster, &floor);
    rollout(&cluster, &floor);
    drop(cluster);
    idle();
}

fn one(cluster: &Cluster, floor: &Floor) {
    let mut ours = Vec::new();
    let mut engines = Vec::new();
    for round in 0..ROUNDS {
        engines.push(floor.one());
        let name = format!("one-{round}");
        let manifest = manifest(&name, 1);
        let began = Instant::now();
        put(cluster.address, &name, &manifest);
        wait_running(cluster.address, &name, 1);
        ours.push(began.elapsed());
        cluster.ok(&["delete", &name]);
    }
    report(
        "apply to running, one container",
        "create + start",
        &mut ours,
        &mut engines,
    );
}

fn burst(cluster: &Cluster, floor: &Floor) {
    let mut ours = Vec::new();
    let mut engines = Vec::new();
    for round in 0..3 {
        engines.push(floor.burst());
        let name = format!("burst-{round}");
        let manifest = manifest(&name, BURST);
        let began = Instant::now();
        put(cluster.address, &name, &manifest);
        wait_running(cluster.address, &name, BURST);
        ours.push(began.elapsed());
        cluster.ok(&["delete", &name]);
    }
    report(
        "apply to running, 50 replicas",
        "create + start, 8 at a time",
        &mut ours,
        &mut engines,
    );
}

fn killed(cluster: &Cluster, floor: &Floor) {
    let mut ours = Vec::new();
    let mut engines = Vec::new();
    for round in 0..ROUNDS {
        engines.push(floor.killed());
        let name = format!("killed-{round}");
        put(cluster.address, &name, &manifest(&name, 1));
        wait_running(cluster.address, &name, 1);
        let container = status(cluster.address, &name)["containers"][0]["id"]
            .as_str()
            .map(str::to_owned);
        let container = container.expect("a running instance has a container");
        let began = Instant::now();
        engine::kill(&container);
        while status(cluster.address, &name)["restarts"] != 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        wait_running(cluster.address, &name, 1);
        ours.push(began.elapsed());
        cluster.ok(&["delete", &name]);
    }
    report(
        "killed to running again",
        "kill + start",
        &mut ours,
        &mut engines,
    );
}

/// A change of ten replicas, one after the other, each new one first.
fn rollout(cluster: &Cluster, floor: &Floor) {
    let mut ours = Vec::new();
    let mut engines = Vec::new();
    put(cluster.address, "rolling", &manifest("rolling", ROLLED));
    wait_running(cluster.address, "rolling", ROLLED);
    for round in 0..3 {
        engines.push(floor.rollout());
        let mut changed: serde_json::Value =
            serde_json::from_str(&manifest("rolling", ROLLED)).expect("a manifest");
        // What is waited for beside it is no cost of ours.
        changed["spec"]["update"] = serde_json::json!({ "minReady": "0s" });
        changed["spec"]["env"] = serde_json::json!({ "ROUND": round.to_string() });
        let (path, body) = ("/v1/workloads/default/rolling", changed.to_string());
        let began = Instant::now();
        let answer = http::send(cluster.address, "PUT", path, &[], body.as_bytes());
        assert_eq!(answer.expect("an answer").status, 200);
        let over = || {
            let rolling = http::get(cluster.address, path).ok()?.json();
            Some(rolling["status"]["rollout"]["state"] == "Completed")
        };
        while over() != Some(true) {
            std::thread::sleep(Duration::from_millis(1));
        }
        ours.push(began.elapsed());
    }
    cluster.ok(&["delete", "rolling"]);
    report(
        "change of ten replicas, one by one",
        "create + start, stop + remove, ten times",
        &mut ours,
        &mut engines,
    );
}

/// The memory of server and agent in one process with one workload, once nothing happens.
fn idle() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let manifest = dir.path().join("web.yaml");
    std::fs::write(&manifest, demo("web", "")).expect("a manifest");
    let address = harness::free_address();
    let mut dev = Command::new(WINDLASS)
        .args(["dev", "--listen", &address.to_string(), "--data-dir"])
        .arg(dir.path().join("data"))
        .arg(&manifest)
        .stdout(Stdio::null())
        .spawn()
        .expect("a development cluster");
    wait_running(address, "web", 1);
    std::thread::sleep(Duration::from_secs(20));
    let cpu = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process of ours");
        let fields: Vec<&str> = stat
            .rsplit(") ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .collect();
        fields[11].parse::<u64>().unwrap_or(0) + fields[12].parse::<u64>().unwrap_or(0)
    };
    let before = cpu(dev.id());
    std::thread::sleep(Duration::from_secs(20));
    let ticks = cpu(dev.id()) - before;
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", dev.id()));
    let rollup = rollup.expect("a process of ours");
    let pss = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .unwrap_or("?")
        .trim();
    println!(
        "idle, server and agent in one process: PSS {pss}, {} % of a core",
        ticks as f64 / 20.0
    );
    harness::signal(dev.id(), rustix::process::Signal::INT);
    dev.wait().expect("it ends");
}

fn manifest(name: &str, replicas: usize) -> String {
    format!(
        r#"{{"kind":"Service","name":"{name}","spec":{{"image":"{}","args":["demo"],
        "imagePullPolicy":"Never","replicas":{replicas},"stopGracePeriod":"1s"}}}}"#,
        engine::IMAGE
    )
}

fn put(address: SocketAddr, name: &str, manifest: &str) {
    let path = format!("/v1/workloads/default/{name}");
    let answer = http::send(address, "PUT", &path, &[], manifest.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn wait_running(address: SocketAddr, name: &str, count: usize) {
    let path = format!("/v1/workloads/default/{name}");
    loop {
        let running = http::get(address, &path)
            .ok()
            .map(|a| a.json()["status"]["running"].clone());
        if running.and_then(|n| n.as_u64()) == Some(count as u64) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn status(address: SocketAddr, workload: &str) -> serde_json::Value {
    let path = format!("/v1/instances?fieldSelector=workload={workload}");
    http::get(address, &path)
        .map(|a| a.json()["items"][0]["status"].clone())
        .unwrap_or_default()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn report(what: &str, floor: &str, ours: &mut [Duration], engines: &mut [Duration]) {
    let (ours, engines) = (median(ours), median(engines));
    let ratio = ours.as_secs_f64() / engines.as_secs_f64();
    println!("{what}: {ours:.1?}; the engine's own {floor}: {engines:.1?}; ratio {ratio:.2}");
}

/// The engine alone, doing the same.
struct Floor {
    runtime: tokio::runtime::Runtime,
    docker: Docker,
}

impl Floor {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let docker = Docker::connect_with_unix_defaults().expect("docker's socket");
        let floor = Self { runtime, docker };
        // The same kind of network: a bridge with the engine's name service costs more than the
        // default one.
        let network = NetworkCreateRequest {
            name: NETWORK.to_owned(),
            ..Default::default()
        };
        // It may be left of a run that was interrupted.
        let _ = floor.run(floor.docker.remove_network(NETWORK));
        floor
            .run(floor.docker.create_network(network))
            .expect("a network");
        floor
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    async fn start(&self) -> String {
        let body = ContainerCreateBody {
            image: Some(engine::IMAGE.to_owned()),
            cmd: Some(vec!["demo".to_owned()]),
            host_config: Some(HostConfig {
                network_mode: Some(NETWORK.to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().build();
        let id = self
            .docker
            .create_container(Some(options), body)
            .await
            .expect("created")
            .id;
        self.docker
            .start_container(&id, None::<StartContainerOptions>)
            .await
            .expect("started");
        id
    }

    async fn remove(&self, id: &str) {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        self.docker
            .remove_container(id, Some(options))
            .await
            .expect("removed");
    }

    fn one(&self) -> Duration {
        self.run(async {
            let began = Instant::now();
            let id = self.start().await;
            let took = began.elapsed();
            self.remove(&id).await;
            took
        })
    }

    fn burst(&self) -> Duration {
        self.run(async {
            let began = Instant::now();
            let starts = stream::iter(0..BURST)
                .map(|_| self.start())
                .buffer_unordered(PARALLEL);
            let ids: Vec<String> = starts.collect().await;
            let took = began.elapsed();
            for id in ids {
                self.remove(&id).await;
            }
            took
        })
    }

    fn rollout(&self) -> Duration {
        self.run(async {
            let mut old = Vec::new();
            for _ in 0..ROLLED {
                old.push(self.start().await);
            }
            let mut new = Vec::new();
            let began = Instant::now();
            for old in &old {
                new.push(self.start().await);
                let options = StopContainerOptionsBuilder::default().t(1).build();
                let stopped = self.docker.stop_container(old, Some(options)).await;
                stopped.expect("stopped");
                self.remove(old).await;
            }
            let took = began.elapsed();
            for new in &new {
                self.remove(new).await;
            }
            took
        })
    }

    fn killed(&self) -> Duration {
        self.run(async {
            let id = self.start().await;
            let options = KillContainerOptionsBuilder::default()
                .signal("KILL")
                .build();
            let began = Instant::now();
            self.docker
                .kill_container(&id, Some(options))
                .await
                .expect("killed");
            loop {
                let none = None::<InspectContainerOptions>;
                let state = self
                    .docker
                    .inspect_container(&id, none)
                    .await
                    .expect("there")
                    .state;
                if state.is_some_and(|s| s.running == Some(false)) {
                    break;
                }
            }
            self.docker
                .start_container(&id, None::<StartContainerOptions>)
                .await
                .expect("started");
            let took = began.elapsed();
            self.remove(&id).await;
            took
        })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.run(self.docker.remove_network(NETWORK));
    }
}
