//! The columns of each kind of object.

use std::cmp::Ordering;

use jiff::Timestamp;
use windlass_api::{
    event::{Event, Severity, Subject},
    resource::{Instance, Node, Scheduling, Workload},
    status::{NodeState, Phase},
};

use super::{
    age::age,
    quantity, state, style,
    table::{Cell, Table},
};
use crate::trouble;

mod token;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    Normal,
    Wide,
}

/// Whether the objects are from one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespaces {
    One,
    All,
}

/// An object that can be a row.
pub(crate) trait Row {
    /// What several of them are called.
    const PLURAL: &'static str;
    /// Whether they are in namespaces.
    const NAMESPACED: bool = true;
    /// Whether it is news that one of them is gone.
    const MISSED: bool = true;

    /// The headers.
    fn headers(detail: Detail) -> Vec<&'static str>;
    /// The cells, one for each header.
    fn cells(&self, detail: Detail, now: Timestamp) -> Vec<Cell>;
    /// The namespace, for what has one.
    fn namespace(&self) -> Option<String>;
    /// What one of them is called.
    fn kind(&self) -> &'static str;
    /// The name without the namespace.
    fn short_name(&self) -> String;
    /// The order in a list; where it is equal, that of the API stays.
    fn compare(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

/// An empty table for these objects.
pub(crate) fn table<T: Row>(detail: Detail, namespaces: Namespaces) -> Table {
    let mut headers = T::headers(detail);
    if T::NAMESPACED && namespaces == Namespaces::All {
        headers.insert(0, "NAMESPACE");
    }
    Table::new(headers)
}

/// The cells for a row of [`table`].
pub(crate) fn cells<T: Row>(
    item: &T,
    detail: Detail,
    namespaces: Namespaces,
    now: Timestamp,
) -> Vec<Cell> {
    let mut cells = item.cells(detail, now);
    if T::NAMESPACED && namespaces == Namespaces::All {
        cells.insert(0, Cell::or_dash(item.namespace()));
    }
    cells
}

/// The name that commands take, like `workload/web`.
pub(crate) fn reference<T: Row>(item: &T, namespaces: Namespaces) -> String {
    match (namespaces, item.namespace()) {
        (Namespaces::All, Some(namespace)) => {
            format!("{}/{namespace}/{}", item.kind(), item.short_name())
        }
        _ => format!("{}/{}", item.kind(), item.short_name()),
    }
}

impl Row for Workload {
    const PLURAL: &'static str = "workloads";

    fn headers(detail: Detail) -> Vec<&'static str> {
        let mut headers = vec![
            "NAME", "KIND", "READY", "UPDATED", "STATE", "REVISION", "AGE",
        ];
        if detail == Detail::Wide {
            headers.extend(["IMAGE", "REASON"]);
        }
        headers
    }

    fn cells(&self, detail: Detail, now: Timestamp) -> Vec<Cell> {
        let status = &self.status;
        // Of what ends by itself, being ready says nothing.
        let rolls = self.manifest.spec.update().is_some();
        let state = state::of(self, now);
        let mut cells = vec![
            Cell::new(&self.manifest.name),
            Cell::new(self.manifest.kind),
            Cell::or_dash(rolls.then(|| format!("{}/{}", status.ready, status.wanted))),
            Cell::or_dash(rolls.then_some(status.updated)),
            Cell::styled(state.style, state.text),
            Cell::new(status.revision),
            Cell::new(age(now, self.meta.created_at)),
        ];
        if detail == Detail::Wide {
            let containers = self.manifest.spec.instance().all_containers();
            let images: Vec<_> = containers.iter().map(|c| c.image.as_str()).collect();
            cells.push(Cell::new(images.join(", ")));
            let reasons = state::reasons(self);
            cells.push(Cell::or_dash(
                (!reasons.is_empty()).then(|| reasons.join("; ")),
            ));
        }
        cells
    }

    fn namespace(&self) -> Option<String> {
        Some(self.manifest.namespace.to_string())
    }

    fn kind(&self) -> &'static str {
        "workload"
    }

