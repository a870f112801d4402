//! Whether an assignment that a server sends becomes the one that the agent works on.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use windlass_api::{
    ids::{ClusterId, Epoch, Generation, InstanceId, RevisionNumber, WorkloadKey},
    template::InstanceTemplate,
    wire::{AssignedInstance, Assignment, AssignmentFrame},
};

use super::Held;

/// What an accepted frame did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: it is what is held already.
    NotNeeded,
    /// There is a new assignment.
    Replaced {
        /// The new one.
        held: Arc<Held>,
        /// The instances that are wanted no more.
        dropped: Vec<InstanceId>,
    },
}

/// Why an assignment is not accepted. The agent goes on with the one that it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    /// The server is that of another cluster.
    #[error("this agent belongs to cluster {ours}, the assignment is of cluster {theirs}")]
    OtherCluster {
        /// The cluster of what is held.
        ours: ClusterId,
        /// The cluster of the server.
        theirs: ClusterId,
    },
    /// The server's state is from before a restore that this agent has seen.
    #[error("epoch {theirs} is older than epoch {ours}, which this agent has seen")]
    OlderEpoch {
        /// The epoch of what is held.
        ours: Epoch,
        /// The epoch of the frame.
        theirs: Epoch,
    },
    /// A newer assignment is held.
    #[error("generation {theirs} is older than generation {ours}, which this agent has seen")]
    OlderGeneration {
        /// The generation of what is held.
        ours: Generation,
        /// The generation of the frame.
        theirs: Generation,
    },
    /// Two assignments have one number.
    #[error("generation {generation} is held already, with a different content")]
    DifferentContent {
        /// Their number.
        generation: Generation,
    },
    /// The frame changes an assignment that is not held.
    #[error(
        "the change is to generation {}, this agent holds {}; it needs the whole assignment",
        base,
        ours.map_or("none".to_owned(), |g| format!("generation {g}"))
    )]
    BaseNotHeld {
        /// The generation of what is held.
        ours: Option<Generation>,
        /// The generation that the frame changes.
        base: Generation,
    },
    /// The server's state was restored from a backup, and knows less than the agent.
    #[error(
        "the state of the server was restored (epoch {theirs}, generation {generation}) from before \
         what this agent has seen (epoch {ours}, generation {seen}), and would take away what runs \
         here; to accept it, stop the agent, delete ledger.json in its data directory, and start it"
    )]
    Restored {
        /// The epoch of what is held.
        ours: Epoch,
        /// The generation of what is held.
        seen: Generation,
        /// The epoch of the frame.
        theirs: Epoch,
        /// The generation of the frame.
        generation: Generation,
    },
}

/// Judges a whole frame.
pub(super) fn accept(
    held: Option<&Held>,
    cluster: ClusterId,
    frame: AssignmentFrame,
) -> Result<Verdict, Rejection> {
    let Some(held) = held else {
        return accept_first(cluster, frame);
    };
    if held.cluster != cluster {
        return Err(Rejection::OtherCluster {
            ours: held.cluster,
            theirs: cluster,
        });
    }
    if frame.epoch < held.epoch {
        return Err(Rejection::OlderEpoch {
            ours: held.epoch,
            theirs: frame.epoch,
        });
    }
    let restored = Rejection::Restored {
        ours: held.epoch,
        seen: held.assignment.generation,
        theirs: frame.epoch,
        generation: frame.generation,
    };
    let removed = frame.removed.clone();
    let new = combine(held, cluster, frame)?;
    let (ours, theirs) = (&held.assignment, &new.assignment);
    if new.epoch > held.epoch {
        return if takes_away(ours, theirs) {
            Err(restored)
        } else {
            Ok(replaced(held, new, removed))
        };
    }
    match theirs.generation.cmp(&ours.generation) {
        Ordering::Less => Err(Rejection::OlderGeneration {
            ours: ours.generation,
            theirs: theirs.generation,
        }),
        Ordering::Equal if theirs.instances == ours.instances => Ok(Verdict::NotNeeded),
        Ordering::Equal => Err(Rejection::DifferentContent {
            generation: ours.generation,
        }),
        Ordering::Greater => Ok(replaced(held, new, removed)),
    }
}

