//! What users and operators do.

use std::{collections::BTreeSet, time::Duration};

use windlass_api::{
    duration::Span,
    ids::{NodeName, WorkloadKey},
    resource::{DrainRequest, Manifest, NodePatch, RolloutAction, Scheduling, SchedulingChange},
};
use windlass_core::{cluster::Cluster, command::Force, plan::rebalance};
use windlass_orchestrator::controller::Write;

use super::{Event, World};

mod manifests;

const NAMES: [&str; 5] = ["web", "api", "cache", "queue", "shop"];
impl World {
    /// Somebody does something, and somebody will again.
    pub(crate) fn user_acts(&mut self) {
        let Some(state) = self.server.as_ref().map(|p| p.server.state()) else {
            self.after(Duration::from_secs(2), Event::User);
            return;
        };
        let (what, write) = self.wish(&state);
        self.ask(what, write);
        if self.is_rough() {
            let pause = self.random.millis(100, self.plan.user_every_ms);
            self.after(pause, Event::User);
        }
    }

    pub(crate) fn wish(&mut self, state: &Cluster) -> (String, Write) {
        let keys: Vec<WorkloadKey> = state.workloads.keys().cloned().collect();
        let nodes: Vec<NodeName> = state.nodes.keys().cloned().collect();
        if keys.len() < 2 {
            return self.apply();
        }
        if state.record.awaits_acceptance() && self.random.percent(10) {
            return ("accept the restore".to_owned(), Write::AcceptRestore);
        }
        let key = self.random.pick(&keys).clone();
        match self.random.below(100) {
            0..45 => self.apply(),
            45..60 => {
                let replicas = u32::try_from(self.random.below(5)).expect("a few");
                (
                    format!("scale {key} to {replicas}"),
                    Write::Scale(key, replicas, None),
                )
            }
            60..68 => (format!("delete {key}"), Write::Delete(key, None)),
            68..74 => (format!("restart {key}"), Write::Restart(key, None)),
            74..84 => {
                let actions = [
                    RolloutAction::Promote,
                    RolloutAction::Abort,
                    RolloutAction::Pause,
                    RolloutAction::Resume,
                    RolloutAction::Undo { to: None },
                ];
                let action = self.random.pick(&actions).to_owned();
                (
                    format!("{action:?} {key}"),
                    Write::Rollout(key, action, None),
                )
            }
            84..86 => {
                let wall = self.server_wall();
                let moves = rebalance::propose(state, &BTreeSet::new(), wall, 3).moves;
                let moves_of = moves.iter().map(|m| m.instance.to_string());
                let what = format!("rebalance {}", moves_of.collect::<Vec<_>>().join(" "));
                (what, Write::Move(moves))
            }
            _ if nodes.is_empty() => self.apply(),
            other => {
                let node = self.random.pick(&nodes).clone();
                self.node_work(node, other)
            }
        }
    }

    /// What an operator does to a node.
    fn node_work(&mut self, node: NodeName, what: u64) -> (String, Write) {
        match what {
            86..89 => schedule(node, SchedulingChange::Cordoned),
            89..92 => {
                let deadline = self.random.between(5, 40);
                let deadline = self.random.percent(50).then(|| Span::from_secs(deadline));
                let what = format!("drain {node} {deadline:?}");
                (
                    what,
                    Write::DrainNode(node, DrainRequest { deadline }, None),
                )
            }
            92 => {
                let force = match self.random.below(2) {
                    0 => Force::No,
                    _ => Force::Yes,
                };
                let what = format!("remove {node} {force:?}");
                (what, Write::RemoveNode(node, force, None))
            }
            _ => schedule(node, SchedulingChange::Enabled),
        }
    }

    fn apply(&mut self) -> (String, Write) {
        let name = *self.random.pick(&NAMES);
        let manifest = match self.random.below(10) {
            0 => self.daemon(),
            1 => self.job(),
            _ => self.service(name),
        };
        let what = format!("apply {manifest}");
        let manifest: Manifest = serde_json::from_value(manifest).expect("a manifest");
        (what, Write::Apply(vec![manifest]))
    }

    /// What an operator does when the storm is over: accepts a restore, and lets all nodes work.
    pub(crate) fn tidy_up(&mut self) {
        let Some(state) = self.server.as_ref().map(|p| p.server.state()) else {
            return;
        };
        if state.record.awaits_acceptance() {
            self.ask("accept the restore".to_owned(), Write::AcceptRestore);
        }
        let state = &state;
        let with = |scheduling: fn(&Scheduling) -> bool| {
            let nodes = state.nodes.values();
            let nodes = nodes.filter(move |node| scheduling(&node.scheduling));
            nodes.map(|node| node.name.clone()).collect::<Vec<_>>()
        };
        let aside = with(|s| matches!(s, Scheduling::Cordoned | Scheduling::Draining { .. }));
        for node in aside {
            let (what, write) = schedule(node, SchedulingChange::Enabled);
            self.ask(what, write);
        }
        for node in with(|s| matches!(s, Scheduling::Removed { .. })) {
            // Its machine joins anew, as its agent's refusal says.
            self.lose_agent_disk(&node, Duration::from_secs(1));
        }
    }
}

fn schedule(node: NodeName, scheduling: SchedulingChange) -> (String, Write) {
    let what = format!("{node}: {scheduling:?}");
    let patch = NodePatch {
        scheduling: Some(scheduling),
        ..NodePatch::default()
    };
    (what, Write::PatchNode(node, Box::new(patch), None))
}
