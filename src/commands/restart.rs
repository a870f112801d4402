//! `windlass restart`.

use std::io::Write;

use clap::Args;
use windlass_api::ids::WorkloadName;

use super::{Context, wait::Waiting};
use crate::{
    cli::Named,
    error::Failure,
    output::{self, TextFormat},
};

/// Replace all instances of a workload by new ones, bit by bit, as an update would.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// The workload
    name: Named<WorkloadName>,
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

impl Restart {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let key = context.workload_key(&self.name);
        let workload = context.client.restart(&key).await?;
        if self.output == TextFormat::Text {
            writeln!(
                output::stdout(),
                "{key} restarts as revision {}",
                workload.status.revision
            )?;
        }
        self.waiting.settle(context, workload, self.output).await
    }
}
