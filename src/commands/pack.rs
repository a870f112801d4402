//! `windlass pack`.

use std::io::Write;

use std::path::Path;

use clap::Args;
use tokio::runtime::Builder;
use windlass_agent::docker::{Docker, PackOutcome};

use super::block_on;
use crate::{
    error::{Exit, Failure},
    output,
};

/// The image that examples use.
pub(crate) const IMAGE: &str = "windlass:dev";

/// Make a Docker image out of this program, without a registry.
#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// The image's name and tag
    #[arg(long, value_name = "NAME:TAG", default_value = IMAGE)]
    tag: String,
    /// Docker's socket [default: DOCKER_HOST, or /var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS")]
    docker: Option<String>,
}

impl Pack {
    pub(crate) fn run(self) -> Result<(), Failure> {
        block_on(Builder::new_current_thread(), async {
            let docker = connect(self.docker.as_deref()).await?;
            let outcome = pack(&docker, &self.tag).await?;
            let state = match outcome {
                PackOutcome::Built => "made",
                PackOutcome::Unchanged => "up to date",
            };
            Ok(writeln!(output::stdout(), "{} {state}", self.tag)?)
        })
    }
}

/// A Docker engine that answers.
pub(crate) async fn connect(address: Option<&str>) -> Result<Docker, Failure> {
    let docker = Docker::connect(address).await;
    docker.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Makes the image `tag` out of this program, unless it is there.
pub(crate) async fn pack(docker: &Docker, tag: &str) -> Result<PackOutcome, Failure> {
    // The running program, also if its file was replaced by a newer build.
    let packed = docker.pack(Path::new("/proc/self/exe"), tag).await;
    packed.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}
