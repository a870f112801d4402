//! Whose node an agent speaks for when it connects, and what there is to say about that.

use std::sync::Arc;

use windlass_api::{
    event::{Severity, Subject},
    status::NodeState,
    wire::Hello,
};

use super::super::Refusal;
use crate::{
    cluster::Cluster,
    lease,
    record::{Change, NodeRecord},
    transaction::Transaction,
};

/// What is known of the node that an agent speaks for; nothing, if it is to join anew.
pub(super) fn known(txn: &Transaction, hello: &Hello) -> Result<Option<Arc<NodeRecord>>, Refusal> {
    let name = &hello.node;
    let known = txn.cluster().nodes.get(name).cloned();
    let other = |node: &&Arc<NodeRecord>| node.info.agent_id != hello.info.agent_id;
    // Another machine may have the name of one that was removed, once that has nothing of ours.
    let free = |node: &&Arc<NodeRecord>| {
        let cluster = txn.cluster();
        is_lost_and_fenced(cluster, node)
            || node.is_removed() && cluster.instances_on(name).next().is_none()
    };
    if let Some(node) = known.as_ref().filter(|node| other(node) && !free(node)) {
        let hint = if node.info.engine_id == hello.info.engine_id {
            "; their engines have the same id, as if one machine were a copy of the other, or had \
             been started anew without the agent's state"
        } else {
            ""
        };
        return Err(Refusal::Conflict(format!(
            "node {name} is in use by agent {}: give this one another name, or wait until the \
             other one is lost, and what is exclusive on it certainly gone{hint}",
            node.info.agent_id
        )));
    }
    Ok(known.filter(|node| !(node.is_removed() && other(&node))))
}

/// Whether a node is lost, and nothing exclusive can still run there: whoever takes its name is told
/// to run what it had.
fn is_lost_and_fenced(cluster: &Cluster, node: &NodeRecord) -> bool {
    match node.state {
        NodeState::Lost { waited, .. } => cluster
            .instances_on(&node.name)
            .all(|instance| lease::is_fenced(cluster, instance, waited)),
        NodeState::Ready | NodeState::RuntimeUnhealthy { .. } => false,
    }
}

/// Refuses an agent that has the identity of the one that is connected, and is on another machine.
/// That one may have been started anew; then its connection is found to be dead in a moment.
///
/// # Errors
/// If it is one.
pub fn refuse_copy(txn: &Transaction, hello: &Hello) -> Result<(), Refusal> {
    let node = txn.cluster().nodes.get(&hello.node);
    let (here, there) = (&hello.info, node.map(|node| &node.info));
    match there.filter(|there| there.agent_id == here.agent_id && there.boot_id != here.boot_id) {
        Some(_) => Err(Refusal::Conflict(format!(
            "agent {} of node {} is connected from another machine, or from this one before it was \
             started anew: if one is a copy of the other, give this agent an empty data directory \
             and another name",
            here.agent_id, hello.node
        ))),
        None => Ok(()),
    }
}

/// Hands a node over to another agent on the engine that the node is about, whose own agent is not
/// connected: it lost its state and has begun anew. What runs there is the same, and tells by its
/// labels what it is, so there is nothing to wait for. That it is the same engine is certain as long
/// as the machine runs: a copy of the machine has an engine of the same id, but was booted by itself.
///
/// Call it before [`super::hello`], and only if nobody speaks for the node at the moment.
pub fn take_over(txn: &mut Transaction, hello: &Hello) {
    let node = txn.cluster().nodes.get(&hello.node);
    let Some(node) = node.filter(|node| is_same_engine(node, hello) && !node.is_removed()) else {
        return;
    };
    if node.info.agent_id == hello.info.agent_id {
        return;
    }
    let mut node = NodeRecord::clone(node);
    node.info.agent_id = hello.info.agent_id;
    node.version = txn.version();
    txn.event(
        Subject::Node {
            name: node.name.clone(),
        },
        Severity::Warning,
        "TakenOver",
        "an agent without the state of the one before speaks for it, on the same engine",
    );
    txn.put(Change::Node(node.name.clone(), Some(Arc::new(node))));
}

/// Whether an agent drives the engine that a node is about. One that does not tell could be any.
fn is_same_engine(node: &NodeRecord, hello: &Hello) -> bool {
    let (engine, boot) = hello.info.engine();
    node.info.engine() == (engine, boot) && !engine.is_empty() && !boot.is_empty()
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
        note_engine(txn, node, record);
        note_declared(txn, node, record);
    }
}

