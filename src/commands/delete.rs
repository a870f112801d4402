//! `windlass delete`.

use std::{io::Write, path::PathBuf};

use clap::Args;
use serde_json::json;
use windlass_api::{
    client::Precondition,
    ids::{WorkloadKey, WorkloadName},
};

use super::{Context, wait::Waiting};
use crate::{
    cli::Named,
    error::Failure,
    manifests,
    output::{self, Format, TextFormat},
    progress::{Target, Until},
};

/// Delete workloads, and wait until their instances are gone.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The workloads
    #[arg(value_name = "NAME", required_unless_present = "files")]
    names: Vec<Named<WorkloadName>>,
    /// The workloads in these files and folders; `-` is standard input
    #[arg(
        short = 'f',
        long = "file",
        value_name = "PATH",
        conflicts_with = "names"
    )]
    files: Vec<PathBuf>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Delete {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let keys = self.keys(context)?;
        let mut targets = Vec::new();
        // One that is missing must be told, and must not keep the others.
        let mut failure = None;
        for key in &keys {
            match self.delete(context, key).await {
                Ok(target) => targets.push(target),
                Err(error) => failure = Some(failure.unwrap_or(error)),
            }
        }
        if !self.waiting.no_wait && !targets.is_empty() {
            self.waiting
                .wait(context, &targets, Until::Deleted, self.format.output)
                .await?;
        }
        if self.format.output == TextFormat::Json {
            let deleted: Vec<_> = targets.iter().map(|target| &target.key).collect();
            output::json(&json!({ "deleted": deleted }))?;
        }
        failure.map_or(Ok(()), Err)
    }

    fn keys(&self, context: &Context) -> Result<Vec<WorkloadKey>, Failure> {
        if self.files.is_empty() {
            return Ok(self
                .names
                .iter()
                .map(|named| context.workload_key(named))
                .collect());
        }
        let manifests = manifests::read(&self.files, &context.namespace)?;
        Ok(manifests.iter().map(|manifest| manifest.key()).collect())
    }

    async fn delete(&self, context: &Context, key: &WorkloadKey) -> Result<Target, Failure> {
        let workload = context.client.workload(key).await?;
        context
            .client
            .delete_workload(key, Precondition::None)
            .await?;
        if self.format.output == TextFormat::Text {
            writeln!(output::stdout(), "{key} deleted")?;
        }
        Ok(Target::of(&workload))
    }
}
