use tokio::{io::DuplexStream, task::JoinHandle};
use windlass_api::{
    ids::ContainerName,
    status::{ContainerPhase, ContainerStatus, InstanceStatus, Phase, Readiness},
};

use super::*;
use crate::{
    board::Snapshot,
    fake::{Call, Fake},
    history::Histories,
    runtime::ErrorKind,
    testing::{Dialled, MemoryDial, id, instance, owner},
};

/// The stream service of a node on which `web-0-1` runs.
struct Rig {
    fake: Fake,
    server: mpsc::Receiver<Dialled>,
    requests: mpsc::Sender<Request>,
    failures: mpsc::Receiver<Failure>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Rig {
    fn new() -> Self {
        let fake = Fake::default();
        let container = fake.run(&owner(), &instance("web-0-1"));
        let started_at = fake.now();
        let status = InstanceStatus {
            containers: vec![ContainerStatus {
                name: ContainerName::only(),
                state: ContainerPhase::Running { started_at },
                readiness: Readiness::Ready,
                restarts: 0,
                last_exit: None,
                id: Some(container.0),
                image_id: None,
                image_digest: None,
            }],
            ..InstanceStatus::new(Phase::Running { started_at })
        };
        let board = Arc::new(Board::new(None, None, Histories::new()));
        let pulling = InstanceStatus::new(Phase::Pulling);
        board.snapshot.send_replace(Some(Arc::new(Snapshot {
            statuses: [(id("web-0-1"), status), (id("web-1-2"), pulling)].into(),
            ..Snapshot::default()
        })));
        let (dial, server) = MemoryDial::new();
        let (requests, asked) = mpsc::channel(QUEUE_MAX);
        let (failed, failures) = mpsc::channel(QUEUE_MAX);
        let streams = Streams {
            dial: Arc::new(dial),
            runtime: Arc::new(fake.clone()),
            board,
            requests: asked,
            failures: failed,
        };
        let shutdown = CancellationToken::new();
        Self {
            fake,
            server,
            requests,
            failures,
            task: tokio::spawn(streams.run(shutdown.clone())),
            shutdown,
        }
    }

    async fn ask(&self, stream: u128, instance: &str) {
        let what = StreamRequest::Logs {
            container: None,
            instance: id(instance),
            options: LogOptions::default(),
        };
        let stream = Uuid::from_u128(stream);
        self.requests.send(Request { stream, what }).await.unwrap();
    }
}

/// All that comes until the agent closes, and how it closes.
async fn read(socket: &mut WebSocketStream<DuplexStream>) -> (Vec<u8>, Option<CloseFrame>) {
    let (mut bytes, mut farewell) = (Vec::new(), None);
    // Reading on after the farewell is what answers it.
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(chunk) => bytes.extend(chunk),
            Message::Close(frame) => farewell = frame,
            _ => {}
        }
    }
    (bytes, farewell)
}

#[tokio::test(start_paused = true)]
async fn a_log_is_sent_and_closed_at_its_end() {
    let mut rig = Rig::new();
    let lines = ["one\n", "two\n"].map(Bytes::from);
    rig.fake.set_logs(&id("web-0-1"), lines.to_vec());
    rig.ask(1, "web-0-1").await;
    let mut dialled = rig.server.recv().await.unwrap();
    assert_eq!(dialled.path, stream_path(Uuid::from_u128(1)));
    let (bytes, close) = read(&mut dialled.socket).await;
    assert_eq!(bytes, b"one\ntwo\n");
    assert_eq!(close.unwrap().code, CloseCode::Normal);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_log_is_said_and_not_dialled() {
    let mut rig = Rig::new();
    for instance in ["web-1-2", "web-9-9"] {
        rig.ask(7, instance).await;
        let failure = rig.failures.recv().await.unwrap();
        assert_eq!(failure.stream, Uuid::from_u128(7));
        let reason = format!("{instance} has no container on its node, so there is no log to read");
        assert_eq!(failure.reason, reason);
    }
    rig.fake
        .fail_next(Call::Logs, ErrorKind::Other, "the log driver keeps none");
    rig.ask(8, "web-0-1").await;
    let failure = rig.failures.recv().await.unwrap();
    assert!(failure.reason.ends_with("the log driver keeps none"));
    assert!(rig.server.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_breaks_off_says_why() {
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let role = tungstenite::protocol::Role::Server;
    let mut reader = WebSocketStream::from_raw_socket(ours, role, None).await;
    let role = tungstenite::protocol::Role::Client;
    let writer = WebSocketStream::from_raw_socket(theirs, role, None).await;
    let broken = crate::runtime::Error {
        kind: ErrorKind::Unreachable,
        message: "ä".repeat(100),
    };
    let data = futures_util::stream::iter([Ok(Bytes::from_static(b"x")), Err(broken)]);
    let (piped, (bytes, close)) = tokio::join!(pipe(data.boxed(), writer), read(&mut reader));
    piped.unwrap();
    assert_eq!(bytes, b"x");
    let close = close.unwrap();
    assert_eq!(close.code, CloseCode::Error);
    assert_eq!(close.reason.as_str(), "ä".repeat(61));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_is_given_up() {
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let role = tungstenite::protocol::Role::Client;
    let writer = WebSocketStream::from_raw_socket(theirs, role, None).await;
    let endless = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(&[0; 512])));
    let began = tokio::time::Instant::now();
    pipe(endless.boxed(), writer).await.unwrap_err();
    assert_eq!(began.elapsed(), STALL_LIMIT);
    drop(ours);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_leaves_ends_the_stream() {
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let role = tungstenite::protocol::Role::Server;
    let mut reader = WebSocketStream::from_raw_socket(ours, role, None).await;
    let role = tungstenite::protocol::Role::Client;
    let writer = WebSocketStream::from_raw_socket(theirs, role, None).await;
    let silent = futures_util::stream::pending();
    let piping = tokio::spawn(pipe(silent.boxed(), writer));
    reader.close(None).await.unwrap();
    piping.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn there_are_not_too_many_streams() {
    let mut rig = Rig::new();
    rig.fake.delay(Call::Logs, Duration::from_secs(60));
    for n in 0..=STREAMS_MAX {
        rig.ask(n as u128, "web-0-1").await;
    }
    let failure = rig.failures.recv().await.unwrap();
    assert_eq!(failure.stream, Uuid::from_u128(STREAMS_MAX as u128));
    assert!(failure.reason.contains("serves 64 streams already"));
    rig.shutdown.cancel();
    rig.task.await.unwrap();
}
