//! `windlass version`.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::Context;
use crate::{
    error::Failure,
    output::{self, Format, TextFormat},
};

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Print the versions of this program and of the server
#[derive(Debug, Args)]
#[command(after_help = "\
The version of this program alone is `windlass --version`.")]
pub(crate) struct Version {
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Version {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let server = context.client.server_info().await;
        match self.format.output {
            TextFormat::Json => output::json(
                &json!({ "client": { "version": VERSION }, "server": server.as_ref().ok() }),
            )?,
            TextFormat::Text => {
                writeln!(output::stdout(), "client   {VERSION}")?;
                if let Ok(info) = &server {
                    let address = context.client.server();
                    let version = &info.server_version;
                    writeln!(output::stdout(), "server   {version} at {address}")?;
                    writeln!(output::stdout(), "cluster  {}", info.cluster)?;
                }
            }
        }
        server.map(drop).map_err(Failure::from)
    }
}
