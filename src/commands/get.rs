//! `windlass get`.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde::Serialize;
use windlass_api::{
    client::{Resource, Selection},
    clock,
    event::Event,
    ids::InstanceId,
    list::List,
    resource::{Instance, Node, Workload},
    selector::Selector,
    spec::Kind,
};

use super::Context;
use crate::{
    cli::Named,
    error::{Exit, Failure},
    output::{
        self, ListFormat,
        columns::{self, Detail, Namespaces, Row},
        table::Table,
    },
};

mod watch;

/// The nodes that were not removed.
const REMAINING: &str = "scheduling!=Removed";

/// List workloads, instances, nodes or events.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// What to list: workloads (wl) or those of one kind (services, daemons, jobs, cronjobs),
    /// instances (inst), nodes (no) or events (ev)
    #[arg(value_enum, value_name = "KIND", hide_possible_values = true)]
    of: Collection,
    /// Only these; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<Named<InstanceId>>,
    /// Of nodes, also those that were removed
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    pub(crate) options: ListOptions,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Collection {
    #[value(aliases = ["workload", "wl"])]
    Workloads,
    #[value(aliases = ["service", "svc"])]
    Services,
    #[value(aliases = ["daemon"])]
    Daemons,
    #[value(aliases = ["job"])]
    Jobs,
    #[value(aliases = ["cronjob", "cj"])]
    Cronjobs,
    #[value(aliases = ["instance", "inst", "in"])]
    Instances,
    #[value(aliases = ["node", "no"])]
    Nodes,
    #[value(aliases = ["event", "ev"])]
    Events,
}

/// Which items of a list are shown, and how.
#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// How to write the list: table, wide, json, yaml or name
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) output: ListFormat,
    /// Go on with what changes, until interrupted
    #[arg(short, long)]
    watch: bool,
    /// Those of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only those with these labels, like `app=web,tier!=db,!canary`
    #[arg(
        short = 'l',
        long = "selector",
        default_value = "",
        hide_default_value = true
    )]
    labels: Selector,
    /// Only those with these fields, like `phase=Running` or `node=edge-1`
    #[arg(
        long = "field-selector",
        default_value = "",
        hide_default_value = true,
        value_name = "SELECTOR"
    )]
    fields: Selector,
}

impl Get {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self {
            of,
            names,
            all,
            options,
        } = self;
        match of {
            Collection::Workloads => list::<Workload>(context, &options, &names).await,
            Collection::Services => list_kind(context, options, &names, Kind::Service).await,
            Collection::Daemons => list_kind(context, options, &names, Kind::Daemon).await,
            Collection::Jobs => list_kind(context, options, &names, Kind::Job).await,
            Collection::Cronjobs => list_kind(context, options, &names, Kind::CronJob).await,
            Collection::Instances => list::<Instance>(context, &options, &names).await,
            Collection::Nodes if all => list::<Node>(context, &options, &names).await,
            Collection::Nodes => list_nodes(context, options, &names).await,
            Collection::Events => list::<Event>(context, &options, &names).await,
        }
    }
}

impl ListOptions {
    /// Everything that is selected in `context`.
    pub(crate) fn selection<T: Row>(&self, context: &Context) -> Selection {
        let of_one = T::NAMESPACED && !self.all_namespaces;
        Selection {
            namespace: of_one.then(|| context.namespace.clone()),
            labels: self.labels.clone(),
            fields: self.fields.clone(),
        }
    }

    fn namespaces(&self) -> Namespaces {
        if self.all_namespaces {
            Namespaces::All
        } else {
            Namespaces::One
        }
    }
}

fn detail(format: ListFormat) -> Detail {
    match format {
        ListFormat::Wide => Detail::Wide,
        ListFormat::Table | ListFormat::Json | ListFormat::Yaml | ListFormat::Name => {
            Detail::Normal
        }
    }
}

/// Lists the workloads of one kind.
async fn list_kind(
    context: &Context,
    mut options: ListOptions,
    names: &[Named<InstanceId>],
    kind: Kind,
) -> Result<(), Failure> {
    options.fields = Selection {
        fields: options.fields,
        ..Selection::default()
    }
    .field("kind", kind)
    .fields;
    list::<Workload>(context, &options, names).await
}

/// Lists nodes. Those that were removed are only shown if they are asked for.
async fn list_nodes(
    context: &Context,
    mut options: ListOptions,
    names: &[Named<InstanceId>],
) -> Result<(), Failure> {
    if names.is_empty() && !options.fields.to_string().contains("scheduling") {
        options.fields = format!("{},{REMAINING}", options.fields)
            .trim_start_matches(',')
            .parse()
            .expect("a selector and a condition are a selector");
    }
    list::<Node>(context, &options, names).await
}

