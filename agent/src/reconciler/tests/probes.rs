//! Probes, from the engine to what is told.

use serde_json::json;
use windlass_api::{spec::Probes, status::Readiness};

use super::*;
use crate::runtime::Healthcheck;

/// An instance with these probes.
fn probed(name: &str, probes: serde_json::Value) -> AssignedInstance {
    let probes: Probes = serde_json::from_value(probes).unwrap();
    let mut template = template();
    template.containers[0].probes = probes;
    AssignedInstance {
        template: Arc::new(template),
        ..instance(name)
    }
}

fn not_ready(reason: &str) -> Readiness {
    Readiness::NotReady {
        reason: Some(reason.to_owned()),
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_is_told_and_why() {
    let rig = Rig::new();
    rig.fake
        .set_exec(&["check"], Duration::ZERO, 1, "no database\n");
    let probe = json!({ "exec": { "command": ["check"] }, "interval": "1s" });
    rig.assign(1, vec![probed("web-0-1", json!({ "readiness": probe }))]);
    rig.until("web-0-1", Phase::is_running).await;
    assert_eq!(
        rig.status("web-0-1").unwrap().readiness,
        Readiness::default()
    );
    secs(1).await;
    let reason = "readiness probe: `check` ended with 1: no database";
    assert_eq!(rig.status("web-0-1").unwrap().readiness, not_ready(reason));
    rig.fake.set_exec(&["check"], Duration::ZERO, 0, "");
    secs(1).await;
    let status = rig.status("web-0-1").unwrap();
    assert_eq!(status.readiness, Readiness::Ready);
    assert_eq!(status.containers[0].readiness, Readiness::Ready);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_probed_while_the_engine_is_silent() {
    let rig = Rig::new();
    let probe = json!({ "exec": { "command": ["check"] }, "interval": "1s" });
    rig.assign(1, vec![probed("web-0-1", json!({ "liveness": probe }))]);
    rig.until("web-0-1", Phase::is_running).await;
    secs(5).await;
    rig.fake.hang();
    // Until a list finds out.
    secs(25).await;
    let before = rig.fake.count(Call::Exec);
    secs(60).await;
    assert_eq!(rig.fake.count(Call::Exec), before);
    assert!(rig.status("web-0-1").unwrap().readiness.is_ready());
    rig.fake.resume();
    secs(20).await;
    assert!(rig.fake.count(Call::Exec) > before + 5);
    assert_eq!(rig.status("web-0-1").unwrap().restarts, 0);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_health_check_of_an_image_is_told() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", Phase::is_running).await;
    rig.fake
        .set_healthcheck(&id("web-0-1"), Healthcheck::Starting);
    secs(1).await;
    let reason = "the image's health check has not passed yet";
    assert_eq!(rig.status("web-0-1").unwrap().readiness, not_ready(reason));
    rig.fake
        .set_healthcheck(&id("web-0-1"), Healthcheck::Healthy);
    secs(1).await;
    assert!(rig.status("web-0-1").unwrap().readiness.is_ready());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_well_is_restarted_with_backoff_until_it_is() {
    let rig = Rig::new();
    rig.fake
        .set_exec(&["check"], Duration::ZERO, 1, "deadlock\n");
    let probe = json!({ "exec": { "command": ["check"] }, "interval": "1s" });
    rig.assign(1, vec![probed("web-0-1", json!({ "liveness": probe }))]);
    let reason = "liveness probe: `check` ended with 1: deadlock (3 times in a row)";
    rig.until("web-0-1", |phase| match phase {
        Phase::BackingOff { reason: told, .. } => told.contains(reason),
        _ => false,
    })
    .await;
    assert_eq!(rig.status("web-0-1").unwrap().restarts, 1);
    rig.fake.set_exec(&["check"], Duration::ZERO, 0, "");
    secs(60).await;
    let status = rig.status("web-0-1").unwrap();
    assert!(status.phase.is_running() && status.readiness.is_ready());
    assert_eq!(status.restarts, 2);
    rig.stop().await;
}
