//! What users ask for, and what becomes of it.

use crate::store::SPACE_NEEDED_BYTES;
use uuid::Uuid;
use windlass_api::{
    access::TokenRequest,
    apply::Outcome,
    ids::{AdmissionId, NodeName, TokenHash, TokenId, Uid, Version, WorkloadKey},
    rebalance::PlannedMove,
    resource::{DrainRequest, Manifest, NodePatch, RolloutAction, RunJob},
};
use windlass_core::{
    cluster::Cluster,
    command::{self, Applied, Force, Refusal, idempotency},
    plan::rebalance,
    transaction::Transaction,
};

/// Something that a user asks for.
#[derive(Debug)]
pub enum Write {
    /// Apply manifests: all, or none.
    Apply(Vec<Manifest>),
    /// Apply one manifest.
    Put(Box<Manifest>, Option<Version>),
    /// Delete a workload.
    Delete(WorkloadKey, Option<Version>),
    /// Change how many instances are wanted.
    Scale(WorkloadKey, u32, Option<Version>),
    /// Replace every instance by a fresh one.
    Restart(WorkloadKey, Option<Version>),
    /// Do something to a rollout.
    Rollout(WorkloadKey, RolloutAction, Option<Version>),
    /// Run the template of a job or of a schedule once more.
    RunJob(WorkloadKey, Box<RunJob>),
    /// Change what operators may change about a node.
    PatchNode(NodeName, Box<NodePatch>, Option<Version>),
    /// Accept the state as it is after it may have gone back.
    AcceptRestore,
    /// Have everything leave a node.
    DrainNode(NodeName, DrainRequest, Option<Version>),
    /// Ask instances to move to other nodes.
    Move(Vec<PlannedMove>),
    /// Take a node out of the cluster.
    RemoveNode(NodeName, Force, Option<Version>),
    /// Make a token, of which this is kept.
    CreateToken(TokenHash, Box<TokenRequest>),
    /// Revoke a token.
    RevokeToken(TokenId),
    /// Let a node in with a token.
    Admit(TokenHash, NodeName, AdmissionId),
}

/// The key that makes a request repeatable, and a digest of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key that the client chose.
    pub key: String,
    /// The digest.
    pub request: u64,
}

/// What became of a write.
#[derive(Debug)]
pub struct Written {
    /// The state that has it.
    pub cluster: Cluster,
    /// What was done to each workload.
    pub results: Vec<Applied>,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not allowed, or makes no sense.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk is full. Nothing was written.
    #[error(
        "the server's disk is full: nothing was written; free some space, until at least {} MiB \
         are free, and try again",
        SPACE_NEEDED_BYTES >> 20
    )]
    NoSpace,
    /// What follows from it is more than the store takes. Nothing was written.
    #[error(
        "the server could not store what follows from it: nothing was written; its log has more"
    )]
    Unstorable,
    /// Too many commands wait.
    #[error("the server has too much to do: try again in a moment")]
    Overloaded,
    /// The server stops.
    #[error("the server is shutting down")]
    Stopping,
}

/// Decides on a write, unless its repetition is answered from memory. `new_id` makes the
/// identities of workloads that are new.
pub(super) fn carry_out(
    txn: &mut Transaction,
    write: Write,
    idempotency: Option<Idempotency>,
    new_id: &mut dyn FnMut() -> Uuid,
) -> Result<Vec<Applied>, Refusal> {
    if let Some(Idempotency { key, request }) = &idempotency
        && let Some(known) = idempotency::recall(txn, key, *request)?
    {
        let replay = |(key, outcome): &(WorkloadKey, Outcome)| Applied {
            key: key.clone(),
            outcome: *outcome,
            diff: Vec::new(),
        };
        return Ok(known.results.iter().map(replay).collect());
    }
    let applied = txn.attempt(|txn| decide(txn, &write, new_id))?;
    if let Some(Idempotency { key, request }) = idempotency {
        let results = applied.iter().map(|a| (a.key.clone(), a.outcome)).collect();
        idempotency::remember(txn, key, request, results);
    }
    Ok(applied)
}

fn decide(
    txn: &mut Transaction,
    write: &Write,
    new_id: &mut dyn FnMut() -> Uuid,
) -> Result<Vec<Applied>, Refusal> {
    let updated = |key: &WorkloadKey| {
        vec![Applied {
            key: key.clone(),
            outcome: Outcome::Updated,
            diff: Vec::new(),
        }]
    };
    match write {
        Write::Apply(manifests) => {
            let uids: Vec<Uid> = manifests.iter().map(|_| Uid(new_id())).collect();
            command::apply(txn, manifests, &uids)
        }
        Write::Put(manifest, expected) => {
            Ok(vec![command::put(txn, manifest, *expected, Uid(new_id()))?])
        }
        Write::Delete(key, expected) => {
            command::delete(txn, key, *expected)?;
            Ok(updated(key))
        }
        Write::Scale(key, replicas, expected) => {
            command::scale(txn, key, *replicas, *expected)?;
            Ok(updated(key))
        }
        Write::Restart(key, expected) => {
            command::restart(txn, key, *expected)?;
            Ok(updated(key))
        }
        Write::Rollout(key, action, expected) => {
            command::rollout(txn, key, *action, *expected)?;
            Ok(updated(key))
        }
        Write::RunJob(key, run) => {
            let made = command::job::run(txn, key, run, Uid(new_id()))?;
            Ok(vec![Applied {
                key: made,
                outcome: Outcome::Created,
                diff: Vec::new(),
            }])
        }
        Write::PatchNode(name, patch, expected) => {
            command::patch_node(txn, name, patch, *expected).map(nothing)
        }
        Write::AcceptRestore => command::restore::accept(txn).map(nothing),
        Write::DrainNode(name, request, expected) => {
            command::drain(txn, name, request, *expected).map(nothing)
        }
        Write::Move(moves) => {
            rebalance::ask(txn, moves);
            Ok(Vec::new())
        }
        Write::RemoveNode(name, force, expected) => {
            command::remove_node(txn, name, *force, *expected).map(nothing)
        }
        Write::CreateToken(hash, request) => {
            command::token::create(txn, *hash, request).map(nothing)
        }
        Write::RevokeToken(id) => command::token::revoke(txn, id).map(nothing),
        Write::Admit(hash, name, admission) => {
            command::token::admit(txn, *hash, name, *admission).map(nothing)
        }
    }
}

/// What is done to workloads where none is meant.
fn nothing((): ()) -> Vec<Applied> {
    Vec::new()
}