async fn list<T: Row + Resource + Serialize>(
    context: &Context,
    options: &ListOptions,
    names: &[Named<InstanceId>],
) -> Result<(), Failure> {
    let selection = options.selection::<T>(context);
    let named = |named: &Named<InstanceId>| {
        let mut selection = selection.clone().field("name", &named.name);
        if T::NAMESPACED && !options.all_namespaces {
            selection.namespace = Some(named.namespace(&context.namespace));
        }
        selection
    };
    match (names, options.watch) {
        ([], false) => show::<T>(context, options, &selection).await,
        ([], true) => watch::watch::<T>(context, options, selection).await,
        ([one], true) => watch::watch::<T>(context, options, named(one)).await,
        (_, true) => Err(Failure::new(Exit::Usage, "only one name can be watched")
            .hint("watch all of them with labels: -l key=value")),
        (names, false) => {
            let mut found: Option<List<T>> = None;
            let mut missing = Vec::new();
            for name in names {
                let list = context.client.list::<T>(&named(name)).await?;
                if list.items.is_empty() {
                    missing.push(name.name.to_string());
                }
                match &mut found {
                    Some(found) => found.items.extend(list.items),
                    None => found = Some(list),
                }
            }
            match found {
                Some(list) if !list.items.is_empty() => {
                    write_list(options.output, options.namespaces(), list)?;
                }
                Some(_) | None => {}
            }
            if missing.is_empty() {
                Ok(())
            } else {
                Err(not_found::<T>(&missing, &selection))
            }
        }
    }
}

fn not_found<T: Row>(missing: &[String], selection: &Selection) -> Failure {
    let place = place(selection);
    let detail = format!("no {} named {}{place}", T::PLURAL, missing.join(", "));
    Failure::new(Exit::NotFound, detail).hint(format!(
        "see what there is with `windlass get {} -A`",
        T::PLURAL
    ))
}

/// Where a selection looks, in words.
fn place(selection: &Selection) -> String {
    match &selection.namespace {
        Some(namespace) => format!(" in namespace {namespace}"),
        None => String::new(),
    }
}

/// Lists what is selected, once.
async fn show<T: Row + Resource + Serialize>(
    context: &Context,
    options: &ListOptions,
    selection: &Selection,
) -> Result<(), Failure> {
    let list = context.client.list::<T>(selection).await?;
    let is_for_people = matches!(options.output, ListFormat::Table | ListFormat::Wide);
    if list.items.is_empty() && is_for_people {
        say_empty::<T>(selection);
        return Ok(());
    }
    write_list(options.output, options.namespaces(), list)
}

fn say_empty<T: Row>(selection: &Selection) {
    let matching = if selection.labels.is_empty() && selection.fields.is_empty() {
        ""
    } else {
        " that match"
    };
    let place = place(selection);
    output::say(&format!("no {}{matching}{place}", T::PLURAL));
}

/// Writes a list in its order.
pub(crate) fn write_list<T: Row + Serialize>(
    format: ListFormat,
    namespaces: Namespaces,
    mut list: List<T>,
) -> Result<(), Failure> {
    list.items.sort_by(T::compare);
    match format {
        ListFormat::Json => output::json(&list),
        ListFormat::Yaml => write_yaml(&list.items),
        ListFormat::Name => write_names(namespaces, &list.items),
        ListFormat::Table | ListFormat::Wide => {
            let mut table = columns::table::<T>(detail(format), namespaces);
            fill(&mut table, format, namespaces, list.items.iter());
            Ok(table.write(&mut output::stdout())?)
        }
    }
}

/// Writes documents that can be applied again.
fn write_yaml<T: Serialize>(items: &[T]) -> Result<(), Failure> {
    let mut out = output::stdout();
    for (i, item) in items.iter().enumerate() {
        let separator = if i > 0 { "---\n" } else { "" };
        write!(out, "{separator}{}", output::to_yaml(item))?;
    }
    Ok(())
}

fn write_names<T: Row>(namespaces: Namespaces, items: &[T]) -> Result<(), Failure> {
    let mut out = output::stdout();
    for item in items {
        writeln!(out, "{}", columns::reference(item, namespaces))?;
    }
    Ok(())
}

fn fill<'a, T: Row + 'a>(
    table: &mut Table,
    format: ListFormat,
    namespaces: Namespaces,
    items: impl Iterator<Item = &'a T>,
) {
    let now = clock::now();
    for item in items {
        table.row(columns::cells(item, detail(format), namespaces, now));
    }
}

/// Lists the events that are selected; see [`super::events`].
pub(crate) async fn list_events(
    context: &Context,
    options: &ListOptions,
    selection: Selection,
) -> Result<(), Failure> {
    if options.watch {
        watch::watch::<Event>(context, options, selection).await
    } else {
        show::<Event>(context, options, &selection).await
    }
}
