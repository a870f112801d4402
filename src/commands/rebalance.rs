//! `windlass rebalance`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use clap::Args;
use windlass_api::{
    client::DryRun,
    ids::{WorkloadKey, WorkloadName},
    rebalance::{RebalanceRequest, RebalanceResponse},
};

use super::{Context, wait::Waiting};
use crate::{
    cli::Named,
    error::Failure,
    output::{
        self, Format, TextFormat,
        table::{Cell, Table},
    },
    progress::{Target, Until},
};

/// Move instances of services so that the load of the nodes is more even
#[derive(Debug, Args)]
#[command(after_help = "\
After nodes have come or come back, what runs stays where it is until it is replaced. This moves
what has clearly a better place, as an update would replace it: the new one is available before the
old one stops. What could only be stopped first stays. `rebalance: auto` in a service's spec lets the
server do the same by itself.")]
pub(crate) struct Rebalance {
    /// The services; all if none is named
    #[arg(value_name = "WORKLOAD")]
    names: Vec<Named<WorkloadName>>,
    /// Only show what would move
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Rebalance {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let names = self.names.iter();
        let request = RebalanceRequest {
            workloads: names.map(|named| context.workload_key(named)).collect(),
        };
        let dry_run = if self.dry_run {
            DryRun::Yes
        } else {
            DryRun::No
        };
        let response = context.client.rebalance(&request, dry_run).await?;
        match self.format.output {
            TextFormat::Json => output::json(&response)?,
            TextFormat::Text => write(&response, dry_run, &mut output::stdout())?,
        }
        let moved: BTreeSet<_> = response.moves.iter().map(|m| &m.workload).collect();
        if self.dry_run || self.waiting.no_wait || moved.is_empty() {
            return Ok(());
        }
        let target = |key: &&WorkloadKey| Target {
            key: (*key).clone(),
            uid: None,
        };
        let targets: Vec<_> = moved.iter().map(target).collect();
        let until = Until::Settled;
        let wait = self
            .waiting
            .wait(context, &targets, until, self.format.output);
        wait.await.map(drop)
    }
}

fn write(response: &RebalanceResponse, dry_run: DryRun, out: &mut impl Write) -> io::Result<()> {
    if response.moves.is_empty() {
        return writeln!(out, "Nothing has clearly a better place.");
    }
    let mut table = Table::new(vec!["INSTANCE", "WORKLOAD", "FROM", "TO", "REASON"]);
    for step in &response.moves {
        table.row(vec![
            Cell::new(&step.instance),
            Cell::new(&step.workload),
            Cell::new(&step.from),
            Cell::new(&step.to),
            Cell::new(&step.reason),
        ]);
    }
    table.write(out)?;
    if dry_run == DryRun::Yes {
        writeln!(out, "\nNothing was done.")?;
    } else if response.more {
        writeln!(
            out,
            "\nThere is more to be gained: run it again after these."
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moves_are_shown_with_their_reasons() {
        let response: RebalanceResponse = serde_json::from_value(json!({
            "moves": [{ "workload": "default/web", "slot": 0, "instance": "web-0-1", "from": "n1",
                        "to": "n3", "reason": "2 copies on n1, none on n3" }],
            "more": true,
        }))
        .unwrap();
        let told = |response: &RebalanceResponse, dry_run| {
            let mut out = Vec::new();
            write(response, dry_run, &mut out).unwrap();
            let text = anstream::adapter::strip_bytes(&out).into_vec();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(
            told(&response, DryRun::No),
            "INSTANCE   WORKLOAD      FROM   TO   REASON\n\
             web-0-1    default/web   n1     n3   2 copies on n1, none on n3\n\n\
             There is more to be gained: run it again after these.\n"
        );
        assert!(told(&response, DryRun::Yes).ends_with("Nothing was done.\n"));
        let nothing = told(&RebalanceResponse::default(), DryRun::No);
        assert_eq!(nothing, "Nothing has clearly a better place.\n");
    }
}
