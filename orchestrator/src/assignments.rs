//! What an agent has been told to run, and how to tell it what changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use windlass_api::{
    ids::{Epoch, Generation, InstanceId, NodeName},
    resource::Goal,
    template::InstanceTemplate,
    wire::{
        AssignedInstance, AssignmentFrame, FRAME_ITEMS_MAX, FRAME_TEMPLATE_BYTES_MAX, Removals,
    },
};
use windlass_core::cluster::Cluster;

/// What an agent has been told in its session.
#[derive(Debug, Default)]
pub(crate) struct Told {
    generation: Option<Generation>,
    standing: Option<Standing>,
    instances: BTreeMap<InstanceId, AssignedInstance>,
    /// The instances whose end it has been asked to confirm.
    asked_to_stop: BTreeSet<InstanceId>,
}

/// In which sense the agent was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    epoch: Epoch,
    removals: Removals,
}

impl Standing {
    fn of(cluster: &Cluster) -> Self {
        Self {
            epoch: cluster.record.epoch,
            removals: if cluster.record.awaits_acceptance() {
                Removals::Withheld
            } else {
                Removals::Allowed
            },
        }
    }
}

impl Told {
    /// The frames that tell a node's agent what it does not know of its assignment yet. Empty if
    /// it knows everything.
    pub(crate) fn update(&mut self, cluster: &Cluster, node: &NodeName) -> Vec<AssignmentFrame> {
        let generation = cluster.generation(node);
        let standing = Standing::of(cluster);
        if self.generation == Some(generation) && self.standing == Some(standing) {
            return Vec::new();
        }
        // What was told in another sense may not have been accepted; nor may what is told while
        // removals are withheld.
        if self.standing != Some(standing) || standing.removals == Removals::Withheld {
            *self = Self::default();
        }
        let assignment = cluster.assignment(node);
        let changed: Vec<AssignedInstance> = assignment
            .instances
            .values()
            .filter(|new| self.instances.get(&new.id) != Some(new))
            .cloned()
            .collect();
        let stopping: BTreeSet<InstanceId> = cluster
            .instances_on(node)
            .filter(|i| i.goal == Goal::Stop)
            .map(|i| i.id.clone())
            .collect();
        // Those too of which this session never said that they should run: the agent may have
        // them from an earlier one, or they came and went while it was away. Either way nobody
        // but the agent can say that they are gone.
        let unasked = stopping.difference(&self.asked_to_stop);
        let missing = self
            .instances
            .keys()
            .filter(|id| !assignment.instances.contains_key(*id));
        let removed: BTreeSet<InstanceId> = unasked.chain(missing).cloned().collect();
        let removed = removed.into_iter().collect();
        #[cfg(feature = "mutants")]
        let removed = if windlass_api::mutants::Mutant::UntoldRemovals.is_on() {
            Vec::new()
        } else {
            removed
        };
        let frames = frames(standing, generation, self.generation, changed, removed);
        *self = Self {
            generation: Some(generation),
            standing: Some(standing),
            instances: assignment.instances,
            asked_to_stop: stopping,
        };
        frames
    }
}

fn frames(
    standing: Standing,
    generation: Generation,
    base: Option<Generation>,
    changed: Vec<AssignedInstance>,
    mut removed: Vec<InstanceId>,
) -> Vec<AssignmentFrame> {
    let chunks = chunks(changed);
    let last = chunks.len() - 1;
    chunks
        .into_iter()
        .enumerate()
        .map(|(i, instances)| AssignmentFrame {
            epoch: standing.epoch,
            removals: standing.removals,
            generation,
            base,
            more: i < last,
            instances,
            removed: if i == last {
                std::mem::take(&mut removed)
            } else {
                Vec::new()
            },
        })
        .collect()
}

/// The instances in parts of which each fits into a frame. There is at least one part.
fn chunks(instances: Vec<AssignedInstance>) -> Vec<Vec<AssignedInstance>> {
    let mut chunks = vec![Vec::new()];
    // What each template takes, by where it is in memory: those of a revision are one.
    let mut sizes: BTreeMap<*const InstanceTemplate, usize> = BTreeMap::new();
    let mut in_chunk: BTreeSet<*const InstanceTemplate> = BTreeSet::new();
    let mut bytes = 0;
    for instance in instances {
        let template = Arc::as_ptr(&instance.template);
        let size = *sizes
            .entry(template)
            .or_insert_with(|| size_of_json(&instance.template));
        let more = if in_chunk.contains(&template) {
            0
        } else {
            size
        };
        let full = chunks.last().is_some_and(|chunk: &Vec<AssignedInstance>| {
            chunk.len() >= FRAME_ITEMS_MAX
                || (!chunk.is_empty() && bytes + more > FRAME_TEMPLATE_BYTES_MAX)
        });
        if full {
            chunks.push(Vec::new());
            in_chunk.clear();
            bytes = 0;
        }
        if in_chunk.insert(template) {
            bytes += size;
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(instance);
        }
    }
    chunks
}

