//! `windlass agent`.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use windlass_agent::{Config, Offer, docker::Docker};
use windlass_api::{
    expression::Taint,
    ids::NodeName,
    quantity::{CpuMillis, MemoryBytes},
    validate::{check_label_key, check_label_value},
};

use super::process;
use crate::{
    cli::Global,
    error::{Exit, Failure},
    logging,
};

/// Run an agent: it makes this machine a node, and drives its Docker engine
#[derive(Debug, Args)]
#[command(after_help = "\
What it started runs on when it stops; it takes over what runs when it starts.")]
pub(crate) struct Agent {
    /// The node's name, unique in the cluster [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// Where to keep the agent's ledger [default: /var/lib/windlass/agent for root]
    #[arg(
        long,
        value_name = "DIR",
        env = "WINDLASS_DATA_DIR",
        hide_env_values = true
    )]
    data_dir: Option<PathBuf>,
    /// A label to register the node with; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// A taint to register the node with; may be repeated
    #[arg(long = "taint", value_name = "KEY[=VALUE]")]
    taints: Vec<Taint>,
    /// The CPU that instances may use in all [default: all of the machine's]
    #[arg(long, value_name = "CORES")]
    cpu: Option<CpuMillis>,
    /// The memory that instances may use in all [default: all of the machine's]
    #[arg(long, value_name = "SIZE")]
    memory: Option<MemoryBytes>,
    /// Docker's socket [default: DOCKER_HOST, or /var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS")]
    docker: Option<String>,
}

impl Agent {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        logging::start("info")?;
        let data_dir = match self.data_dir {
            Some(dir) => dir,
            None => process::default_data_dir("agent")?,
        };
        let node = match self.node {
            Some(node) => node,
            None => host_name()?,
        };
        let config = Config {
            server: global.server.clone(),
            node,
            data_dir,
            labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
            taints: self.taints,
            offer: Offer {
                cpu: self.cpu,
                memory: self.memory,
            },
        };
        let docker = Docker::new(self.docker.as_deref())
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        process::run(async |shutdown| {
            let ran = windlass_agent::run(config, docker, shutdown).await;
            ran.map_err(|error| process::failure(&error))
        })
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    check_label_key(key)?;
    check_label_value(value)?;
    Ok((key.to_owned(), value.to_owned()))
}

fn host_name() -> Result<NodeName, Failure> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().to_lowercase();
    let label = name.split('.').next().unwrap_or_default();
    label.parse().map_err(|_| {
        Failure::new(
            Exit::Usage,
            format!("the host's name `{name}` cannot be a node's name"),
        )
        .hint("name the node with --node")
    })
}
