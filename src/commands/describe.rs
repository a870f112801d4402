//! `windlass describe`.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use windlass_api::{
    client::Selection,
    clock,
    event::Event,
    ids::{InstanceId, NameError, Namespace, NodeName, WorkloadKey, WorkloadName},
    resource::{Instance, Node, Scheduling, Workload},
    status::{NodeState, Phase},
};

use super::Context;
use crate::{
    cli::Named,
    error::{Exit, Failure},
    output::{
        self, TextFormat,
        age::age,
        columns::{self, Detail, Namespaces, Row},
        quantity,
        style::{self, paint},
    },
    trouble::{self, LOG_LINES, Trouble},
};

/// Tell the story of a workload, an instance or a node
#[derive(Debug, Args)]
#[command(after_help = "\
It tells what is wanted, what is, and what happened; and for what does not run the reason and the
last lines of its log.")]
pub(crate) struct Describe {
    /// What it is: workload (wl), instance (inst) or node (no)
    #[arg(value_enum, value_name = "KIND", hide_possible_values = true)]
    kind: Kind,
    /// Its name
    name: Named<InstanceId>,
    /// How to write the result: text or json
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(aliases = ["workloads", "wl", "service", "svc"])]
    Workload,
    #[value(aliases = ["instances", "inst", "in"])]
    Instance,
    #[value(aliases = ["nodes", "no"])]
    Node,
}

/// An object and what belongs to it.
#[derive(Debug, Serialize)]
struct Story<T> {
    #[serde(flatten)]
    subject: T,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    instances: Vec<Instance>,
    troubles: Vec<Trouble>,
    events: Vec<Event>,
}

/// What is told about, by its kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Subject {
    Workload(Box<Workload>),
    Instance(Box<Instance>),
    Node(Box<Node>),
}

impl Describe {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let namespace = self.name.namespace(&context.namespace);
        let story = match self.kind {
            Kind::Workload => workload(context, namespace, &self.name.name).await?,
            Kind::Instance => instance(context, &namespace, &self.name.name).await?,
            Kind::Node => node(context, &self.name.name).await?,
        };
        match self.output {
            TextFormat::Json => output::json(&story),
            TextFormat::Text => Ok(write(&story, clock::now(), &mut output::stdout())?),
        }
    }
}

async fn workload(
    context: &Context,
    namespace: Namespace,
    name: &InstanceId,
) -> Result<Story<Subject>, Failure> {
    let name: WorkloadName = name.as_str().parse().map_err(not_a_name)?;
    let key = WorkloadKey::new(namespace, name);
    let workload = context.client.workload(&key).await?;
    let selection = Selection::of(&key.namespace).field("workload", &key.name);
    let instances = sorted(context.client.list(&selection).await?.items);
    Ok(Story {
        troubles: trouble::look(&context.client, instances.iter()).await,
        events: sorted(context.client.list(&selection).await?.items),
        subject: Subject::Workload(Box::new(workload)),
        instances,
    })
}

async fn instance(
    context: &Context,
    namespace: &Namespace,
    name: &InstanceId,
) -> Result<Story<Subject>, Failure> {
    let instance = context.client.instance(namespace, name).await?;
    let selection = Selection::of(namespace)
        .field("kind", "Instance")
        .field("name", name);
    Ok(Story {
        troubles: trouble::look(&context.client, std::iter::once(&instance)).await,
        events: sorted(context.client.list(&selection).await?.items),
        subject: Subject::Instance(Box::new(instance)),
        instances: Vec::new(),
    })
}

async fn node(context: &Context, name: &InstanceId) -> Result<Story<Subject>, Failure> {
    let name: NodeName = name.as_str().parse().map_err(not_a_name)?;
    let node = context.client.node(&name).await?;
    let on_it = Selection::all().field("node", &name);
    let about_it = Selection::all().field("kind", "Node").field("name", &name);
    Ok(Story {
        subject: Subject::Node(Box::new(node)),
        instances: sorted(context.client.list(&on_it).await?.items),
        troubles: Vec::new(),
        events: sorted(context.client.list(&about_it).await?.items),
    })
}

fn not_a_name(error: NameError) -> Failure {
    Failure::new(Exit::Usage, error.to_string())
}

fn sorted<T: Row>(mut items: Vec<T>) -> Vec<T> {
    T::sort(&mut items);
    items
}

