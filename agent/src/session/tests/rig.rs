//! A session, and the server that it talks to, in memory.

use futures_util::{SinkExt, StreamExt};
use tokio::{io::DuplexStream, task::JoinHandle};
use tokio_tungstenite::tungstenite::Message;
use windlass_api::{
    ids::{AgentId, Epoch, Generation, InstanceId},
    status::{InstanceStatus, Phase},
    wire::{AssignmentFrame, Observed, Scope},
};

use super::{super::*, HEARTBEAT};
use crate::{
    Offer,
    board::Snapshot,
    fence::boot_clock,
    runtime::EngineInfo,
    testing::{Dialled, MemoryDial, cluster, id, node},
};

/// A session, and the server that it talks to.
pub(super) struct Rig {
    pub(super) server: mpsc::Receiver<Dialled>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) board: Arc<Board>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) failures: mpsc::Sender<Failure>,
    pub(super) shutdown: CancellationToken,
    pub(super) task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::open(dir.path().join("ledger.json")).unwrap());
        let board = Arc::new(Board::new(
            None,
            Some(machine()),
            BTreeMap::new(),
            boot_clock(),
        ));
        let (dial, server) = MemoryDial::new();
        let (requests, asked) = mpsc::channel(1);
        let (failed, failures) = mpsc::channel(1);
        let session = Session {
            dial: Arc::new(dial),
            introduction: Introduction {
                node: node(),
                boot: "boot".to_owned(),
                labels: BTreeMap::new(),
                taints: Vec::new(),
            },
            ledger: Arc::clone(&ledger),
            board: Arc::clone(&board),
            requests,
            failures,
        };
        let shutdown = CancellationToken::new();
        Self {
            server,
            ledger,
            board,
            requests: asked,
            failures: failed,
            task: tokio::spawn(session.run(shutdown.clone())),
            shutdown,
            _dir: dir,
        }
    }

    /// The next connection that the agent opens.
    pub(super) async fn dialled(&mut self) -> Peer {
        let dialled = self.server.recv().await.unwrap();
        assert_eq!(dialled.path, SESSION_PATH);
        Peer(dialled.socket)
    }

    /// The next connection, after the greeting and an empty list of images.
    pub(super) async fn connected(&mut self) -> Peer {
        let mut peer = self.dialled().await;
        peer.hello().await;
        peer.say(&welcome()).await;
        peer
    }

    pub(super) fn show(&self, generation: u64, phases: &[(&str, Phase)]) {
        let statuses = phases.iter().map(|(text, phase)| {
            let status = InstanceStatus::new(phase.clone());
            (id(text), status)
        });
        self.board.snapshot.send_replace(Some(Arc::new(Snapshot {
            generation: Generation(generation),
            statuses: statuses.collect(),
        })));
    }

    /// Waits until the agent holds an assignment of this generation.
    pub(super) async fn holds(&self, generation: u64) {
        let mut held = self.ledger.subscribe();
        let wanted = Generation(generation);
        held.wait_for(|h| {
            h.as_ref()
                .is_some_and(|h| h.assignment.generation == wanted)
        })
        .await
        .unwrap();
    }
}

/// The server's end of a connection.
pub(super) struct Peer(pub(super) WebSocketStream<DuplexStream>);

impl Peer {
    pub(super) async fn say(&mut self, frame: &ServerFrame) {
        let text = serde_json::to_string(frame).unwrap();
        self.0.send(Message::text(text)).await.unwrap();
    }

    pub(super) async fn assign(&mut self, frame: AssignmentFrame) {
        self.say(&ServerFrame::Assignment(frame)).await;
    }

    /// The next frame; `None` if the agent closed.
    pub(super) async fn hear(&mut self) -> Option<AgentFrame> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    pub(super) async fn hello(&mut self) -> Hello {
        match self.hear().await {
            Some(AgentFrame::Hello(hello)) => *hello,
            other => panic!("{other:?}"),
        }
    }

    /// The next frame that is neither a heartbeat nor about images, within a minute.
    pub(super) async fn hear_news(&mut self) -> Option<AgentFrame> {
        let news = async {
            loop {
                match self.hear().await {
                    Some(AgentFrame::Heartbeat { .. } | AgentFrame::Images { .. }) => {}
                    other => return other,
                }
            }
        };
        timeout(Duration::from_secs(60), news)
            .await
            .expect("the agent has news")
    }

    pub(super) async fn observed(&mut self) -> Observed {
        match self.hear_news().await {
            Some(AgentFrame::Observed(observed)) => observed,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn rejected(&mut self) -> (Generation, String) {
        match self.hear_news().await {
            Some(AgentFrame::Rejected {
                generation, reason, ..
            }) => (generation, reason),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn machine() -> Machine {
    let engine = EngineInfo {
        id: "engine".to_owned(),
        version: "1".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        capacity: Default::default(),
    };
    Machine::new(AgentId(Uuid::from_u128(5)), engine, Offer::default())
}

pub(super) fn welcome() -> ServerFrame {
    ServerFrame::Welcome(Welcome {
        cluster: cluster(),
        epoch: Epoch(1),
        heartbeat_ms: HEARTBEAT.as_millis() as u64,
        notice: None,
    })
}

pub(super) fn names(observed: &Observed) -> (Scope, Vec<&str>, Vec<&str>) {
    let instances = observed.instances.iter().map(|i| i.id.as_str()).collect();
    let gone = observed.gone.iter().map(InstanceId::as_str).collect();
    (observed.scope, instances, gone)
}
