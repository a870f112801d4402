//! What must hold, whatever happens: looked at with every commit, every answer of an agent and
//! every start of a container. The letters are those of the contracts in ARCHITECTURE.md.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use windlass_agent::runtime::{ContainerId, Part};
use windlass_api::ids::{Epoch, Generation, InstanceId, NodeName, Slot, Version, WorkloadKey};
use windlass_core::cluster::Cluster;

use crate::world::World;

mod published;
mod rest;
mod slots;

pub(crate) use slots::AWAY_MAX;

/// How long after the last fault everything must be in its place: a container that failed often
/// waits for up to five minutes, and an update gives up after half a minute for each of its slots.
pub(crate) const REST_WITHIN: Duration = Duration::from_secs(600);
/// For how long nothing is touched then.
pub(crate) const REST_FOR: Duration = Duration::from_secs(60);
/// The exit code in reports about instances of others.
pub(crate) const FORGED_EXIT: i64 = 99;
/// How often a container may be started within [`STARTS_WITHIN`]: at once, and after 1, 2, 4, 8 and
/// 16 s; the rest is for what else ends it.
const STARTS_MAX: usize = 12;
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// How long a node that something happened to is given before what depends on it is judged.
const HURT_FOR: Duration = Duration::from_secs(90);

/// What was seen so far, and what was wrong.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) violations: Vec<String>,
    /// The newest state that was shown to anybody.
    acknowledged: Option<Cluster>,
    /// How far a watch has read.
    watched: Version,
    /// The state became an earlier one, and no server has read it yet.
    went_back: bool,
    /// The state became an earlier one at some time.
    has_gone_back: bool,
    /// The time of day of the server has jumped.
    pub(crate) clock_jumped: bool,
    /// When each slot was last filled anew since its node was lost.
    moved: BTreeMap<(WorkloadKey, Slot), Duration>,
    /// What runs that the server does not know since its state went back.
    protected: BTreeSet<(NodeName, InstanceId)>,
    /// The instances that had no node in the state that came back: a server that does not know that
    /// it went back may give one to what has got one in what was lost.
    ambiguous: BTreeSet<InstanceId>,
    /// The instances that were ever made, as far as the state tells.
    made: BTreeSet<InstanceId>,
    starts: BTreeMap<(InstanceId, Part), VecDeque<Duration>>,
    pub(crate) commits: u64,
    pub(crate) started: u64,
}

impl Checker {
    pub(crate) fn server_started(&mut self, state: &Cluster) {
        self.watched = state.version;
        self.acknowledged = Some(state.clone());
        self.made.extend(state.instances.keys().cloned());
    }

    /// Another server has made something durable, and answered.
    pub(crate) fn rival_committed(&mut self, state: &Cluster) {
        self.acknowledged = Some(state.clone());
        self.made.extend(state.instances.keys().cloned());
    }

    /// An agent begins with what it has seen. If that is nothing that the state does not have, nobody
    /// can tell any more that the state went back, as long as no other agent does: numbers were given
    /// out twice, or the disk of the agent is empty.
    pub(crate) fn greeted(
        &mut self,
        state: &Cluster,
        node: &NodeName,
        seen: Option<(Epoch, Generation)>,
    ) {
        let newest = (state.record.epoch, state.generation(node));
        if !state.record.awaits_acceptance() && seen.is_none_or(|seen| seen <= newest) {
            self.protected.retain(|(protected, _)| protected != node);
        }
    }

    pub(crate) fn server_died(&mut self) {
        self.watched = Version(0);
    }
}

impl World {
    /// The state becomes an earlier one: nothing acknowledged since then is there.
    pub(crate) fn state_went_back(&mut self) {
        self.checker.went_back = true;
        self.checker.has_gone_back = true;
        self.checker.acknowledged = None;
        self.checker.moved.clear();
        self.gone.clear();
    }

