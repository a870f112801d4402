//! `windlass logs`.

use std::{fmt, io::Write, str::FromStr};

use clap::Args;
use jiff::Timestamp;
use windlass_api::{
    client::{Client, Selection},
    clock,
    duration::{Span, SpanError},
    ids::{ContainerName, InstanceId, Namespace, WorkloadKey, WorkloadName},
    problem::Code,
    resource::Instance,
    status::ContainerPhase,
    wire::LogOptions,
};

use self::{follow::Follow, origin::Origin, printer::Printer};
use super::{Context, job};
use crate::{
    cli::{Named, whole_number},
    error::{Exit, Failure},
    output::{Format, TextFormat, columns::Row},
};

mod follow;
mod origin;
mod printer;
mod reader;

/// Read the output of a workload or of one instance
#[derive(Debug, Args)]
#[command(after_help = "\
Where there are several instances, or several containers in one, each line begins with the name of
its own. With -f, new instances of a workload are followed, too, and so are containers that start
again; a job is followed to its end. What breaks off because an agent or the server is away is read
on when it is back; a server that is away for a minute ends it.")]
pub(crate) struct Logs {
    /// The workload or the instance
    name: Named<InstanceId>,
    /// Only this container; all of them if none is named
    #[arg(short, long, value_name = "NAME")]
    container: Option<ContainerName>,
    /// Go on with what is written from now on, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each container
    #[arg(long, value_name = "LINES", value_parser = whole_number::<u32>)]
    tail: Option<u32>,
    /// Only what was written since then: a span like `10m`, or a time like 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// A point in time, as a user writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Ago(Span),
    Time(Timestamp),
}

impl FromStr for Since {
    type Err = SpanError;
    fn from_str(s: &str) -> Result<Self, SpanError> {
        match s.parse() {
            Ok(time) => Ok(Self::Time(time)),
            Err(_) => s.parse().map(Self::Ago),
        }
    }
}

impl Since {
    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Time(time) => time,
            Self::Ago(span) => now.checked_sub(span.as_signed()).unwrap_or(Timestamp::MIN),
        }
    }
}

/// Whose output is read.
#[derive(Debug)]
enum Source {
    Workload(WorkloadKey),
    Instance(Namespace, InstanceId),
}

