//! `windlass whoami`.

use std::io::Write;

use clap::Args;
use windlass_api::access::WhoAmI;

use super::Context;
use crate::{
    error::Failure,
    output::{self, Format, TextFormat},
};

/// Say who you are for the server, and what you may do
#[derive(Debug, Args)]
pub(crate) struct Whoami {
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Whoami {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let whoami = context.client.whoami().await?;
        match self.format.output {
            TextFormat::Json => output::json(&whoami),
            TextFormat::Text => {
                let server = context.client.server();
                Ok(writeln!(
                    output::stdout(),
                    "{} at {server}",
                    sentence(&whoami)
                )?)
            }
        }
    }
}

/// Who somebody is, in words.
pub(crate) fn sentence(whoami: &WhoAmI) -> String {
    match whoami {
        WhoAmI::Local => "somebody on the server's machine, who may do everything".to_owned(),
        WhoAmI::Token {
            id,
            role,
            namespaces: None,
        } => format!("{role} (token {id})"),
        WhoAmI::Token {
            id,
            role,
            namespaces: Some(namespaces),
        } => {
            let names: Vec<_> = namespaces.iter().map(ToString::to_string).collect();
            format!("{role} of {} (token {id})", names.join(", "))
        }
    }
}
