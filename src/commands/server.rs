//! `windlass server`.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use windlass_api::{
    DEFAULT_ADDRESS,
    duration::{Span, SpanError},
};
use windlass_orchestrator::{
    Config, Host,
    lease::{HEARTBEAT, LOST_AFTER, RETURN_GRACE},
    store::Verifier,
    trust,
};

use super::process;
use crate::{
    cli::listen_address,
    error::{Exit, Failure},
    logging, output,
};

/// Run the server: it keeps what is wanted, and tells agents
#[derive(Debug, Args)]
#[command(after_help = "\
Agents say every 2 s that they live. A node that is silent for 10 s is lost, and its instances are
placed elsewhere, unless their manifest says otherwise; after the server's own start, nodes have 20 s
more to come back. With more than 200 nodes, agents say it every N/100 s, and four of them may be
missed. If two nodes or more are dark, and more than half of all, nothing is placed elsewhere.")]
pub(crate) struct Server {
    #[command(subcommand)]
    action: Option<Action>,
    /// Where to listen; only loopback, unless the cluster has certificates (see `server init`)
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_ADDRESS, value_parser = listen_address)]
    listen: SocketAddr,
    /// Where to keep the state [default: /var/lib/windlass/server for root]
    #[arg(
        long,
        value_name = "DIR",
        env = "WINDLASS_DATA_DIR",
        hide_env_values = true,
        global = true
    )]
    data_dir: Option<PathBuf>,
    /// A name or address of this machine, for its certificate; may be repeated. This program does
    /// without: it is for others, like curl
    #[arg(long = "host", value_name = "HOST", value_parser = parse_host)]
    hosts: Vec<Host>,
    /// How long the certificates of nodes hold; they are renewed when half of that is over
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_lifetime)]
    node_certificate_life: Span,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Give the cluster certificates: from its next start on, the server encrypts, and knows who asks
    Init,
}

/// The shortest time for which certificates are made: an agent must have a few attempts to renew one.
const LIFETIME_MIN: Span = Span::from_secs(20);

fn parse_lifetime(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: SpanError| error.to_string())?;
    if span < LIFETIME_MIN {
        return Err(format!("at least {LIFETIME_MIN}"));
    }
    Ok(span)
}

fn parse_host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(address));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(Host::Name(text.to_ascii_lowercase()))
    } else {
        Err("write a name, like `site.example`, or an address".to_owned())
    }
}

// The help text above names these numbers.
const _: () =
    assert!(HEARTBEAT.as_secs() == 2 && LOST_AFTER.as_secs() == 10 && RETURN_GRACE.as_secs() == 20);

impl Server {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let data_dir = match self.data_dir {
            Some(dir) => dir,
            None => process::default_data_dir("server")?,
        };
        if let Some(Action::Init) = self.action {
            return init(&data_dir);
        }
        logging::start("info")?;
        let encryption = trust::encryption(&data_dir).map_err(|e| process::failure(&e))?;
        let config = Config {
            verifier: Some(verifier()?),
            hosts: self.hosts,
            node_lifetime: self.node_certificate_life.as_std(),
            ..Config::new(data_dir)
        };
        process::run(async |shutdown| {
            let listener = process::listen(self.listen, encryption).await?;
            tracing::info!(dir = %config.data_dir.display(), "opening the state");
            let served = windlass_orchestrator::run(config, listener, shutdown).await;
            served.map_err(|error| process::failure(&error))
        })
    }
}

fn init(data_dir: &Path) -> Result<(), Failure> {
    let made = trust::init(data_dir);
    let fingerprint = made.map_err(|error| {
        let failure = process::failure(&error);
        match error {
            trust::Error::Exists(_) => failure.hint("nothing was changed"),
            _ => failure,
        }
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "the cluster has an authority of its own, {fingerprint}"
    )?;
    let kept = data_dir.join("trust");
    output::say(&format!(
        "keep a copy of {} where nobody else reads it; then start the server",
        kept.display()
    ));
    Ok(())
}

/// This program, which checks the store in a process of its own.
pub(crate) fn verifier() -> Result<Verifier, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot find this program: {e}")))?;
    Ok(Verifier {
        program,
        args: vec!["store-verify".into()],
        limit: Verifier::LIMIT,
    })
}

/// Checks a store, for the server that is about to open it.
#[derive(Debug, Args)]
pub(crate) struct StoreVerify {
    /// The server's data directory
    dir: PathBuf,
}

impl StoreVerify {
    /// The exit code tells the server what was found, so it is not that of other commands.
    pub(crate) fn run(&self) -> ExitCode {
        windlass_orchestrator::store::verify_process(&self.dir)
    }
}
