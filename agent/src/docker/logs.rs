//! The output of containers.

use std::sync::Arc;

use bollard::{
    container::LogOutput,
    query_parameters::{LogsOptions, LogsOptionsBuilder},
};
use bytes::Bytes;
use futures_util::StreamExt;
use windlass_api::wire;

use super::engine::Engine;
use crate::runtime::{BoxStream, ContainerId, Result};

/// The output of a container: what it wrote to its standard output and error, in that order.
pub(super) async fn read(
    engine: &Arc<Engine>,
    id: &ContainerId,
    options: &wire::LogOptions,
) -> Result<BoxStream<Bytes>> {
    let logs = engine
        .streaming_client()
        .await?
        .logs(&id.0, Some(query(options)));
    let engine = Arc::clone(engine);
    Ok(Box::pin(logs.map(move |output| match output {
        Ok(output) => Ok(LogOutput::into_bytes(output)),
        Err(error) => Err(engine.translate("read the container's log", error)),
    })))
}

/// What Docker is asked for. It takes `since` in whole seconds, so up to a second more is read.
fn query(options: &wire::LogOptions) -> LogsOptions {
    let since = options.since.map_or(0, |since| since.as_second().max(0));
    LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .follow(options.follow)
        .timestamps(options.timestamps)
        .tail(
            &options
                .tail
                .map_or("all".to_owned(), |lines| lines.to_string()),
        )
        .since(i32::try_from(since).unwrap_or(i32::MAX))
        .build()
}

#[cfg(test)]
mod tests {
    use windlass_api::wire::LogOptions;

    use super::*;

    #[test]
    fn all_is_asked_for_unless_less_is_wanted() {
        let all = query(&LogOptions::default());
        assert_eq!(
            (all.tail.as_str(), all.since, all.follow),
            ("all", 0, false)
        );
        assert!(all.stdout && all.stderr);
    }

    #[test]
    fn less_is_asked_for() {
        let some = query(&LogOptions {
            follow: true,
            tail: Some(0),
            since: Some("1970-01-01T00:01:00.9Z".parse().unwrap()),
            timestamps: true,
        });
        assert_eq!((some.tail.as_str(), some.since), ("0", 60));
        assert!(some.follow && some.timestamps);
    }
}