    fn short_name(&self) -> String {
        self.manifest.name.to_string()
    }
}

impl Row for Instance {
    const PLURAL: &'static str = "instances";

    fn headers(detail: Detail) -> Vec<&'static str> {
        let mut headers = vec![
            "NAME", "WORKLOAD", "PHASE", "READY", "RESTARTS", "NODE", "AGE",
        ];
        if detail == Detail::Wide {
            headers.extend(["ADDRESS", "REVISION", "IMAGE", "REASON"]);
        }
        headers
    }

    fn cells(&self, detail: Detail, now: Timestamp) -> Vec<Cell> {
        let phase = phase_text(self);
        let mut cells = vec![
            Cell::new(&self.name),
            Cell::new(&self.workload),
            Cell::styled(phase_style(self), phase),
            Cell::new(containers_ready(self)),
            Cell::new(self.status.restarts),
            Cell::or_dash(self.node.as_ref()),
            Cell::new(age(now, self.created_at)),
        ];
        if detail == Detail::Wide {
            cells.extend([
                Cell::or_dash(self.status.address),
                Cell::new(self.revision),
                Cell::new(self.images.join(", ")),
                Cell::or_dash(trouble::reason(self)),
            ]);
        }
        cells
    }

    fn namespace(&self) -> Option<String> {
        Some(self.namespace.to_string())
    }

    fn kind(&self) -> &'static str {
        "instance"
    }

    fn short_name(&self) -> String {
        self.name.to_string()
    }

    fn compare(&self, other: &Self) -> Ordering {
        let place = |i: &Self| (i.namespace.clone(), i.workload.clone(), i.slot);
        place(self)
            .cmp(&place(other))
            .then_with(|| self.name.cmp(&other.name))
    }
}

/// How many of its containers are ready, and how many there are. Init containers do not count.
pub(crate) fn containers_ready(instance: &Instance) -> String {
    let all = instance.images.len();
    let serving = instance.status.containers.iter().rev().take(all);
    let ready = serving.filter(|c| c.readiness.is_ready()).count();
    format!("{ready}/{all}")
}

/// The phase, or that it is not known.
pub(crate) fn phase_text(instance: &Instance) -> &'static str {
    if instance.node_lost {
        "Unknown"
    } else {
        instance.status.phase.name()
    }
}

/// The colour of an instance's phase.
pub(crate) fn phase_style(instance: &Instance) -> anstyle::Style {
    if instance.node_lost {
        return style::BAD;
    }
    match &instance.status.phase {
        Phase::Running { .. } if !instance.status.readiness.is_ready() => style::BUSY,
        Phase::Running { .. } | Phase::Succeeded => style::GOOD,
        Phase::Assigned | Phase::Pulling | Phase::Prepared | Phase::Starting | Phase::Stopping => {
            style::BUSY
        }
        Phase::Pending { .. } | Phase::BackingOff { .. } | Phase::Failed { .. } => style::BAD,
    }
}

impl Row for Node {
    const PLURAL: &'static str = "nodes";
    const NAMESPACED: bool = false;

