//! Evening out the load of the nodes.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Deserialize;
use windlass_api::rebalance::{MOVES_MAX, PlannedMove, RebalanceRequest, RebalanceResponse};
use windlass_core::{
    cluster::Cluster,
    plan::rebalance::{self, Proposal},
};

use super::{Api, parameters::Query, write::WriteRequest};
use crate::{controller::Write, error::Error};

/// How to even out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RebalanceQuery {
    /// Only say what would move.
    #[serde(default)]
    dry_run: bool,
}

/// Asks instances to move that have clearly a better place.
pub(super) async fn rebalance(
    State(api): State<Arc<Api>>,
    Query(query): Query<RebalanceQuery>,
    request: WriteRequest,
) -> Result<Json<RebalanceResponse>, Error> {
    let RebalanceRequest { workloads } = request.json()?;
    let state = api.handle.state();
    rebalance::check(&state, &workloads)?;
    // On a large cluster it takes a while, for which neither the one writer nor a thread of the
    // server's own must be held. What has changed until it is asked for stays where it is.
    let only: BTreeSet<_> = workloads.into_iter().collect();
    let now = api.handle.now();
    let finding =
        tokio::task::spawn_blocking(move || rebalance::propose(&state, &only, now, MOVES_MAX));
    let Proposal { mut moves, more } = match finding.await {
        Ok(proposal) => proposal,
        Err(error) => match error.try_into_panic() {
            // As if it had happened here: it is logged, and answered, in one place.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => return Err(crate::controller::Error::Stopping.into()),
        },
    };
    if !query.dry_run && !moves.is_empty() {
        let write = Write::Move(moves.clone());
        let written = api.handle.write(write, request.idempotency).await?;
        moves.retain(|step| is_asked(&written.cluster, step));
    }
    Ok(Json(RebalanceResponse { moves, more }))
}

/// Whether the instance is to move now, or has moved.
fn is_asked(cluster: &Cluster, step: &PlannedMove) -> bool {
    let instance = cluster.instances.get(&step.instance);
    instance
        .and_then(|instance| instance.relocation.as_ref())
        .is_some_and(|relocation| relocation.to == step.to && relocation.given_up_at.is_none())
}
