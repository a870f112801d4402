//! What to do next so that what runs becomes what is assigned, and what to tell the server.
//!
//! [`plan`] is a function of its input: no clock, no I/O, no randomness. It may be called at any
//! time and as often as one likes; what is already being done is in its input.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use windlass_api::{
    duration::Span,
    ids::{InstanceId, Namespace, RevisionNumber, VolumeName},
    image::ImageRef,
    resource::Goal,
    spec::{PreStop, PullPolicy},
    status::InstanceStatus,
    wire::{AssignedInstance, Assignment, ResolvedImage},
};

use crate::{
    history::{Halt, Histories, InstanceHistory, Member},
    probe::Healths,
    runtime::{Container, ContainerId, ContainerState},
};

use instance::Instance;

pub(crate) use observe::observe;

mod instance;
mod observe;
mod seat;
mod status;

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    /// What is to run; `None` if that is not known, and then nothing is done.
    pub(crate) assignment: Option<&'a Assignment>,
    /// The containers of this cluster and node, all of them.
    pub(crate) containers: &'a [Container],
    /// What is remembered of instances.
    pub(crate) histories: &'a Histories,
    /// What was found out about the images of containers that do not exist.
    pub(crate) images: &'a BTreeMap<Member, ImageState>,
    /// How the running containers are that are probed.
    pub(crate) health: &'a Healths,
    /// What is being done, or was done since the containers were listed.
    pub(crate) busy: &'a BTreeMap<Member, Activity>,
    /// The time.
    pub(crate) now: Timestamp,
}

/// What was found out about an image. Nothing, for a container without an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageState {
    /// It was made ready for the next container.
    Ready,
    /// A container could not be created for want of it.
    Missing,
}

/// What is being done for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Its image is being made ready.
    Fetching,
    /// It is being created or started.
    Starting,
    /// It is being stopped or removed.
    Removing,
}

/// One thing to do for a container. It holds all that is needed to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The container that it is for.
    pub(crate) member: Member,
    /// What to do.
    pub(crate) action: Action,
}

/// What to do for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make its image ready.
    Fetch {
        image: ImageRef,
        pin: Option<ResolvedImage>,
        policy: PullPolicy,
    },
    /// Create it and start it.
    Launch(AssignedInstance),
    /// Start it: it exists.
    Start { container: ContainerId },
    /// Stop it, and keep it.
    Halt {
        container: ContainerId,
        manner: StopManner,
        /// The run that ends with it.
        run: Timestamp,
        why: Halt,
    },
    /// Stop it, and remove it.
    Stop {
        container: ContainerId,
        manner: StopManner,
        leaves: Option<Leaves>,
    },
    /// Remove it: it does not run.
    Remove {
        container: ContainerId,
        leaves: Option<Leaves>,
    },
}

/// How a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StopManner {
    /// How long it may take.
    pub(crate) grace: Span,
    /// What is done first, within that time.
    pub(crate) pre_stop: Option<PreStop>,
    /// Where it is reached for that.
    pub(crate) address: Option<std::net::IpAddr>,
}

/// What is left of an instance when its last container is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaves {
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// Its volumes, at least one.
    pub(crate) volumes: Vec<VolumeName>,
}

impl Step {
    /// What is being done while it is carried out.
    pub(crate) fn activity(&self) -> Activity {
        match self.action {
            Action::Fetch { .. } => Activity::Fetching,
            Action::Launch(_) | Action::Start { .. } => Activity::Starting,
            Action::Halt { .. } | Action::Stop { .. } | Action::Remove { .. } => Activity::Removing,
        }
    }
}

/// What to do, and what to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What to do now: at most one step for a container, in the order of their instances.
    pub(crate) steps: Vec<Step>,
    /// When to plan again at the latest, though nothing may happen until then.
    pub(crate) wake_at: Option<Timestamp>,
    /// The status of every instance that is assigned, or that something is left of.
    pub(crate) statuses: BTreeMap<InstanceId, InstanceStatus>,
}

/// Makes a plan.
pub(crate) fn plan(input: &Input<'_>) -> Plan {
    let containers = by_instance(input.containers, input.assignment);
    let no_history = InstanceHistory::default();
    let ids: BTreeSet<&InstanceId> = containers
        .keys()
        .copied()
        .chain(wanted(input.assignment).map(|a| &a.id))
        .chain(input.busy.keys().map(|member| &member.instance))
        .collect();
    let mut plan = Plan::default();
    for id in ids {
        let instance = Instance {
            id,
            input,
            containers: containers.get(id).map_or(&[], Vec::as_slice),
            history: input.histories.get(id).unwrap_or(&no_history),
        };
        let decision = instance.decide();
        let wake_ats = decision.wake_at.into_iter().chain(plan.wake_at);
        plan.wake_at = wake_ats.min();
        plan.steps.extend(decision.steps);
        plan.statuses.insert(id.clone(), decision.status);
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
