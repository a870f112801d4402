//! `windlass top`.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use windlass_api::{
    ids::NodeName,
    quantity::MemoryBytes,
    stats::{NodeAnswer, Stats, Traffic, Usage},
};

use super::Context;
use crate::{
    error::Failure,
    output::{
        self, Format, TextFormat,
        columns::Namespaces,
        quantity, style,
        table::{Cell, Table},
    },
};

/// The pause between two measurements, each of which takes a second.
const PAUSE: Duration = Duration::from_secs(1);
/// Begins a screen anew: the cursor to its corner, and what is there away.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Show what nodes and instances use at the moment
#[derive(Debug, Args)]
#[command(after_help = "\
It is measured for a second when you ask; nothing is collected while nobody looks. Memory is
without files that the kernel can forget. Of a node, CPU and memory are those of the whole machine,
and the network is what its instances receive and send.")]
pub(crate) struct Top {
    /// Of what: nodes or instances
    #[arg(
        value_enum,
        default_value_t,
        value_name = "KIND",
        hide_possible_values = true
    )]
    of: Of,
    /// Only what is on this node
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// Measure again and again, until interrupted
    #[arg(short, long)]
    watch: bool,
    /// Instances of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Of {
    #[value(aliases = ["node", "no"])]
    Nodes,
    #[default]
    #[value(aliases = ["instance", "inst", "in"])]
    Instances,
}

impl Top {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        loop {
            let stats = context.client.stats(self.node.as_ref()).await?;
            self.show(context, stats)?;
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn show(&self, context: &Context, mut stats: Stats) -> Result<(), Failure> {
        if !self.all_namespaces {
            for node in &mut stats.nodes {
                if let NodeAnswer::Measured { usage } = &mut node.answer {
                    usage
                        .instances
                        .retain(|i| self.of == Of::Nodes || i.namespace == context.namespace);
                }
            }
        }
        match self.format.output {
            TextFormat::Json if self.watch => {
                return Ok(output::json_line(&mut output::stdout(), &stats)?);
            }
            TextFormat::Json => return output::json(&stats),
            TextFormat::Text => {}
        }
        let mut table = match self.of {
            Of::Nodes => nodes(&stats),
            Of::Instances if self.all_namespaces => instances(&stats, Namespaces::All),
            Of::Instances => instances(&stats, Namespaces::One),
        };
        let mut out = output::stdout();
        if self.watch && std::io::stdout().is_terminal() {
            write!(out, "{CLEAR}")?;
        }
        table.write(&mut out)?;
        out.flush()?;
        drop(out);
        for node in &stats.nodes {
            if let (Of::Instances, NodeAnswer::Unreachable { reason }) = (self.of, &node.answer) {
                let reason = output::printable(reason);
                output::say(&format!("node {} is unreachable: {reason}", node.node));
            }
        }
        Ok(())
    }
}

fn nodes(stats: &Stats) -> Table {
    let mut table = Table::new(vec![
        "NAME",
        "CPU",
        "MEMORY",
        "RECEIVED",
        "SENT",
        "INSTANCES",
    ]);
    for node in &stats.nodes {
        table.row(match &node.answer {
            NodeAnswer::Measured { usage } => {
                let used = windlass_api::resource::Capacity {
                    cpu: usage.machine.cpu,
                    memory: usage.machine.memory,
                };
                vec![
                    Cell::styled(style::NAME, &node.node),
                    Cell::new(quantity::cpu(&used, &usage.capacity)),
                    Cell::new(quantity::memory(&used, &usage.capacity)),
                    Cell::new(rate(usage.machine.received)),
                    Cell::new(rate(usage.machine.sent)),
                    Cell::new(usage.instances.len()),
                ]
            }
            NodeAnswer::Unreachable { reason } => vec![
                Cell::styled(style::NAME, &node.node),
                Cell::styled(style::BAD, format!("unreachable: {reason}")),
            ],
        });
    }
    table
}

fn instances(stats: &Stats, namespaces: Namespaces) -> Table {
    let mut headers = vec!["NAME", "NODE", "CPU", "MEMORY", "RECEIVED", "SENT"];
    if namespaces == Namespaces::All {
        headers.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(headers);
    for node in &stats.nodes {
        let NodeAnswer::Measured { usage } = &node.answer else {
            continue;
        };
        for instance in &usage.instances {
            let Usage {
                cpu,
                memory,
                received,
                sent,
            } = instance.usage;
            let mut cells = vec![
                Cell::styled(style::NAME, &instance.name),
                Cell::new(&node.node),
                Cell::new(quantity::cores(cpu)),
                Cell::new(quantity::bytes(memory)),
                Cell::new(rate(received)),
                Cell::new(rate(sent)),
            ];
            if namespaces == Namespaces::All {
                cells.insert(0, Cell::new(&instance.namespace));
            }
            table.row(cells);
        }
    }
    table
}

fn rate(traffic: Traffic) -> String {
    let amount = quantity::bytes(MemoryBytes(traffic.bytes_per_second));
    format!("{amount}B/s")
}