/// Says that the engine of a node is another one.
fn note_engine(txn: &mut Transaction, before: &NodeRecord, now: &NodeRecord) {
    let (before, id) = (&before.info.engine_id, &now.info.engine_id);
    if before == id || before.is_empty() || id.is_empty() {
        return;
    }
    let message = format!(
        "its Docker engine is {id} and was {before}: what ran on that one is not seen any more, \
         and is started again"
    );
    let name = now.name.clone();
    txn.event(
        Subject::Node { name },
        Severity::Warning,
        "EngineReplaced",
        message,
    );
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;
    use windlass_api::{
        ids::{AgentId, ClusterId, NodeName},
        wire::PROTOCOL,
    };

    use super::{super::hello as let_in, *};
    use crate::cluster::Cluster;

    fn transaction() -> Transaction {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Transaction::new(&Cluster::new(ClusterId(Uuid::nil())), now)
    }

    fn hello(agent: u128, engine: &str) -> Hello {
        hello_from(agent, engine, "b1")
    }

    fn hello_from(agent: u128, engine: &str, boot: &str) -> Hello {
        serde_json::from_value(json!({
            "protocol": PROTOCOL, "node": "n1", "capacity": { "cpu": "2", "memory": "2Gi" },
            "info": {
                "agentId": AgentId(Uuid::from_u128(agent)), "agentVersion": "0", "engineId": engine,
                "bootId": boot,
                "engineVersion": "0", "os": "linux", "arch": "x86_64",
            },
            "labels": {}, "taints": [], "cluster": null, "seen": null,
            "runtime": { "state": "healthy" },
        }))
        .unwrap()
    }

    fn name() -> NodeName {
        "n1".parse().unwrap()
    }

    /// What becomes of an agent that connects while nobody speaks for its node.
    fn arrives(txn: &mut Transaction, hello: &Hello) -> Result<(), Refusal> {
        txn.attempt(|txn| {
            take_over(txn, hello);
            let_in(txn, hello)
        })
    }

    #[test]
    fn an_agent_that_lost_its_state_takes_over_its_node_at_once() {
        let mut txn = transaction();
        let_in(&mut txn, &hello(1, "e1")).unwrap();
        let before = NodeRecord::clone(&txn.cluster().nodes[&name()]);
        arrives(&mut txn, &hello(2, "e1")).unwrap();
        let after = &txn.cluster().nodes[&name()];
        assert_eq!(after.info.agent_id, AgentId(Uuid::from_u128(2)));
        assert_eq!(after.state, before.state);
        let event = txn.cluster().events.values().next_back().unwrap();
        assert_eq!(event.reason, "TakenOver");
        // The one before is another agent now, and refused while its successor is connected.
        assert!(let_in(&mut txn, &hello(1, "e1")).is_err());
    }

    #[test]
    fn that_the_engine_is_another_one_is_said_once() {
        let mut txn = transaction();
        let told = |txn: &Transaction| {
            let events = txn.cluster().events.values();
            let replaced = events.filter(|event| event.reason == "EngineReplaced");
            replaced
                .map(|event| event.message.clone())
                .collect::<Vec<_>>()
        };
        for engine in ["", "e1", "e1", "", "e1"] {
            let_in(&mut txn, &hello(1, engine)).unwrap();
            assert_eq!(told(&txn), Vec::<String>::new());
        }
        let_in(&mut txn, &hello(1, "e2")).unwrap();
        let_in(&mut txn, &hello(1, "e2")).unwrap();
        let told = told(&txn);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("is e2 and was e1"), "{told:?}");
    }

    #[test]
    fn nobody_takes_over_the_node_of_another_engine() {
        let mut txn = transaction();
        let_in(&mut txn, &hello(1, "e1")).unwrap();
        let before = txn.cluster().clone();
        assert!(arrives(&mut txn, &hello(2, "e2")).is_err());
        assert_eq!(*txn.cluster(), before);
    }

    #[test]
    fn an_engine_without_an_id_is_not_taken_for_the_same() {
        let mut txn = transaction();
        let_in(&mut txn, &hello(1, "")).unwrap();
        assert!(arrives(&mut txn, &hello(2, "")).is_err());
    }

    #[test]
    fn a_copy_of_a_machine_does_not_take_over_the_node_of_the_original() {
        let mut txn = transaction();
        let_in(&mut txn, &hello_from(1, "e1", "b1")).unwrap();
        let refused = arrives(&mut txn, &hello_from(2, "e1", "b2")).unwrap_err();
        assert!(refused.to_string().contains("a copy"), "{refused}");
        // Older agents do not tell.
        let_in(&mut txn, &hello_from(1, "e1", "")).unwrap();
        assert!(arrives(&mut txn, &hello_from(2, "e1", "")).is_err());
    }

    #[test]
    fn a_copy_of_an_agent_is_refused_while_the_original_is_connected() {
        let mut txn = transaction();
        let_in(&mut txn, &hello_from(1, "e1", "b1")).unwrap();
        let refused = refuse_copy(&txn, &hello_from(1, "e1", "b2")).unwrap_err();
        assert!(refused.to_string().contains("another machine"), "{refused}");
        refuse_copy(&txn, &hello_from(1, "e1", "b1")).unwrap();
        // Whose node it is otherwise, is asked elsewhere.
        refuse_copy(&txn, &hello_from(2, "e1", "b2")).unwrap();
    }

    #[test]
    fn the_same_agent_that_is_back_takes_over_nothing() {
        let mut txn = transaction();
        let_in(&mut txn, &hello(1, "e1")).unwrap();
        let before = txn.cluster().clone();
        arrives(&mut txn, &hello(1, "e1")).unwrap();
        assert_eq!(*txn.cluster(), before);
    }

    #[test]
    fn an_agent_that_is_refused_takes_over_nothing() {
        let mut txn = transaction();
        let_in(&mut txn, &hello(1, "e1")).unwrap();
        let before = txn.cluster().clone();
        let old = Hello {
            protocol: 0,
            ..hello(2, "e1")
        };
        assert!(arrives(&mut txn, &old).is_err());
        assert_eq!(*txn.cluster(), before);
    }
}
