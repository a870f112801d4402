//! The server is killed at random moments while clients write: nothing acknowledged is lost.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    PATIENCE, WINDLASS, api::Api, free_address, http, kill, load::Load, random::Random,
};

/// How often the server is killed.
const KILLS: u32 = 200;
/// How many clients write.
const CLIENTS: usize = 8;
/// The longest time that a server lives, in milliseconds.
const LIFE_MS_MAX: u64 = 120;

#[test]
fn a_server_killed_at_random_moments_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::TempDir::new().unwrap();
    let address = free_address();
    let api = Api {
        address,
        from: None,
    };
    let mut load = Load::start(api, CLIENTS, Duration::ZERO);
    let mut random = Random::new(1);
    for round in 0..KILLS {
        let mut server = Some(start(dir.path(), address, round));
        thread::sleep(Duration::from_millis(random.below(LIFE_MS_MAX)));
        kill(&mut server);
    }
    load.stop();
    let mut server = Some(start(dir.path(), address, KILLS));
    load.check();
    kill(&mut server);
    let acknowledged = load.acknowledged();
    assert!(
        acknowledged > u64::from(KILLS),
        "there was load: {acknowledged}"
    );
}

fn start(dir: &std::path::Path, address: SocketAddr, round: u32) -> Child {
    let log = std::fs::File::create(dir.join("server.log")).unwrap();
    let mut server = Command::new(WINDLASS)
        .args(["server", "--listen", &address.to_string(), "--data-dir"])
        .arg(dir.join("data"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !http::get(address, "/readyz").is_ok_and(|answer| answer.status == 200) {
        let log = || std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
        if let Some(status) = server.try_wait().unwrap() {
            panic!("round {round}: the server ended with {status}\n{}", log());
        }
        assert!(
            began.elapsed() < PATIENCE,
            "round {round}: no answer\n{}",
            log()
        );
        thread::sleep(Duration::from_millis(5));
    }
    server
}
