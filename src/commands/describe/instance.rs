//! An instance, as it is told: where it is, how it is, and each of its containers.

use std::io::{self, Write};

use jiff::Timestamp;
use windlass_api::{
    resource::Instance,
    spec::Probes,
    status::{ContainerPhase, ContainerStatus, Exit, Phase, Readiness},
};

use super::{ago, joined, probe_words, write_fields, write_table};
use crate::{
    output::{
        age::{age, until},
        columns,
        style::{self, paint},
        table::{Cell, Table},
    },
    trouble,
};

/// How much of a container's id is shown, as Docker does it.
const ID_CHARS: usize = 12;

pub(super) fn write(instance: &Instance, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let heading = format!("Instance {}/{}", instance.namespace, instance.name);
    writeln!(out, "{}", paint(style::TITLE, heading))?;
    let status = &instance.status;
    let since = age(now, instance.phase_since);
    let phase = match trouble::reason(instance) {
        Some(reason) => format!("{} ({reason}), for {since}", columns::phase_text(instance)),
        None => format!("{}, for {since}", columns::phase_text(instance)),
    };
    let next = match &status.phase {
        Phase::BackingOff { until: at, .. } => Some(format!("in {}", until(now, *at))),
        _ => None,
    };
    let ready = match (&status.readiness, instance.ready_since) {
        (Readiness::Ready, Some(since)) => format!("yes, for {}", age(now, since)),
        (Readiness::Ready, None) => "yes".to_owned(),
        (
            Readiness::NotReady {
                reason: Some(reason),
            },
            _,
        ) => format!("no: {reason}"),
        (Readiness::NotReady { reason: None }, _) => "no".to_owned(),
    };
    let ports = instance.ports.iter().map(|port| match port.host {
        Some(host) => format!("{}/{} at the node's {host}", port.container, port.protocol),
        None => format!("{}/{}", port.container, port.protocol),
    });
    let fields = [
        ("Phase", Some(phase)),
        ("Next try", next),
        ("Ready", Some(ready)),
        (
            "Workload",
            Some(format!("{}, slot {}", instance.workload, instance.slot)),
        ),
        ("Revision", Some(instance.revision.to_string())),
        ("Image", joined(instance.images.iter().cloned())),
        ("Node", instance.node.as_ref().map(ToString::to_string)),
        ("Leaves", instance.leaving.clone()),
        ("Address", status.address.map(|address| address.to_string())),
        ("Ports", joined(ports)),
        ("Restarts", Some(status.restarts.to_string())),
        ("Last exit", status.last_exit.as_ref().map(|e| exit(e, now))),
        ("Created", Some(ago(now, instance.created_at))),
    ];
    write_fields(&fields, out)?;
    if status.containers.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(vec![
        "NAME",
        "STATE",
        "READY",
        "RESTARTS",
        "LAST EXIT",
        "ID",
        "IMAGE ID",
    ]);
    for container in &status.containers {
        table.row(container_cells(container, now));
    }
    write_table("Containers", table, out)?;
    write_probes(instance, out)
}

fn write_probes(instance: &Instance, out: &mut impl Write) -> io::Result<()> {
    let containers = &instance.status.containers;
    let mut table = Table::new(vec!["CONTAINER", "PROBE", "CHECK", "RESULT"]);
    let mut is_empty = true;
    for container in containers {
        let probes = instance.probes.get(&container.name);
        for (name, probe) in probes.into_iter().flat_map(Probes::each) {
            is_empty = false;
            table.row(vec![
                Cell::new(&container.name),
                Cell::new(name),
                Cell::new(probe_words(probe)),
                result(container, name),
            ]);
        }
    }
    if is_empty {
        return Ok(());
    }
    write_table("Probes", table, out)
}

/// What the probe of this name says of a container, as far as the container's readiness tells.
fn result(container: &ContainerStatus, name: &str) -> Cell {
    let runs = matches!(container.state, ContainerPhase::Running { .. });
    match &container.readiness {
        Readiness::NotReady {
            reason: Some(reason),
        } => match reason.strip_prefix(&format!("{name} probe: ")) {
            Some(saw) => Cell::styled(style::BAD, saw),
            None => Cell::or_dash(None::<String>),
        },
        // Whether it failed, but not too often yet, is known to its agent only.
        Readiness::Ready if runs && name == "liveness" => Cell::styled(style::GOOD, "lives"),
        Readiness::Ready if runs => Cell::styled(style::GOOD, "passed"),
        Readiness::Ready | Readiness::NotReady { reason: None } => Cell::or_dash(None::<String>),
    }
}

fn container_cells(container: &ContainerStatus, now: Timestamp) -> Vec<Cell> {
    let state = match &container.state {
        ContainerPhase::Waiting { reason: None } => Cell::styled(style::BUSY, "waiting"),
        ContainerPhase::Waiting {
            reason: Some(reason),
        } => Cell::styled(style::BUSY, format!("waiting: {reason}")),
        ContainerPhase::Running { started_at } => Cell::styled(
            style::GOOD,
            format!("running for {}", age(now, *started_at)),
        ),
        ContainerPhase::Exited => Cell::new("exited"),
    };
    let ready = match &container.readiness {
        Readiness::Ready => Cell::styled(style::GOOD, "yes"),
        Readiness::NotReady { reason: None } => Cell::new("no"),
        Readiness::NotReady {
            reason: Some(reason),
        } => Cell::styled(style::BAD, format!("no: {reason}")),
    };
    vec![
        Cell::new(&container.name),
        state,
        ready,
        Cell::new(container.restarts),
        Cell::or_dash(container.last_exit.as_ref().map(|e| exit(e, now))),
        Cell::or_dash(container.id.as_deref().map(short)),
        Cell::or_dash(container.image_id.as_deref().map(short)),
    ]
}

fn exit(exit: &Exit, now: Timestamp) -> String {
    format!("{exit}, {}", ago(now, exit.finished_at))
}

fn short(id: &str) -> String {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.chars().take(ID_CHARS).collect()
}
