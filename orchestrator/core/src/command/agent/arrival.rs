//! Whose node an agent speaks for when it connects, and what there is to say about that.

use std::sync::Arc;

use windlass_api::{
    event::{Severity, Subject},
    wire::Hello,
};

use super::super::Refusal;
use crate::{record::NodeRecord, transaction::Transaction};

/// What is known of the node that an agent speaks for; nothing, if it is to join anew.
pub(super) fn known(txn: &Transaction, hello: &Hello) -> Result<Option<Arc<NodeRecord>>, Refusal> {
    let name = &hello.node;
    let known = txn.cluster().nodes.get(name).cloned();
    let other = |node: &&Arc<NodeRecord>| node.info.agent_id != hello.info.agent_id;
    // Another machine may have the name of one that was removed, once that has nothing of ours.
    let free = |node: &&Arc<NodeRecord>| {
        node.is_lost() || node.is_removed() && txn.cluster().instances_on(name).next().is_none()
    };
    if let Some(node) = known.as_ref().filter(|node| other(node) && !free(node)) {
        return Err(Refusal::Conflict(format!(
            "node {name} is in use by agent {}: give this one another name, or wait until the \
             other one is lost",
            node.info.agent_id
        )));
    }
    Ok(known.filter(|node| !(node.is_removed() && other(&node))))
}

/// Says what there is to say about an agent that was let in.
pub(super) fn note(txn: &mut Transaction, known: Option<&NodeRecord>, record: &NodeRecord) {
    let subject = Subject::Node {
        name: record.name.clone(),
    };
    match known {
        None => txn.event(
            subject,
            Severity::Normal,
            "Joined",
            "its agent connected for the first time",
        ),
        Some(node) if node.is_removed() && node.is_lost() => {
            let message = "its agent is back; the node was removed, so it is told to run nothing";
            txn.event(subject, Severity::Warning, "Returned", message);
        }
        Some(node) if node.is_lost() => {
            txn.event(subject, Severity::Normal, "Returned", "its agent is back")
        }
        Some(_) => {}
    }
    if let Some(node) = known {
        note_declared(txn, node, record);
    }
}

/// Says once if an agent was started with labels or taints that are not those of its node.
fn note_declared(txn: &mut Transaction, before: &NodeRecord, now: &NodeRecord) {
    let declared = &now.declared;
    let as_registered = declared.labels == now.labels && declared.taints == now.taints;
    if before.declared == *declared || as_registered {
        return;
    }
    let name = &now.name;
    let message = format!(
        "its agent was started with other labels or taints than before, which changes nothing: \
         use `windlass node label {name}` or `windlass node taint {name}`"
    );
    let subject = Subject::Node { name: name.clone() };
    txn.event(subject, Severity::Warning, "LabelsDiffer", message);
}
