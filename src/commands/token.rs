//! `windlass token`.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Write},
};

use clap::{ArgGroup, Args, Subcommand};
use windlass_api::{
    access::{IssuedToken, Role, TokenRequest, TokenUse},
    client::Address,
    duration::Span,
    ids::{Namespace, NodeName, TokenId},
};

use super::{Context, get::write_list};
use crate::{
    cli::Named,
    error::{ErrorFormat, Failure},
    output::{self, Format, ListFormat, TextFormat, columns::Namespaces},
};

/// Make, list and revoke the tokens by which people, programs and nodes come in
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    Create(Create),
    /// List the tokens that are good; what they are themselves is told nowhere
    Ls(Ls),
    /// Revoke tokens: they are worth nothing from then on
    Rm(Rm),
}

/// Make a token. It is printed this once, alone on standard output
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("for").required(true).args(["join", "role"])),
    after_help = "\
Examples:
  windlass token create --join                        a machine joins with it, once, within an hour
  windlass token create --join edge-1                 also to let edge-1 in again, with a new disk
  windlass token create --role viewer --description 'status page'
  windlass token create --role operator --namespaces shop,test --expires-in 30d

A viewer looks, but at no secret and into no container; an operator changes what runs, and reaches
into it; an admin decides about nodes, people and the cluster's state."
)]
pub(crate) struct Create {
    /// A machine is to become a node with it: the one of this name, or any new one
    #[arg(long, value_name = "NODE", num_args = 0..=1)]
    join: Option<Option<NodeName>>,
    /// Somebody is to use the API with it, as viewer, operator or admin
    #[arg(long)]
    role: Option<Role>,
    /// In these namespaces only
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with = "join"
    )]
    namespaces: Option<Vec<Namespace>>,
    /// Whose it is, for people
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    description: String,
    /// How long it is good for [default: 1h for a node, 90d for others]
    #[arg(long, value_name = "TIME")]
    expires_in: Option<Span>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// How to write the list: table, wide, json, yaml or name
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT", hide_possible_values = true)]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The tokens, as `windlass token ls` names them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Named<TokenId>>,
    #[command(flatten)]
    format: Format,
}

impl TokenCommand {
    /// How errors are written.
    pub(crate) fn errors(&self) -> ErrorFormat {
        match self {
            Self::Create(create) => create.format.output.into(),
            Self::Ls(ls) => ls.output.into(),
            Self::Rm(rm) => rm.format.output.into(),
        }
    }

    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(context).await,
            Self::Ls(ls) => write_list(ls.output, Namespaces::One, context.client.tokens().await?),
            Self::Rm(rm) => {
                for Named { name, .. } in &rm.ids {
                    context.client.revoke_token(name).await?;
                    match rm.format.output {
                        TextFormat::Json => output::json_line(
                            &mut output::stdout(),
                            &serde_json::json!({ "id": name }),
                        )?,
                        TextFormat::Text => writeln!(output::stdout(), "token {name} revoked")?,
                    }
                }
                Ok(())
            }
        }
    }
}

impl Create {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let format = self.format.output;
        let issued = context.client.create_token(&self.request()).await?;
        match format {
            TextFormat::Json => output::json(&issued)?,
            TextFormat::Text => writeln!(output::stdout(), "{}", issued.secret)?,
        }
        // What goes to a file instead of to a person is to have no token in it.
        let shown = if io::stderr().is_terminal() {
            issued.secret.as_str()
        } else {
            "TOKEN"
        };
        output::say(&advice(&issued, shown, context.client.server()));
        Ok(())
    }

    fn request(self) -> TokenRequest {
        let usage = match (self.join, self.role) {
            (_, Some(role)) => TokenUse::Access {
                role,
                namespaces: self.namespaces.map(BTreeSet::from_iter),
            },
            (node, None) => TokenUse::Join {
                node: node.flatten(),
            },
        };
        TokenRequest {
            usage,
            description: self.description,
            expires_in: self.expires_in,
        }
    }
}

/// What to do with a token.
fn advice(issued: &IssuedToken, shown: &str, server: &str) -> String {
    let token = &issued.token;
    let authority = match server.parse() {
        Ok(Address::Https(authority)) => authority.to_string(),
        // The server is not asked how others reach it.
        Ok(Address::Http(_) | Address::Unix(_)) | Err(_) => "SERVER:7400".to_owned(),
    };
    let how = match &token.usage {
        TokenUse::Join { .. } => {
            format!("on the machine that is to join: windlass agent join {shown}@{authority}")
        }
        TokenUse::Access { .. } => {
            format!("whoever has it may come in: windlass login https://{authority}")
        }
    };
    format!(
        "{how}\n(token {}, good until {})",
        token.id, token.expires_at
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use windlass_api::access::Token;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: TokenCommand,
    }

    fn usage(line: &str) -> Result<TokenUse, clap::Error> {
        let words = ["token", "create"].into_iter().chain(line.split(' '));
        match Line::try_parse_from(words)?.command {
            TokenCommand::Create(create) => Ok(create.request().usage),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_is_for_a_node_or_for_the_api() {
        let node = Some("edge-1".parse().unwrap());
        assert_eq!(usage("--join").unwrap(), TokenUse::Join { node: None });
        assert_eq!(usage("--join edge-1").unwrap(), TokenUse::Join { node });
        let (role, namespaces) = (Role::Viewer, None);
        let everywhere = TokenUse::Access { role, namespaces };
        assert_eq!(usage("--role viewer").unwrap(), everywhere);
        let namespaces = ["a", "b"].map(|name| name.parse().unwrap());
        let namespaces = Some(namespaces.into());
        let some = TokenUse::Access { role, namespaces };
        assert_eq!(usage("--role viewer --namespaces b,a").unwrap(), some);
        for bad in [
            "--description x",
            "--join --role viewer",
            "--join --namespaces a",
            "--role root",
            "--role viewer --namespaces",
        ] {
            usage(bad).unwrap_err();
        }
    }

    #[test]
    fn the_command_to_join_names_the_server_where_it_is_known() {
        let issued = IssuedToken {
            token: Token {
                id: "0123456789".parse().unwrap(),
                usage: TokenUse::Join { node: None },
                description: String::new(),
                created_at: jiff::Timestamp::UNIX_EPOCH,
                expires_at: jiff::Timestamp::UNIX_EPOCH,
                version: windlass_api::ids::Version(1),
            },
            secret: "wlj_hunter2".to_owned(),
        };
        for (server, command) in [
            ("https://site:7400", "windlass agent join TOKEN@site:7400\n"),
            (
                "unix:/run/w.sock",
                "windlass agent join TOKEN@SERVER:7400\n",
            ),
            (
                "http://127.0.0.1:7400",
                "windlass agent join TOKEN@SERVER:7400\n",
            ),
        ] {
            let told = advice(&issued, "TOKEN", server);
            assert!(told.contains(command), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
