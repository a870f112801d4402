//! Docker's events about the containers of an agent.

use std::{
    future,
    sync::{Arc, Mutex, PoisonError},
};

use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use jiff::Timestamp;

use super::{engine::Engine, inspections::Inspections, names};
use crate::runtime::{BoxStream, ContainerId, Owner, Result};

/// The events after which a container may be in another state, or its image's health check says
/// something else. The engine sends no others, above all not the `exec_*` ones, of which health
/// checks make thousands.
const KINDS: [&str; 8] = [
    "create",
    "start",
    "die",
    "oom",
    "destroy",
    "pause",
    "unpause",
    "health_status",
];

/// As long as it is there, the engine is the one that it was: one that goes away ends its events, and
/// what answers after that may be another one.
struct Acquaintance(Arc<Engine>);

impl Drop for Acquaintance {
    fn drop(&mut self) {
        self.0.doubt();
    }
}

/// The containers with which something happens from `now` on. Each event makes void what was read
/// of its container.
pub(super) async fn follow(
    engine: &Arc<Engine>,
    inspections: &Arc<Mutex<Inspections>>,
    owner: &Owner,
    now: Timestamp,
) -> Result<BoxStream<ContainerId>> {
    let mut filters = names::owner_filter(owner);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    filters.insert("event".to_owned(), KINDS.map(str::to_owned).to_vec());
    // The request is made when the stream is first polled; the engine then tells what happened
    // since this call, too.
    let since = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
    let options = EventsOptionsBuilder::default()
        .filters(&filters)
        .since(&since)
        .build();
    let events = engine.streaming_client().await?.events(Some(options));
    inspections
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .mark_all();

    let (engine, inspections) = (Acquaintance(Arc::clone(engine)), Arc::clone(inspections));
    Ok(Box::pin(events.filter_map(move |event| {
        let id = match event {
            Ok(event) => event
                .actor
                .and_then(|actor| actor.id)
                .map(|id| Ok(ContainerId(id))),
            Err(error) => Some(Err(engine.0.translate("follow docker's events", error))),
        };
        if let Some(Ok(id)) = &id {
            inspections
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .mark(id);
        }
        future::ready(id)
    })))
}