fn size_of_json(template: &InstanceTemplate) -> usize {
    let json = serde_json::to_vec(template);
    json.expect("a template has string keys and plain values")
        .len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;
    use windlass_api::{
        ids::{ClusterId, Uid, WorkloadKey},
        resource::Manifest,
        wire::{Hello, PROTOCOL},
    };
    use windlass_core::{
        command,
        plan::{Scope, plan},
        transaction::Transaction,
    };

    use super::*;

    fn node() -> NodeName {
        "n1".parse().unwrap()
    }

    fn key() -> WorkloadKey {
        "default/web".parse().unwrap()
    }

    fn act(cluster: &mut Cluster, act: impl FnOnce(&mut Transaction)) {
        let mut txn = Transaction::new(cluster, "2026-01-01T00:00:00Z".parse().unwrap());
        act(&mut txn);
        plan(&mut txn, &Scope::All);
        *cluster = txn.finish().0;
    }

    /// A cluster with one node and so many instances on it.
    fn cluster(replicas: usize) -> Cluster {
        cluster_with(replicas, &[("web", "")])
    }

    /// The same, with a workload of each name, which has this text in its environment.
    fn cluster_with(replicas: usize, workloads: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::new(ClusterId(Uuid::nil()));
        let hello: Hello = serde_json::from_value(json!({
            "protocol": PROTOCOL, "node": "n1",
            "info": {
                "agentId": Uuid::nil(), "agentVersion": "0", "engineId": "e",
                "engineVersion": "0", "os": "linux", "arch": "x86_64",
            },
            "capacity": { "cpu": "2", "memory": "2Gi" }, "labels": {}, "taints": [],
            "cluster": null, "seen": null, "runtime": { "state": "healthy" },
        }))
        .unwrap();
        let manifests = workloads.iter().map(|(name, text)| {
            let manifest = json!({
                "kind": "Service", "name": name,
                "spec": { "image": "nginx", "replicas": replicas, "env": { "TEXT": text } },
            });
            Manifest::from_json(manifest).unwrap()
        });
        let manifests: Vec<Manifest> = manifests.collect();
        let uids: Vec<Uid> = manifests.iter().map(|_| Uid(Uuid::nil())).collect();
        act(&mut cluster, |txn| {
            command::agent::hello(txn, &hello).unwrap();
            command::apply(txn, &manifests, &uids).unwrap();
        });
        cluster
    }

    #[test]
    fn large_templates_never_make_a_frame_that_no_agent_takes() {
        let text = "x".repeat(900_000);
        let workloads = [
            ("a", text.as_str()),
            ("b", text.as_str()),
            ("c", text.as_str()),
            ("d", text.as_str()),
            ("e", text.as_str()),
            ("f", text.as_str()),
        ];
        let cluster = cluster_with(50, &workloads);
        let frames = Told::default().update(&cluster, &node());
        assert!(frames.len() > 1);
        let mut instances = 0;
        for frame in &frames {
            instances += frame.instances.len();
            let bytes = serde_json::to_vec(frame).unwrap().len();
            assert!(bytes < windlass_api::wire::FRAME_BYTES_MAX / 2, "{bytes}");
        }
        assert_eq!(instances, 300);
        assert!(frames.iter().rev().skip(1).all(|frame| frame.more));
    }

    #[test]
    fn the_first_update_is_whole_and_later_ones_are_changes() {
        let mut cluster = cluster(2);
        let mut told = Told::default();
        let first = told.update(&cluster, &node());
        assert_eq!((first[0].base, first[0].instances.len()), (None, 2));
        assert!(told.update(&cluster, &node()).is_empty());
        act(&mut cluster, |txn| {
            command::scale(txn, &key(), 3, None).unwrap();
        });
        let change = told.update(&cluster, &node());
        assert_eq!(change[0].base, Some(first[0].generation));
        assert_eq!((change[0].instances.len(), change[0].removed.len()), (1, 0));
    }

    #[test]
    fn what_is_to_stop_is_named_once_in_a_session() {
        let mut cluster = cluster(2);
        let mut told = Told::default();
        told.update(&cluster, &node());
        for (replicas, removed) in [(1, 1), (0, 1)] {
            act(&mut cluster, |txn| {
                command::scale(txn, &key(), replicas, None).unwrap();
            });
            assert_eq!(told.update(&cluster, &node())[0].removed.len(), removed);
        }
        // A new session names all that nobody has confirmed.
        let whole = Told::default().update(&cluster, &node());
        assert_eq!((whole[0].base, whole[0].removed.len()), (None, 2));
    }

    #[test]
    fn a_state_that_may_have_gone_back_is_told_whole_and_again_when_it_is_accepted() {
        let mut cluster = cluster(2);
        let mut told = Told::default();
        told.update(&cluster, &node());
        act(&mut cluster, |txn| {
            command::restore::restored(txn, Epoch(2));
        });
        let generation = cluster.generation(&node());
        let withheld = told.update(&cluster, &node());
        let shape = |frame: &AssignmentFrame| (frame.epoch.0, frame.base, frame.instances.len());
        assert_eq!(shape(&withheld[0]), (2, None, 2));
        assert_eq!(withheld[0].removals, Removals::Withheld);
        assert!(told.update(&cluster, &node()).is_empty());
        // Changes are told whole, since the agent may not hold what was told before.
        act(&mut cluster, |txn| {
            command::scale(txn, &key(), 3, None).unwrap();
        });
        assert_eq!(shape(&told.update(&cluster, &node())[0]), (2, None, 3));
        act(&mut cluster, |txn| {
            command::restore::accept(txn).unwrap();
        });
        assert_eq!(cluster.generation(&node()), generation.next());
        let accepted = told.update(&cluster, &node());
        assert_eq!(shape(&accepted[0]), (3, None, 3));
        assert_eq!(accepted[0].removals, Removals::Allowed);
    }

    #[test]
    fn a_large_assignment_comes_in_several_frames() {
        let cluster = cluster(FRAME_ITEMS_MAX + 1);
        let frames = Told::default().update(&cluster, &node());
        let shape: Vec<_> = frames.iter().map(|f| (f.instances.len(), f.more)).collect();
        assert_eq!(shape, [(FRAME_ITEMS_MAX, true), (1, false)]);
    }
}
