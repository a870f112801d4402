//! `windlass events`.

use clap::Args;
use windlass_api::{event::Event, ids::WorkloadName};

use super::{
    Context,
    get::{self, ListOptions},
};
use crate::{cli::Named, error::Failure};

/// List what happened, the oldest first
#[derive(Debug, Args)]
#[command(after_help = "\
The server keeps the last events of each object. Those of nodes are in no namespace: use -A.")]
pub(crate) struct Events {
    /// Only those of this workload and its instances
    #[arg(value_name = "WORKLOAD")]
    workload: Option<Named<WorkloadName>>,
    #[command(flatten)]
    pub(crate) options: ListOptions,
}

impl Events {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut selection = self.options.selection::<Event>(context);
        if let Some(workload) = &self.workload {
            selection.namespace = Some(workload.namespace(&context.namespace));
            selection = selection.field("workload", &workload.name);
        }
        get::list_events(context, &self.options, selection).await
    }
}
