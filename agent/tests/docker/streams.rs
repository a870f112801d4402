//! Logs and events.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::time::timeout;
use windlass_agent::runtime::{BoxStream, ContainerId, ContainerState, ErrorKind, Runtime};
use windlass_api::{clock, duration::Span, wire::LogOptions};

use crate::fixture::Fixture;

/// How long a test waits for something that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn log(fixture: &Fixture, id: &ContainerId, options: LogOptions) -> Vec<String> {
    let stream = fixture.docker.logs(id, &options).await.unwrap();
    let pieces: Vec<_> = timeout(PATIENCE, stream.try_collect())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(pieces.concat()).unwrap();
    text.lines().map(str::to_owned).collect()
}

async fn next(events: &mut BoxStream<ContainerId>) -> ContainerId {
    timeout(PATIENCE, events.next())
        .await
        .expect("an event comes")
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_log_is_read_as_a_whole_and_in_part() {
    let fixture = Fixture::new().await;
    let id = fixture
        .started(&fixture.instance("web-0-1", &["print", "6"]))
        .await;
    fixture
        .until(|state| matches!(state, ContainerState::Exited { .. }))
        .await;

    let all = log(&fixture, &id, LogOptions::default()).await;
    let expected: Vec<String> = (0..6).map(|n| format!("line {n}")).collect();
    assert_eq!(
        all, expected,
        "standard output and error in the order of writing"
    );

    let tail = LogOptions {
        tail: Some(2),
        ..LogOptions::default()
    };
    assert_eq!(log(&fixture, &id, tail).await, expected[4..]);
    let none = LogOptions {
        tail: Some(0),
        ..LogOptions::default()
    };
    assert!(log(&fixture, &id, none).await.is_empty());

    let stamped = LogOptions {
        timestamps: true,
        ..LogOptions::default()
    };
    let first = log(&fixture, &id, stamped).await.remove(0);
    let (time, line) = first.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{first}");
    assert_eq!(line, "line 0");

    let later = clock::now() + jiff::SignedDuration::from_secs(60);
    let since = LogOptions {
        since: Some(later),
        ..LogOptions::default()
    };
    assert!(log(&fixture, &id, since).await.is_empty());
    let epoch = LogOptions {
        since: Some(jiff::Timestamp::UNIX_EPOCH),
        ..LogOptions::default()
    };
    assert_eq!(log(&fixture, &id, epoch).await.len(), 6);
}

#[tokio::test]
async fn a_log_is_followed_to_the_end_of_its_container() {
    let fixture = Fixture::new().await;
    let id = fixture
        .started(&fixture.instance("web-0-1", &["tick"]))
        .await;
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut stream = fixture.docker.logs(&id, &options).await.unwrap();
    let mut text = String::new();
    let read = async {
        while !text.contains("tick 3\n") {
            let piece = stream.next().await.expect("it goes on").unwrap();
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    };
    timeout(PATIENCE, read)
        .await
        .expect("lines come while the container runs");
    assert!(text.starts_with("tick 0\n"), "{text}");
    fixture.docker.stop(&id, Span::from_secs(0)).await.unwrap();
    let rest: Result<Vec<_>, _> = timeout(PATIENCE, stream.try_collect())
        .await
        .expect("it ends");
    assert!(rest.is_ok(), "{rest:?}");
}

/// The engine must not be taken for dead because a container has nothing to say.
#[tokio::test]
async fn the_time_limit_of_a_followed_log_ends_when_the_engine_answers() {
    let fixture = Fixture::new().await;
    let id = fixture
        .started(&fixture.instance("web-0-1", &["ignore-stop"]))
        .await;
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut stream = fixture.docker.logs(&id, &options).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "ready\n");
    let silence = timeout(Duration::from_secs(11), stream.next()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test]
async fn the_log_of_no_container_is_refused() {
    let fixture = Fixture::new().await;
    let id = ContainerId("0000".to_owned());
    let mut stream = fixture
        .docker
        .logs(&id, &LogOptions::default())
        .await
        .unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSuchContainer, "{error}");
}

#[tokio::test]
async fn events_tell_of_what_happens_to_our_containers_alone() {
    let fixture = Fixture::new().await;
    let other = Fixture::new().await;
    let mut events = fixture.docker.events(&fixture.owner).await.unwrap();
    // Before the stream is polled for the first time, which must not lose it.
    other.started(&other.instance("web-0-1", &["run"])).await;
    let id = fixture
        .started(&fixture.instance("web-0-1", &["run"]))
        .await;
    assert_eq!(next(&mut events).await, id, "create");
    assert_eq!(next(&mut events).await, id, "start");

    let running = fixture.only().await;
    assert!(matches!(running.state, ContainerState::Running { .. }));
    fixture.engine.kill_container(&id.0, None).await.unwrap();
    assert_eq!(next(&mut events).await, id, "die");
    let ContainerState::Exited { exit, .. } = fixture.only().await.state else {
        panic!()
    };
    assert_eq!(exit.code, 137);

    fixture.docker.remove(&id).await.unwrap();
    assert_eq!(next(&mut events).await, id, "destroy");
}

/// The list says `running` before and after, so only the event tells.
#[tokio::test]
async fn a_restart_by_somebody_else_is_seen() {
    let fixture = Fixture::new().await;
    let mut events = fixture.docker.events(&fixture.owner).await.unwrap();
    let id = fixture
        .started(&fixture.instance_with("web-0-1", json!({ "args": ["run"] })))
        .await;
    let before = fixture.only().await;
    fixture.engine.restart_container(&id.0, None).await.unwrap();
    for _ in ["create", "start", "die", "start"] {
        next(&mut events).await;
    }
    let after = fixture.only().await;
    assert_ne!(before.state, after.state);
    assert!(matches!(after.state, ContainerState::Running { .. }));
}
