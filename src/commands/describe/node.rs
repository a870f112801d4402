//! A node, as it is told.

use std::io::{self, Write};

use jiff::Timestamp;
use windlass_api::{
    resource::{Node, Scheduling},
    status::NodeState,
};

use super::{ago, joined, write_fields};
use crate::output::{
    age::{age, until},
    quantity,
    style::{self, paint},
};

pub(super) fn write(node: &Node, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{}",
        paint(style::TITLE, format!("Node {}", node.name))
    )?;
    let (status, info) = (&node.status, &node.status.info);
    let since = age(now, status.state_since);
    let state = match &status.state {
        NodeState::RuntimeUnhealthy { reason } => {
            format!("{} ({reason}), for {since}", status.state.name())
        }
        NodeState::Ready | NodeState::Lost { .. } => {
            format!("{}, for {since}", status.state.name())
        }
    };
    let scheduling = scheduling(node, now);
    let (used, all) = (&status.allocated, &status.capacity);
    let fields = [
        ("State", Some(state)),
        ("Keeps back", status.rejects.clone()),
        ("Scheduling", Some(scheduling)),
        (
            "CPU",
            Some(format!("{} cores set aside", quantity::cpu(used, all))),
        ),
        (
            "Memory",
            Some(format!("{} set aside", quantity::memory(used, all))),
        ),
        (
            "Labels",
            joined(
                node.labels
                    .iter()
                    .map(|(key, value)| format!("{key}={value}")),
            ),
        ),
        (
            "Taints",
            joined(node.taints.iter().map(ToString::to_string)),
        ),
        ("Machine", Some(format!("{}/{}", info.os, info.arch))),
        ("Engine", Some(format!("Docker {}", info.engine_version))),
        (
            "Agent",
            Some(format!("{} ({})", info.agent_version, info.agent_id)),
        ),
        ("First seen", Some(ago(now, node.created_at))),
    ];
    write_fields(&fields, out)
}

/// Whether the node is given work, in words.
fn scheduling(node: &Node, now: Timestamp) -> String {
    match node.scheduling {
        Scheduling::Enabled => "enabled".to_owned(),
        Scheduling::Cordoned => "cordoned: new instances are not placed here".to_owned(),
        Scheduling::Draining {
            drained_at: Some(at),
            ..
        } => format!("drained {}: nothing new is placed here", ago(now, at)),
        Scheduling::Draining {
            drain_since,
            drain_deadline,
            ..
        } => {
            let left = node.status.leaving;
            let since = ago(now, drain_since);
            let deadline = drain_deadline.map(|at| format!(", stopped in {}", until(now, at)));
            let deadline = deadline.unwrap_or_default();
            format!("draining, begun {since}: {left} left to leave{deadline}")
        }
        Scheduling::Removed { removed_at } => format!("removed {}", ago(now, removed_at)),
    }
}
