//! How many durable writes a second the disk store does, beside what the disk itself does.
//!
//! Several writers hand records to one committer, which makes a batch of all that wait, as the
//! controller does. The disk's own pace is one thread that appends and calls `fdatasync`; a
//! commit has two syncs, so with one writer half of that is the most there can be.
//!
//! `cargo bench --bench store`; it writes into the directory that `TMPDIR` names. Without
//! `--bench`, as `cargo test` starts it, it only shows that it runs.
#![allow(clippy::unwrap_used, reason = "a benchmark")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::{
    fs::File,
    io::Write,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use windlass_api::ids::Version;
use windlass_orchestrator::store::{Batch, DiskStore, Guard, Key, Store};

/// Records that are written again and again, as many as a mid-sized cluster has instances.
const RECORDS: u64 = 2_000;

fn main() {
    let measured = std::env::args().any(|arg| arg == "--bench");
    let raw_writes = if measured { 1_000 } else { 10 };
    println!(
        "{:>7} {:>8} {:>10} {:>10} {:>10} {:>12} {:>7}",
        "value B", "writers", "writes/s", "p50 us", "p99 us", "write+sync/s", "ratio"
    );
    for value_bytes in [256, 2_048] {
        for writers in [1, 16, 64] {
            // Just before, since shared disks change their pace.
            let raw = raw_pace(value_bytes, raw_writes);
            let each = if measured { 20_000 / writers + 200 } else { 5 };
            let (pace, mut latencies) = store_pace(value_bytes, writers, each);
            latencies.sort();
            let at = |part: usize| latencies[(latencies.len() - 1) * part / 100].as_micros();
            let (p50, p99, ratio) = (at(50), at(99), pace / raw);
            println!(
                "{value_bytes:>7} {writers:>8} {pace:>10.0} {p50:>10} {p99:>10} {raw:>12.0} {ratio:>7.2}"
            );
        }
    }
}

/// Appends and syncs a second.
fn raw_pace(value_bytes: usize, count: u32) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let mut file = File::create(dir.path().join("raw")).unwrap();
    let value = vec![0x5a; value_bytes];
    let began = Instant::now();
    for _ in 0..count {
        file.write_all(&value).unwrap();
        file.sync_data().unwrap();
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}

struct Request {
    key: Key,
    value: Vec<u8>,
    done: SyncSender<()>,
}

/// Writes a second, and how long each took.
fn store_pace(value_bytes: usize, writers: usize, each: usize) -> (f64, Vec<Duration>) {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), None).unwrap();
    let (sender, receiver) = sync_channel(writers);
    let committer = thread::spawn(move || commit_all(&store, &receiver));
    let began = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let sender = sender.clone();
            thread::spawn(move || write_many(writer, value_bytes, each, &sender))
        })
        .collect();
    drop(sender);
    let latencies = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    let elapsed = began.elapsed();
    committer.join().unwrap();
    ((writers * each) as f64 / elapsed.as_secs_f64(), latencies)
}

fn commit_all(store: &DiskStore, writes: &Receiver<Request>) {
    let mut newest = Version(0);
    while let Ok(first) = writes.recv() {
        let mut batch = Batch::new(Version(newest.0 + 1));
        let mut waiting = Vec::new();
        for write in [first].into_iter().chain(writes.try_iter()) {
            batch.put(write.key, write.value);
            waiting.push(write.done);
        }
        newest = store.commit(batch, Guard::Version(newest)).unwrap();
        for done in waiting {
            done.send(()).unwrap();
        }
    }
}

fn write_many(
    writer: usize,
    value_bytes: usize,
    count: usize,
    to: &SyncSender<Request>,
) -> Vec<Duration> {
    let (done, is_done) = sync_channel(1);
    let mut next = writer as u64;
    let mut write = || {
        next = next
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let write = Request {
            key: Key::new("instance", (next >> 33) % RECORDS),
            value: vec![next as u8; value_bytes],
            done: done.clone(),
        };
        let began = Instant::now();
        to.send(write).unwrap();
        is_done.recv().unwrap();
        began.elapsed()
    };
    (0..count).map(|_| write()).collect()
}