fn write(story: &Story<Subject>, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let namespaces = match &story.subject {
        Subject::Workload(workload) => {
            write_workload(workload, now, out)?;
            Namespaces::One
        }
        Subject::Instance(instance) => {
            write_instance(instance, now, out)?;
            Namespaces::One
        }
        Subject::Node(node) => {
            write_node(node, now, out)?;
            Namespaces::All
        }
    };
    if !matches!(story.subject, Subject::Instance(_)) {
        write_table("Instances", &story.instances, namespaces, now, out)?;
    }
    if !story.troubles.is_empty() {
        let title = format!("Does not run (with the last {LOG_LINES} lines of its log)");
        write_title(&title, out)?;
        for line in story.troubles.iter().flat_map(Trouble::lines) {
            writeln!(out, "  {line}")?;
        }
    }
    write_table("Events", &story.events, Namespaces::One, now, out)
}

fn write_title(title: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}", paint(style::TITLE, title))
}

/// Writes a table, indented.
fn write_table<T: Row>(
    title: &str,
    items: &[T],
    namespaces: Namespaces,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    write_title(title, out)?;
    if items.is_empty() {
        return writeln!(out, "  none");
    }
    let mut table = columns::table::<T>(Detail::Normal, namespaces);
    for item in items {
        table.row(columns::cells(item, Detail::Normal, namespaces, now));
    }
    let mut text = Vec::new();
    table.write(&mut text)?;
    write_indented(&String::from_utf8_lossy(&text), out)
}

fn write_indented(text: &str, out: &mut impl Write) -> io::Result<()> {
    text.lines().try_for_each(|line| writeln!(out, "  {line}"))
}

/// Writes what there is of these fields, aligned.
fn write_fields(fields: &[(&str, Option<String>)], out: &mut impl Write) -> io::Result<()> {
    for (name, value) in fields {
        if let Some(value) = value {
            writeln!(out, "  {name:<11} {}", output::printable(value))?;
        }
    }
    Ok(())
}

fn write_workload(workload: &Workload, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let (manifest, status) = (&workload.manifest, &workload.status);
    let heading = format!("{} {}", manifest.kind, manifest.key());
    writeln!(out, "{}", paint(style::TITLE, heading))?;
    let running = format!(
        "{} of {}, {} of them of revision {}",
        status.running, status.wanted, status.updated, status.revision
    );
    let labels = manifest
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let fields = [
        ("Status", Some(columns::workload_status(workload))),
        ("Running", Some(running)),
        ("Labels", joined(labels)),
        ("Created", Some(ago(now, workload.meta.created_at))),
        ("Changed", Some(ago(now, workload.meta.updated_at))),
    ];
    write_fields(&fields, out)?;
    write_title("Spec", out)?;
    write_indented(&output::to_yaml(&manifest.spec), out)
}

fn write_instance(instance: &Instance, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let heading = format!("Instance {}/{}", instance.namespace, instance.name);
    writeln!(out, "{}", paint(style::TITLE, heading))?;
    let status = &instance.status;
    let since = age(now, instance.phase_since);
    let phase = match trouble::reason(instance) {
        Some(reason) => format!("{} ({reason}), for {since}", columns::phase_text(instance)),
        None => format!("{}, for {since}", columns::phase_text(instance)),
    };
    let next = match &status.phase {
        Phase::BackingOff { until, .. } => {
            let secs = until.as_second().saturating_sub(now.as_second()).max(0);
            Some(format!("in {secs}s"))
        }
        _ => None,
    };
    let exit = status.last_exit.as_ref();
    let ports = instance.ports.iter().map(|port| match port.host {
        Some(host) => format!("{}/{} at the node's {host}", port.container, port.protocol),
        None => format!("{}/{}", port.container, port.protocol),
    });
    let fields = [
        ("Phase", Some(phase)),
        ("Next try", next),
        (
            "Workload",
            Some(format!("{}, slot {}", instance.workload, instance.slot)),
        ),
        ("Revision", Some(instance.revision.to_string())),
        ("Image", joined(instance.images.iter().cloned())),
        ("Node", instance.node.as_ref().map(ToString::to_string)),
        ("Address", status.address.map(|address| address.to_string())),
        ("Ports", joined(ports)),
        ("Restarts", Some(status.restarts.to_string())),
        (
            "Last exit",
            exit.map(|exit| format!("{exit}, {}", ago(now, exit.finished_at))),
        ),
        (
            "Container",
            joined(status.containers.iter().filter_map(|c| c.id.clone())),
        ),
        ("Created", Some(ago(now, instance.created_at))),
    ];
    write_fields(&fields, out)
}

fn write_node(node: &Node, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
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
    let scheduling = match node.scheduling {
        Scheduling::Enabled => "enabled",
        Scheduling::Cordoned => "cordoned: new instances are not placed here",
    };
    let (used, all) = (&status.allocated, &status.capacity);
    let fields = [
        ("State", Some(state)),
        ("Scheduling", Some(scheduling.to_owned())),
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

fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", age(now, then))
}

fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests;
