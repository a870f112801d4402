//! `windlass scale`.

use std::io::Write;

use clap::Args;
use windlass_api::{
    ids::WorkloadName,
    resource::{self, RolloutStatus},
};

use super::{Context, wait::Waiting};
use crate::{
    cli::{Named, whole_number},
    error::Failure,
    output::{self, Format, TextFormat},
    progress::Until,
};

/// Change how many instances of a service run; that makes no revision
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// The workload
    name: Named<WorkloadName>,
    /// How many instances to run
    #[arg(value_name = "N", required_unless_present = "replicas", value_parser = whole_number::<u32>)]
    count: Option<u32>,
    /// The same, as kubectl writes it
    #[arg(long, value_name = "N", conflicts_with = "count", value_parser = whole_number::<u32>)]
    replicas: Option<u32>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    pub(crate) format: Format,
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
        if self.format.output == TextFormat::Text {
            writeln!(output::stdout(), "{key} scaled to {replicas}")?;
        }
        // An update that goes on, or waits for somebody, is not what was asked for here.
        let is_over = |rollout: &RolloutStatus| rollout.state.is_over();
        let until = match workload.status.rollout.as_ref().is_none_or(is_over) {
            true => Until::Settled,
            false => Until::Ready,
        };
        self.waiting
            .settle_as(context, workload, until, self.format.output)
            .await
    }
}