impl Source {
    /// What `name` names: a workload, or else an instance. It has the container `only`.
    async fn find(
        context: &Context,
        named: &Named<InstanceId>,
        only: Option<&ContainerName>,
    ) -> Result<Self, Failure> {
        let namespace = named.namespace(&context.namespace);
        if let Ok(name) = named.name.as_str().parse::<WorkloadName>() {
            let key = WorkloadKey::new(namespace.clone(), name);
            match context.client.workload(&key).await {
                Ok(workload) => {
                    let template = workload.manifest.spec.template(0);
                    let names = template.all_containers().map(|c| &c.name);
                    check_container(&key, names, only)?;
                    return Ok(Self::Workload(key));
                }
                Err(error) if error.code() == Some(Code::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match context.client.instance(&namespace, &named.name).await {
            Ok(instance) => {
                let containers = &instance.status.containers;
                // Until its agent has told of them, nothing can be said.
                if !containers.is_empty() {
                    check_container(&named.name, containers.iter().map(|c| &c.name), only)?;
                }
                Ok(Self::Instance(namespace, named.name.clone()))
            }
            Err(error) if error.code() == Some(Code::NotFound) => {
                let name = &named.name;
                let detail = format!("no workload or instance {name} in namespace {namespace}");
                Err(Failure::new(Exit::NotFound, detail)
                    .hint("see what there is with `windlass get instances -A`"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn selection(&self) -> Selection {
        match self {
            Self::Workload(key) => Selection::of(&key.namespace).field("workload", &key.name),
            Self::Instance(namespace, name) => Selection::of(namespace).field("name", name),
        }
    }
}

impl Logs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let source = Source::find(context, &self.name, self.container.as_ref()).await?;
        let options = LogOptions {
            follow: self.follow,
            tail: self.tail,
            since: self.since.map(|since| since.at(clock::now())),
            timestamps: self.timestamps,
        };
        let what = What {
            only: self.container,
            options,
        };
        let client = &context.client;
        let mut printer = Printer::to_stdout(self.format.output);
        if !self.follow {
            return read(client, &source, &what, &mut printer).await;
        }
        let job = match &source {
            Source::Workload(key) => client.workload(key).await?.status.job.map(|_| key.clone()),
            Source::Instance(..) => None,
        };
        let follow = Follow::new(client.clone(), source, what, printer);
        match job {
            // When it has ended, nothing more is written.
            Some(key) => Box::pin(follow.run_until(job::ended(client, key)))
                .await
                .map(drop),
            None => Box::pin(follow.run()).await,
        }
    }
}

/// Follows the output of a job until `end` comes, and after that what is left of it.
pub(super) async fn follow_job<T>(
    client: &Client,
    key: WorkloadKey,
    format: TextFormat,
    end: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let what = What {
        only: None,
        options: LogOptions {
            follow: true,
            ..LogOptions::default()
        },
    };
    let printer = Printer::to_stdout(format);
    let follow = Follow::new(client.clone(), Source::Workload(key), what, printer);
    // It holds a mirror, streams and the end that it waits for.
    Box::pin(follow.run_until(end)).await
}

/// What is read of each instance.
#[derive(Debug, Clone)]
struct What {
    /// The container that the user named.
    only: Option<ContainerName>,
    options: LogOptions,
}

/// Whether the container that the user named is one of `of`.
fn check_container<'a>(
    of: &impl fmt::Display,
    names: impl Iterator<Item = &'a ContainerName>,
    only: Option<&ContainerName>,
) -> Result<(), Failure> {
    let Some(only) = only else { return Ok(()) };
    let names: Vec<&str> = names.map(ContainerName::as_str).collect();
    if names.contains(&only.as_str()) {
        return Ok(());
    }
    let known = names.join(", ");
    Err(
        Failure::new(Exit::NotFound, format!("{of} has no container {only}"))
            .hint(format!("it has {known}")),
    )
}

/// Reads what was written up to now, one container after the other.
async fn read(
    client: &Client,
    source: &Source,
    what: &What,
    printer: &mut Printer<impl Write>,
) -> Result<(), Failure> {
    let mut instances = client.list::<Instance>(&source.selection()).await?.items;
    instances.sort_by(Row::compare);
    let only = what.only.as_ref();
    let origins: Vec<(&Instance, Origin)> = instances
        .iter()
        .flat_map(|i| Origin::all_of(i, only).into_iter().map(move |o| (i, o)))
        .collect();
    printer.introduce(origins.iter().map(|(_, origin)| origin.clone()));
    let mut failed = 0;
    for (instance, origin) in &origins {
        if let Some(why) = why_silent(instance, origin, only) {
            printer.note(origin, &why)?;
            continue;
        }
        match read_one(client, instance, origin, what, printer).await {
            Ok(()) => {}
            Err(failure) if origins.len() == 1 => return Err(failure),
            Err(failure) if failure.is_of_reader() => return Err(failure),
            Err(failure) => {
                printer.note(origin, failure.detail())?;
                failed += 1;
            }
        }
    }
    match (failed, origins.len()) {
        (0, 0) => Err(Failure::new(Exit::NotFound, "it has no instances yet")
            .hint("wait for them with -f, or see why with `windlass describe workload`")),
        (0, _) => Ok(()),
        (failed, all) => {
            let detail = format!("the output of {failed} of {all} containers could not be read");
            Err(Failure::new(Exit::Failed, detail))
        }
    }
}

async fn read_one(
    client: &Client,
    instance: &Instance,
    origin: &Origin,
    what: &What,
    printer: &mut Printer<impl Write>,
) -> Result<(), Failure> {
    let container = origin.container.as_ref().or(what.only.as_ref());
    let Instance {
        namespace, name, ..
    } = instance;
    let mut lines = client
        .logs(namespace, name, container, &what.options)
        .await?;
    while let Some(line) = lines.next().await? {
        printer.line(origin, &line)?;
    }
    Ok(printer.flush()?)
}

/// Why a container cannot have written anything.
fn why_silent(
    instance: &Instance,
    origin: &Origin,
    only: Option<&ContainerName>,
) -> Option<String> {
    let container = origin.status(instance, only);
    if container.is_some_and(|c| c.id.is_some()) {
        return None;
    }
    let waits_for = container.and_then(|c| match &c.state {
        ContainerPhase::Waiting { reason } => reason.as_deref(),
        ContainerPhase::Running { .. } | ContainerPhase::Exited => None,
    });
    let phase = &instance.status.phase;
    Some(match waits_for.or(phase.reason()) {
        Some(reason) => format!("nothing was written yet: {reason}"),
        None => format!("nothing was written yet: it is {}", phase.name()),
    })
}
