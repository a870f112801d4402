//! `windlass server`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use windlass_api::{DEFAULT_ADDRESS, clock::Clock};
use windlass_orchestrator::{
    Config,
    lease::{HEARTBEAT, LOST_AFTER, RETURN_GRACE},
    store::Verifier,
};

use super::process;
use crate::{
    cli::listen_address,
    error::{Exit, Failure},
    logging,
};

/// Run the server: it keeps what is wanted, and tells agents
#[derive(Debug, Args)]
#[command(after_help = "\
Agents say every 2 s that they live. A node that is silent for 10 s is lost, and its instances are
placed elsewhere, unless their manifest says otherwise; after the server's own start, nodes have 20 s
more to come back. With more than 200 nodes, agents say it every N/100 s, and four of them may be
missed. If two nodes or more are dark, and more than half of all, nothing is placed elsewhere.")]
pub(crate) struct Server {
    /// Where to listen; only loopback, since connections are not encrypted yet
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_ADDRESS, value_parser = listen_address)]
    listen: SocketAddr,
    /// Where to keep the state [default: /var/lib/windlass/server for root]
    #[arg(
        long,
        value_name = "DIR",
        env = "WINDLASS_DATA_DIR",
        hide_env_values = true
    )]
    data_dir: Option<PathBuf>,
}

// The help text above names these numbers.
const _: () =
    assert!(HEARTBEAT.as_secs() == 2 && LOST_AFTER.as_secs() == 10 && RETURN_GRACE.as_secs() == 20);

impl Server {
    pub(crate) fn run(self) -> Result<(), Failure> {
        logging::start("info")?;
        let data_dir = match self.data_dir {
            Some(dir) => dir,
            None => process::default_data_dir("server")?,
        };
        let config = Config {
            data_dir,
            verifier: Some(verifier()?),
            clock: Clock::default(),
        };
        process::run(async |shutdown| {
            let listener = process::listen(self.listen).await?;
            tracing::info!(dir = %config.data_dir.display(), "opening the state");
            let served = windlass_orchestrator::run(config, listener, shutdown).await;
            served.map_err(|error| process::failure(&error))
        })
    }
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