fn accept_first(cluster: ClusterId, frame: AssignmentFrame) -> Result<Verdict, Rejection> {
    if let Some(base) = frame.base {
        return Err(Rejection::BaseNotHeld { ours: None, base });
    }
    Ok(Verdict::Replaced {
        held: Arc::new(Held {
            cluster,
            epoch: frame.epoch,
            assignment: Assignment {
                generation: frame.generation,
                instances: by_id(frame.instances),
            },
        }),
        dropped: frame.removed,
    })
}

/// Whether the assignment of a restored server takes away what an agent holds. Nobody can tell
/// whether it was removed after the restore or is not known to the server, so only an operator
/// may let it go.
fn takes_away(ours: &Assignment, theirs: &Assignment) -> bool {
    let kept = |a: &AssignedInstance| {
        theirs.instances.get(&a.id).is_some_and(|b| {
            (&a.workload, a.slot, a.revision, &a.template)
                == (&b.workload, b.slot, b.revision, &b.template)
        })
    };
    match theirs.generation.cmp(&ours.generation) {
        Ordering::Less => true,
        Ordering::Equal => theirs.instances != ours.instances,
        Ordering::Greater => !ours.instances.values().all(kept),
    }
}

/// What the frame leads to from what is held.
fn combine(held: &Held, cluster: ClusterId, frame: AssignmentFrame) -> Result<Held, Rejection> {
    let ours = held.assignment.generation;
    let instances = match frame.base {
        None => by_id(frame.instances),
        // A change that comes again has our generation: applied twice it must change nothing.
        Some(base) if frame.epoch == held.epoch && (base == ours || frame.generation <= ours) => {
            let mut instances = held.assignment.instances.clone();
            for id in &frame.removed {
                instances.remove(id);
            }
            instances.extend(by_id(frame.instances));
            share_templates(&mut instances);
            instances
        }
        Some(base) => {
            return Err(Rejection::BaseNotHeld {
                ours: Some(ours),
                base,
            });
        }
    };
    Ok(Held {
        cluster,
        epoch: frame.epoch,
        assignment: Assignment {
            generation: frame.generation,
            instances,
        },
    })
}

/// Those that the frame names as removed are dropped even if they were never held: they may have
/// come and gone while the agent was away, and the server waits for its word that they are gone.
fn replaced(old: &Held, new: Held, removed: Vec<InstanceId>) -> Verdict {
    let held = old.assignment.instances.keys().cloned();
    let mut dropped: Vec<InstanceId> = held.chain(removed).collect();
    dropped.retain(|id| !new.assignment.instances.contains_key(id));
    dropped.sort();
    dropped.dedup();
    Verdict::Replaced {
        held: Arc::new(new),
        dropped,
    }
}

/// Makes instances of one revision share its template again, which came with each frame anew.
fn share_templates(instances: &mut BTreeMap<InstanceId, AssignedInstance>) {
    let mut known: BTreeMap<(WorkloadKey, RevisionNumber), Arc<InstanceTemplate>> = BTreeMap::new();
    for instance in instances.values_mut() {
        let revision = (instance.workload.clone(), instance.revision);
        let template = known
            .entry(revision)
            .or_insert_with(|| Arc::clone(&instance.template));
        if *template == instance.template {
            instance.template = Arc::clone(template);
        }
    }
}

fn by_id(instances: Vec<AssignedInstance>) -> BTreeMap<InstanceId, AssignedInstance> {
    instances.into_iter().map(|a| (a.id.clone(), a)).collect()
}

#[cfg(test)]
mod tests;
