//! `windlass cordon` and `windlass uncordon`.

use std::io::Write;

use clap::Args;
use windlass_api::{
    client::Precondition,
    ids::NodeName,
    resource::{NodePatch, SchedulingChange},
};

use super::Context;
use crate::{
    cli::Named,
    error::Failure,
    output::{self, Format, TextFormat},
};

/// The nodes to allow or refuse new instances on.
#[derive(Debug, Args)]
pub(crate) struct Nodes {
    /// The nodes
    #[arg(required = true, value_name = "NODE")]
    names: Vec<Named<NodeName>>,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Nodes {
    pub(crate) async fn cordon(self, context: &Context) -> Result<(), Failure> {
        self.set(context, SchedulingChange::Cordoned, "cordoned")
            .await
    }

    pub(crate) async fn uncordon(self, context: &Context) -> Result<(), Failure> {
        self.set(context, SchedulingChange::Enabled, "uncordoned")
            .await
    }

    async fn set(
        self,
        context: &Context,
        scheduling: SchedulingChange,
        done: &str,
    ) -> Result<(), Failure> {
        let patch = NodePatch {
            scheduling: Some(scheduling),
            ..NodePatch::default()
        };
        for Named { name, .. } in &self.names {
            let node = context
                .client
                .patch_node(name, &patch, Precondition::None)
                .await?;
            match self.format.output {
                TextFormat::Json => output::json_line(&mut output::stdout(), &node)?,
                TextFormat::Text => writeln!(output::stdout(), "node {name} {done}")?,
            }
        }
        Ok(())
    }
}
