//! An agent that is killed, at any moment, and started again.

use serde_json::json;
use windlass_api::status::ContainerPhase;

use super::*;
use crate::runtime::Part;

/// Two init containers, a sidecar and two main containers.
fn several() -> AssignedInstance {
    let container = |name: &str| json!({ "name": name, "image": "web:1" });
    let mut proxy = container("proxy");
    proxy["sidecar"] = json!(true);
    let template = json!({
        "kind": "Service", "restart": "Always", "stopGracePeriod": "10s",
        "initContainers": [container("first"), container("second")],
        "containers": [container("web"), container("worker"), proxy],
    });
    AssignedInstance {
        template: Arc::new(serde_json::from_value(template).unwrap()),
        ..instance("web-0-1")
    }
}

fn part(name: &str) -> Part {
    name.parse().unwrap()
}

/// Init containers do their work in a tenth of a second.
fn init_containers_end(fake: &Fake) {
    for container in fake.containers() {
        let is_init = [part("first"), part("second")].contains(&container.part);
        if let ContainerState::Running { started_at } = container.state
            && is_init
            && fake.now() >= started_at + Duration::from_millis(100)
        {
            fake.exit_part(&container.instance, &container.part, 0);
        }
    }
}

/// Kills the agent, without letting it finish or write anything, and starts another one with what
/// its files say.
async fn kill(rig: Rig, disk: Histories) -> Rig {
    rig.task.abort();
    // Its end is what was asked for.
    let _ = rig.task.await;
    let board = Arc::new(Board::new(Some(cluster()), None, disk, boot_clock()));
    Rig::begin(rig.fake, rig.held, board)
}

/// What is on the disk of an agent that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    /// Everything that it knew.
    UpToDate,
    /// Nothing of what it has learnt: it was killed before it could write that down.
    Behind,
}

/// Brings the instance up, and kills the agent once after so many milliseconds. What the engine
/// does takes ten and its answer another ten, so that it is met before, between and after.
async fn come_up(killed_after_ms: u64, disk: Disk) -> Fake {
    let fake = Fake::default();
    fake.add_image("web:1");
    for call in [Call::Create, Call::Start] {
        fake.delay(call, Duration::from_millis(10));
        fake.answer_late(call, Duration::from_millis(10));
    }
    let mut rig = Rig::on(fake, Some(testing::held(1, vec![several()])));
    let end = Instant::now() + Duration::from_secs(3);
    let kill_at = Instant::now() + Duration::from_millis(killed_after_ms);
    let mut killed = false;
    while Instant::now() < end {
        if !killed && Instant::now() >= kill_at {
            let known = match disk {
                Disk::UpToDate => rig.board.histories.borrow().clone(),
                Disk::Behind => Histories::new(),
            };
            rig = kill(rig, known).await;
            killed = true;
        }
        init_containers_end(&rig.fake);
        sleep(Duration::from_millis(5)).await;
    }
    let status = rig.status("web-0-1").unwrap();
    assert!(
        status.phase.is_running(),
        "{killed_after_ms} ms: {status:?}"
    );
    let ended = |name: &str| {
        let found = status.containers.iter().find(|c| c.name.as_str() == name);
        found.unwrap().state == ContainerPhase::Exited
    };
    assert!(ended("first") && ended("second"));
    assert_eq!(status.restarts, 0, "{killed_after_ms} ms");
    rig.stop().await
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_killed_at_any_step_runs_and_makes_everything_once() {
    for disk in [Disk::UpToDate, Disk::Behind] {
        // Without a kill it is up after half a second.
        for killed_after_ms in (5..700).step_by(10) {
            let fake = come_up(killed_after_ms, disk).await;
            let mut parts: Vec<_> = fake
                .containers()
                .iter()
                .map(|c| c.part.to_string())
                .collect();
            parts.sort();
            let all = ["_pause", "first", "proxy", "second", "web", "worker"];
            assert_eq!(parts, all, "{killed_after_ms} ms, {disk:?}");
            // A call that was cut off on its way is made again, and content with what it finds.
            let (creates, starts) = (fake.count(Call::Create), fake.count(Call::Start));
            assert!(
                creates <= 8 && starts <= 8,
                "{creates} creates, {starts} starts"
            );
            let runs = fake.started();
            assert_eq!(runs.len(), 6, "{killed_after_ms} ms, {disk:?}: {runs:?}");
        }
    }
}
