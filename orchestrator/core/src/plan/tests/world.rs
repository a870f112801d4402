//! A cluster whose agents do what they are told when they are let, and what must hold in it at
//! every step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;
use windlass_api::{
    duration::Span,
    ids::{AgentId, ClusterId, Generation, InstanceId, NodeName, Slot, Uid, WorkloadKey},
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, Goal, Manifest, NodeInfo, RolloutAction, RolloutState},
    status::{Exit, InstanceStatus, NodeState, Phase, Readiness},
    wire::{
        AssignedInstance, Hello, Observed, ObservedInstance, PROTOCOL, RuntimeHealth,
        Scope as ReportScope,
    },
};

use super::{
    super::{Report, Scope, plan, rebalance},
    bounds,
};
use crate::{
    cluster::Cluster,
    command::{self, Refusal},
    lease::fenced_after,
    record::{Change, InstanceRecord},
    transaction::Transaction,
    view::workload_status,
};

/// Whether anything goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faults {
    Happen,
    Stopped,
}

/// A cluster with agents that do what they are told when they are let.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) now: Timestamp,
    /// When everything was last looked at.
    looked_at: Timestamp,
    /// What exists on each node, whatever the server knows of it.
    pub(super) running: BTreeMap<NodeName, BTreeSet<InstanceId>>,
    /// The slots of all exclusive instances that there ever were.
    exclusive: BTreeMap<InstanceId, (WorkloadKey, Slot)>,
    /// Whether the images `crash`, `missing`, `unready` and `failing` do what they are called. The
    /// containers of `task` and `failing` end.
    pub(super) faults: Faults,
}

