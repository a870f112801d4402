//! A server that knows one agent, and the agent.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use tokio_util::sync::CancellationToken;
use windlass_agent::{Config, Offer};
use windlass_api::{
    ids::{Epoch, Generation, InstanceId},
    status::InstanceStatus,
    wire::{
        AgentFrame, AssignedInstance, AssignmentFrame, Observed, Removals, Scope, ServerFrame,
        Welcome,
    },
};

use crate::fixture::{Fixture, program};

/// How long a test waits for something that takes a few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);

type Statuses = BTreeMap<InstanceId, InstanceStatus>;

/// A server and its agent, which can be killed and started again.
pub(crate) struct Cluster {
    fixture: Fixture,
    data_dir: tempfile::TempDir,
    address: String,
    assignments: mpsc::Sender<AssignmentFrame>,
    statuses: watch::Receiver<Statuses>,
    generation: u64,
    agent: Option<JoinHandle<()>>,
    server: AbortHandle,
}

impl Cluster {
    /// Begins without an agent.
    pub(crate) async fn new() -> Self {
        let fixture = Fixture::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (assignments, assigned) = mpsc::channel(8);
        let (told, statuses) = watch::channel(Statuses::new());
        let welcome = Welcome {
            cluster: fixture.owner.cluster,
            epoch: Epoch(1),
            heartbeat_ms: 1_000,
            notice: None,
        };
        let server = tokio::spawn(serve(listener, welcome, assigned, told));
        Self {
            fixture,
            data_dir: tempfile::tempdir().unwrap(),
            address,
            assignments,
            statuses,
            generation: 0,
            agent: None,
            server: server.abort_handle(),
        }
    }

    pub(crate) fn fixture(&self) -> &Fixture {
        &self.fixture
    }

    /// Starts the agent.
    pub(crate) fn start(&mut self) {
        let config = Config {
            server: Some(self.address.clone()),
            node: self.fixture.owner.node.clone(),
            data_dir: self.data_dir.path().to_owned(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            offer: Offer::default(),
        };
        let docker = self.fixture.docker.clone();
        let docker = docker.pausing_with(&program(), &["pause"]);
        self.agent = Some(tokio::spawn(async move {
            let ended = windlass_agent::run(config, docker, CancellationToken::new()).await;
            panic!("the agent ended: {ended:?}");
        }));
    }

    /// Ends the agent in the midst of what it does.
    pub(crate) async fn kill(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.abort();
            // Its end is what was asked for.
            let _ = agent.await;
        }
    }

    /// Assigns exactly these instances.
    pub(crate) async fn assign(&mut self, instances: Vec<AssignedInstance>) {
        self.generation += 1;
        let frame = AssignmentFrame {
            epoch: Epoch(1),
            removals: Removals::Allowed,
            generation: Generation(self.generation),
            base: None,
            more: false,
            instances,
            removed: Vec::new(),
        };
        self.assignments.send(frame).await.unwrap();
    }

    /// Waits until an instance is told to be so.
    pub(crate) async fn until(
        &mut self,
        instance: &str,
        wanted: impl Fn(Option<&InstanceStatus>) -> bool,
    ) -> Option<InstanceStatus> {
        let id: InstanceId = instance.parse().unwrap();
        let waiting = self.statuses.wait_for(|statuses| wanted(statuses.get(&id)));
        let found = timeout(PATIENCE, waiting).await;
        let found = found.map(|statuses| statuses.unwrap().get(&id).cloned());
        match found {
            Ok(status) => status,
            Err(_) => panic!("it does not get there: {:#?}", self.statuses.borrow()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.abort();
        if let Some(agent) = &self.agent {
            agent.abort();
        }
    }
}

/// Serves one agent at a time, and tells what it says.
async fn serve(
    listener: TcpListener,
    welcome: Welcome,
    mut assigned: mpsc::Receiver<AssignmentFrame>,
    told: watch::Sender<Statuses>,
) {
    let mut latest = None;
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
            continue;
        };
        said(&mut socket, &ServerFrame::Welcome(welcome.clone())).await;
        if let Some(frame) = latest.clone() {
            said(&mut socket, &ServerFrame::Assignment(frame)).await;
        }
        loop {
            tokio::select! {
                Some(frame) = assigned.recv() => {
                    latest = Some(frame.clone());
                    said(&mut socket, &ServerFrame::Assignment(frame)).await;
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => hear(&text, &told),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                },
            }
        }
    }
}

async fn said(socket: &mut WebSocketStream<TcpStream>, frame: &ServerFrame) {
    let text = serde_json::to_string(frame).unwrap();
    // An agent that was killed is found out when nothing can be heard of it.
    let _ = socket.send(Message::text(text)).await;
}

fn hear(text: &str, told: &watch::Sender<Statuses>) {
    let frame: AgentFrame = serde_json::from_str(text).unwrap();
    let AgentFrame::Observed(observed) = frame else {
        return;
    };
    let Observed {
        scope,
        instances,
        gone,
        ..
    } = observed;
    told.send_modify(|statuses| {
        if scope == Scope::Full {
            statuses.clear();
        }
        statuses.extend(instances.into_iter().map(|i| (i.id, i.status)));
        statuses.retain(|id, _| !gone.contains(id));
    });
}
