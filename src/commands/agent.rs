//! `windlass agent`.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use http::uri::Authority;
use windlass_agent::{Config, Join, Joined, Offer, docker::Docker};
use windlass_api::{
    expression::Taint,
    ids::NodeName,
    quantity::{CpuMillis, MemoryBytes},
    validate::{check_label_key, check_label_value},
};
use windlass_trust::{
    Token,
    token::{self, Kind},
};
use zeroize::Zeroizing;

use super::process;
use crate::{
    cli::Global,
    error::{Exit, Failure},
    logging,
};

/// Run an agent: it makes this machine a node, and drives its Docker engine
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = false,
    after_help = "\
What it started runs on when it stops; it takes over what runs when it starts."
)]
pub(crate) struct Agent {
    #[command(subcommand)]
    action: Option<Action>,
    /// The node's name, unique in the cluster [default: the host's name]
    #[arg(long, value_name = "NAME", global = true)]
    node: Option<NodeName>,
    /// Where to keep the agent's ledger [default: /var/lib/windlass/agent for root]
    #[arg(
        long,
        value_name = "DIR",
        env = "WINDLASS_DATA_DIR",
        hide_env_values = true,
        global = true
    )]
    data_dir: Option<PathBuf>,
    /// A label to register the node with; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label, global = true)]
    labels: Vec<(String, String)>,
    /// A taint to register the node with; may be repeated
    #[arg(long = "taint", value_name = "KEY[=VALUE]", global = true)]
    taints: Vec<Taint>,
    /// The CPU that instances may use in all [default: all of the machine's]
    #[arg(long, value_name = "CORES", global = true)]
    cpu: Option<CpuMillis>,
    /// The memory that instances may use in all [default: all of the machine's]
    #[arg(long, value_name = "SIZE", global = true)]
    memory: Option<MemoryBytes>,
    /// Docker's socket [default: DOCKER_HOST, or /var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS", global = true)]
    docker: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Become a node of a cluster that has certificates, and run the agent
    #[command(after_help = "\
The token is worth nothing after that. Started again, the machine is a node already: `windlass agent`
is enough, and `join` does no harm.")]
    Join {
        /// `TOKEN@HOST:PORT`, as `windlass token create --join` writes it; `-` reads it from
        /// standard input
        #[arg(value_name = "TOKEN@HOST:PORT")]
        invitation: Hidden,
    },
}

/// Text that no error message repeats.
#[derive(Clone)]
struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A token, and the server that takes it.
#[derive(Debug)]
struct Invitation {
    token: Token,
    server: String,
}

impl Invitation {
    /// Reads one from the command line or from standard input.
    fn read(text: &Hidden) -> Result<Self, Failure> {
        if text.0 != "-" {
            return Self::parse(text.0.trim());
        }
        let mut line = Zeroizing::new(String::new());
        let mut input = std::io::stdin().lock().take(INVITATION_BYTES_MAX);
        input.read_line(&mut line)?;
        Self::parse(line.trim())
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let failure = |text: String| {
            Failure::new(Exit::Usage, text)
                .hint("`windlass token create --join` on the server writes what belongs here")
        };
        let (token, server) = text
            .split_once('@')
            .ok_or_else(|| failure("an invitation is TOKEN@HOST:PORT".to_owned()))?;
        let token: Token = token
            .parse()
            .map_err(|error: token::ParseError| failure(error.to_string()))?;
        if token.kind() != Kind::Join {
            return Err(failure(
                "this is a token for the API, not one to join with".to_owned(),
            ));
        }
        let authority: Option<Authority> = server.parse().ok();
        let named = authority.filter(|a| a.port().is_some() && !a.host().is_empty());
        if named.is_none() {
            let text = format!("`{server}` is not HOST:PORT");
            return Err(failure(text));
        }
        Ok(Self {
            token,
            server: server.to_owned(),
        })
    }
}

/// The most of standard input that is read for an invitation, in bytes.
const INVITATION_BYTES_MAX: u64 = 1_024;

impl Agent {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let invitation = match &self.action {
            Some(Action::Join { invitation }) => Some(Invitation::read(invitation)?),
            None => None,
        };
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
            if let Some(Invitation { token, server }) = invitation {
                join(&config, token, server).await?;
            }
            let ran = windlass_agent::run(config, docker, shutdown).await;
            ran.map_err(|error| process::failure(&error))
        })
    }
}

async fn join(config: &Config, token: Token, server: String) -> Result<(), Failure> {
    let joined = windlass_agent::join(Join {
        token,
        server,
        node: config.node.clone(),
        data_dir: &config.data_dir,
    });
    match joined.await.map_err(|error| process::failure(&error))? {
        Joined::Now(cluster) => tracing::info!(%cluster, node = %config.node, "joined the cluster"),
        Joined::Before(cluster) => {
            tracing::info!(%cluster, "this machine had joined the cluster before");
        }
    }
    Ok(())
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