impl World {
    pub(crate) fn new(nodes: u32) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut world = Self {
            cluster: Cluster::new(ClusterId(Uuid::nil())),
            now,
            looked_at: now,
            running: BTreeMap::new(),
            exclusive: BTreeMap::new(),
            faults: Faults::Happen,
        };
        for n in 1..=nodes {
            world.join(n);
        }
        world
    }

    /// Makes a change, plans, and checks what must hold at every step.
    pub(crate) fn act(&mut self, change: impl FnOnce(&mut Transaction)) -> Report {
        let mut txn = Transaction::new(&self.cluster, self.now);
        change(&mut txn);
        let before = txn.cluster().clone();
        // As the server does: at everything when time may have made a difference, and now and
        // then although nothing happened.
        let scope = if self.looked_at != self.now || txn.is_empty() {
            Scope::All
        } else {
            Scope::of_changes(&self.cluster, &txn)
        };
        self.looked_at = self.now;
        if scope == Scope::All {
            rebalance::by_itself(&mut txn);
        }
        // Looking at what can be meant leads to the same as looking at everything.
        let mut full = txn.clone();
        plan(&mut full, &Scope::All);
        let report = plan(&mut txn, &scope);
        assert_eq!(
            txn.cluster(),
            full.cluster(),
            "{scope:?} leads elsewhere than everything"
        );
        let previous = std::mem::replace(&mut self.cluster, txn.finish().0);
        bounds::check(&before, &self.cluster, self.now);
        bounds::check_completions(&previous, &self.cluster);
        self.check();
        self.check_exclusive();
        // The server is killed after every step, and the next one goes on from what is stored.
        let stored = reloaded(&self.cluster);
        assert_eq!(stored, self.cluster, "a restart loses something");
        self.cluster = stored;
        report
    }

    pub(crate) fn join(&mut self, n: u32) {
        let hello = hello(n);
        self.act(|txn| command::agent::hello(txn, &hello).unwrap());
    }

    pub(crate) fn apply(&mut self, name: &str, spec: serde_json::Value) -> Report {
        self.apply_kind("Service", name, spec)
    }

    pub(crate) fn apply_kind(&mut self, kind: &str, name: &str, spec: serde_json::Value) -> Report {
        let manifest =
            Manifest::from_json(json!({ "kind": kind, "name": name, "spec": spec })).unwrap();
        self.act(|txn| {
            command::apply(txn, &[manifest], &[Uid(Uuid::nil())]).unwrap();
        })
    }

    pub(crate) fn rollout(&mut self, name: &str, action: RolloutAction) -> Result<(), Refusal> {
        let mut result = Ok(());
        self.act(|txn| {
            result = txn.attempt(|txn| command::rollout(txn, &key(name), action, None));
        });
        result
    }

    /// Lets time pass, and looks at the leases as the server does.
    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        let lost: Vec<_> = self.lost().collect();
        for (node, waited) in &lost {
            self.fence(node, *waited);
        }
        self.act(|txn| {
            for (node, waited) in &lost {
                command::agent::lost_for(txn, node, *waited);
            }
            let dark = lost
                .iter()
                .filter(|(n, _)| !txn.cluster().nodes[n].is_removed());
            let dark = dark.count();
            command::agent::judge_darkness(txn, dark);
        });
    }

    /// The nodes that are lost, and for how long.
    fn lost(&self) -> impl Iterator<Item = (NodeName, Span)> {
        self.cluster.nodes.values().filter_map(|node| {
            let NodeState::Lost { since, .. } = node.state else {
                return None;
            };
            // The time of day may have been put back.
            let millis = self.now.duration_since(since).as_millis().max(0);
            Some((
                node.name.clone(),
                Span::from_millis(millis.try_into().unwrap()),
            ))
        })
    }

    /// The agent of a lost node stops what is exclusive, as late as it may.
    fn fence(&mut self, node: &NodeName, waited: Span) {
        let Some(running) = self.running.get_mut(node) else {
            return;
        };
        running.retain(|id| {
            let instance = self.cluster.instances.get(id);
            let template = instance.and_then(|i| self.cluster.template_of(i));
            !template.is_some_and(|t| t.exclusive && fenced_after(t) <= waited)
        });
    }

    /// Lets a node's agent carry out its assignment and report it, if the node is not lost.
    pub(crate) fn run_agent(&mut self, node: &NodeName) {
        if self.cluster.nodes.get(node).is_none_or(|n| n.is_lost()) {
            return;
        }
        let assignment = self.cluster.assignment(node);
        let instances = assignment
            .instances
            .values()
            .map(|assigned| ObservedInstance {
                id: assigned.id.clone(),
                status: self.what_becomes_of(assigned),
            })
            .collect();
        let ran = assignment
            .instances
            .values()
            .filter(|i| i.goal == Goal::Run);
        self.running
            .insert(node.clone(), ran.map(|i| i.id.clone()).collect());
        let report = Observed {
            scope: ReportScope::Full,
            instances,
            gone: Vec::new(),
            generation: assignment.generation,
        };
        self.act(|txn| command::agent::observed(txn, node, &report));
    }

    /// How an instance is a moment later.
    fn what_becomes_of(&self, assigned: &AssignedInstance) -> InstanceStatus {
        let before = &self.cluster.instances[&assigned.id].status;
        let image = assigned.template.containers[0].image.to_string();
        let fault = image.as_str();
        let waits = |reason: &str| Phase::BackingOff {
            until: self.now,
            reason: reason.to_owned(),
        };
        let well = self.faults == Faults::Stopped;
        match before.phase {
            Phase::Succeeded | Phase::Failed { .. } => return before.clone(),
            Phase::Running { .. } if fault == "task" || (fault == "failing" && well) => {
                return ended(before, 0, self.now);
            }
            Phase::Running { .. } if fault == "failing" => return ended(before, 1, self.now),
            _ => {}
        }
        let mut next = match (assigned.goal, fault) {
            (_, "missing") if !well => status(waits("no such image")),
            (Goal::Prepare, _) => status(Phase::Prepared),
            (_, "crash") if !well => {
                let mut next = status(waits("exit code 1"));
                next.restarts = before.restarts + u32::from(before.last_exit.is_some());
                next.last_exit = Some(Exit {
                    code: 1,
                    oom_killed: false,
                    reason: None,
                    finished_at: self.now,
                });
                next.last_log = vec!["cannot open config".to_owned()];
                return next;
            }
            (_, fault) => {
                let started_at = match before.phase {
                    Phase::Running { started_at } => started_at,
                    _ => self.now,
                };
                let mut next = status(Phase::Running { started_at });
                if fault == "unready" && !well {
                    next.readiness = Readiness::NotReady {
                        reason: Some("answered 503".to_owned()),
                    };
                }
                next
            }
        };
        next.restarts = before.restarts;
        next.last_exit = before.last_exit.clone();
        next
    }

    pub(crate) fn run_agents(&mut self) {
        let nodes: Vec<NodeName> = self.cluster.nodes.keys().cloned().collect();
        nodes.iter().for_each(|node| self.run_agent(node));
    }

    /// Lets everything come to rest: nothing happens any more, also not in the next minute.
    pub(crate) fn come_to_rest(&mut self) {
        for _ in 0..60 {
            let before = (
                self.cluster.instances.clone(),
                self.cluster.workloads.clone(),
            );
            self.run_agents();
            self.wait(3);
            if before
                == (
                    self.cluster.instances.clone(),
                    self.cluster.workloads.clone(),
                )
            {
                self.wait(61);
                if before
                    == (
                        self.cluster.instances.clone(),
                        self.cluster.workloads.clone(),
                    )
                {
                    return;
                }
            }
        }
        panic!("it does not come to rest: {:#?}", self.cluster.instances);
    }

    pub(crate) fn set_phase(&mut self, id: &InstanceId, phase: Phase) {
        let Some(node) = self.cluster.instances[id].node.clone() else {
            return;
        };
        let report = Observed {
            scope: ReportScope::Delta,
            instances: vec![ObservedInstance {
                id: id.clone(),
                status: status(phase),
            }],
            gone: Vec::new(),
            generation: Generation(0),
        };
        self.act(|txn| command::agent::observed(txn, &node, &report));
    }

    /// Panics if two exclusive instances of one slot run.
    fn check_exclusive(&mut self) {
        for instance in self.cluster.instances.values() {
            let template = self.cluster.template_of(instance);
            if template.is_some_and(|template| template.exclusive) {
                let slot = (instance.workload.clone(), instance.slot);
                self.exclusive.insert(instance.id.clone(), slot);
            }
        }
        let mut slots = BTreeMap::new();
        for id in self.running.values().flatten() {
            if let Some(slot) = self.exclusive.get(id)
                && let Some(other) = slots.insert(slot, id)
            {
                panic!("{other} and {id} run");
            }
        }
    }

    pub(super) fn check(&self) {
        let mut again = Transaction::new(&self.cluster, self.now);
        let report = plan(&mut again, &Scope::All);
        assert_eq!(report.steps, [], "a second pass found something to do");
        assert!(
            again.is_empty(),
            "a second pass changed {:?}",
            again.changes()
        );
        assert_eq!(self.cluster.inconsistencies(), [""; 0]);
        for node in self.cluster.nodes.values() {
            let used = crate::view::node(&self.cluster, node).status.allocated;
            assert!(
                used.memory <= node.capacity.memory,
                "{}: {used:?}",
                node.name
            );
            assert!(used.cpu <= node.capacity.cpu, "{}: {used:?}", node.name);
        }
        let mut holders: BTreeMap<(WorkloadKey, Slot), (u32, bool)> = BTreeMap::new();
        let seen = self
            .live()
            .into_iter()
            .filter(|i| !self.cluster.is_out_of_sight(i));
        for instance in seen {
            let key = (instance.workload.clone(), instance.slot);
            let (n, moved) = holders.entry(key).or_default();
            *n += 1;
            *moved |= instance.moved_at.is_some();
        }
        // One that is wanted, and one that it replaces. On lost nodes there may be more, of which one
        // may have a replacement until it serves again; and where an update is held, each of the
        // two may move.
        for ((workload, slot), (n, moved)) in holders {
            let record = self.cluster.workloads.get(&workload);
            let rollout = record.and_then(|w| w.rollout.as_ref());
            let held = rollout.is_some_and(|r| {
                matches!(r.state, RolloutState::Canary | RolloutState::Paused { .. })
            });
            let most = if held { 4 } else { 2 } + u32::from(moved);
            assert!(n <= most, "{workload}/{slot}: {n}");
        }
    }

    pub(super) fn status(&self, name: &str) -> windlass_api::resource::WorkloadStatus {
        workload_status(&self.cluster, &self.cluster.workloads[&key(name)])
    }

    pub(super) fn state(&self, name: &str) -> RolloutState {
        self.status(name).rollout.unwrap().state
    }

    pub(super) fn live(&self) -> Vec<&InstanceRecord> {
        self.cluster
            .instances
            .values()
            .map(|i| &**i)
            .filter(|i| i.goal != Goal::Stop && !i.has_ended())
            .collect()
    }

    /// Lets a node say how its engine is, if the node is not lost.
    pub(super) fn heartbeat(&mut self, n: u32, health: &RuntimeHealth) {
        let name = node_name(n);
        let node = self.cluster.nodes.get(&name);
        if node.is_some_and(|node| !node.is_lost()) {
            self.act(|txn| command::agent::heartbeat(txn, &name, health));
        }
    }

    pub(super) fn lose(&mut self, n: u32) {
        let name = node_name(n);
        self.act(|txn| command::agent::lose(txn, &name));
    }
}

