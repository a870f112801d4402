//! The events that a pretended engine tells of, and in which ways that can go wrong.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{call::Request, state::Container};

/// Something that happened to a container.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) action: String,
    labels: BTreeMap<String, String>,
    at: i128,
    text: String,
}

/// How events are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Each once, in their order.
    Faithful,
    /// None, though the stream stays open.
    Silent,
    /// With each one all that were told before, three times.
    Repeated,
    /// The last first.
    Backwards,
    /// The stream ends in the middle of each.
    BrokenOff,
}

/// Which events somebody listens to.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    labels: Vec<String>,
    actions: Vec<String>,
    since: i128,
}

impl Event {
    pub(crate) fn new(action: &str, container: &Container, at: Timestamp) -> Self {
        let mut attributes: BTreeMap<String, Value> = container
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        attributes.insert("image".to_owned(), json!(container.image));
        attributes.insert("name".to_owned(), json!(container.name));
        let event = json!({
            "status": action, "id": container.id, "from": container.image, "Type": "container",
            "Action": action, "Actor": { "ID": container.id, "Attributes": attributes },
            "scope": "local", "time": at.as_second(), "timeNano": nanos(at),
        });
        Self {
            action: action.to_owned(),
            labels: container.labels.clone(),
            at: at.as_nanosecond(),
            text: format!("{event}\n"),
        }
    }
}

impl Wanted {
    pub(crate) fn read(request: &Request) -> Self {
        let since = request.query.get("since").map_or("0", String::as_str);
        let (seconds, fraction) = since.split_once('.').unwrap_or((since, "0"));
        let seconds: i128 = seconds.parse().unwrap_or_default();
        let fraction: i128 = fraction.parse().unwrap_or_default();
        Self {
            labels: request.filter("label"),
            actions: request.filter("event"),
            since: seconds * 1_000_000_000 + fraction,
        }
    }

    fn has(&self, event: &Event) -> bool {
        let labelled = self.labels.iter().all(|wanted| {
            let (key, value) = wanted.split_once('=').unwrap_or((wanted, ""));
            event.labels.get(key).is_some_and(|found| found == value)
        });
        let meant = self.actions.is_empty() || self.actions.contains(&event.action);
        labelled && meant && event.at >= self.since
    }

    /// What is told when those from `told` on are new.
    pub(crate) fn tell(&self, telling: Telling, all: &[Event], told: usize) -> String {
        let text = |events: &[Event]| -> Vec<String> {
            let wanted = events.iter().filter(|event| self.has(event));
            wanted.map(|event| event.text.clone()).collect()
        };
        let new = text(&all[told..]);
        if new.is_empty() {
            return String::new();
        }
        match telling {
            Telling::Faithful | Telling::BrokenOff => new.concat(),
            Telling::Silent => String::new(),
            Telling::Repeated => text(all).concat().repeat(3),
            Telling::Backwards => new.into_iter().rev().collect(),
        }
    }
}

fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).expect("the time of day")
}
