use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpListener,
    task::JoinHandle,
};
use windlass_api::{
    ids::ContainerName,
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, NodeInfo},
    socket::Message,
    stats::NodeUsage,
    status::{ContainerPhase, ContainerStatus, InstanceStatus, Phase, Readiness},
    wire::{ExecOptions, FilePart, LogOptions, SignalName, TerminalSize},
};

use super::*;
use crate::{
    board::{Machine, Snapshot},
    fake::{Call, Fake},
    fence::boot_clock,
    history::Histories,
    runtime::ErrorKind,
    testing::{Dialled, MemoryDial, cluster, id, instance, node, owner},
};

/// The stream service of a node on which `web-0-1` runs.
struct Rig {
    fake: Fake,
    server: mpsc::Receiver<Dialled>,
    requests: mpsc::Sender<Request>,
    failures: mpsc::Receiver<Failure>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
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
            address: Some([127, 0, 0, 1].into()),
            ..InstanceStatus::new(Phase::Running { started_at })
        };
        let board = Arc::new(Board::new(
            Some(cluster()),
            Some(machine()),
            Histories::new(),
            boot_clock(),
        ));
        let pulling = InstanceStatus::new(Phase::Pulling);
        board.snapshot.send_replace(Some(Arc::new(Snapshot {
            statuses: [(id("web-0-1"), status), (id("web-1-2"), pulling)].into(),
            ..Snapshot::default()
        })));
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path().join("ledger.json")).unwrap();
        let (dial, server) = MemoryDial::new();
        let (requests, asked) = mpsc::channel(QUEUE_MAX);
        let (failed, failures) = mpsc::channel(QUEUE_MAX);
        let streams = Streams {
            dial: Arc::new(dial),
            runtime: Arc::new(fake.clone()),
            board,
            ledger: Arc::new(ledger),
            node: node(),
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
            _dir: dir,
        }
    }

    async fn ask(&self, stream: u128, what: StreamRequest) {
        let stream = Uuid::from_u128(stream);
        self.requests.send(Request { stream, what }).await.unwrap();
    }

    /// The server's end of a stream that is asked for.
    async fn open(&mut self, what: StreamRequest) -> End {
        self.ask(1, what).await;
        let dialled = self.server.recv().await.unwrap();
        assert_eq!(dialled.path, stream_path(Uuid::from_u128(1)));
        socket::split(dialled.socket)
    }

    async fn failure(&mut self, what: StreamRequest) -> String {
        self.ask(7, what).await;
        let failure = self.failures.recv().await.unwrap();
        assert_eq!(failure.stream, Uuid::from_u128(7));
        failure.reason
    }

    /// Waits until something was done to a command or a file.
    async fn reached(&self, what: &str) {
        while !self.fake.reached().iter().any(|done| done == what) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

type End = (Outgoing<DuplexStream>, Incoming<DuplexStream>);

fn machine() -> Machine {
    Machine {
        info: NodeInfo {
            agent_id: windlass_api::ids::AgentId(Uuid::nil()),
            agent_version: String::new(),
            engine_id: String::new(),
            boot_id: "boot".to_owned(),
            engine_version: String::new(),
            os: String::new(),
            arch: String::new(),
        },
        capacity: Capacity {
            cpu: CpuMillis(2_000),
            memory: MemoryBytes(1 << 30),
        },
    }
}

fn logs(instance: &str) -> StreamRequest {
    StreamRequest::Logs {
        instance: id(instance),
        container: None,
        options: LogOptions::default(),
    }
}

fn exec(command: &str, terminal: Option<TerminalSize>) -> StreamRequest {
    StreamRequest::Exec {
        instance: id("web-0-1"),
        container: None,
        options: ExecOptions {
            command: command.split(' ').map(str::to_owned).collect(),
            stdin: true,
            terminal,
            terminal_kind: None,
        },
    }
}

/// All data that comes, the last word about it, and how the stream ends.
async fn read(incoming: &mut Incoming<DuplexStream>) -> (Vec<u8>, Option<Control>, Option<String>) {
    let (mut bytes, mut last) = (Vec::new(), None);
    loop {
        match incoming.next().await {
            Ok(Some(Message::Data(chunk))) => bytes.extend(chunk),
            Ok(Some(Message::Control(control))) => last = Some(control),
            Ok(None) => return (bytes, last, None),
            Err(error) => return (bytes, last, Some(error.to_string())),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_is_sent_and_closed_at_its_end() {
    let mut rig = Rig::new();
    let lines = ["one\n", "two\n"].map(Bytes::from);
    rig.fake.set_logs(&id("web-0-1"), lines.to_vec());
    let (_out, mut incoming) = rig.open(logs("web-0-1")).await;
    let (bytes, _, broken) = read(&mut incoming).await;
    assert_eq!((&bytes[..], broken), (&b"one\ntwo\n"[..], None));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_log_is_said_and_not_dialled() {
    let mut rig = Rig::new();
    for instance in ["web-1-2", "web-9-9"] {
        let reason = format!("{instance} has no container on its node at the moment");
        assert_eq!(rig.failure(logs(instance)).await, reason);
    }
    let other = StreamRequest::Logs {
        instance: id("web-0-1"),
        container: Some("proxy".parse().unwrap()),
        options: LogOptions::default(),
    };
    assert_eq!(
        rig.failure(other).await,
        "web-0-1 has no container proxy: it has main"
    );
    rig.fake
        .fail_next(Call::Logs, ErrorKind::Other, "the log driver keeps none");
    let reason = rig.failure(logs("web-0-1")).await;
    assert!(reason.ends_with("the log driver keeps none"));
    assert!(rig.server.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_breaks_off_says_why() {
    let (ours, theirs) = pair().await;
    let broken = crate::runtime::Error {
        kind: ErrorKind::Unreachable,
        message: "the engine is gone".to_owned(),
    };
    let data = futures_util::stream::iter([Ok(Bytes::from_static(b"x")), Err(broken)]);
    let (_out, mut incoming) = ours;
    let (sent, (bytes, _, why)) =
        tokio::join!(logs::send(Box::pin(data), theirs), read(&mut incoming));
    sent.unwrap();
    assert_eq!(bytes, b"x");
    assert_eq!(why.as_deref(), Some("the engine is gone"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_leaves_ends_the_stream() {
    let ((out, incoming), theirs) = pair().await;
    let silent = Box::pin(futures_util::stream::pending());
    let sending = tokio::spawn(logs::send(silent, theirs));
    out.close(incoming).await.unwrap();
    sending.await.unwrap().unwrap();
}

async fn pair() -> (End, End) {
    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let ours = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
    let theirs = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    (socket::split(ours), socket::split(theirs))
}

#[tokio::test(start_paused = true)]
async fn there_are_not_too_many_streams() {
    let mut rig = Rig::new();
    rig.fake.delay(Call::Logs, Duration::from_secs(60));
    for n in 0..=STREAMS_MAX {
        rig.ask(n as u128, logs("web-0-1")).await;
    }
    let failure = rig.failures.recv().await.unwrap();
    assert_eq!(failure.stream, Uuid::from_u128(STREAMS_MAX as u128));
    assert!(failure.reason.contains("serves 64 streams already"));
    rig.shutdown.cancel();
    rig.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_is_fed_to_the_end_of_its_input() {
    let mut rig = Rig::new();
    let (mut out, mut incoming) = rig.open(exec("cat", None)).await;
    // More than the command and the connections hold: both directions have to move.
    let much = Bytes::from(vec![b'x'; 100_000]);
    let feeding = async {
        out.data(much.clone()).await.unwrap();
        out.control(&Control::Eof).await.unwrap();
    };
    let ((), (bytes, last, broken)) = tokio::join!(feeding, read(&mut incoming));
    let output = bytes.iter().filter(|byte| **byte == b'x').count();
    assert_eq!(output, much.len());
    assert_eq!(bytes[0], 1, "it says that it is standard output");
    assert_eq!(last, Some(Control::Exit { code: 0 }));
    assert_eq!(broken, None);
}

#[tokio::test(start_paused = true)]
async fn how_a_command_ended_is_told_exactly() {
    let mut rig = Rig::new();
    for code in [0, 3, 137, 255] {
        let (_out, mut incoming) = rig.open(exec(&format!("exit {code}"), None)).await;
        let (_, last, _) = read(&mut incoming).await;
        assert_eq!(last, Some(Control::Exit { code }));
    }
    let (_out, mut incoming) = rig.open(exec("nope", None)).await;
    let (bytes, last, _) = read(&mut incoming).await;
    assert!(bytes.is_empty(), "it is no output of the command");
    let Some(Control::Failed { code, reason }) = last else {
        panic!("{last:?}")
    };
    assert_eq!(code, Some(126));
    assert_eq!(reason, "the command cannot be run: not found");
}

#[tokio::test(start_paused = true)]
async fn signals_and_sizes_reach_the_command() {
    let mut rig = Rig::new();
    let (mut out, incoming) = rig.open(exec("hang", None)).await;
    let size = TerminalSize {
        rows: 30,
        columns: 100,
    };
    out.control(&Control::Resize(size)).await.unwrap();
    let signal = SignalName::Int;
    out.control(&Control::Signal { signal }).await.unwrap();
    rig.reached("resize 30x100").await;
    rig.reached("signal Int").await;
    drop((out, incoming));
}

/// With a terminal and without: the engine reads on what a command writes, which would not notice.
#[tokio::test(start_paused = true)]
async fn a_command_that_is_left_is_hung_up_on() {
    let mut rig = Rig::new();
    let size = TerminalSize {
        rows: 30,
        columns: 100,
    };
    let hang_ups = |rig: &Rig| {
        let reached = rig.fake.reached();
        reached.iter().filter(|done| *done == "signal Hup").count()
    };
    let mut left = 0;
    for terminal in [Some(size), None] {
        // Without a farewell, as when the cable is cut; and with one.
        drop(rig.open(exec("hang", terminal)).await);
        left += 1;
        while hang_ups(&rig) < left {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (out, incoming) = rig.open(exec("hang", terminal)).await;
        out.close(incoming).await.unwrap();
        left += 1;
        while hang_ups(&rig) < left {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // One that hears nothing for too long has been left, too.
        let began = tokio::time::Instant::now();
        let _end = rig.open(exec("hang", terminal)).await;
        left += 1;
        while hang_ups(&rig) < left {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(began.elapsed() >= windlass_api::wire::SILENT_AFTER);
    }
}

/// Found in review: the agent left them behind.
#[tokio::test(start_paused = true)]
async fn an_agent_that_stops_hangs_up_on_commands_and_says_so() {
    let mut rig = Rig::new();
    let (_out, mut incoming) = rig.open(exec("hang", None)).await;
    let (_other, mut silent) = rig.open(logs("web-0-1")).await;
    rig.shutdown.cancel();
    let (_, last, broken) = read(&mut incoming).await;
    assert_eq!((last, broken.as_deref()), (None, Some("the agent stops")));
    assert!(rig.fake.reached().contains(&"signal Hup".to_owned()));
    read(&mut silent).await;
    rig.task.await.unwrap();
}

#[tokio::test]
async fn each_direction_of_a_connection_is_closed_by_itself() {
    let mut rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let what = StreamRequest::Forward {
        instance: id("web-0-1"),
        port,
    };
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        // It answers once it has heard everything.
        stream.read_to_end(&mut request).await.unwrap();
        stream.write_all(&request).await.unwrap();
    });
    let (mut out, mut incoming) = rig.open(what.clone()).await;
    out.data(Bytes::from_static(b"hello")).await.unwrap();
    out.control(&Control::Eof).await.unwrap();
    let (bytes, last, broken) = read(&mut incoming).await;
    assert_eq!((&bytes[..], last), (&b"hello"[..], Some(Control::Eof)));
    assert_eq!(broken, None);
    serving.await.unwrap();
    let reason = rig.failure(what).await;
    assert!(
        reason.contains("nothing in the instance listens"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn files_come_after_what_they_are() {
    let mut rig = Rig::new();
    let files = |path: &str, part| StreamRequest::ReadFiles {
        instance: id("web-0-1"),
        container: None,
        path: path.to_owned(),
        part,
    };
    for (path, part, bytes) in [
        ("/a", FilePart::Whole, &b"tar"[..]),
        ("/a", FilePart::Info, b""),
        ("/nowhere", FilePart::Whole, b""),
    ] {
        let (_out, mut incoming) = rig.open(files(path, part)).await;
        let (read, said, broken) = read(&mut incoming).await;
        assert_eq!((&read[..], broken), (bytes, None));
        match said.unwrap() {
            Control::Found(info) => assert_eq!(info.name, "a"),
            other => assert_eq!((path, other), ("/nowhere", Control::Missing)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn half_an_archive_is_not_taken_for_a_whole_one() {
    let mut rig = Rig::new();
    let what = StreamRequest::WriteFiles {
        instance: id("web-0-1"),
        container: None,
        path: "/data".to_owned(),
    };
    let (mut out, mut incoming) = rig.open(what.clone()).await;
    out.data(Bytes::from_static(b"whole")).await.unwrap();
    out.control(&Control::Eof).await.unwrap();
    let (_, said, broken) = read(&mut incoming).await;
    assert_eq!((said, broken), (None, None));
    rig.reached("5 bytes to /data").await;

    let (mut out, incoming) = rig.open(what).await;
    out.data(Bytes::from_static(b"half")).await.unwrap();
    drop((out, incoming));
    while rig.fake.reached().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(rig.fake.reached()[1].starts_with("half an archive"));
}

#[tokio::test(start_paused = true)]
async fn what_is_used_is_measured_when_somebody_asks() {
    let mut rig = Rig::new();
    let (_out, mut incoming) = rig.open(StreamRequest::Stats).await;
    let (json, _, _) = read(&mut incoming).await;
    let usage: NodeUsage = serde_json::from_slice(&json).unwrap();
    assert_eq!(usage.capacity, machine().capacity);
    assert_eq!(usage.instances[0].name, id("web-0-1"));
    assert_eq!(usage.instances[0].usage.memory, MemoryBytes(1 << 20));
}
