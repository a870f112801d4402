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
    resource::{Instance, Node, Workload},
    spec::{Check, Probe},
};

use super::Context;
use crate::{
    cli::Named,
    error::{Exit, Failure},
    output::{
        self, Format, TextFormat,
        age::age,
        columns::{self, Detail, Namespaces, Row},
        style::{self, paint},
        table::Table,
    },
    trouble::{self, LOG_LINES, Trouble},
};

mod instance;
mod node;
mod workload;

/// Tell the story of a workload, an instance or a node
#[derive(Debug, Args)]
#[command(after_help = "\
It tells what is wanted, what is, and what happened, in order; and for what does not run or cannot
serve the reason and the last lines of its log.")]
pub(crate) struct Describe {
    /// What it is: workload (wl), instance (inst) or node (no)
    #[arg(value_enum, value_name = "KIND", hide_possible_values = true)]
    kind: Kind,
    /// Its name
    name: Named<InstanceId>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(aliases = ["workloads", "wl", "service", "svc", "daemon", "job", "cronjob", "cj"])]
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
            Kind::Workload => of_workload(context, namespace, &self.name.name).await?,
            Kind::Instance => of_instance(context, &namespace, &self.name.name).await?,
            Kind::Node => of_node(context, &self.name.name).await?,
        };
        match self.format.output {
            TextFormat::Json => output::json(&story),
            TextFormat::Text => Ok(write(&story, clock::now(), &mut output::stdout())?),
        }
    }
}

async fn of_workload(
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

async fn of_instance(
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

async fn of_node(context: &Context, name: &InstanceId) -> Result<Story<Subject>, Failure> {
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
    items.sort_by(T::compare);
    items
}

fn write(story: &Story<Subject>, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let namespaces = match &story.subject {
        Subject::Workload(workload) => {
            workload::write(workload, now, out)?;
            Namespaces::One
        }
        Subject::Instance(instance) => {
            instance::write(instance, now, out)?;
            Namespaces::One
        }
        Subject::Node(node) => {
            node::write(node, now, out)?;
            Namespaces::All
        }
    };
    if !matches!(story.subject, Subject::Instance(_)) {
        write_items("Instances", &story.instances, namespaces, now, out)?;
    }
    if !story.troubles.is_empty() {
        let title = format!("In trouble (with the last {LOG_LINES} lines of the log)");
        write_title(&title, out)?;
        for line in story.troubles.iter().flat_map(Trouble::lines) {
            writeln!(out, "  {line}")?;
        }
    }
    write_items("Events", &story.events, Namespaces::One, now, out)
}

fn write_title(title: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}", paint(style::TITLE, title))
}

/// Writes objects as a table.
fn write_items<T: Row>(
    title: &str,
    items: &[T],
    namespaces: Namespaces,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    if items.is_empty() {
        write_title(title, out)?;
        return writeln!(out, "  none");
    }
    let mut table = columns::table::<T>(Detail::Normal, namespaces);
    for item in items {
        table.row(columns::cells(item, Detail::Normal, namespaces, now));
    }
    write_table(title, table, out)
}

/// Writes a table under a title, indented.
fn write_table(title: &str, mut table: Table, out: &mut impl Write) -> io::Result<()> {
    write_title(title, out)?;
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

fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", age(now, then))
}

fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What a probe does, like `http 8080/healthz every 5s`.
fn probe_words(probe: &Probe) -> String {
    let check = probe.checks().next().map(|check| match check {
        Check::Http(http) => format!("http {}{}", http.port, http.path),
        Check::Tcp(tcp) => format!("tcp {}", tcp.port),
        Check::Exec(exec) => format!("exec {}", exec.command.join(" ")),
        Check::Grpc(grpc) => match &grpc.service {
            Some(service) => format!("grpc {} {service}", grpc.port),
            None => format!("grpc {}", grpc.port),
        },
    });
    format!("{} every {}", check.unwrap_or_default(), probe.interval)
}

#[cfg(test)]
mod tests;
