//! `windlass scale`.

use std::io::Write;

use clap::Args;
use windlass_api::{ids::WorkloadName, resource};

use super::{Context, wait::Waiting};
use crate::{
    cli::Named,
    error::Failure,
    output::{self, TextFormat},
};

/// Change how many instances of a workload run.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// The workload
    name: Named<WorkloadName>,
    /// How many instances to run
    #[arg(value_name = "N", required_unless_present = "replicas")]
    count: Option<u32>,
    /// The same, as kubectl writes it
    #[arg(long, value_name = "N", conflicts_with = "count")]
    replicas: Option<u32>,
    #[command(flatten)]
    waiting: Waiting,
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

impl Scale {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let replicas = self
            .count
            .or(self.replicas)
            .expect("the command line demands one of the two");
        let key = context.workload_key(&self.name);
        let workload = context
            .client
            .scale(&key, resource::Scale { replicas })
            .await?;
        if self.output == TextFormat::Text {
            writeln!(output::stdout(), "{key} scaled to {replicas}")?;
        }
        self.waiting.settle(context, workload, self.output).await
    }
}
