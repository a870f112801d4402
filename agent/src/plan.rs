//! What to do next so that what runs becomes what is assigned, and what to tell the server.
//!
//! [`plan`] is a function of its input: no clock, no I/O, no randomness. It may be called at any
//! time and as often as one likes; what is already being done is in its input.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use windlass_api::{
    duration::Span,
    ids::{InstanceId, RevisionNumber},
    image::ImageRef,
    resource::Goal,
    spec::PullPolicy,
    status::InstanceStatus,
    wire::{AssignedInstance, Assignment},
};

use crate::{
    history::{Histories, History},
    probe::Healths,
    runtime::{Container, ContainerId, ContainerState},
};

use instance::{Decision, Instance, Next, Wanted};

mod instance;

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    /// What is to run; `None` if that is not known, and then nothing is done.
    pub(crate) assignment: Option<&'a Assignment>,
    /// The containers of this cluster and node, all of them.
    pub(crate) containers: &'a [Container],
    /// What is remembered of instances.
    pub(crate) histories: &'a Histories,
    /// How the running containers are that are probed.
    pub(crate) health: &'a Healths,
    /// What was found out about the images of instances that have no container.
    pub(crate) images: &'a BTreeMap<InstanceId, ImageState>,
    /// What is being done, or was done since the containers were listed.
    pub(crate) busy: &'a BTreeMap<InstanceId, Activity>,
    /// The time.
    pub(crate) now: Timestamp,
}

/// What was found out about an image. Nothing, for an instance without an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageState {
    /// It was made ready for the next container of the instance.
    Ready,
    /// A container could not be created for want of it.
    Missing,
}

/// What is being done for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Its image is being made ready.
    Fetching,
    /// Its container is being created or started.
    Starting,
    /// A container of it is being stopped or removed.
    Removing,
}

/// One thing to do. It holds all that is needed to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make an image ready.
    Fetch {
        instance: InstanceId,
        image: ImageRef,
        policy: PullPolicy,
    },
    /// Create a container and start it.
    Launch(AssignedInstance),
    /// Start a container that exists.
    Start {
        instance: InstanceId,
        container: ContainerId,
    },
    /// Stop a container, and remove it.
    Stop {
        instance: InstanceId,
        container: ContainerId,
        grace: Span,
    },
    /// Remove a container that does not run.
    Remove {
        instance: InstanceId,
        container: ContainerId,
    },
}

impl Step {
    /// The instance that it is for.
    pub(crate) fn instance(&self) -> &InstanceId {
        match self {
            Self::Launch(assigned) => &assigned.id,
            Self::Fetch { instance, .. }
            | Self::Start { instance, .. }
            | Self::Stop { instance, .. }
            | Self::Remove { instance, .. } => instance,
        }
    }

    /// What is being done while it is carried out.
    pub(crate) fn activity(&self) -> Activity {
        match self {
            Self::Fetch { .. } => Activity::Fetching,
            Self::Launch(_) | Self::Start { .. } => Activity::Starting,
            Self::Stop { .. } | Self::Remove { .. } => Activity::Removing,
        }
    }
}

/// What to do, and what to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What to do now: at most one step for an instance, in the order of their ids.
    pub(crate) steps: Vec<Step>,
    /// When to plan again at the latest, though nothing may happen until then.
    pub(crate) wake_at: Option<Timestamp>,
    /// The status of every instance that is assigned, or that something is left of.
    pub(crate) statuses: BTreeMap<InstanceId, InstanceStatus>,
}

/// Makes a plan.
pub(crate) fn plan(input: &Input<'_>) -> Plan {
    let containers = by_instance(input.containers, input.assignment);
    let no_history = History::default();
    let ids: BTreeSet<&InstanceId> = containers
        .keys()
        .copied()
        .chain(wanted(input.assignment).map(|a| &a.id))
        .chain(input.busy.keys())
        .collect();
    let mut plan = Plan::default();
    for id in ids {
        let instance = Instance {
            id,
            wanted: Wanted::new(input.assignment, id),
            containers: containers.get(id).map_or(&[], Vec::as_slice),
            history: input.histories.get(id).unwrap_or(&no_history),
            health: input.health,
            image: input.images.get(id).copied(),
            now: input.now,
        };
        let Decision { next, mut phase } = instance.decide();
        match (input.busy.get(id), next) {
            (Some(activity), _) => phase = instance.phase_while(*activity, phase),
            (None, Next::Rest) => {}
            (None, Next::Wait(at)) => {
                plan.wake_at = Some(plan.wake_at.map_or(at, |earliest| earliest.min(at)));
            }
            (None, Next::Do(step)) => {
                phase = instance.phase_while(step.activity(), phase);
                plan.steps.push(step);
            }
        }
        plan.statuses.insert(id.clone(), instance.status(phase));
    }
    plan
}

/// The containers of each instance, the one to keep first.
pub(crate) fn by_instance<'a>(
    containers: &'a [Container],
    assignment: Option<&Assignment>,
) -> BTreeMap<&'a InstanceId, Vec<&'a Container>> {
    let mut map: BTreeMap<&InstanceId, Vec<&Container>> = BTreeMap::new();
    for container in containers {
        map.entry(&container.instance).or_default().push(container);
    }
    for (id, found) in &mut map {
        let revision = assigned(assignment, id).map(|a| a.revision);
        found.sort_by(|a, b| (rank(b, revision), &a.id).cmp(&(rank(a, revision), &b.id)));
    }
    map
}

/// The instances that are to run or to be prepared.
pub(crate) fn wanted(assignment: Option<&Assignment>) -> impl Iterator<Item = &AssignedInstance> {
    assignment
        .into_iter()
        .flat_map(|a| a.instances.values())
        .filter(|a| is_wanted(a))
}

/// The instance, if it is to run or to be prepared.
pub(crate) fn assigned<'a>(
    assignment: Option<&'a Assignment>,
    id: &InstanceId,
) -> Option<&'a AssignedInstance> {
    assignment?.instances.get(id).filter(|a| is_wanted(a))
}

fn is_wanted(assigned: &AssignedInstance) -> bool {
    match assigned.goal {
        Goal::Prepare | Goal::Run => true,
        Goal::Stop => false,
    }
}

/// Which container of several to keep: one of the right revision, and of those the one that lives.
fn rank(container: &Container, wanted: Option<RevisionNumber>) -> (bool, u8, Timestamp) {
    let (life, since) = match &container.state {
        ContainerState::Running { started_at } => (3, *started_at),
        ContainerState::Exited { started_at, .. } => (2, *started_at),
        ContainerState::Created => (1, Timestamp::MIN),
        ContainerState::Removing => (0, Timestamp::MIN),
    };
    (wanted == Some(container.revision), life, since)
}

#[cfg(test)]
mod tests;
