//! A server process, and what it uses.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::http;

/// How long a start may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the memory is looked at.
const SAMPLE: Duration = Duration::from_millis(100);
/// A page of a list.
const PAGE: usize = 1_000;

pub(crate) struct Server {
    dir: TempDir,
    address: SocketAddr,
    process: Option<Child>,
    sampler: Option<JoinHandle<()>>,
    sampled: Arc<Sampled>,
}

#[derive(Default)]
struct Sampled {
    pid: AtomicU32,
    pss_kib_max: AtomicU64,
    stop: AtomicBool,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let sampled = Arc::new(Sampled::default());
        let shared = Arc::clone(&sampled);
        let sampler = std::thread::spawn(move || {
            while !shared.stop.load(Ordering::SeqCst) {
                let now = pss_kib(shared.pid.load(Ordering::SeqCst));
                shared
                    .pss_kib_max
                    .fetch_max(now.unwrap_or(0), Ordering::SeqCst);
                std::thread::sleep(SAMPLE);
            }
        });
        let mut server = Self {
            dir: TempDir::new().unwrap(),
            address,
            process: None,
            sampler: Some(sampler),
            sampled,
        };
        server.start_again();
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.sampled.pid.store(0, Ordering::SeqCst);
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Returns how long it took until it took writes.
    pub(crate) fn start_again(&mut self) -> Duration {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("server.log"))
            .unwrap();
        let began = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_windlass"))
            .args([
                "server",
                "--listen",
                &self.address.to_string(),
                "--data-dir",
            ])
            .arg(self.dir.path().join("data"))
            .env("WINDLASS_LOG", "warn")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let pid = process.id();
        self.process = Some(process);
        while !http::get(self.address, "/readyz").is_ok_and(|answer| answer.status == 200) {
            assert!(began.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.sampled.pid.store(pid, Ordering::SeqCst);
        began.elapsed()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// The memory that it has now, in KiB.
    pub(crate) fn pss_kib(&self) -> u64 {
        pss_kib(self.pid()).expect("the server runs")
    }

    /// The most memory that it had, in KiB.
    pub(crate) fn pss_kib_max(&self) -> u64 {
        self.sampled.pss_kib_max.load(Ordering::SeqCst)
    }

    /// The time on processors that it has used.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    pub(crate) fn info(&self) -> Value {
        http::get(self.address, "/v1/cluster").unwrap().json()
    }

    /// All objects of a list.
    pub(crate) fn list(&self, what: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let separator = if what.contains('?') { '&' } else { '?' };
        let first = format!("/v1/{what}{separator}limit={PAGE}");
        let mut path = first.clone();
        loop {
            let answer = http::get(self.address, &path).unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let page = answer.json();
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => path = format!("{first}&continue={next}"),
                None => return items,
            }
        }
    }

    /// Makes or changes a service.
    pub(crate) fn put(&self, name: &str, manifest: &Value) {
        let mut manifest = manifest.clone();
        manifest["kind"] = "Service".into();
        manifest["name"] = name.into();
        let path = format!("/v1/workloads/default/{name}");
        let body = manifest.to_string();
        let answer = http::send(self.address, "PUT", &path, &[], body.as_bytes()).unwrap();
        assert!(answer.status < 300, "{}", answer.text());
    }
}

fn pss_kib(pid: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        self.sampled.stop.store(true, Ordering::SeqCst);
        if let Some(sampler) = self.sampler.take() {
            let _ended = sampler.join();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}
