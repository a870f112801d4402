//! `windlass wait`, and how other commands wait.

use clap::Args;
use windlass_api::{duration::Span, ids::WorkloadName, problem::Code, resource::Workload};

use super::Context;
use crate::{
    cli::Named,
    error::{Exit, Failure},
    output::{self, Format, TextFormat},
    progress::{self, Display, Target, Until},
};

/// How long to wait unless told otherwise: enough to pull a large image over a slow line.
const TIMEOUT: &str = "5m";

/// Wait until workloads are settled, ready, running, completed or deleted.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The workloads
    #[arg(required = true, value_name = "NAME")]
    names: Vec<Named<WorkloadName>>,
    /// What to wait for: settled (all that is wanted has been ready for `minReady`, and nothing else is
    /// there; a job has ended), ready (as many as are wanted have been for `minReady`, of whatever
    /// revision), running (as many as are wanted), completed (a job; 1 is the exit code if it failed) or
    /// deleted (with all instances but those on lost nodes)
    #[arg(
        long = "for",
        value_enum,
        default_value_t = Until::Settled,
        value_name = "STATE",
        hide_possible_values = true
    )]
    until: Until,
    /// How long to wait; then the exit code is 4
    #[arg(long, default_value = TIMEOUT, value_name = "TIME")]
    timeout: Span,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Wait {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut targets = Vec::new();
        for named in &self.names {
            let key = context.workload_key(named);
            targets.push(match (self.until, context.client.workload(&key).await) {
                (Until::Completed, Ok(workload)) if workload.status.job.is_none() => {
                    let kind = workload.manifest.kind;
                    let detail = format!("{key} is a {kind}, and only a Job completes");
                    return Err(Failure::new(Exit::Failed, detail));
                }
                (_, Ok(workload)) => Target::of(&workload),
                (Until::Deleted, Err(error)) if error.code() == Some(Code::NotFound) => {
                    Target { key, uid: None }
                }
                (_, Err(error)) => return Err(error.into()),
            });
        }
        let waiting = Waiting {
            no_wait: false,
            timeout: self.timeout,
        };
        let reached = waiting
            .wait(context, &targets, self.until, self.format.output)
            .await?;
        match self.format.output {
            TextFormat::Json => output::json(&reached),
            TextFormat::Text => Ok(()),
        }
    }
}

/// Whether and how long to wait for what was asked for.
#[derive(Debug, Clone, Args)]
pub(crate) struct Waiting {
    /// Do not wait
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait; then the exit code is 4, and nothing is undone
    #[arg(long, default_value = TIMEOUT, value_name = "TIME")]
    timeout: Span,
}

impl Waiting {
    /// Waits until what was asked of `workload` is done, if it is to be waited for, and writes it
    /// for programs.
    pub(crate) async fn settle(
        &self,
        context: &Context,
        workload: Workload,
        format: TextFormat,
    ) -> Result<(), Failure> {
        self.settle_as(context, workload, Until::Done, format).await
    }

    /// The same, until it is as `until` says.
    pub(crate) async fn settle_as(
        &self,
        context: &Context,
        mut workload: Workload,
        until: Until,
        format: TextFormat,
    ) -> Result<(), Failure> {
        if !self.no_wait {
            let target = [Target::of(&workload)];
            let reached = self.wait(context, &target, until, format).await?;
            workload = reached.into_iter().next().unwrap_or(workload);
        }
        match format {
            TextFormat::Json => output::json(&workload),
            TextFormat::Text => Ok(()),
        }
    }

    /// Waits, and shows progress unless the output is for programs.
    pub(crate) async fn wait(
        &self,
        context: &Context,
        targets: &[Target],
        until: Until,
        format: TextFormat,
    ) -> Result<Vec<Workload>, Failure> {
        let mut display = match format {
            TextFormat::Text => Display::new(),
            TextFormat::Json => Display::silent(),
        };
        let wait = progress::wait(&context.client, targets, until, self.timeout, &mut display);
        // It holds two mirrors and requests under way: too much for every caller's own future.
        let reached = Box::pin(wait).await?;
        if format == TextFormat::Text {
            reached
                .iter()
                .filter(|workload| progress::are_canaries_waiting(workload))
                .for_each(|workload| output::say(&how_canaries_go_on(workload)));
        }
        Ok(reached)
    }
}

/// What to do when the canaries have been looked at.
fn how_canaries_go_on(workload: &Workload) -> String {
    let key = workload.manifest.key();
    let count = workload.status.updated;
    format!(
        "{count} of revision {} of {key} are ready beside the old ones: go on with `windlass \
         rollout promote {key}`, or back with `windlass rollout abort {key}`",
        workload.status.revision
    )
}
