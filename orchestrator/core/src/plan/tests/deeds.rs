//! What users, agents, nodes and fate do to a cluster.

use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_api::{
    duration::Span,
    ids::{RevisionNumber, Uid},
    resource::{DrainRequest, Manifest, NodePatch, RolloutAction},
    status::Phase,
    wire::RuntimeHealth,
};

use super::world::{World, key, node_name};
use crate::command::{self, Force};

/// How many nodes a cluster begins with; one more may join.
pub(super) const NODES: u32 = 3;

/// What is applied under which name. Those that depend on others depend on these.
const NAMES: [(&str, &str); 6] = [
    ("Service", "web"),
    ("Service", "db"),
    ("Service", "api"),
    ("Daemon", "log"),
    ("Daemon", "probe"),
    ("Job", "task"),
];

/// The images of what keeps running: two that do, and three that do what they are called.
const IMAGES: [&str; 5] = ["nginx", "nginx:2", "crash", "missing", "unready"];

#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// A user applies a workload: its kind and name are in [`NAMES`].
    Apply(usize, Value),
    Scale {
        name: usize,
        replicas: u32,
    },
    Restart(usize),
    Rollout {
        name: usize,
        action: RolloutAction,
    },
    Delete(usize),
    Lose(u32),
    /// A node comes back, or joins.
    Return(u32),
    /// A node's agent does what it is told and reports it.
    Agent(u32),
    /// An operator changes a node.
    Patch(u32, Value),
    /// An operator drains a node, with a deadline in seconds or without one.
    Drain(u32, Option<u64>),
    /// An operator takes a node out of the cluster.
    Remove(u32, Force),
    /// An operator evens out the load.
    Rebalance,
    /// A node's engine stops answering, or answers again.
    Engine(u32, RuntimeHealth),
    Break(usize),
    Wait(i64),
    /// The clock is set forward or back by so many seconds.
    SetClock(i64),
}

/// What people write about updates, and what they do not.
fn update() -> impl Strategy<Value = Value> {
    let order = proptest::option::of(prop_oneof![Just("startFirst"), Just("stopFirst")]);
    let on_failure = prop_oneof![Just("rollback"), Just("pause"), Just("continue")];
    let bound = || proptest::option::of(0..3_u32);
    (order, 1..3_u32, bound(), bound(), on_failure, 0..3_u32).prop_map(
        |(order, parallelism, surge, unavailable, on_failure, canary)| {
            let mut update = json!({
                "parallelism": parallelism, "onFailure": on_failure, "canary": canary,
                "progressDeadline": "1m",
            });
            say(&mut update, "order", order);
            say(&mut update, "maxSurge", surge);
            say(&mut update, "maxUnavailable", unavailable);
            update
        },
    )
}

/// Writes a field if there is something to say.
fn say<T: Into<Value>>(object: &mut Value, field: &str, value: Option<T>) {
    if let Some(value) = value {
        object[field] = value.into();
    }
}

/// What a workload waits for: mostly nothing.
fn depends_on() -> impl Strategy<Value = Value> {
    let condition = prop_oneof![Just("started"), Just("ready"), Just("completed")];
    let one = (0..NAMES.len(), condition).prop_map(
        |(other, condition)| json!([{ "workload": NAMES[other].1, "condition": condition }]),
    );
    prop_oneof![3 => Just(json!([])), 1 => one]
}

/// What becomes of copies on lost nodes, and whether there may be two of one.
fn disconnect() -> impl Strategy<Value = (Value, bool)> {
    let on_return = prop_oneof![Just("keepOriginal"), Just("keepReplacement")];
    let wait = prop_oneof![
        3 => Just(json!({})),
        1 => Just(json!({ "lostAfter": "30s" })),
        1 => Just(json!({ "replace": false })),
    ];
    let policy = (on_return, wait).prop_map(|(on_return, mut policy)| {
        policy["onReturn"] = on_return.into();
        policy
    });
    (policy, proptest::bool::weighted(0.2))
}