/// The status of an instance in this phase; it is ready as soon as it runs.
pub(super) fn status(phase: Phase) -> InstanceStatus {
    let mut status = InstanceStatus::new(phase);
    if status.phase.is_running() {
        status.readiness = Readiness::Ready;
    }
    status
}

/// The status of an instance of a job whose container has ended.
fn ended(before: &InstanceStatus, code: i64, finished_at: Timestamp) -> InstanceStatus {
    let exit = Exit {
        code,
        oom_killed: false,
        reason: None,
        finished_at,
    };
    let phase = match code {
        0 => Phase::Succeeded,
        _ => Phase::Failed {
            reason: exit.to_string(),
        },
    };
    InstanceStatus {
        last_exit: Some(exit),
        ..InstanceStatus {
            phase,
            readiness: InstanceStatus::new(Phase::Assigned).readiness,
            ..before.clone()
        }
    }
}

pub(super) fn key(name: &str) -> WorkloadKey {
    format!("default/{name}").parse().unwrap()
}

pub(super) fn node_name(n: u32) -> NodeName {
    format!("n{n}").parse().unwrap()
}

pub(super) fn hello(n: u32) -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: node_name(n),
        info: NodeInfo {
            agent_id: AgentId(Uuid::from_u128(n.into())),
            agent_version: "0".to_owned(),
            engine_id: format!("engine-{n}"),
            boot_id: "boot".to_owned(),
            engine_version: "0".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
        },
        capacity: Capacity {
            cpu: CpuMillis(4_000),
            memory: MemoryBytes(4 << 30),
        },
        labels: BTreeMap::from([("zone".to_owned(), format!("z{}", n % 2))]),
        taints: Vec::new(),
        cluster: None,
        seen: None,
        runtime: RuntimeHealth::Healthy,
    }
}

