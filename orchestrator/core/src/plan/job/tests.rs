use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;
use windlass_api::{
    ids::{InstanceId, NodeName, Slot, Uid, WorkloadKey},
    resource::{Goal, IndexStatus, JobState, JobStatus, Manifest, RunJob, WorkloadStatus},
    status::{Exit, InstanceStatus, Phase, Readiness},
    wire::{Observed, ObservedInstance, Scope as ReportScope},
};

use super::{super::tests::world::World, *};
use crate::{
    command::{self, Refusal},
    record::InstanceRecord,
    view::{find_workload, workload_status},
};

mod changes;
mod examples;
mod losses;
mod properties;
mod runs;

/// A cluster whose agents do what they are told when they are let, and whose containers end as
/// they are told. What exists on a node is known here apart from what the server knows.
pub(in crate::plan) struct Works {
    pub(in crate::plan) world: World,
    nodes: u32,
    containers: BTreeMap<InstanceId, (NodeName, InstanceStatus)>,
}

impl Works {
    pub(in crate::plan) fn new(nodes: u32) -> Self {
        Self {
            world: World::new(nodes),
            nodes,
            containers: BTreeMap::new(),
        }
    }

    /// Applies a job.
    fn job(&mut self, name: &str, spec: Value) {
        self.try_apply("Job", name, spec).unwrap();
    }

    pub(in crate::plan) fn try_apply(
        &mut self,
        kind: &str,
        name: &str,
        spec: Value,
    ) -> Result<(), Refusal> {
        let mut spec = spec;
        spec["image"] = json!("busybox");
        let manifest =
            Manifest::from_json(json!({ "kind": kind, "name": name, "spec": spec })).unwrap();
        let mut result = Ok(());
        self.act(|txn| {
            result = txn
                .attempt(|txn| command::apply(txn, &[manifest], &[Uid(Uuid::nil())]))
                .map(drop);
        });
        result
    }

    pub(in crate::plan) fn act(&mut self, change: impl FnOnce(&mut Transaction)) {
        self.world.act(change);
    }

    pub(in crate::plan) fn wait(&mut self, seconds: i64) {
        self.world.wait(seconds);
    }

    fn lose(&mut self, n: u32) {
        let name = node(n);
        self.act(|txn| command::agent::lose(txn, &name));
    }

    /// Lets the agent of a node come back, if it was lost, do what it is told, and report.
    fn sync(&mut self, n: u32) {
        self.world.join(n);
        let name = node(n);
        let assignment = self.world.cluster.assignment(&name);
        let started_at = self.world.now;
        self.containers
            .retain(|id, (at, _)| *at != name || assignment.instances.contains_key(id));
        for id in assignment.instances.keys() {
            self.containers.entry(id.clone()).or_insert_with(|| {
                let mut status = InstanceStatus::new(Phase::Running { started_at });
                status.readiness = Readiness::Ready;
                (name.clone(), status)
            });
        }
        let instances = self.containers.iter().filter(|(_, (at, _))| *at == name);
        let report = Observed {
            scope: ReportScope::Full,
            instances: instances
                .map(|(id, (_, status))| ObservedInstance {
                    id: id.clone(),
                    status: status.clone(),
                })
                .collect(),
            gone: Vec::new(),
            generation: assignment.generation,
        };
        self.act(|txn| command::agent::observed(txn, &name, &report));
    }

    pub(in crate::plan) fn sync_all(&mut self) {
        // The first time what is stopped goes, the second time what had waited for that comes.
        for _ in 0..2 {
            (1..=self.nodes).for_each(|n| self.sync(n));
        }
    }

    /// Lets the containers of an instance end, if they run. The server hears of it with the next
    /// report.
    fn finish(&mut self, id: &InstanceId, code: i64) {
        let finished_at = self.world.now;
        if let Some((_, status)) = self.containers.get_mut(id)
            && status.phase.is_running()
        {
            let exit = Exit {
                code,
                oom_killed: false,
                reason: None,
                finished_at,
            };
            status.phase = match code {
                0 => Phase::Succeeded,
                _ => Phase::Failed {
                    reason: exit.to_string(),
                },
            };
            status.last_exit = Some(exit);
            status.last_log = vec![format!("ended with {code}")];
        }
    }

    /// Lets all that runs of a job end with this code, and report it.
    pub(in crate::plan) fn finish_all(&mut self, name: &str, code: i64) {
        self.sync_all();
        for instance in self.live(name) {
            self.finish(&instance.id, code);
        }
        self.sync_all();
    }

    fn live(&self, name: &str) -> Vec<InstanceRecord> {
        let key = key(name);
        let of_it = self.world.cluster.instances_of(&key);
        of_it
            .filter(|i| i.goal != Goal::Stop && !i.has_ended())
            .map(|i| InstanceRecord::clone(i))
            .collect()
    }

    fn slots(&self, name: &str) -> Vec<u32> {
        let mut slots: Vec<_> = self.live(name).iter().map(|i| i.slot.0).collect();
        slots.sort_unstable();
        slots
    }

    pub(in crate::plan) fn status(&self, name: &str) -> WorkloadStatus {
        let cluster = &self.world.cluster;
        workload_status(cluster, &cluster.workloads[&key(name)])
    }

    fn job_status(&self, name: &str) -> JobStatus {
        self.status(name).job.unwrap()
    }

    fn failure(&self, name: &str) -> String {
        match self.job_status(name).state {
            JobState::Failed { reason, .. } => reason,
            state => panic!("{state:?}"),
        }
    }

    /// The reasons of the events about a workload, the oldest first.
    pub(in crate::plan) fn events(&self, name: &str) -> Vec<String> {
        let subject = Subject::workload(&key(name));
        let events = self.world.cluster.events_about(&subject);
        events.map(|e| e.reason.clone()).collect()
    }

    pub(in crate::plan) fn last_event(&self, name: &str, reason: &str) -> String {
        let subject = Subject::workload(&key(name));
        let mut events = self.world.cluster.events_about(&subject);
        let event = events.rfind(|e| e.reason == reason);
        event.map(|e| e.message.clone()).unwrap_or_default()
    }
}

pub(in crate::plan) fn key(name: &str) -> WorkloadKey {
    format!("default/{name}").parse().unwrap()
}

fn node(n: u32) -> NodeName {
    format!("n{n}").parse().unwrap()
}
