//! D: when nothing breaks any more, everything comes to rest, in its place.

use std::collections::BTreeSet;

use windlass_api::{
    ids::{NodeName, WorkloadKey},
    resource::{Goal, JobState, RolloutState},
    spec::WorkloadSpec,
    status::{NodeState, Phase},
};
use windlass_core::{
    cluster::Cluster,
    record::{InstanceRecord, WorkloadRecord},
};

use super::REST_FOR;
use crate::{engine::Program, world::World};

impl World {
    /// Everything has had its time.
    pub(crate) fn check_rest(&mut self) {
        let Some(state) = self.server.as_ref().map(|p| p.server.state()) else {
            return self.violated("D", "no server runs".to_owned());
        };
        let mut wrong = Vec::new();
        self.nodes_at_rest(&state, &mut wrong);
        self.containers_at_rest(&state, &mut wrong);
        for (key, workload) in &state.workloads {
            settled(&state, key, workload, &mut wrong);
        }
        for instance in state.instances.values().filter(|i| i.goal == Goal::Stop) {
            wrong.push(format!("{} is still to stop", instance.id));
        }
        for what in wrong {
            self.violated("D", what);
        }
    }

    fn nodes_at_rest(&self, state: &Cluster, wrong: &mut Vec<String>) {
        if state.record.awaits_acceptance() {
            wrong.push("the state still awaits its acceptance".to_owned());
        }
        for (name, machine) in &self.machines {
            if !machine
                .agent
                .as_ref()
                .is_some_and(|agent| agent.is_connected())
            {
                wrong.push(format!("the agent of {name} is not connected"));
            }
            match state.nodes.get(name).map(|n| &n.state) {
                Some(NodeState::Ready) => {}
                other => wrong.push(format!("{name} is {other:?}")),
            }
        }
    }

    /// What exists is what is wanted; and what is well is left alone.
    fn containers_at_rest(&self, state: &Cluster, wrong: &mut Vec<String>) {
        let restless: BTreeSet<NodeName> = state
            .instances
            .values()
            .filter(|i| !is_well(state, i))
            .filter_map(|i| i.node.clone())
            .collect();
        for (node, engine) in &self.engines {
            for container in engine.containers.values() {
                let known = state.instances.get(&container.instance);
                if known.and_then(|i| i.node.as_ref()) != Some(node) {
                    wrong.push(format!("{} is left on {node}", container.instance));
                }
            }
            let quiet = self.now.saturating_sub(engine.changed_at);
            if quiet < REST_FOR && !restless.contains(node) {
                wrong.push(format!("containers of {node} were changed {quiet:?} ago"));
            }
        }
    }
}

/// Whether nothing in an instance fails by itself.
fn is_well(state: &Cluster, instance: &InstanceRecord) -> bool {
    let Some(template) = state.template_of(instance) else {
        return false;
    };
    let good = |image: String| Program::of(&image).is_good() && !image.contains("missing");
    template.all_containers().all(|c| good(c.image.to_string()))
}

/// Every slot has an instance that serves, or one that says why it does not.
fn settled(state: &Cluster, key: &WorkloadKey, workload: &WorkloadRecord, wrong: &mut Vec<String>) {
    let live = || {
        state
            .instances_of(key)
            .filter(|i| i.goal != Goal::Stop && !i.has_ended())
    };
    if let WorkloadSpec::Job(_) = &workload.manifest.spec
        && live().count() == 0
        && !state
            .jobs
            .get(key)
            .is_some_and(|job| job.state != JobState::Running)
    {
        wrong.push(format!("{key} has not ended, and nothing of it runs"));
    }
    for instance in live() {
        let phase = &instance.status.phase;
        let says_why = match phase {
            Phase::Pending { .. } => true,
            Phase::BackingOff { .. } | Phase::Failed { .. } => !is_well(state, instance),
            Phase::Running { .. } | Phase::Starting | Phase::Pulling => !is_well(state, instance),
            Phase::Prepared => instance.goal == Goal::Prepare,
            Phase::Succeeded => true,
            Phase::Assigned | Phase::Stopping => false,
        };
        if !instance.serves() && !says_why {
            wrong.push(format!("{} should serve, and is {phase:?}", instance.id));
        }
    }
    let rolling = workload.rollout.as_ref().is_some_and(|r| match r.state {
        RolloutState::Completed | RolloutState::RolledBack { .. } => false,
        RolloutState::Progressing
        | RolloutState::Canary
        | RolloutState::Paused { .. }
        | RolloutState::RollingBack { .. } => true,
    });
    if let WorkloadSpec::Service(spec) = &workload.manifest.spec
        && !rolling
    {
        let count = live().count();
        if u32::try_from(count).unwrap_or(u32::MAX) != spec.replicas {
            let wanted = spec.replicas;
            wrong.push(format!(
                "{key} has {count} instances, and {wanted} are wanted"
            ));
        }
    }
}
