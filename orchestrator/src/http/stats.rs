//! What nodes and instances use. Nothing is measured unless somebody asks; then all agents are
//! asked at the same time, and one that does not answer holds up nobody.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::timeout;
use windlass_api::{
    ids::NodeName,
    problem::Code,
    stats::{NodeAnswer, NodeStats, NodeUsage, Stats},
    wire::{Control, StreamRequest},
};

use super::{Api, STATS_MAX, nodes, parameters::Query};
use crate::{
    error::Error,
    sessions::{Frame, Sessions},
};

/// How long a node may take: it measures for about a second, and Docker may be slow.
const NODE_WITHIN: Duration = Duration::from_secs(5);
/// How many nodes are asked at a time: with [`STATS_MAX`] as many streams as may wait at once.
const NODES_AT_ONCE: usize = 64;

/// Which nodes are asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StatsQuery {
    /// Only this node. Default: all.
    #[schemars(with = "NodeName")]
    node: Option<NodeName>,
}

/// What nodes and their instances use at the moment.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Query(query): Query<StatsQuery>,
) -> Result<Json<Stats>, Error> {
    let state = api.handle.state();
    let names: Vec<NodeName> = match query.node {
        Some(name) => vec![nodes::find(&state, &name)?.name],
        None => state.nodes.keys().cloned().collect(),
    };
    drop(state);
    let _permit = api.stats.try_acquire().map_err(|_| {
        let detail = format!("{STATS_MAX} others ask for it, which is the most");
        Error::new(Code::Overloaded, detail)
    })?;
    let nodes = stream::iter(names)
        .map(|node| async {
            let answer = ask(&api.sessions, &node).await;
            NodeStats { node, answer }
        })
        .buffered(NODES_AT_ONCE)
        .collect()
        .await;
    Ok(Json(Stats { nodes }))
}

async fn ask(sessions: &Sessions, node: &NodeName) -> NodeAnswer {
    let measured = match timeout(NODE_WITHIN, measure(sessions, node)).await {
        Ok(measured) => measured,
        Err(_) => Err(format!("no answer within {} s", NODE_WITHIN.as_secs())),
    };
    match measured {
        Ok(usage) => NodeAnswer::Measured { usage },
        Err(reason) => NodeAnswer::Unreachable { reason },
    }
}

async fn measure(sessions: &Sessions, node: &NodeName) -> Result<NodeUsage, String> {
    let opened = sessions.open(node, StreamRequest::Stats).await;
    let mut end = opened.map_err(|error| error.to_string())?;
    match end.incoming.next().await {
        Ok(Some(Frame::Data(json))) => {
            serde_json::from_slice(&json).map_err(|error| format!("it is not understood: {error}"))
        }
        Ok(Some(Frame::Control(Control::Failed { reason, .. }))) => Err(reason),
        Ok(Some(Frame::Control(_)) | None) => Err("it did not say".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
