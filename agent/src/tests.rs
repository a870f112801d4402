//! The whole agent, with a server on a real socket and an engine in memory.

use std::path::Path;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};
use windlass_api::{
    ids::Epoch,
    wire::{AgentFrame, AssignmentFrame, ServerFrame, Welcome},
};

use super::*;
use crate::{
    fake::{Call, Fake},
    testing::{cluster, id, instance, node, whole},
};

/// No test should ever take this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(server: String, data_dir: &Path) -> Config {
    Config {
        server: Some(server),
        node: node(),
        data_dir: data_dir.to_owned(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        offer: Offer::default(),
    }
}

fn fake() -> Fake {
    let fake = Fake::default();
    fake.add_image("web:1");
    fake
}

struct Agent {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Agent {
    fn start(server: String, data_dir: &Path, fake: &Fake) -> Self {
        let stop = CancellationToken::new();
        let running = run(config(server, data_dir), fake.clone(), stop.clone());
        let task = tokio::spawn(running);
        Self { stop, task }
    }

    async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

struct Server {
    listener: TcpListener,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    fn address(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// Lets an agent in and assigns to it; returns the connection when it runs `count` instances.
    async fn serve(&self, frame: AssignmentFrame, count: usize) -> WebSocketStream<TcpStream> {
        let served = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut socket = accept_async(stream).await.unwrap();
            let welcome = Welcome {
                cluster: cluster(),
                epoch: Epoch(1),
                heartbeat_ms: 500,
                notice: None,
            };
            for frame in [
                ServerFrame::Welcome(welcome),
                ServerFrame::Assignment(frame),
            ] {
                let text = serde_json::to_string(&frame).unwrap();
                socket.send(Message::text(text)).await.unwrap();
            }
            let mut running = std::collections::BTreeSet::new();
            while running.len() < count {
                let message = socket.next().await.unwrap().unwrap();
                let Message::Text(text) = message else {
                    continue;
                };
                let frame: AgentFrame = serde_json::from_str(&text).unwrap();
                let AgentFrame::Observed(observed) = frame else {
                    continue;
                };
                for seen in observed.instances {
                    if seen.status.phase.is_running() {
                        running.insert(seen.id);
                    }
                }
            }
            socket
        };
        timeout(PATIENCE, served).await.unwrap()
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

#[tokio::test]
async fn it_runs_what_it_is_assigned_and_goes_on_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (server, fake) = (Server::start().await, fake());
    let agent = Agent::start(server.address(), dir.path(), &fake);
    let frame = whole(1, vec![instance("web-0-1"), instance("web-1-2")]);
    let socket = server.serve(frame, 2).await;
    let address = server.address();
    drop((socket, server));
    fake.exit(&id("web-0-1"), 1);
    until("it is started without the server", || {
        fake.count(Call::Start) == 3
    })
    .await;
    agent.stop().await.unwrap();
    assert_eq!(fake.containers().len(), 2, "containers outlive the agent");

    // The next agent adopts one, and starts the other that ended meanwhile.
    fake.exit(&id("web-1-2"), 1);
    let agent = Agent::start(address, dir.path(), &fake);
    until("the next agent starts it", || fake.count(Call::Start) == 4).await;
    agent.stop().await.unwrap();
    assert_eq!((fake.count(Call::Create), fake.count(Call::Stop)), (2, 0));
}

#[tokio::test]
async fn after_a_lost_ledger_containers_are_adopted_by_their_labels() {
    let dir = tempfile::tempdir().unwrap();
    let (server, fake) = (Server::start().await, fake());
    let frame = || whole(1, vec![instance("web-0-1")]);
    let agent = Agent::start(server.address(), dir.path(), &fake);
    drop(server.serve(frame(), 1).await);
    agent.stop().await.unwrap();
    std::fs::write(dir.path().join("ledger.json"), "torn").unwrap();

    let agent = Agent::start(server.address(), dir.path(), &fake);
    server.serve(frame(), 1).await;
    agent.stop().await.unwrap();
    assert!(dir.path().join("ledger.json.corrupt").exists());
    let counts = (fake.count(Call::Create), fake.count(Call::Stop));
    assert_eq!(counts, (1, 0));
}

#[tokio::test]
async fn two_agents_do_not_work_on_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (server, fake) = (Server::start().await, fake());
    let first = Agent::start(server.address(), dir.path(), &fake);
    server.serve(whole(1, vec![]), 0).await;
    let second = Agent::start(server.address(), dir.path(), &fake);
    let error = timeout(PATIENCE, second.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(error, Error::DataDir(DataDirError::Locked { .. })),
        "{error}"
    );
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_address_is_an_error_and_no_wait() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start("127.0.0.1:7400".to_owned(), dir.path(), &fake());
    let error = agent.task.await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("http://127.0.0.1:7400"),
        "{error}"
    );
}

#[tokio::test]
async fn a_part_that_breaks_down_brings_the_agent_down() {
    let dir = tempfile::tempdir().unwrap();
    let (server, fake) = (Server::start().await, fake());
    fake.panic_next(Call::Create);
    let agent = Agent::start(server.address(), dir.path(), &fake);
    let frame = whole(1, vec![instance("web-0-1")]);
    let _socket = server.serve(frame, 0).await;
    let ended = timeout(PATIENCE, agent.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Panicked(_))), "{ended:?}");
}
