//! Instances of several containers, from an assignment to what runs.

use std::{collections::BTreeMap, time::Duration};

use bollard::query_parameters::{EventsOptionsBuilder, KillContainerOptions};
use futures_util::StreamExt;
use serde_json::json;
use tokio::{sync::mpsc, task::AbortHandle, time::timeout};
use windlass_agent::runtime::{ContainerId, Part, Runtime};
use windlass_api::{
    status::InstanceStatus,
    wire::{AssignedInstance, LogOptions},
};

use crate::{
    fixture::{Fixture, IMAGE, engine, filter_of, volumes_of},
    server::Cluster,
};

/// How long events of something that was done are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Its init container fails once; its main container asks its sidecar over the loopback device,
/// and they write to one directory as different users.
fn several() -> AssignedInstance {
    let mounts = json!([{ "volume": "data", "path": "/data" }]);
    let container = |name: &str, args: &[&str]| {
        json!({
            "name": name, "image": IMAGE, "imagePullPolicy": "Never", "args": args,
            "mounts": mounts,
        })
    };
    let setup = container("setup", &["fail-until", "/data/notes", "2"]);
    let mut web = container("web", &["ask", "7000", "/data/notes", "/data/answers"]);
    web["user"] = json!("nobody");
    web["preStop"] = json!({ "exec": { "command": ["/windlass", "note", "/tmp/bye", "bye"] } });
    let mut proxy = container("proxy", &["answer", "7000"]);
    proxy["sidecar"] = json!(true);
    serde_json::from_value(json!({
        "id": "web-0-1", "workload": "shop/web", "slot": 0, "revision": 3, "goal": "Run",
        "template": {
            "kind": "Service", "restart": "Always", "stopGracePeriod": "20s",
            "initContainers": [setup], "containers": [web, proxy],
            "volumes": [{ "name": "data", "scratch": {} }],
        },
    }))
    .unwrap()
}

fn runs(status: Option<&InstanceStatus>) -> bool {
    status.is_some_and(|status| status.phase.is_running())
}

/// What happens to the containers of a cluster: `start web`.
struct Events {
    received: mpsc::Receiver<String>,
    task: AbortHandle,
}

impl Events {
    fn of(fixture: &Fixture) -> Self {
        let (sender, received) = mpsc::channel(256);
        let options = EventsOptionsBuilder::default()
            .filters(&filter_of(&fixture.owner))
            // From before the subscription on, so that nothing is missed.
            .since(&windlass_api::clock::now().as_second().to_string())
            .build();
        let task = tokio::spawn(async move {
            let mut events = engine().events(Some(options));
            while let Some(event) = events.next().await {
                let event = event.unwrap();
                let attributes = event.actor.and_then(|a| a.attributes).unwrap_or_default();
                let action = event.action.unwrap_or_default();
                // `exec_start: /windlass note ...`
                let action = action.split(':').next().unwrap_or_default().to_owned();
                if let Some(part) = attributes.get("windlass.container") {
                    let told = sender.send(format!("{action} {part}")).await;
                    if told.is_err() {
                        return;
                    }
                }
            }
        });
        Self {
            received,
            task: task.abort_handle(),
        }
    }

    /// What happens up to and including `last`.
    async fn up_to(&mut self, last: &str) -> Vec<String> {
        let mut events = Vec::new();
        while events.last().map(String::as_str) != Some(last) {
            let event = timeout(PATIENCE, self.received.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("no `{last}`: {events:#?}"));
            events.push(event.unwrap());
        }
        events
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until a container has written exactly this.
async fn until_log(fixture: &Fixture, status: &InstanceStatus, name: &str, expected: &str) {
    let containers = &status.containers;
    let container = containers.iter().find(|c| c.name.as_str() == name).unwrap();
    let id = ContainerId(container.id.clone().unwrap());
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut log = fixture.docker.logs(&id, &options).await.unwrap();
    let mut text = String::new();
    let reading = async {
        while text.len() < expected.len()
            && let Some(piece) = log.next().await
        {
            text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
    };
    // What is there then is compared in any case.
    let _ = timeout(PATIENCE, reading).await;
    assert_eq!(text, expected);
}

#[tokio::test]
async fn containers_of_an_instance_live_and_end_together() {
    let mut cluster = Cluster::new().await;
    cluster.start();
    cluster.assign(vec![several()]).await;
    let status = cluster.until("web-0-1", runs).await.unwrap();
    let names: Vec<_> = status.containers.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["setup", "web", "proxy"]);
    let restarts: Vec<_> = status.containers.iter().map(|c| c.restarts).collect();
    assert_eq!(restarts, [1, 0, 0], "the init container was tried again");
    assert!(status.readiness.is_ready() && status.address.is_some());
    assert!(status.containers.iter().all(|c| c.image_id.is_some()));
    let notes = "tried\ntried\nhello\n";
    until_log(cluster.fixture(), &status, "web", notes).await;

    // Without its pause container, it starts anew as a whole, and keeps its volume.
    let found = cluster.fixture().list().await;
    let pause = found.iter().find(|c| c.part == Part::Pause).unwrap();
    let mut events = Events::of(cluster.fixture());
    let kill = engine();
    kill.kill_container(&pause.id.0, None::<KillContainerOptions>)
        .await
        .unwrap();
    let again = |status: Option<&InstanceStatus>| {
        let mains = status.map(|s| &s.containers[1..]);
        runs(status) && mains.is_some_and(|mains| mains.iter().all(|c| c.restarts == 1))
    };
    let status = cluster.until("web-0-1", again).await.unwrap();
    let all = format!("{notes}tried\ntried\ntried\nhello\nhello\n");
    until_log(cluster.fixture(), &status, "web", &all).await;

    // It ends from within, the main container first.
    cluster.assign(vec![]).await;
    let ended = events.up_to("destroy _pause").await;
    let place = |event: &str| {
        // What happened when its network was lost is among them.
        let found = ended.iter().rposition(|e| e == event);
        found.unwrap_or_else(|| panic!("no `{event}`: {ended:#?}"))
    };
    assert!(place("exec_start web") < place("kill web"), "{ended:#?}");
    assert!(place("destroy web") < place("kill proxy"), "{ended:#?}");
    assert!(place("destroy proxy") < place("kill _pause"), "{ended:#?}");
    cluster.until("web-0-1", |status| status.is_none()).await;
    let left = volumes_of(&engine(), &cluster.fixture().owner).await;
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_that_is_killed_between_any_two_steps_goes_on() {
    let mut cluster = Cluster::new().await;
    let mut events = Events::of(cluster.fixture());
    cluster.start();
    cluster.assign(vec![several()]).await;
    let mut seen = Vec::new();
    for step in [
        "create _pause",
        "start _pause",
        "create setup",
        "die setup",
        "create proxy",
        "start proxy",
        "create web",
    ] {
        seen.extend(events.up_to(step).await);
        cluster.kill().await;
        cluster.start();
    }
    cluster.until("web-0-1", runs).await;
    seen.extend(events.up_to("start web").await);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for event in seen
        .into_iter()
        .filter(|e| e.starts_with("create") || e.starts_with("start"))
    {
        *counts.entry(event).or_default() += 1;
    }
    let expected = [
        ("create _pause", 1),
        ("create proxy", 1),
        ("create setup", 1),
        ("create web", 1),
        ("start _pause", 1),
        ("start proxy", 1),
        ("start setup", 2),
        ("start web", 1),
    ];
    let expected = expected.map(|(event, times)| (event.to_owned(), times));
    assert_eq!(counts, BTreeMap::from(expected));
    cluster.kill().await;
}
