//! An update that nobody notices: a client follows the ready instances in the API's watch, and
//! every one of its requests is answered.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Cluster, demo, http};

/// How many clients there are.
const CLIENTS: usize = 4;

#[test]
fn a_rolling_update_of_four_replicas_loses_no_request() {
    let cluster = Cluster::start(2);
    // What is told to stop is told a moment before it stops, so that clients hear of it first.
    let fields = |message: &str| {
        format!(
            "replicas: 4\nenv: {{ DEMO_MESSAGE: {message} }}\npreStop: {{ sleep: 2s }}\n\
             ports: [{{ name: http, container: 8080 }}]\n\
             probes: {{ readiness: {{ http: {{ port: http, path: /healthz }}, interval: 500ms }} }}\n\
             update: {{ order: startFirst, minReady: 500ms }}"
        )
    };
    cluster.apply(&demo("web", &fields("one")));
    let traffic = Traffic::start(&cluster, "web");
    cluster.eventually("clients are served", |_| traffic.answers("one") > 50);
    cluster.apply(&demo("web", &fields("two")));
    cluster.eventually("clients see the new revision", |_| {
        traffic.answers("two") > 50
    });
    let (answers, failures) = traffic.stop();
    assert_eq!(failures, Vec::<String>::new(), "answered: {answers:?}");
    assert_eq!(cluster.workload("web")["status"]["revision"], 2);
}

/// Clients that ask the ready instances of a workload, over and over.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    ready: Mutex<BTreeMap<String, SocketAddr>>,
    answers: Mutex<BTreeMap<String, usize>>,
    failures: Mutex<Vec<String>>,
}

impl Traffic {
    pub(crate) fn start(cluster: &Cluster, workload: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let events = watch(cluster.address, workload);
        let watching = Arc::clone(&shared);
        // It ends with the server.
        std::thread::spawn(move || watching.follow(events));
        let clients = (0..CLIENTS).map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.ask())
        });
        Self {
            clients: clients.collect(),
            shared,
        }
    }

    /// How many answers had this message.
    pub(crate) fn answers(&self, message: &str) -> usize {
        let answers = self.shared.answers.lock().unwrap();
        answers.get(message).copied().unwrap_or_default()
    }

    pub(crate) fn stop(self) -> (BTreeMap<String, usize>, Vec<String>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        let answers = self.shared.answers.lock().unwrap().clone();
        let failures = self.shared.failures.lock().unwrap().clone();
        (answers, failures)
    }
}

impl Shared {
    /// Keeps the addresses of the ready instances.
    fn follow(&self, events: impl BufRead) {
        for line in events.lines().map_while(Result::ok) {
            let Some(data) = line.strip_prefix("data: ") else {
                continue;
            };
            let event: Value = serde_json::from_str(data).expect("an event is JSON");
            let mut ready = self.ready.lock().unwrap();
            match event["type"].as_str() {
                Some("put") => {
                    let instance = &event["object"];
                    let name = instance["name"].as_str().expect("a name").to_owned();
                    match address(instance) {
                        Some(address) => ready.insert(name, address),
                        None => ready.remove(&name),
                    };
                }
                Some("delete") => {
                    let name = event["name"].as_str().expect("a name");
                    ready.remove(name.rsplit('/').next().expect("a name"));
                }
                _ => {}
            }
        }
    }

    /// Asks each of them, and notes what comes.
    fn ask(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let ready = self.ready.lock().unwrap().clone();
            for (name, address) in ready {
                match http::get(address, "/") {
                    Ok(answer) if answer.status == 200 => {
                        let message = answer.json()["message"].as_str().map(str::to_owned);
                        let mut answers = self.answers.lock().unwrap();
                        *answers.entry(message.unwrap_or_default()).or_default() += 1;
                    }
                    other => {
                        let mut failures = self.failures.lock().unwrap();
                        failures.push(format!("{name} at {address}: {other:?}"));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where an instance is asked, if it is ready and not on its way out.
fn address(instance: &Value) -> Option<SocketAddr> {
    let serves = instance["goal"] == "Run" && instance["status"]["readiness"]["state"] == "Ready";
    let address: IpAddr = instance["status"]["address"].as_str()?.parse().ok()?;
    serves.then_some(SocketAddr::new(address, 8080))
}

/// The events about the instances of a workload, one line after the other.
fn watch(server: SocketAddr, workload: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    let request = format!(
        "GET /v1/instances?watch=true&fieldSelector=workload%3D{workload} HTTP/1.1\r\n\
         host: {server}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    BufReader::new(stream)
}
