//! A server without a socket, and what speaks to it.

use std::{pin::Pin, sync::Arc};

use axum::{
    Router,
    body::{Body, BodyDataStream},
    http::{HeaderMap, Method, Request, StatusCode, header},
    response::Response,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;
use windlass_api::{
    clock::Clock,
    ids::{AgentId, ClusterId, NodeName},
    problem::{Code, PROBLEM_JSON, Problem},
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, NodeInfo},
    wire::{Hello, PROTOCOL, RuntimeHealth},
};
use windlass_core::{access::Caller, cluster::Cluster};

use crate::{
    controller::{self, Controller, Handle, Incumbent},
    http::{self, Entrance, Parts, operation::Operation},
    metrics::Metrics,
    sessions::Sessions,
    store::{Committer, MemoryStore},
};

pub(super) struct Server {
    pub(super) router: Router,
    pub(super) handle: Handle,
    pub(super) store: MemoryStore,
    pub(super) sessions: Arc<Sessions>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: CancellationToken,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::start_with(Vec::new())
    }

    /// The same server, for somebody else.
    pub(super) fn entered_by(&self, caller: Caller) -> Self {
        let parts = self.parts();
        self.with(http::routers(parts, &[Entrance::For(caller)]).remove(0))
    }

    /// The same server, through another router. When it is dropped, the server goes on.
    pub(super) fn with(&self, router: Router) -> Self {
        Self {
            router,
            handle: self.handle.clone(),
            store: self.store.clone(),
            sessions: Arc::clone(&self.sessions),
            metrics: Arc::clone(&self.metrics),
            shutdown: self.shutdown.child_token(),
        }
    }

    pub(super) fn parts(&self) -> Parts {
        Parts {
            handle: self.handle.clone(),
            metrics: Arc::clone(&self.metrics),
            sessions: Arc::clone(&self.sessions),
            trust: None,
            shutdown: self.shutdown.clone(),
        }
    }

    /// A server that can do more than it should.
    pub(super) fn start_with(more: Vec<Operation>) -> Self {
        let store = MemoryStore::new();
        let committer = Committer::spawn(Box::new(store.clone())).unwrap();
        let metrics = Arc::new(Metrics::new());
        let cluster = Cluster::new(ClusterId(Uuid::new_v4()));
        let (controller, handle) =
            Controller::new(cluster, committer, Arc::clone(&metrics), Clock::default());
        let shutdown = CancellationToken::new();
        tokio::spawn(controller.run(shutdown.clone()));
        let sessions = Arc::new(Sessions::default());
        let parts = Parts {
            handle: handle.clone(),
            metrics: Arc::clone(&metrics),
            sessions: Arc::clone(&sessions),
            trust: None,
            shutdown: shutdown.clone(),
        };
        let operations = http::operations::all().into_iter().chain(more).collect();
        let router = http::build(operations, parts, &[Entrance::Loopback]).remove(0);
        Self {
            router,
            handle,
            store,
            sessions,
            metrics,
            shutdown,
        }
    }

    /// Lets an agent in.
    pub(super) async fn join(&self, name: &str, cpu: CpuMillis) {
        self.try_join(name, cpu).await.unwrap();
    }

    /// A new agent asks to be let in.
    pub(super) async fn try_join(
        &self,
        name: &str,
        cpu: CpuMillis,
    ) -> Result<(), controller::Error> {
        let hello = hello(name, cpu);
        self.handle
            .hello(hello, Incumbent::Connected)
            .await
            .map(drop)
    }

    pub(super) fn node(&self, name: &str) -> NodeName {
        name.parse().unwrap()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX)
            .await
            .unwrap()
            .to_vec();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    pub(super) async fn get(&self, target: &str) -> Answer {
        self.send(request(Method::GET, target).body(Body::empty()).unwrap())
            .await
    }

    /// Asks for something and does not read the answer.
    pub(super) async fn open(&self, target: &str) -> Response {
        let request = request(Method::GET, target).body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn write(&self, method: Method, target: &str, body: &Value) -> Answer {
        self.send(json_request(method, target, &[], body)).await
    }

    /// Makes or changes a workload in the namespace `default`.
    pub(super) async fn put(&self, name: &str, replicas: u32) -> Value {
        let target = format!("/v1/workloads/default/{name}");
        let answer = self
            .write(Method::PUT, &target, &manifest(name, replicas))
            .await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.json()
    }

    /// Opens a watch.
    pub(super) async fn watch(&self, target: &str) -> Watcher {
        let request = request(Method::GET, target).body(Body::empty()).unwrap();
        self.watch_as(request).await
    }

    /// Opens a watch with headers of its own.
    pub(super) async fn watch_as(&self, request: Request<Body>) -> Watcher {
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        Watcher {
            stream: response.into_body().into_data_stream(),
            buffer: String::new(),
        }
    }
}

