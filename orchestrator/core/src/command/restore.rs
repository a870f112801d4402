//! A state that may be older than what agents have seen: it was restored from an export, or the
//! server's disk came back as it once was. Nothing is removed on the word of such a server until
//! an operator has accepted it.
//!
//! Each of these raises the epoch, so that generations before and after it are never compared, and
//! the state that an operator accepts is newer for every agent than whatever it has seen.

use std::sync::Arc;

use windlass_api::{
    event::{Severity, Subject},
    ids::{Epoch, Generation, InstanceId, NodeName},
    resource::RestoreCause,
};

use super::Refusal;
use crate::{
    record::{Change, ClusterRecord, RestoreRecord},
    transaction::Transaction,
};

/// How many serial numbers of instances are passed over, since the state does not know which ones
/// were given out after it. Those that agents report are passed over, too, however many.
const SERIALS_SKIPPED: u64 = 1_000;
/// Larger numbers are not taken from agents: they would be near the end of what can be counted.
const NUMBER_MAX: u64 = 1 << 48;

/// Notes that the state was restored from an export, as an epoch of its own.
pub fn restored(txn: &mut Transaction, epoch: Epoch) {
    begin(txn, epoch, RestoreCause::Export);
    txn.event(
        Subject::Cluster,
        Severity::Warning,
        "Restored",
        format!(
            "the state was restored from an export and is in epoch {epoch}; what runs is kept until \
             `windlass cluster accept-restore`"
        ),
    );
}

/// Checks what an agent says it has seen.
///
/// # Errors
/// If the numbers are none that a server gave out.
pub(super) fn check_seen(seen: Option<(Epoch, Generation)>) -> Result<(), Refusal> {
    match seen {
        Some((epoch, generation)) if epoch.0.max(generation.0) > NUMBER_MAX => {
            Err(Refusal::Conflict(format!(
                "the agent has seen generation {generation} of epoch {epoch}, which no server gave \
                 out: its ledger is not usable"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// Notes what the agent of a node has seen, and whether the state is older than that.
pub(super) fn seen(txn: &mut Transaction, node: &NodeName, seen: (Epoch, Generation)) {
    if seen > position(txn, node) {
        fell_behind(txn, node, seen);
    }
    go_beyond(txn, node, seen);
}

/// Notes that an agent has seen something, under this number or a later one, that is not in the
/// state.
pub(super) fn diverged(txn: &mut Transaction, node: &NodeName, seen: (Epoch, Generation)) {
    // An epoch that began meanwhile has dealt with it.
    if check_seen(Some(seen)).is_ok() && seen.0 >= txn.cluster().record.epoch {
        fell_behind(txn, node, seen);
        go_beyond(txn, node, seen);
    }
}

/// Passes over the serial numbers of instances that agents know and the state does not.
pub(super) fn reported<'a>(txn: &mut Transaction, ids: impl Iterator<Item = &'a InstanceId>) {
    let cluster = txn.cluster();
    let unknown = ids.filter(|id| !cluster.instances.contains_key(*id));
    let serials = unknown.filter_map(InstanceId::serial);
    let newest = serials.filter(|serial| *serial <= NUMBER_MAX).max();
    let next = cluster.record.next_instance;
    if let Some(newest) = newest.filter(|newest| *newest >= next) {
        let record = ClusterRecord {
            next_instance: newest + 1,
            ..ClusterRecord::clone(&cluster.record)
        };
        txn.put(Change::Cluster(Arc::new(record)));
    }
}

/// Accepts the state as it is: agents remove what is not in it.
///
/// # Errors
/// If there is nothing to accept.
pub fn accept(txn: &mut Transaction) -> Result<(), Refusal> {
    let record = &txn.cluster().record;
    let Some(restore) = record.restore.as_ref().filter(|r| r.accepted_at.is_none()) else {
        return Err(Refusal::Conflict(
            "there is no restore to accept: agents take the word of this server".to_owned(),
        ));
    };
    let epoch = record.epoch.next();
    let accepted = ClusterRecord {
        epoch,
        restore: Some(RestoreRecord {
            accepted_at: Some(txn.now()),
            ..restore.clone()
        }),
        ..ClusterRecord::clone(record)
    };
    txn.put(Change::Cluster(Arc::new(accepted)));
    txn.event(
        Subject::Cluster,
        Severity::Normal,
        "RestoreAccepted",
        format!(
            "an operator accepted the state, in epoch {epoch}; agents remove what is not in it"
        ),
    );
    Ok(())
}

fn position(txn: &Transaction, node: &NodeName) -> (Epoch, Generation) {
    let cluster = txn.cluster();
    (cluster.record.epoch, cluster.generation(node))
}

fn fell_behind(txn: &mut Transaction, node: &NodeName, (epoch, generation): (Epoch, Generation)) {
    let (our_epoch, ours) = position(txn, node);
    begin(
        txn,
        our_epoch.max(epoch).next(),
        RestoreCause::Behind {
            node: node.clone(),
            epoch,
            generation,
        },
    );
    txn.event(
        Subject::Cluster,
        Severity::Warning,
        "OlderThanAgents",
        format!(
            "node {node} has seen generation {generation} of epoch {epoch}, the server has \
             generation {ours} of epoch {our_epoch}: its state is older; what runs is kept until \
             `windlass cluster accept-restore`"
        ),
    );
}

fn begin(txn: &mut Transaction, epoch: Epoch, cause: RestoreCause) {
    forget_unplaced(txn);
    let record = &txn.cluster().record;
    let begun = ClusterRecord {
        epoch,
        next_instance: record.next_instance + SERIALS_SKIPPED,
        restore: Some(RestoreRecord {
            at: txn.now(),
            cause,
            accepted_at: None,
        }),
        ..ClusterRecord::clone(record)
    };
    txn.put(Change::Cluster(Arc::new(begun)));
}

/// Forgets the instances without a node: each may have got one in what was lost, and run there. What
/// is still missing is made anew, under another number.
fn forget_unplaced(txn: &mut Transaction) {
    let instances = txn.cluster().instances.values();
    let unplaced = instances.filter(|instance| instance.node.is_none());
    let unplaced: Vec<InstanceId> = unplaced.map(|instance| instance.id.clone()).collect();
    for id in unplaced {
        txn.put(Change::Instance(id, None));
    }
}

/// Makes the number of the node's assignment greater than any that its agent has seen, and what waits
/// to be confirmed to have stopped wait for that one: what an agent says under an older number is
/// then no answer to it, whatever that number meant where the agent has it from.
fn go_beyond(txn: &mut Transaction, node: &NodeName, seen: (Epoch, Generation)) {
    let (epoch, ours) = position(txn, node);
    if epoch == seen.0 && ours >= seen.1 {
        return;
    }
    let beyond = seen.1.next();
    if ours < beyond {
        txn.put(Change::Assignment(node.clone(), Some(beyond)));
    }
    let stopping = txn.cluster().instances_on(node);
    let stopping = stopping.filter(|i| i.stop_generation.is_some_and(|stop| stop < beyond));
    let stopping: Vec<InstanceId> = stopping.map(|i| i.id.clone()).collect();
    for id in stopping {
        txn.update_instance(&id, |instance| instance.stop_generation = Some(beyond));
    }
}

#[cfg(test)]
mod tests;
