//! What agents report.

use std::{collections::BTreeSet, sync::Arc};

use windlass_api::{
    event::{Severity, Subject},
    ids::{Epoch, Generation, InstanceId, NodeName},
    resource::{Goal, Scheduling},
    spec::{ContainerSpec, Kind},
    status::{
        ContainerPhase, Exit, InstanceStatus, LAST_LOG_LINES_MAX, NodeState, Phase, Readiness,
    },
    validate::{CONTAINERS_MAX, validate_node},
    wire::{Hello, IMAGES_MAX, Observed, PROTOCOL, ResolvedImage, RuntimeHealth, Scope},
};

use super::{Refusal, node, restore};
use crate::{
    record::{Change, Declared, InstanceRecord, NodeRecord, RevisionKey, RevisionRecord, Sight},
    transaction::Transaction,
};

mod arrival;
mod sight;

pub use sight::{judge_darkness, lose, lost_for};

pub use arrival::{refuse_copy, take_over};

/// The longest text of an agent that is kept, in characters: an engine's error with a path or two.
const TEXT_CHARS_MAX: usize = 500;
/// The longest name of an image that is remembered, in bytes: longer than registries allow.
const IMAGE_NAME_BYTES_MAX: usize = 512;

/// Lets an agent in, and registers its node or renews what is known of it.
///
/// # Errors
/// If it speaks another protocol, belongs to another cluster, or its node's name is taken.
pub fn hello(txn: &mut Transaction, hello: &Hello) -> Result<(), Refusal> {
    check(txn, hello)?;
    let name = &hello.node;
    let known = arrival::known(txn, hello)?;
    let now = txn.now();
    let state = node_state(&hello.runtime);
    let declared = Declared {
        labels: hello.labels.clone(),
        taints: hello.taints.clone(),
    };
    let record = match &known {
        Some(node) => NodeRecord {
            info: hello.info.clone(),
            capacity: hello.capacity,
            declared,
            state_since: if node.state == state {
                node.state_since
            } else {
                now
            },
            state,
            returned_at: if node.is_lost() {
                Some(now)
            } else {
                node.returned_at
            },
            ..NodeRecord::clone(node)
        },
        None => NodeRecord {
            name: name.clone(),
            labels: hello.labels.clone(),
            taints: hello.taints.clone(),
            declared,
            scheduling: Scheduling::Enabled,
            state,
            state_since: now,
            info: hello.info.clone(),
            capacity: hello.capacity,
            rejects: None,
            sight: Sight::Clear,
            returned_at: None,
            created_at: now,
            version: txn.version(),
        },
    };
    arrival::note(txn, known.as_deref(), &record);
    if known.as_deref() != Some(&record) {
        node::put(txn, record);
    }
    if let Some(seen) = hello.seen {
        restore::seen(txn, name, seen);
    }
    Ok(())
}

/// Whether this server and cluster are for the agent, and what it says of its node can be kept.
fn check(txn: &Transaction, hello: &Hello) -> Result<(), Refusal> {
    if hello.protocol != PROTOCOL {
        return Err(Refusal::Conflict(format!(
            "the agent speaks protocol {}, this server {PROTOCOL}: use the same version of windlass",
            hello.protocol
        )));
    }
    let cluster = txn.cluster().record.id;
    if let Some(other) = hello.cluster.filter(|c| *c != cluster) {
        return Err(Refusal::Conflict(format!(
            "the agent belongs to cluster {other}, not to {cluster}: give it an empty data \
             directory to make it join this one"
        )));
    }
    restore::check_seen(hello.seen)?;
    let mistakes = validate_node(&hello.labels, &hello.taints);
    if let Some(mistake) = mistakes.first() {
        return Err(Refusal::Conflict(format!(
            "the agent cannot register its node like this: {mistake}"
        )));
    }
    Ok(())
}

