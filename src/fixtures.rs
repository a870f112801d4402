//! Objects for tests.

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_api::{
    event::Event,
    resource::{Instance, Node, RolloutStatus, Workload},
    status::{ContainerStatus, InstanceStatus, Phase, Readiness},
};

/// 2026-01-01T00:00:00Z: ten minutes after everything here was made.
pub(crate) const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

const MADE_AT: &str = "2025-12-31T23:50:00Z";

/// A phase in which there is nothing to be done.
pub(crate) const RUNNING: Phase = Phase::Running { started_at: NOW };

/// A workload with `wanted` instances, of which `running` run.
pub(crate) fn workload(name: &str, running: u32, wanted: u32) -> Workload {
    serde_json::from_value(json!({
        "kind": "Service", "name": name, "namespace": "default", "labels": { "app": name },
        "spec": { "image": "nginx:1.27", "replicas": wanted },
        "meta": { "uid": "00000000-0000-0000-0000-000000000001", "version": 3,
                  "createdAt": MADE_AT, "updatedAt": MADE_AT },
        "status": { "revision": 1, "wanted": wanted, "running": running, "ready": running, "updated": running,
                    "settled": running == wanted },
    }))
    .expect("the fixture is well formed")
}

/// A change from the first revision to the second one, in the state that the JSON describes.
pub(crate) fn rollout(mut state: Value) -> RolloutStatus {
    let rest = json!({ "from": 1, "to": 2, "order": "startFirst", "startedAt": MADE_AT, "progressedAt": MADE_AT });
    merge(&mut state, rest);
    serde_json::from_value(state).expect("the fixture is well formed")
}

/// A job of five indices, of which two have completed, in the state that the JSON describes.
pub(crate) fn job(name: &str, mut state: Value) -> Workload {
    let rest = json!({
        "active": 1, "succeeded": 2, "failed": 1, "completions": 5, "startedAt": MADE_AT,
    });
    merge(&mut state, rest);
    let settled = state["state"] != "Running";
    serde_json::from_value(json!({
        "kind": "Job", "name": name, "namespace": "default",
        "spec": { "image": "app:1", "completions": 5, "parallelism": 2 },
        "meta": { "uid": "00000000-0000-0000-0000-000000000003", "version": 3,
                  "createdAt": MADE_AT, "updatedAt": MADE_AT },
        "status": { "revision": 1, "wanted": 2, "running": 1, "ready": 1, "updated": 1,
                    "settled": settled, "job": state },
    }))
    .expect("the fixture is well formed")
}

/// A schedule with a status that the JSON describes.
pub(crate) fn schedule(name: &str, status: Value) -> Workload {
    serde_json::from_value(json!({
        "kind": "CronJob", "name": name, "namespace": "default",
        "spec": { "image": "app:1", "schedule": "0 3 * * *" },
        "meta": { "uid": "00000000-0000-0000-0000-000000000004", "version": 3,
                  "createdAt": MADE_AT, "updatedAt": MADE_AT },
        "status": { "revision": 1, "wanted": 0, "running": 0, "ready": 0, "updated": 0,
                    "settled": true, "schedule": status },
    }))
    .expect("the fixture is well formed")
}

fn merge(into: &mut Value, rest: Value) {
    let (Value::Object(into), Value::Object(rest)) = (into, rest) else {
        panic!("fixtures are objects");
    };
    into.extend(rest);
}

/// The instance `<workload>-<slot>-<serial>` of the first revision. If it runs, it is ready.
pub(crate) fn instance(name: &str, phase: Phase) -> Instance {
    let mut parts = name.rsplitn(3, '-');
    let (_, slot, workload) = (parts.next(), parts.next(), parts.next());
    let slot: u32 = slot
        .and_then(|slot| slot.parse().ok())
        .expect("the name has a slot");
    let mut status = InstanceStatus::new(phase);
    let ready_since = status.phase.is_running().then_some(MADE_AT);
    if status.phase.is_running() {
        status.readiness = Readiness::Ready;
    }
    serde_json::from_value(json!({
        "name": name, "namespace": "default", "workload": workload, "slot": slot, "revision": 1,
        "images": ["nginx:1.27"], "node": "edge-1", "goal": "Run", "nodeLost": false, "version": 3,
        "createdAt": MADE_AT, "phaseSince": MADE_AT, "readySince": ready_since,
        "status": serde_json::to_value(status).expect("a status is JSON"),
    }))
    .expect("the fixture is well formed")
}

/// The only container of an instance, which runs.
pub(crate) fn container(id: &str) -> ContainerStatus {
    serde_json::from_value(json!({
        "name": "main", "phase": "Running", "startedAt": NOW, "id": id,
    }))
    .expect("the fixture is well formed")
}

/// A node that is ready.
pub(crate) fn node(name: &str) -> Node {
    serde_json::from_value(json!({
        "name": name, "labels": { "zone": "eu" }, "taints": ["gpu=yes"], "scheduling": "Enabled",
        "version": 1, "createdAt": MADE_AT,
        "status": {
            "state": "Ready", "stateSince": MADE_AT, "generation": 1, "instances": 2,
            "info": { "agentId": "00000000-0000-0000-0000-000000000002", "agentVersion": "0.1.0",
                      "engineId": "e", "engineVersion": "27.1", "os": "linux", "arch": "x86_64" },
            "capacity": { "cpu": "2", "memory": "4Gi" },
            "allocated": { "cpu": "250m", "memory": "64Mi" },
        },
    }))
    .expect("the fixture is well formed")
}

/// An event about the workload `web`.
pub(crate) fn event(id: u64, reason: &str, message: &str) -> Event {
    serde_json::from_value(json!({
        "id": id, "subject": { "kind": "Workload", "namespace": "default", "name": "web" },
        "severity": "Warning", "reason": reason, "message": message, "count": 2,
        "firstAt": MADE_AT, "lastAt": MADE_AT, "version": 3,
    }))
    .expect("the fixture is well formed")
}
