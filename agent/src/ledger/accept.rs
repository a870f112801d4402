//! Whether an assignment that a server sends becomes the one that the agent works on.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use windlass_api::{
    ids::{ClusterId, Epoch, Generation, InstanceId, RevisionNumber, WorkloadKey},
    resource::Goal,
    template::InstanceTemplate,
    wire::{AssignedInstance, Assignment, AssignmentFrame, Removals},
};

use super::Held;

/// What an accepted frame did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: it is what is held already.
    NotNeeded {
        /// The instances that are wanted no more, which the server still waits to hear of.
        dropped: Vec<InstanceId>,
    },
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
    /// The server's state may have gone back, and it would take away what is held.
    #[error(
        "the state of the server may be older than what this agent has seen, and would take away \
         what runs here; everything runs on; to let it, run `windlass cluster accept-restore`"
    )]
    Withheld,
}

impl Rejection {
    /// Whether the server cannot have come from what is held to what it sends: its state is not
    /// the one that it was.
    pub(crate) fn is_divergence(&self) -> bool {
        match self {
            Self::OlderEpoch { .. }
            | Self::OlderGeneration { .. }
            | Self::DifferentContent { .. } => true,
            Self::OtherCluster { .. } | Self::BaseNotHeld { .. } | Self::Withheld => false,
        }
    }
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
    let removals = frame.removals;
    let removed = frame.removed.clone();
    let new = combine(held, cluster, frame)?;
    let (ours, theirs) = (&held.assignment, &new.assignment);
    // Generations of different epochs do not follow one another.
    if new.epoch == held.epoch {
        match theirs.generation.cmp(&ours.generation) {
            #[cfg(feature = "mutants")]
            Ordering::Less if windlass_api::mutants::Mutant::OlderGeneration.is_on() => {}
            Ordering::Less => {
                return Err(Rejection::OlderGeneration {
                    ours: ours.generation,
                    theirs: theirs.generation,
                });
            }
            Ordering::Equal if theirs.instances == ours.instances => {
                return Ok(Verdict::NotNeeded { dropped: removed });
            }
            Ordering::Equal => {
                return Err(Rejection::DifferentContent {
                    generation: ours.generation,
                });
            }
            Ordering::Greater => {}
        }
    }
    #[cfg(feature = "mutants")]
    let removals = if windlass_api::mutants::Mutant::ObeyedRestore.is_on() {
        Removals::Allowed
    } else {
        removals
    };
    if removals == Removals::Withheld && takes_away(ours, theirs) {
        return Err(Rejection::Withheld);
    }
    Ok(replaced(held, new, removed))
}

fn accept_first(cluster: ClusterId, frame: AssignmentFrame) -> Result<Verdict, Rejection> {
    if let Some(base) = frame.base {
        return Err(Rejection::BaseNotHeld { ours: None, base });
    }
    // Containers of ours may run here all the same, of which the ledger was lost.
    if frame.removals == Removals::Withheld {
        return Err(Rejection::Withheld);
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

/// Whether the assignment takes away something of what is held. Of a server whose state may have
/// gone back nobody can tell whether it was removed since or is not known to it.
fn takes_away(ours: &Assignment, theirs: &Assignment) -> bool {
    let kept = |a: &AssignedInstance| {
        theirs.instances.get(&a.id).is_some_and(|b| {
            let same = AssignedInstance {
                goal: a.goal,
                ..b.clone()
            };
            same == *a && (a.goal == Goal::Prepare || b.goal == Goal::Run)
        })
    };
    !ours.instances.values().all(kept)
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