    /// A: a server that starts finds everything that was ever acknowledged.
    pub(crate) fn check_loaded(&mut self, loaded: &Cluster) {
        if std::mem::take(&mut self.checker.went_back) {
            self.checker.made = loaded.instances.keys().cloned().collect();
            let mut protected = BTreeSet::new();
            for (node, engine) in &self.engines {
                let unknown = |id: &&InstanceId| !loaded.instances.contains_key(*id);
                let running = engine.running().filter(|c| !engine.needs_server(&c.id));
                let running = running.map(|c| &c.instance).filter(unknown);
                let held = self
                    .machines
                    .get(node)
                    .and_then(|m| m.agent.as_ref()?.held());
                let wanted = running
                    .filter(|id| held.as_ref().is_some_and(|h| h.instances.contains_key(*id)));
                protected.extend(wanted.map(|id| (node.clone(), id.clone())));
            }
            self.checker.protected = protected;
            let unplaced = loaded.instances.values().filter(|i| i.node.is_none());
            self.checker.ambiguous = unplaced.map(|i| i.id.clone()).collect();
            return;
        }
        let Some(acknowledged) = &self.checker.acknowledged else {
            return;
        };
        if loaded.version < acknowledged.version {
            let what = format!(
                "version {} was acknowledged, and version {} is there",
                acknowledged.version, loaded.version
            );
            self.violated("A", what);
        } else if loaded.version == acknowledged.version && loaded != acknowledged {
            let what = format!("version {} is not what was acknowledged", loaded.version);
            self.violated("A", what);
        }
    }

    /// K: nothing is stopped on the word of a server whose state went back.
    pub(crate) fn asked_to_stop(&mut self, node: &NodeName, id: &ContainerId) {
        let container = self.engines.get(node).and_then(|e| e.containers.get(id));
        let Some(instance) = container.map(|c| c.instance.clone()) else {
            return;
        };
        if self
            .checker
            .protected
            .contains(&(node.clone(), instance.clone()))
        {
            let what = format!("{instance} is stopped on {node}, before the restore was accepted");
            self.violated("K", what);
        }
    }

    /// B: an instance runs once, and never again after it was gone. And it is not started without
    /// end.
    pub(crate) fn check_started(&mut self, node: &NodeName, id: &ContainerId) {
        self.checker.started += 1;
        let container = self.engines.get(node).and_then(|e| e.containers.get(id));
        let Some((instance, part)) = container.map(|c| (c.instance.clone(), c.part.clone())) else {
            return;
        };
        let same = self.engines.values().flat_map(|e| e.running());
        let count = same
            .filter(|c| c.instance == instance && c.part == part)
            .count();
        if count > 1 && !self.checker.ambiguous.contains(&instance) {
            self.violated("B", format!("{instance} runs {count} times"));
        }
        if self.gone.contains(&instance) {
            self.violated(
                "B",
                format!("{instance} is started on {node}, after it was gone"),
            );
        }
        self.check_exclusive(node, id);
        let now = self.now;
        let starts = self
            .checker
            .starts
            .entry((instance.clone(), part))
            .or_default();
        starts.push_back(now);
        while starts.front().is_some_and(|at| now - *at > STARTS_WITHIN) {
            starts.pop_front();
        }
        let count = starts.len();
        if count > STARTS_MAX && !self.is_hurt(node) {
            self.violated(
                "H",
                format!("{instance} was started {count} times in half a minute"),
            );
        }
    }

    /// Whether something happened to a node a short time ago.
    pub(crate) fn is_hurt(&self, node: &NodeName) -> bool {
        let hurt = self.machines.get(node).and_then(|m| m.hurt_at);
        hurt.is_some_and(|at| self.now - at < HURT_FOR)
    }

    /// G and H: what an agent holds only grows, and what it remembers is bounded.
    pub(crate) fn check_agent(&mut self, node: &NodeName) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        let Some(agent) = &machine.agent else {
            return;
        };
        let seen = agent.seen();
        let before = machine.held;
        machine.held = seen.or(before);
        let (pending, remembered) = (agent.pending_calls(), agent.remembered());
        let assigned = agent.held().map_or(0, |held| held.instances.len());
        let containers = self.engines.get(node).map_or(0, |e| e.containers.len());
        if let (Some(before), Some(seen)) = (before, seen)
            && seen < before
        {
            self.violated(
                "G",
                format!("{node} went from generation {before:?} to {seen:?}"),
            );
        }
        // One call for each container, one that reads its last lines, a list, a chore.
        let bound = 4 * (assigned + containers) + 16;
        if pending > bound {
            self.violated(
                "H",
                format!("{node} has {pending} calls, more than {bound}"),
            );
        }
        if remembered > bound {
            self.violated("H", format!("{node} remembers {remembered} instances"));
        }
    }
}