    fn headers(detail: Detail) -> Vec<&'static str> {
        let mut headers = vec![
            "NAME",
            "STATE",
            "SCHEDULING",
            "INSTANCES",
            "CPU",
            "MEMORY",
            "AGE",
        ];
        if detail == Detail::Wide {
            headers.extend(["ENGINE", "OS/ARCH", "LABELS", "TAINTS"]);
        }
        headers
    }

    fn cells(&self, detail: Detail, now: Timestamp) -> Vec<Cell> {
        let status = &self.status;
        let (scheduling_style, scheduling) = scheduling(self.scheduling);
        let mut cells = vec![
            Cell::new(&self.name),
            match &status.rejects {
                None => Cell::styled(node_style(&status.state), status.state.name()),
                Some(_) => Cell::styled(style::BAD, format!("{}, keeps back", status.state.name())),
            },
            Cell::styled(scheduling_style, scheduling),
            Cell::new(status.instances),
            Cell::new(quantity::cpu(&status.allocated, &status.capacity)),
            Cell::new(quantity::memory(&status.allocated, &status.capacity)),
            Cell::new(age(now, self.created_at)),
        ];
        if detail == Detail::Wide {
            let labels = self
                .labels
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>();
            let taints = self
                .taints
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            cells.extend([
                Cell::new(&status.info.engine_version),
                Cell::new(format!("{}/{}", status.info.os, status.info.arch)),
                Cell::or_dash(joined(&labels)),
                Cell::or_dash(joined(&taints)),
            ]);
        }
        cells
    }

    fn namespace(&self) -> Option<String> {
        None
    }

    fn kind(&self) -> &'static str {
        "node"
    }

    fn short_name(&self) -> String {
        self.name.to_string()
    }
}

/// Whether a node is given work, and how that looks.
fn scheduling(scheduling: Scheduling) -> (anstyle::Style, &'static str) {
    match scheduling {
        Scheduling::Enabled => (style::PLAIN, "Enabled"),
        Scheduling::Cordoned => (style::BUSY, "Cordoned"),
        Scheduling::Draining {
            drained_at: None, ..
        } => (style::BUSY, "Draining"),
        Scheduling::Draining {
            drained_at: Some(_),
            ..
        } => (style::BUSY, "Drained"),
        Scheduling::Removed { .. } => (style::DIM, "Removed"),
    }
}

fn joined(parts: &[String]) -> Option<String> {
    (!parts.is_empty()).then(|| parts.join(","))
}

/// The colour of a node's state.
pub(crate) fn node_style(state: &NodeState) -> anstyle::Style {
    match state {
        NodeState::Ready => style::GOOD,
        NodeState::RuntimeUnhealthy { .. } | NodeState::Lost { .. } => style::BAD,
    }
}

impl Row for Event {
    const PLURAL: &'static str = "events";
    // They are forgotten when there are many.
    const MISSED: bool = false;

    fn headers(_: Detail) -> Vec<&'static str> {
        vec!["LAST", "SEVERITY", "REASON", "SUBJECT", "COUNT", "MESSAGE"]
    }

    fn cells(&self, _: Detail, now: Timestamp) -> Vec<Cell> {
        let (style, severity) = match self.severity {
            Severity::Normal => (style::PLAIN, "Normal"),
            Severity::Warning => (style::BUSY, "Warning"),
        };
        vec![
            Cell::new(age(now, self.last_at)),
            Cell::styled(style, severity),
            Cell::new(&self.reason),
            Cell::new(&self.subject),
            Cell::new(self.count),
            Cell::new(&self.message),
        ]
    }

    fn namespace(&self) -> Option<String> {
        self.subject.namespace().map(ToString::to_string)
    }

    // An event has no name of its own that a command takes.
    fn kind(&self) -> &'static str {
        match &self.subject {
            Subject::Cluster => "cluster",
            Subject::Workload { .. } => "workload",
            Subject::Instance { .. } => "instance",
            Subject::Node { .. } => "node",
        }
    }

    fn short_name(&self) -> String {
        match &self.subject {
            Subject::Cluster => "cluster".to_owned(),
            Subject::Workload { name, .. } => name.to_string(),
            Subject::Instance { name, .. } => name.to_string(),
            Subject::Node { name } => name.to_string(),
        }
    }

    /// As they happened: several can have happened at the same moment, and an old event again.
    fn compare(&self, other: &Self) -> Ordering {
        (self.version, self.id).cmp(&(other.version, other.id))
    }
}

#[cfg(test)]
mod tests;
