//! `windlass apply`.

use std::io::{self, Write};

use clap::Args;
use windlass_api::apply::{ApplyRequest, ApplyResponse, ApplyResult, Outcome};

use super::{Context, wait::Waiting};
use crate::{
    error::Failure,
    manifests::ManifestArgs,
    output::{
        self, Format, TextFormat,
        style::{self, paint},
    },
    progress::{Target, Until},
};

/// Apply manifests, and wait until what they ask for is ready
#[derive(Debug, Args)]
#[command(after_help = "\
All resources are applied, or none. If something cannot run, the reason is shown and the wait goes
on, since nodes come back and images appear. An update that failed and was rolled back, or is
paused, and a job that failed end the wait with exit code 1; canaries that are ready end it, too,
with what to do next. Ctrl-C ends the wait only: what was applied goes on.")]
pub(crate) struct Apply {
    #[command(flatten)]
    manifests: ManifestArgs,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Apply {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = ApplyRequest {
            resources: self.manifests.read(&context.namespace)?,
        };
        let mut response = context.client.apply(&request).await?;
        if self.format.output == TextFormat::Text {
            write(&response)?;
        }
        let mut result = Ok(());
        if !self.waiting.no_wait {
            if self.format.output == TextFormat::Text {
                response
                    .results
                    .iter()
                    .filter_map(waits_for_end)
                    .for_each(output::say_dim);
            }
            let targets: Vec<Target> = response
                .results
                .iter()
                .map(|r| Target::of(&r.workload))
                .collect();
            let waited = self
                .waiting
                .wait(context, &targets, Until::Done, self.format.output)
                .await;
            result = waited.map(|reached| {
                for (result, workload) in response.results.iter_mut().zip(reached) {
                    result.workload = workload;
                }
            });
        }
        if self.format.output == TextFormat::Json {
            output::json(&response)?;
        }
        result
    }
}

/// What is said of a job whose end is waited for.
fn waits_for_end(result: &ApplyResult) -> Option<String> {
    let job = result.workload.status.job.as_ref()?;
    let key = &result.key;
    job.state
        .finished_at()
        .is_none()
        .then(|| format!("waiting until {key} has ended; Ctrl-C leaves it running"))
}

fn write(response: &ApplyResponse) -> io::Result<()> {
    let mut out = output::stdout();
    for result in &response.results {
        writeln!(out, "{}", line(result))?;
    }
    out.flush()
}

fn line(result: &ApplyResult) -> String {
    let key = &result.key;
    match result.outcome {
        Outcome::Created => format!("{key} {}", paint(style::GOOD, "created")),
        Outcome::Unchanged => format!("{key} {}", paint(style::DIM, "unchanged")),
        Outcome::Updated => {
            let fields: Vec<&str> = result.diff.iter().map(|c| c.path.as_str()).collect();
            format!(
                "{key} {}: {}",
                paint(style::BUSY, "updated"),
                fields.join(", ")
            )
        }
    }
}