/// The state as a server that starts reads it from its store.
fn reloaded(cluster: &Cluster) -> Cluster {
    fn stored<T: serde::Serialize + serde::de::DeserializeOwned>(record: &T) -> Option<Arc<T>> {
        let text = serde_json::to_string(record).unwrap();
        Some(Arc::new(serde_json::from_str(&text).unwrap()))
    }
    let mut new = Cluster::new(cluster.record.id);
    new.version = cluster.version;
    new.apply(&Change::Cluster(Arc::clone(&cluster.record)));
    for (id, record) in &cluster.instances {
        new.apply(&Change::Instance(id.clone(), stored(&**record)));
    }
    for (key, record) in &cluster.revisions {
        new.apply(&Change::Revision(key.clone(), stored(&**record)));
    }
    for (key, record) in &cluster.workloads {
        new.apply(&Change::Workload(key.clone(), stored(&**record)));
    }
    for (name, record) in &cluster.nodes {
        new.apply(&Change::Node(name.clone(), Some(Arc::clone(record))));
    }
    for (name, generation) in &cluster.generations {
        new.apply(&Change::Assignment(name.clone(), Some(*generation)));
    }
    for (name, images) in &cluster.images {
        new.apply(&Change::Images(name.clone(), Some(Arc::clone(images))));
    }
    for (key, record) in &cluster.jobs {
        new.apply(&Change::Job(key.clone(), stored(&**record)));
    }
    for (key, record) in &cluster.indices {
        new.apply(&Change::Index(key.clone(), stored(&**record)));
    }
    for (key, record) in &cluster.schedules {
        new.apply(&Change::Schedule(key.clone(), stored(&**record)));
    }
    for (id, event) in &cluster.events {
        // Their form has a test in the api; here there are hundreds.
        new.apply(&Change::Event(*id, Some(Arc::clone(event))));
    }
    new
}