fn service() -> impl Strategy<Value = Deed> {
    let image = proptest::sample::select(&IMAGES[..]);
    let host = proptest::option::of(8080..8082_u16);
    let auto = prop_oneof![Just("manual"), Just("auto")];
    let spec = (
        0..5_u32,
        image,
        host,
        0..3_u64,
        update(),
        depends_on(),
        auto,
        disconnect(),
    );
    (0..3_usize, spec).prop_map(
        |(name, (replicas, image, host, memory, mut update, depends_on, auto, disconnect))| {
            let (disconnect, exclusive) = disconnect;
            if exclusive {
                // It is never updated beside itself.
                for field in ["order", "maxSurge", "maxUnavailable", "canary"] {
                    update.as_object_mut().map(|update| update.remove(field));
                }
            }
            let mut spec = json!({
                "image": image, "replicas": replicas, "update": update, "dependsOn": depends_on,
                "resources": { "memory": format!("{memory}Gi") }, "rebalance": auto,
                "disconnect": disconnect, "exclusive": exclusive,
            });
            let ports = host.map(|host| json!([{ "container": 80, "host": host }]));
            say(&mut spec, "ports", ports);
            Deed::Apply(name, spec)
        },
    )
}

fn daemon() -> impl Strategy<Value = Deed> {
    let image = proptest::sample::select(&IMAGES[..]);
    let zone = proptest::option::of(0..2_u32);
    let spec = (image, zone, 0..2_u64, update(), depends_on());
    (3..5_usize, spec).prop_map(|(name, (image, zone, memory, mut update, depends_on))| {
        // Of what an update of services says, daemons have no order, surge and canaries.
        for field in ["order", "maxSurge", "canary"] {
            update.as_object_mut().map(|update| update.remove(field));
        }
        let mut spec = json!({
            "image": image, "update": update, "dependsOn": depends_on,
            "resources": { "memory": format!("{memory}Gi") },
        });
        let require = zone.map(|z| json!({ "require": [format!("node.labels.zone == z{z}")] }));
        say(&mut spec, "placement", require);
        Deed::Apply(name, spec)
    })
}

fn job() -> impl Strategy<Value = Deed> {
    let image = prop_oneof![3 => Just("task"), 1 => Just("failing")];
    let numbers = (1..5_u32, 1..4_u32, 0..4_u32);
    (image, numbers, depends_on()).prop_map(|(image, (completions, parallelism, limit), on)| {
        let spec = json!({
            "image": image, "dependsOn": on, "backoffLimit": limit,
            "completions": completions, "parallelism": parallelism,
        });
        Deed::Apply(5, spec)
    })
}

fn action() -> impl Strategy<Value = RolloutAction> {
    let to = proptest::option::of((1..6_u32).prop_map(RevisionNumber));
    prop_oneof![
        Just(RolloutAction::Promote),
        Just(RolloutAction::Abort),
        Just(RolloutAction::Pause),
        Just(RolloutAction::Resume),
        to.prop_map(|to| RolloutAction::Undo { to }),
    ]
}

/// What an operator does to a node.
fn patch() -> impl Strategy<Value = Value> {
    let zone = (0..2_u32).prop_map(|z| json!({ "labels": { "zone": format!("z{z}") } }));
    prop_oneof![
        Just(json!({ "scheduling": "Cordoned" })),
        Just(json!({ "scheduling": "Enabled" })),
        zone,
        Just(json!({ "taints": ["dedicated"] })),
        Just(json!({ "taints": [] })),
    ]
}

fn engine() -> impl Strategy<Value = RuntimeHealth> {
    let reason = "it hangs".to_owned();
    prop_oneof![
        Just(RuntimeHealth::Unhealthy { reason }),
        Just(RuntimeHealth::Healthy),
    ]
}

fn force() -> impl Strategy<Value = Force> {
    prop_oneof![4 => Just(Force::No), 1 => Just(Force::Yes)]
}