/// The greeting of a new agent.
pub(super) fn hello(name: &str, cpu: CpuMillis) -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: name.parse().unwrap(),
        info: NodeInfo {
            agent_id: AgentId(Uuid::new_v4()),
            agent_version: "1".to_owned(),
            engine_id: name.to_owned(),
            boot_id: "boot".to_owned(),
            engine_version: "1".to_owned(),
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
        },
        capacity: Capacity {
            cpu,
            memory: MemoryBytes(8 << 30),
        },
        labels: [("zone".to_owned(), "eu".to_owned())].into(),
        taints: Vec::new(),
        cluster: None,
        seen: None,
        runtime: RuntimeHealth::Healthy,
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(super) fn request(method: Method, target: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "localhost:7400")
}

pub(super) fn json_request(
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Request<Body> {
    let mut builder =
        request(method, target).header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(body.to_string())).unwrap()
}

pub(super) fn manifest(name: &str, replicas: u32) -> Value {
    json!({
        "kind": "Service",
        "name": name,
        "labels": { "app": name },
        "spec": { "image": "nginx:1.27", "replicas": replicas },
    })
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The problem that the answer is, after checking everything that holds for all of them.
    pub(super) fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), PROBLEM_JSON, "{self:?}");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.request_id, self.header("x-request-id"));
        assert!(!problem.request_id.is_empty());
        assert_eq!(
            problem.type_uri,
            format!("urn:windlass:problem:{}", problem.code.as_str())
        );
        assert!(!problem.detail.is_empty());
        problem
    }

    pub(super) fn refused(&self, code: Code) -> Problem {
        let problem = self.problem();
        assert_eq!(problem.code, code, "{problem:?}");
        problem
    }

    /// The names of a list's items.
    pub(super) fn names(&self) -> Vec<String> {
        let json = self.json();
        let items = json["items"].as_array().unwrap_or_else(|| panic!("{json}"));
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Reads the events of a watch.
pub(super) struct Watcher {
    stream: BodyDataStream,
    buffer: String,
}

/// One server-sent event.
#[derive(Debug, PartialEq)]
pub(super) struct Sent {
    pub(super) kind: String,
    pub(super) id: Option<u64>,
    pub(super) data: Value,
}

impl Watcher {
    /// The next event; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((message, rest)) = self.buffer.split_once("\n\n") {
                let sent = parse(message);
                self.buffer = rest.to_owned();
                return Some(sent);
            }
            let bytes = Pin::new(&mut self.stream).next().await?.unwrap();
            self.buffer.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// The next event in short, like `put web 12` with the number of wanted instances.
    pub(super) async fn brief(&mut self) -> String {
        let Sent { kind, data, .. } = self.next().await.expect("the watch ended");
        assert_eq!(data["type"], kind.as_str());
        match kind.as_str() {
            "put" => {
                let (name, wanted) = (&data["object"]["name"], &data["object"]["status"]["wanted"]);
                format!("put {} {wanted}", name.as_str().unwrap())
            }
            "delete" => format!("delete {}", data["name"].as_str().unwrap()),
            other => other.to_owned(),
        }
    }
}

fn parse(message: &str) -> Sent {
    let field = |name: &str| {
        let prefix = format!("{name}: ");
        message
            .lines()
            .find_map(|line| line.strip_prefix(prefix.as_str()))
    };
    Sent {
        kind: field("event").unwrap().to_owned(),
        id: field("id").map(|id| id.parse().unwrap()),
        data: serde_json::from_str(field("data").unwrap()).unwrap(),
    }
}
