//! `windlass logs`.

use std::{io::Write, str::FromStr};

use clap::Args;
use jiff::Timestamp;
use windlass_api::{
    client::{Client, Selection},
    clock,
    duration::{Span, SpanError},
    ids::{InstanceId, Namespace, WorkloadKey, WorkloadName},
    problem::Code,
    resource::Instance,
    wire::LogOptions,
};

use self::{follow::Follow, printer::Printer};
use super::Context;
use crate::{
    cli::Named,
    error::{Exit, Failure},
    output::{TextFormat, columns::Row},
};

mod follow;
mod printer;

/// Read the output of a workload or of one instance
#[derive(Debug, Args)]
#[command(after_help = "\
Where there are several instances, each line begins with the name of its own. With -f, new
instances of a workload are followed, too, and so are containers that start again.")]
pub(crate) struct Logs {
    /// The workload or the instance
    name: Named<InstanceId>,
    /// Go on with what is written from now on, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each instance
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Only what was written since then: a span like `10m`, or a time like 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// How to write the lines: text or json
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
            Self::Ago(span) => now
                .checked_sub(jiff::SignedDuration::try_from(span.as_std()).unwrap_or_default())
                .unwrap_or(Timestamp::MIN),
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
    /// What `name` names: a workload, or else an instance.
    async fn find(context: &Context, named: &Named<InstanceId>) -> Result<Self, Failure> {
        let namespace = named.namespace(&context.namespace);
        if let Ok(name) = named.name.as_str().parse::<WorkloadName>() {
            let key = WorkloadKey::new(namespace.clone(), name);
            match context.client.workload(&key).await {
                Ok(_) => return Ok(Self::Workload(key)),
                Err(error) if error.code() == Some(Code::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match context.client.instance(&namespace, &named.name).await {
            Ok(_) => Ok(Self::Instance(namespace, named.name.clone())),
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
        let source = Source::find(context, &self.name).await?;
        let options = LogOptions {
            follow: self.follow,
            tail: self.tail,
            since: self.since.map(|since| since.at(clock::now())),
            timestamps: self.timestamps,
        };
        let mut printer = Printer::to_stdout(self.output);
        if self.follow {
            Follow::new(context.client.clone(), source, options, printer)
                .run()
                .await
        } else {
            read(&context.client, &source, &options, &mut printer).await
        }
    }
}

/// Reads what was written up to now, one instance after the other.
async fn read(
    client: &Client,
    source: &Source,
    options: &LogOptions,
    printer: &mut Printer<impl Write>,
) -> Result<(), Failure> {
    let mut instances = client.list::<Instance>(&source.selection()).await?.items;
    Instance::sort(&mut instances);
    printer.introduce(instances.iter().map(|instance| &instance.name));
    let mut failed = 0;
    for instance in &instances {
        if let Some(why) = why_silent(instance) {
            printer.note(&instance.name, &why)?;
            continue;
        }
        match read_one(client, instance, options, printer).await {
            Ok(()) => {}
            Err(failure) if instances.len() == 1 => return Err(failure),
            Err(failure) if failure.is_of_reader() => return Err(failure),
            Err(failure) => {
                printer.note(&instance.name, failure.detail())?;
                failed += 1;
            }
        }
    }
    match (failed, instances.len()) {
        (0, 0) => Err(Failure::new(Exit::NotFound, "it has no instances yet")
            .hint("wait for them with -f, or see why with `windlass describe workload`")),
        (0, _) => Ok(()),
        (failed, all) => {
            let detail = format!("the output of {failed} of {all} instances could not be read");
            Err(Failure::new(Exit::Failed, detail))
        }
    }
}

async fn read_one(
    client: &Client,
    instance: &Instance,
    options: &LogOptions,
    printer: &mut Printer<impl Write>,
) -> Result<(), Failure> {
    let mut lines = client
        .logs(&instance.namespace, &instance.name, options)
        .await?;
    while let Some(line) = lines.next().await? {
        printer.line(&instance.name, &line)?;
    }
    Ok(printer.flush()?)
}

/// Why an instance cannot have written anything.
fn why_silent(instance: &Instance) -> Option<String> {
    match instance.status.has_container() {
        true => None,
        false => Some(match instance.status.phase.reason() {
            Some(reason) => format!("nothing was written yet: {reason}"),
            None => format!(
                "nothing was written yet: it is {}",
                instance.status.phase.name()
            ),
        }),
    }
}