pub(super) fn deed() -> impl Strategy<Value = Deed> {
    let name = || 0..NAMES.len();
    let node = || 1..=NODES + 1;
    prop_oneof![
        3 => service(),
        2 => daemon(),
        1 => job(),
        1 => (0..3_usize, 0..6_u32).prop_map(|(name, replicas)| Deed::Scale { name, replicas }),
        1 => name().prop_map(Deed::Restart),
        2 => (name(), action()).prop_map(|(name, action)| Deed::Rollout { name, action }),
        1 => name().prop_map(Deed::Delete),
        1 => node().prop_map(Deed::Lose),
        1 => node().prop_map(Deed::Return),
        6 => node().prop_map(Deed::Agent),
        1 => (node(), patch()).prop_map(|(node, patch)| Deed::Patch(node, patch)),
        1 => (node(), proptest::option::of(1..90_u64)).prop_map(|(n, at)| Deed::Drain(n, at)),
        1 => (node(), force()).prop_map(|(node, force)| Deed::Remove(node, force)),
        1 => Just(Deed::Rebalance),
        1 => (node(), engine()).prop_map(|(node, health)| Deed::Engine(node, health)),
        2 => (0..12_usize).prop_map(Deed::Break),
        3 => (1..40_i64).prop_map(Deed::Wait),
        1 => prop_oneof![Just(-3600), Just(24 * 3600)].prop_map(Deed::SetClock),
    ]
}

impl World {
    /// Does a deed. What is refused changes nothing.
    pub(super) fn do_deed(&mut self, deed: &Deed) {
        let name = |n: &usize| key(NAMES[*n].1);
        match deed {
            Deed::Apply(n, spec) => self.try_to_apply(NAMES[*n], spec),
            Deed::Scale { name: n, replicas } => {
                self.act(|txn| drop(command::scale(txn, &name(n), *replicas, None)));
            }
            Deed::Restart(n) => {
                self.act(|txn| drop(txn.attempt(|txn| command::restart(txn, &name(n), None))));
            }
            Deed::Rollout { name: n, action } => drop(self.rollout(NAMES[*n].1, *action)),
            Deed::Delete(n) => {
                self.act(|txn| drop(command::delete(txn, &name(n), None)));
            }
            Deed::Lose(n) => self.lose(*n),
            Deed::Return(n) => self.join(*n),
            Deed::Agent(n) => self.run_agent(&node_name(*n)),
            Deed::Patch(n, patch) => {
                let patch: NodePatch = serde_json::from_value(patch.clone()).unwrap();
                self.act(|txn| drop(command::patch_node(txn, &node_name(*n), &patch, None)));
            }
            Deed::Drain(n, deadline) => {
                let deadline = deadline.map(Span::from_secs);
                let request = DrainRequest { deadline };
                self.act(|txn| drop(command::drain(txn, &node_name(*n), &request, None)));
            }
            Deed::Remove(n, force) => drop(self.remove(*n, *force)),
            Deed::Rebalance => drop(self.rebalance()),
            Deed::Engine(n, health) => self.heartbeat(*n, health),
            Deed::Break(index) => self.break_one(*index),
            Deed::Wait(seconds) => self.wait(*seconds),
            Deed::SetClock(seconds) => self.set_clock(*seconds),
        }
    }

    /// Applies what makes sense; some of what is drawn does not.
    fn try_to_apply(&mut self, (kind, name): (&str, &str), spec: &Value) {
        let manifest = json!({ "kind": kind, "name": name, "spec": spec });
        let manifest = Manifest::from_json(manifest).unwrap();
        self.act(|txn| {
            let uid = Uid(uuid::Uuid::nil());
            drop(txn.attempt(|txn| command::apply(txn, &[manifest], &[uid])));
        });
    }

    /// What serves no longer does.
    fn break_one(&mut self, index: usize) {
        let mut serving = self.cluster.instances.values();
        let Some(broken) = serving.by_ref().filter(|i| i.serves()).nth(index) else {
            return;
        };
        let (id, until) = (broken.id.clone(), self.now);
        let reason = "it broke".to_owned();
        self.set_phase(&id, Phase::BackingOff { until, reason });
    }
}
