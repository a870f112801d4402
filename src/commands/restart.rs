//! `windlass restart`.

use clap::Args;
use windlass_api::ids::WorkloadName;

use super::{Context, rollout, wait::Waiting};
use crate::{cli::Named, error::Failure, output::Format};

/// Replace all instances of a workload by new ones, bit by bit: short for `rollout restart`
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// The workload
    name: Named<WorkloadName>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Restart {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        rollout::restart_named(context, &self.name, self.format.output, &self.waiting).await
    }
}
