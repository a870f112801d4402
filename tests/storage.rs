//! What the server says and does when its store is in trouble.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{Cluster, PATIENCE, WINDLASS, demo, http};

/// Starts a server that is expected to end by itself, and returns what it said.
fn failing_server(data_dir: &Path) -> Output {
    let mut server = Command::new(WINDLASS)
        .args(["server", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while server.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            let _ = server.kill();
            panic!("the server runs on");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    server.wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_server_on_one_store_is_refused() {
    let cluster = Cluster::start(0);
    let output = failing_server(&cluster.server_dir());
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains("another"), "{error}");
    assert!(
        error.contains(cluster.server_dir().to_str().unwrap()),
        "{error}"
    );
    assert_eq!(http::get(cluster.address, "/readyz").unwrap().status, 200);
}

#[test]
fn a_server_that_is_asked_to_listen_elsewhere_refuses_and_says_why() {
    let dir = tempfile::TempDir::new().unwrap();
    let output = Command::new(WINDLASS)
        .args(["server", "--listen", "0.0.0.0:0", "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = stderr(&output);
    assert!(
        error.contains("0.0.0.0") && error.contains("certificates"),
        "{error}"
    );
}

/// The largest file of the store, where flipped bits hurt.
fn largest_file(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_file());
    files
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap()
}

#[test]
fn a_corrupt_store_is_reported_with_the_command_that_restores_it() {
    let mut cluster = Cluster::start(0);
    cluster.apply_no_wait(&demo("web", ""));
    cluster.eventually("an export was written", |cluster| {
        fs::read_dir(cluster.server_dir().join("exports")).is_ok_and(|mut dir| dir.next().is_some())
    });
    cluster.stop_server();
    cluster.start_server();
    cluster.stop_server();
    let db = largest_file(&cluster.server_dir().join("store"));
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&db)
        .unwrap();
    // Enough to hit something that counts, wherever the state lies in the file.
    let length = file.metadata().unwrap().len().min(64 << 10);
    for offset in (0..length).step_by(97) {
        file.write_at(&[0xa5], offset).unwrap();
    }
    drop(file);
    let output = failing_server(&cluster.server_dir());
    let error = stderr(&output);
    assert!(!output.status.success());
    assert!(!error.contains("panicked"), "{error}");
    let command = error
        .lines()
        .find_map(|line| line.find("windlass backup restore").map(|at| &line[at..]));
    let command = command.unwrap_or_else(|| panic!("no command to restore:\n{error}"));
    let words: Vec<&str> = command
        .trim_end_matches(['`', '.', ' '])
        .split(' ')
        .skip(1)
        .collect();
    let restored = Command::new(WINDLASS).args(&words).output().unwrap();
    assert!(
        restored.status.success(),
        "{words:?}: {}",
        stderr(&restored)
    );
    cluster.start_server();
    assert_eq!(http::get(cluster.address, "/readyz").unwrap().status, 200);
}

#[test]
fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let mut cluster = Cluster::start(1);
    cluster.apply(&demo("web", ""));
    cluster.stop_server();
    cluster.start_server_on_small_disk("160m");

    let ballast = cluster.path_of_server("ballast");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M"])
        .arg(format!("of={}", ballast.display()))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!filled.success(), "the disk was to be full");

    let write = |cluster: &Cluster| {
        let path = "/v1/workloads/default/web/scale";
        http::send(cluster.address, "POST", path, &[], br#"{"replicas":2}"#).unwrap()
    };
    let refused = write(&cluster);
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert_eq!(refused.json()["code"], "no-space");
    // Reads and heartbeats go on, for longer than a silent node would be lost.
    cluster.always("the node stays ready", Duration::from_secs(12), |cluster| {
        cluster
            .list("nodes")
            .first()
            .is_some_and(|n| n["status"]["state"] == "Ready")
            && cluster.workload("web")["status"]["wanted"] == 1
    });
    fs::remove_file(&ballast).unwrap();
    cluster.eventually("writes are taken again", |cluster| {
        write(cluster).status == 200
    });
    cluster.ok(&["wait", "web", "--for", "settled", "--timeout", "30s"]);
}

/// Asks for so many replicas of `web`, which need not exist anywhere.
fn scale(cluster: &Cluster, replicas: u32) -> std::io::Result<http::Answer> {
    let path = "/v1/workloads/default/web/scale";
    let body = format!(r#"{{"replicas":{replicas}}}"#);
    http::send(cluster.address, "POST", path, &[], body.as_bytes())
}

fn replicas(cluster: &Cluster) -> u64 {
    cluster.workload("web")["spec"]["replicas"]
        .as_u64()
        .unwrap()
}

#[test]
#[ignore = "needs strace, and to be allowed to trace other processes"]
fn a_disk_that_cannot_sync_ends_the_server_and_nothing_is_acknowledged() {
    let mut cluster = Cluster::start(0);
    cluster.apply_no_wait(&demo("web", ""));
    assert_eq!(scale(&cluster, 2).unwrap().status, 200);
    let injection = cluster.inject("fdatasync:error=EIO");
    if let Ok(answer) = scale(&cluster, 3) {
        assert!(answer.status >= 500, "{}", answer.text());
    }
    let status = cluster.server_ended();
    assert_eq!(status.code(), Some(1), "{status}");
    drop(injection);
    let log = fs::read_to_string(cluster.dir.path().join("server.log")).unwrap();
    assert!(log.contains("cannot sync the store"), "{log}");
    cluster.start_server();
    let found = replicas(&cluster);
    assert!((2..=3).contains(&found), "{found}");
    assert_eq!(scale(&cluster, 4).unwrap().status, 200);
}

#[test]
#[ignore = "needs strace, and to be allowed to trace other processes"]
fn a_disk_that_takes_three_seconds_holds_up_writes_and_nothing_else() {
    const DELAY: Duration = Duration::from_secs(3);
    let mut cluster = Cluster::start(1);
    cluster.apply(&demo("web", ""));
    let injection = cluster.inject("fdatasync:delay_enter=3000000");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            // Longer in all than a silent node would be lost.
            for wanted in [2, 1, 2] {
                let began = Instant::now();
                assert_eq!(scale(&cluster, wanted).unwrap().status, 200);
                assert!(began.elapsed() >= DELAY, "{:?}", began.elapsed());
            }
        });
        while !writing.is_finished() {
            let began = Instant::now();
            let nodes = cluster.list("nodes");
            assert!(began.elapsed() < DELAY / 2, "{:?}", began.elapsed());
            assert_eq!(nodes[0]["status"]["state"], "Ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        writing.join().unwrap();
    });
    drop(injection);
    cluster.kill_server();
    cluster.start_server();
    assert_eq!(replicas(&cluster), 2);
    let lost = cluster.list("events");
    let lost = lost.iter().filter(|event| event["reason"] == "Lost");
    assert_eq!(lost.count(), 0);
}
