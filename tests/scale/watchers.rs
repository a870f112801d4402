//! Many who watch the same, of whom one does not read.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
    time::timeout,
};

use super::server::Server;

/// How long until all have seen everything before it has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many write at the same time.
const WRITERS: usize = 16;

/// What became of it.
pub(crate) struct Seen {
    /// How long the changes took to be written.
    pub(crate) writing: Duration,
    /// From the last change until watchers had seen it.
    pub(crate) median: Duration,
    /// The same, for the last of them.
    pub(crate) longest: Duration,
    /// What became of the one that does not read.
    pub(crate) slow: String,
}

/// Lets `count` watch while `writes` changes are made, and asserts that all who read see every
/// last one.
pub(crate) fn run(runtime: &Runtime, server: &Server, count: usize, writes: usize) -> Seen {
    let services: Vec<String> = (0..WRITERS).map(|n| format!("watched-{n}")).collect();
    for name in &services {
        server.put(name, &manifest(0));
    }
    let address = server.address();
    let open = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 1..count {
        readers.spawn_on(
            read_until_last(
                address,
                Arc::clone(&open),
                services.clone(),
                writes / WRITERS,
            ),
            runtime.handle(),
        );
    }
    let slow = runtime.block_on(open_watch(address)).unwrap();
    let began = Instant::now();
    while open.load(Ordering::SeqCst) < count - 1 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    let began = Instant::now();
    std::thread::scope(|scope| {
        for name in &services {
            scope.spawn(move || {
                for n in 1..=writes / WRITERS {
                    server.put(name, &manifest(n));
                }
            });
        }
    });
    let writing = began.elapsed();
    let written = Instant::now();
    let mut after = runtime.block_on(async {
        let all = async {
            let mut after = Vec::new();
            while let Some(seen) = readers.join_next().await {
                let seen: Instant = seen.unwrap();
                after.push(seen.saturating_duration_since(written));
            }
            after
        };
        timeout(PATIENCE, all).await.expect("all have seen all")
    });
    after.sort();
    Seen {
        writing,
        median: after[after.len() / 2],
        longest: after[after.len() - 1],
        slow: runtime.block_on(rest_of(slow)),
    }
}

/// A service of which nothing is to run, with a text that makes it a few hundred bytes.
fn manifest(n: usize) -> serde_json::Value {
    let spec = json!({ "image": "app:1", "replicas": 0 });
    json!({ "labels": { "tick": format!("tick-{n}-end") }, "spec": spec })
}

async fn open_watch(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /v1/workloads?watch=true&labelSelector=tick HTTP/1.1\r\nhost: {address}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Reads until the last change of every service was told, and returns when that was.
async fn read_until_last(
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    services: Vec<String>,
    last: usize,
) -> Instant {
    let mut stream = open_watch(address).await.unwrap();
    let last = format!("tick-{last}-end");
    let mut missing = services.len();
    let mut text = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut is_open = false;
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the watch ended: {}", String::from_utf8_lossy(&text));
        if !is_open {
            is_open = true;
            open.fetch_add(1, Ordering::SeqCst);
        }
        text.extend_from_slice(&buffer[..n]);
        // Each message ends in an empty line; chunks may end anywhere, also in the text looked for.
        while let Some(end) = text.windows(2).position(|w| w == b"\n\n") {
            let message: Vec<u8> = text.drain(..end + 2).collect();
            if String::from_utf8_lossy(&message).contains(&last) {
                missing -= 1;
            }
        }
        if missing == 0 {
            return Instant::now();
        }
    }
}

/// What one hears that did not read for long: everything, or that it was too slow.
async fn rest_of(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match timeout(Duration::from_secs(2), stream.read(&mut buffer)).await {
            Err(_) => return format!("was told everything later ({} KiB)", text.len() >> 10),
            Ok(Ok(n)) if n > 0 => text.extend_from_slice(&buffer[..n]),
            Ok(Ok(_) | Err(_)) => {
                let told = String::from_utf8_lossy(&text);
                let gone = told.contains("event: gone") || told.contains("\"gone\"");
                let why = if gone {
                    "was told that it is too slow"
                } else {
                    "was cut off"
                };
                return format!("{why} after {} KiB", text.len() >> 10);
            }
        }
    }
}
