//! What containers use. One reading of a container takes Docker some milliseconds; it is not asked
//! for two, for which it would wait a second or two each.

use std::sync::Arc;

use bollard::{
    models::{ContainerMemoryStats, ContainerStatsResponse, ContainerSummary},
    query_parameters::{ListContainersOptionsBuilder, StatsOptionsBuilder},
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::super::{
    READS_AT_ONCE,
    engine::{Engine, READ_WITHIN},
    names,
};
use crate::{
    reach::Consumption,
    runtime::{ContainerId, Error, ErrorKind, Owner, Result},
};

/// The containers of `owner` that run, the helpers that hold networks included.
pub(super) async fn read(engine: &Arc<Engine>, owner: &Owner) -> Result<Vec<Consumption>> {
    // Without `all`, only those that run are listed.
    let options = ListContainersOptionsBuilder::default()
        .filters(&names::owner_filter(owner))
        .build();
    let list = engine.client().await?.list_containers(Some(options));
    let list = engine.call("list containers", READ_WITHIN, list).await?;
    stream::iter(list)
        .map(|summary| of_container(engine, summary))
        .buffered(READS_AT_ONCE)
        .try_filter_map(async |consumption| Ok(consumption))
        .try_collect()
        .await
}

/// What one has used; `None` if it is not ours after all, or has ended.
async fn of_container(engine: &Engine, summary: ContainerSummary) -> Result<Option<Consumption>> {
    let labels = summary.labels.unwrap_or_default();
    let label = |key| labels.get(key);
    let (Some(id), Some(Ok(instance)), Some(Ok(namespace))) = (
        summary.id,
        label(names::INSTANCE).map(|text| text.parse()),
        label(names::NAMESPACE).map(|text| text.parse()),
    ) else {
        return Ok(None);
    };
    let options = StatsOptionsBuilder::default()
        .stream(false)
        .one_shot(true)
        .build();
    let client = engine.client().await?;
    let mut stats = client.stats(&id, Some(options));
    let doing = "ask what a container uses";
    let stats = engine.limit(doing, READ_WITHIN, async {
        match stats.next().await {
            Some(Ok(stats)) => Ok(stats),
            Some(Err(error)) => Err(engine.translate(doing, error)),
            None => Err(Error {
                kind: ErrorKind::Other,
                message: format!("docker does not tell what container {id} uses"),
            }),
        }
    });
    let stats = match stats.await {
        Ok(stats) => stats,
        Err(error) if error.kind == ErrorKind::NoSuchContainer => return Ok(None),
        Err(error) => return Err(error),
    };
    let (received_bytes, sent_bytes) = traffic(&stats);
    Ok(Some(Consumption {
        instance,
        namespace,
        cpu_ns: cpu_ns(&stats),
        memory_bytes: stats.memory_stats.as_ref().map_or(0, memory),
        received_bytes,
        sent_bytes,
        id: ContainerId(id),
    }))
}

fn cpu_ns(stats: &ContainerStatsResponse) -> u64 {
    let usage = stats
        .cpu_stats
        .as_ref()
        .and_then(|cpu| cpu.cpu_usage.as_ref());
    usage.and_then(|usage| usage.total_usage).unwrap_or(0)
}

/// Without the files that were read and can be forgotten: in the first version of control groups
/// they are counted as `total_inactive_file`, in the second as `inactive_file`.
fn memory(stats: &ContainerMemoryStats) -> u64 {
    let usage = stats.usage.unwrap_or(0);
    let detail = stats.stats.as_ref();
    let detail = |key: &str| detail.and_then(|stats| stats.get(key)).copied();
    let cache = detail("total_inactive_file").or_else(|| detail("inactive_file"));
    usage.saturating_sub(cache.unwrap_or(0))
}

/// What came and went, over all networks. A container in the network of another one has none.
fn traffic(stats: &ContainerStatsResponse) -> (u64, u64) {
    let networks = stats.networks.iter().flat_map(|networks| networks.values());
    networks.fold((0, 0), |(received, sent), network| {
        (
            received + network.rx_bytes.unwrap_or(0),
            sent + network.tx_bytes.unwrap_or(0),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn stats(value: Value) -> ContainerStatsResponse {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn memory_is_without_what_the_kernel_can_take_back() {
        for key in ["total_inactive_file", "inactive_file"] {
            let stats = stats(json!({
                "memory_stats": { "usage": 100, "stats": { key: 40, "cache": 90 } },
            }));
            assert_eq!(memory(&stats.memory_stats.unwrap()), 60);
        }
    }

    #[test]
    fn networks_are_added_up_and_can_be_missing() {
        let two = stats(json!({ "networks": {
            "eth0": { "rx_bytes": 1, "tx_bytes": 2 }, "eth1": { "rx_bytes": 10, "tx_bytes": 20 },
        }}));
        assert_eq!(traffic(&two), (11, 22));
        assert_eq!(traffic(&stats(json!({}))), (0, 0));
        assert_eq!(cpu_ns(&stats(json!({}))), 0);
    }
}
