//! `windlass restart`.

use clap::Args;
use windlass_api::ids::WorkloadName;

use super::{Context, rollout, wait::Waiting};
use crate::{cli::Named, error::Failure, output::TextFormat};

/// Replace all instances of a workload by new ones, bit by bit: short for `rollout restart`
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
        rollout::restart_named(context, &self.name, self.output, &self.waiting).await
    }
}