/// The state of a node whose agent is heard from.
fn node_state(runtime: &RuntimeHealth) -> NodeState {
    match runtime {
        RuntimeHealth::Healthy => NodeState::Ready,
        RuntimeHealth::Unhealthy { reason } => NodeState::RuntimeUnhealthy {
            reason: clipped(reason),
        },
    }
}

/// What is kept of a text from an agent, which could be of any length.
#[must_use]
pub fn clipped(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// What is kept of a status.
fn bounded(mut status: InstanceStatus) -> InstanceStatus {
    match &mut status.phase {
        Phase::Pending { reason } | Phase::BackingOff { reason, .. } | Phase::Failed { reason } => {
            *reason = clipped(reason)
        }
        Phase::Assigned
        | Phase::Pulling
        | Phase::Prepared
        | Phase::Starting
        | Phase::Running { .. }
        | Phase::Stopping
        | Phase::Succeeded => {}
    }
    clip_readiness(&mut status.readiness);
    clip_exit(status.last_exit.as_mut());
    status.last_log.truncate(LAST_LOG_LINES_MAX);
    status
        .last_log
        .iter_mut()
        .for_each(|line| *line = clipped(line));
    status.containers.truncate(CONTAINERS_MAX);
    for container in &mut status.containers {
        clip_readiness(&mut container.readiness);
        clip_exit(container.last_exit.as_mut());
        if let ContainerPhase::Waiting { reason } = &mut container.state {
            *reason = reason.as_deref().map(clipped);
        }
        for text in [
            &mut container.id,
            &mut container.image_id,
            &mut container.image_digest,
        ] {
            *text = text.as_deref().map(clipped);
        }
    }
    status
}

fn clip_exit(exit: Option<&mut Exit>) {
    if let Some(exit) = exit {
        exit.reason = exit.reason.as_deref().map(clipped);
    }
}

fn clip_readiness(readiness: &mut Readiness) {
    if let Readiness::NotReady { reason } = readiness {
        *reason = reason.as_deref().map(clipped);
    }
}

/// Notes whether a node's engine answers. Only a transition changes anything.
pub fn heartbeat(txn: &mut Transaction, name: &NodeName, runtime: &RuntimeHealth) {
    set_state(txn, name, node_state(runtime));
}

fn set_state(txn: &mut Transaction, name: &NodeName, state: NodeState) {
    let Some(node) = txn
        .cluster()
        .nodes
        .get(name)
        .filter(|n| n.state != state)
        .cloned()
    else {
        return;
    };
    // Another reason for the same state is shown, but is no transition.
    let transition = node.state.name() != state.name();
    // How one is that was removed is of interest to nobody.
    if transition && !node.is_removed() {
        let (severity, message) = match &state {
            NodeState::Ready => (
                Severity::Normal,
                "its agent and its engine answer".to_owned(),
            ),
            NodeState::RuntimeUnhealthy { reason } => (Severity::Warning, reason.clone()),
            NodeState::Lost { .. } => (
                Severity::Warning,
                "its agent was not heard from for too long".to_owned(),
            ),
        };
        txn.event(
            Subject::Node { name: name.clone() },
            severity,
            state.name(),
            message,
        );
    }
    let state_since = if transition {
        txn.now()
    } else {
        node.state_since
    };
    node::put(
        txn,
        NodeRecord {
            state,
            state_since,
            ..NodeRecord::clone(&node)
        },
    );
}

/// Notes which images a node has.
pub fn images(txn: &mut Transaction, name: &NodeName, mut images: Vec<String>) {
    images.retain(|image| image.len() <= IMAGE_NAME_BYTES_MAX);
    images.sort();
    images.dedup();
    images.truncate(IMAGES_MAX);
    let known = txn.cluster().images.get(name).map(|images| &***images);
    if txn.cluster().nodes.contains_key(name) && known != Some(&images) {
        txn.put(Change::Images(name.clone(), Some(Arc::new(images))));
    }
}

/// Notes that an agent did not accept an assignment. What it has `seen` instead tells that the
/// state of this server is not the one that it was.
pub fn rejected(
    txn: &mut Transaction,
    name: &NodeName,
    generation: Generation,
    reason: &str,
    seen: Option<(Epoch, Generation)>,
) {
    let reason = clipped(reason);
    txn.event(
        Subject::Node { name: name.clone() },
        Severity::Warning,
        "AssignmentRejected",
        format!("assignment {generation}: {reason}"),
    );
    set_rejects(txn, name, Some(reason));
    if let Some(seen) = seen.filter(|_| txn.cluster().nodes.contains_key(name)) {
        restore::diverged(txn, name, seen);
    }
}

fn set_rejects(txn: &mut Transaction, name: &NodeName, rejects: Option<String>) {
    if let Some(node) = txn.cluster().nodes.get(name)
        && node.rejects != rejects
    {
        let node = NodeRecord::clone(node);
        node::put(txn, NodeRecord { rejects, ..node });
    }
}

/// Notes what an agent saw on its node. What it says of instances that are not on its node counts
/// for nothing.
pub fn observed(txn: &mut Transaction, name: &NodeName, observed: &Observed) {
    if observed.scope == Scope::Full {
        sight::clear(txn, name);
    }
    // A report under the newest number is an answer to it.
    if observed.generation == txn.cluster().generation(name) {
        set_rejects(txn, name, None);
    }
    restore::reported(txn, observed.instances.iter().map(|seen| &seen.id));
    let mut named = BTreeSet::new();
    for seen in &observed.instances {
        named.insert(&seen.id);
        if let Some(instance) = on_node(txn, name, &seen.id) {
            note_status(txn, &instance, &seen.status);
        }
    }
    let gone: Vec<InstanceId> = match observed.scope {
        Scope::Full => {
            let ids = txn.cluster().instances_on(name).map(|i| &i.id);
            ids.filter(|id| !named.contains(id)).cloned().collect()
        }
        Scope::Delta => observed.gone.clone(),
    };
    for id in gone {
        if let Some(instance) = on_node(txn, name, &id) {
            note_gone(txn, &instance, observed.generation);
        }
    }
}

fn on_node(txn: &Transaction, name: &NodeName, id: &InstanceId) -> Option<Arc<InstanceRecord>> {
    #[cfg(feature = "mutants")]
    if windlass_api::mutants::Mutant::ForeignReports.is_on() {
        return txn.cluster().instances.get(id).cloned();
    }
    txn.cluster()
        .instances
        .get(id)
        .filter(|i| i.node.as_ref() == Some(name))
        .cloned()
}

/// Removes an instance that was to stop, once its agent has seen that and nothing is left of it.
fn note_gone(txn: &mut Transaction, instance: &InstanceRecord, generation: Generation) {
    let told = instance
        .stop_generation
        .is_some_and(|stop| generation >= stop);
    #[cfg(feature = "mutants")]
    let told = told || windlass_api::mutants::Mutant::IgnoredStopGeneration.is_on();
    if instance.goal == Goal::Stop && told {
        let subject = Subject::instance(&instance.workload, &instance.id);
        txn.event(
            subject,
            Severity::Normal,
            "Stopped",
            "nothing is left of it",
        );
        txn.put(Change::Instance(instance.id.clone(), None));
    }
}

fn note_status(txn: &mut Transaction, instance: &InstanceRecord, status: &InstanceStatus) {
    let mut status = bounded(status.clone());
    if instance.goal == Goal::Stop {
        status.phase = Phase::Stopping;
    }
    if status == instance.status {
        return;
    }
    let subject = Subject::instance(&instance.workload, &instance.id);
    if let Some(exit) = status
        .last_exit
        .as_ref()
        .filter(|e| instance.status.last_exit.as_ref() != Some(e))
    {
        let severity = if exit.code == 0 {
            Severity::Normal
        } else {
            Severity::Warning
        };
        txn.event(subject.clone(), severity, "Exited", exit.to_string());
    }
    let transition = is_transition(&instance.status.phase, &status.phase);
    if transition && let Some((severity, message)) = news(&status.phase) {
        txn.event(subject.clone(), severity, status.phase.name(), message);
    }
    let ready = status.phase.is_running() && status.readiness.is_ready();
    match (&status.readiness, instance.ready_since) {
        (Readiness::Ready, None) if ready && is_for_serving(txn, instance) => {
            txn.event(subject, Severity::Normal, "Ready", "it can serve");
        }
        // What does not run has an event that says more.
        (Readiness::NotReady { reason }, Some(_)) if status.phase.is_running() => {
            let reason = reason.as_deref().unwrap_or("its agent does not say why");
            txn.event(subject, Severity::Warning, "NotReady", reason);
        }
        (Readiness::Ready | Readiness::NotReady { .. }, _) => {}
    }
    note_images(txn, instance, &status);
    let now = txn.now();
    txn.update_instance(&instance.id, |instance| {
        if transition {
            instance.phase_since = now;
            instance.ready_since = None;
        }
        // What was started again was not ready in between, even if nobody saw it.
        instance.ready_since = ready.then(|| instance.ready_since.unwrap_or(now));
        instance.status = status;
    });
}

/// Whether that an instance can serve is news: that a job runs says nothing of the kind, unless it
/// was given a probe to say so.
fn is_for_serving(txn: &Transaction, instance: &InstanceRecord) -> bool {
    let template = txn.cluster().template_of(instance);
    template.is_none_or(|template| {
        let probed = |container: &ContainerSpec| container.probes.readiness.is_some();
        template.kind != Kind::Job || template.containers.iter().any(probed)
    })
}

/// Notes which images the containers run, for all that will be made from the same revision: what
/// the first one ran counts.
fn note_images(txn: &mut Transaction, instance: &InstanceRecord, status: &InstanceStatus) {
    let key = RevisionKey {
        workload: instance.workload.clone(),
        number: instance.revision,
    };
    let Some(revision) = txn.cluster().revisions.get(&key).cloned() else {
        return;
    };
    if revision.images.len() == revision.template.all_containers().count() {
        return;
    }
    let mut images = revision.images.clone();
    for container in &status.containers {
        let known = revision.template.container(&container.name).is_some();
        if let Some(id) = container.image_id.as_ref().filter(|_| known) {
            images
                .entry(container.name.clone())
                .or_insert_with(|| ResolvedImage {
                    id: id.clone(),
                    digest: container.image_digest.clone(),
                });
        }
    }
    if images != revision.images {
        let revision = RevisionRecord {
            images,
            ..RevisionRecord::clone(&revision)
        };
        txn.put(Change::Revision(key, Some(Arc::new(revision))));
    }
}

/// Whether something began anew: another phase, or the same one after a restart.
fn is_transition(from: &Phase, to: &Phase) -> bool {
    match (from, to) {
        (Phase::Running { started_at: a }, Phase::Running { started_at: b }) => a != b,
        (from, to) => from.name() != to.name(),
    }
}

/// What is worth an event when an instance gets into a phase.
fn news(phase: &Phase) -> Option<(Severity, String)> {
    match phase {
        Phase::Pulling => Some((Severity::Normal, "the image is being fetched".to_owned())),
        Phase::Running { .. } => Some((Severity::Normal, "its container was started".to_owned())),
        Phase::BackingOff { reason, .. } | Phase::Failed { reason } => {
            Some((Severity::Warning, reason.clone()))
        }
        Phase::Succeeded => Some((Severity::Normal, "its container ended".to_owned())),
        Phase::Pending { .. }
        | Phase::Assigned
        | Phase::Prepared
        | Phase::Starting
        | Phase::Stopping => None,
    }
}
