//! `windlass job run`.

use std::{io::Write, process::ExitCode};

use clap::Args;
use windlass_api::{
    client::{Client, Mirror, Selection},
    ids::{WorkloadKey, WorkloadName},
    resource::{JobState, JobStatus, RunJob, Workload},
    spec::ScalarText,
};

use crate::{
    cli::Named,
    commands::{Context, logs},
    error::{Exit, Failure},
    output::{
        self, Format, TextFormat,
        state::{self, first_line},
        style::{self, paint},
    },
};

/// Run the template of a job or of a schedule once more, and read along
#[derive(Debug, Args)]
#[command(after_help = "\
The exit code is that of the job's container: of the first index that failed, if one did. What fails
is tried again as the template's `backoffLimit` says, with the same arguments. Ctrl-C leaves the job
running.")]
pub(super) struct Run {
    /// The Job or CronJob
    name: Named<WorkloadName>,
    /// Add an environment variable, or replace one
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Print the name of the new job, and do not wait for it
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    pub(super) format: Format,
    /// What replaces the arguments of the container
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

impl Run {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let key = context.workload_key(&self.name);
        let env = self.env.into_iter().map(|(k, v)| (k, ScalarText(v)));
        let request = RunJob {
            env: env.collect(),
            args: (!self.args.is_empty()).then_some(self.args),
        };
        let job = context.client.run_job(&key, &request).await?;
        let key = job.manifest.key();
        if self.no_wait {
            match self.format.output {
                TextFormat::Json => output::json(&job)?,
                TextFormat::Text => {
                    let mut out = output::stdout();
                    writeln!(out, "{key}")?;
                    out.flush()?;
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        output::say_dim(format!(
            "running {key}; Ctrl-C leaves it running, and `windlass logs -f {key}` reads along again"
        ));
        let end = ended(&context.client, key.clone());
        let status =
            logs::follow_job(&context.client, key.clone(), self.format.output, end).await?;
        if let JobState::Failed { reason, .. } = &status.state {
            let failure = format!("job {key} failed: {}", first_line(reason));
            output::say(&format!("{} {failure}", paint(style::BAD, "error:")));
        }
        Ok(ExitCode::from(exit_code(&status)))
    }
}

/// Waits until a job has ended; at once if it has. Meanwhile it says why nothing is to be read.
pub(in crate::commands) async fn ended(
    client: &Client,
    key: WorkloadKey,
) -> Result<JobStatus, Failure> {
    let selection = Selection::of(&key.namespace).field("name", &key.name);
    let mut workloads = Mirror::<Workload>::open(client, selection).await?;
    let mut told: Option<String> = None;
    loop {
        let Some(workload) = workloads.items().get(&key.to_string()) else {
            let detail = format!("job {key} was deleted in the meantime");
            return Err(Failure::new(Exit::NotFound, detail));
        };
        match &workload.status.job {
            Some(job) if job.state.finished_at().is_some() => return Ok(job.clone()),
            Some(_) | None => {}
        }
        let reason = state::reasons(workload).first().map(|r| (*r).to_owned());
        if reason != told {
            if let Some(reason) = &reason {
                output::say_dim(format!("{key}: {reason}"));
            }
            told = reason;
        }
        workloads.changed().await?;
    }
}

/// The exit code of the container that decided how the job ended.
fn exit_code(job: &JobStatus) -> u8 {
    match &job.state {
        JobState::Completed { .. } => 0,
        JobState::Running | JobState::Failed { .. } => {
            let failed = job.indices.iter().find(|index| !index.completed);
            let code = failed.and_then(|index| u8::try_from(index.code).ok());
            // A job can fail without a container that did, for its deadline.
            code.filter(|code| *code != 0).unwrap_or(Exit::Failed as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::{self, NOW};

    fn code(state: &str, indices: serde_json::Value) -> u8 {
        let state = json!({ "state": state, "finishedAt": NOW, "reason": "x", "indices": indices });
        exit_code(&fixtures::job("load", state).status.job.unwrap())
    }

    #[test]
    fn the_exit_code_is_that_of_the_first_index_that_failed() {
        let index = |index: u32, code: i64, completed: bool| json!({ "index": index, "code": code, "finishedAt": NOW, "failures": 1, "completed": completed });
        let completed = json!([index(0, 0, true)]);
        assert_eq!(code("Completed", completed), 0);
        let failed = json!([index(0, 0, true), index(1, 42, false), index(2, 7, false)]);
        assert_eq!(code("Failed", failed), 42);
        assert_eq!(code("Failed", json!([])), 1);
        assert_eq!(code("Failed", json!([index(0, 0, false)])), 1);
        assert_eq!(code("Failed", json!([index(0, 137, false)])), 137);
    }

    #[test]
    fn a_variable_has_a_name_and_may_be_empty() {
        let pair = |k: &str, v: &str| Ok((k.to_owned(), v.to_owned()));
        assert_eq!(variable("A=b=c"), pair("A", "b=c"));
        assert_eq!(variable("A="), pair("A", ""));
        assert!(variable("=b").is_err());
        assert!(variable("A").is_err());
    }
}
