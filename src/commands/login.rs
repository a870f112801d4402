//! `windlass login` and `windlass logout`.

use std::io::{self, IsTerminal, Read, Write};

use clap::Args;
use http::uri::Authority;
use serde_json::json;
use tokio::runtime::Builder;
use windlass_api::{
    access::WhoAmI,
    client::{Address, Client},
    ids::Namespace,
};
use windlass_trust::{Secret, Token, certificate, tls::authority_in};

use super::{block_on, whoami};
use crate::{
    cli::Global,
    connection,
    contexts::{Contexts, Name, Site},
    error::{Exit, Failure},
    output::{self, Format, TextFormat},
    terminal,
};

/// The most that is read of standard input, in bytes. A token has about a hundred.
const INPUT_BYTES_MAX: u64 = 4096;

/// Speak to a server from now on, with a token that it knows
#[derive(Debug, Args)]
#[command(after_help = "\
An admin makes the token with `windlass token create --role ROLE`. It says which cluster it is for,
so whoever is at the address and is not that cluster's server never sees it. It is kept, with the
cluster's certificate, in ~/.config/windlass/config.json, which only you may read. With -n, commands
work in that namespace from then on.

A program logs in without a file: WINDLASS_SERVER and WINDLASS_TOKEN are enough.")]
pub(crate) struct Login {
    /// The server: https://HOST:PORT
    #[arg(value_name = "URL", value_parser = encrypted)]
    url: Authority,
    /// What to call it [default: its host]
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// Read the token from standard input, also where there is a terminal
    #[arg(long)]
    token_stdin: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Forget the token of a context; the server goes on to know it
#[derive(Debug, Args)]
#[command(after_help = "\
The token stays good until it expires, or an admin revokes it with `windlass token rm`.")]
pub(crate) struct Logout {
    /// The context [default: the current one]
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    #[command(flatten)]
    pub(crate) format: Format,
}

fn encrypted(text: &str) -> Result<Authority, String> {
    match text.parse() {
        Ok(Address::Https(authority)) => Ok(authority),
        Ok(Address::Http(_) | Address::Unix(_)) => Err(
            "write https://HOST:PORT: a token is shown over encrypted connections only".to_owned(),
        ),
        Err(error) => Err(error.to_string()),
    }
}

impl Login {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let server = Address::Https(self.url.clone());
        let name = match self.name {
            Some(name) => name,
            None => name_of(&self.url)?,
        };
        // Before anybody types anything.
        replaceable(&Contexts::read()?, &name, &server)?;
        let asks = !self.token_stdin && io::stdin().is_terminal();
        let text = if asks {
            terminal::ask_hidden(&format!("token for {server}"))?
        } else {
            read_input()?
        };
        let token = token_in(&text)?;
        let endpoint = connection::newcomer(self.url, &token)?;
        let (whoami, chain) = block_on(Builder::new_current_thread(), async {
            Ok(Client::new(&endpoint).introduce().await?)
        })?;
        let authority = authority_in(&chain, token.authority()).ok_or_else(|| {
            let detail = format!("the server at {server} did not show its authority");
            Failure::new(Exit::Failed, detail)
        })?;
        let site = Site {
            server: server.clone(),
            authorities: certificate::to_pem(authority),
            token: Some(token),
            namespace: global.namespace.clone().or_else(|| only_namespace(&whoami)),
        };
        Contexts::change(|contexts| {
            replaceable(contexts, &name, &server)?;
            contexts.all.insert(name.clone(), site);
            contexts.current = Some(name.clone());
            Ok(())
        })?;
        match self.format.output {
            TextFormat::Json => output::json(&json!({
                "context": name, "server": server.to_string(), "whoami": whoami,
            })),
            TextFormat::Text => Ok(writeln!(
                output::stdout(),
                "logged in to {server} as {}; the context {name} is now the current one",
                whoami::sentence(&whoami)
            )?),
        }
    }
}

/// What a server is called unless told otherwise.
fn name_of(server: &Authority) -> Result<Name, Failure> {
    let host = server.host().trim_matches(['[', ']']);
    host.parse().map_err(|error: crate::contexts::NameError| {
        Failure::new(Exit::Usage, error.to_string()).hint("name the context with --name")
    })
}

/// A context is replaced by one of the same server only.
fn replaceable(contexts: &Contexts, name: &Name, server: &Address) -> Result<(), Failure> {
    match contexts.all.get(name) {
        Some(site) if site.server != *server => {
            let detail = format!("the context {name} is of another server: {}", site.server);
            Err(Failure::new(Exit::Failed, detail).hint("give this one another name with --name"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whoever may work in one namespace only means that one.
fn only_namespace(whoami: &WhoAmI) -> Option<Namespace> {
    match whoami {
        WhoAmI::Token {
            namespaces: Some(namespaces),
            ..
        } if namespaces.len() == 1 => namespaces.first().cloned(),
        WhoAmI::Token { .. } | WhoAmI::Local => None,
    }
}

fn token_in(text: &Secret) -> Result<Token, Failure> {
    let text = std::str::from_utf8(text.expose()).unwrap_or_default();
    connection::access_token(text.trim())
}

fn read_input() -> Result<Secret, Failure> {
    let mut bytes = Vec::with_capacity(usize::try_from(INPUT_BYTES_MAX).unwrap_or_default());
    let read = io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_end(&mut bytes);
    let bytes = Secret::new(bytes);
    read.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot read standard input: {error}"))
    })?;
    Ok(bytes)
}

impl Logout {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let name = Contexts::change(|contexts| {
            let name = self.name.or_else(|| contexts.current.clone());
            let name = name.ok_or_else(|| {
                Failure::new(Exit::Failed, "there is no current context")
                    .hint("name one; see which there are with `windlass context ls`")
            })?;
            contexts.get_mut(&name)?.token = None;
            Ok(name)
        })?;
        match self.format.output {
            TextFormat::Json => output::json(&json!({ "context": name })),
            TextFormat::Text => Ok(writeln!(output::stdout(), "logged out of {name}")?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_only_given_to_servers_that_encrypt() {
        assert_eq!(encrypted("https://site:7400").unwrap(), "site:7400");
        for bad in [
            "http://site:7400",
            "site:7400",
            "unix:/run/w.sock",
            "https://",
        ] {
            assert!(encrypted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_context_is_called_like_the_host_and_not_taken_from_another_server() {
        for (server, name) in [
            ("site.example:7400", "site.example"),
            ("10.0.0.1:1", "10.0.0.1"),
            ("[::1]:7400", "::1"),
        ] {
            let named = name_of(&server.parse().unwrap()).unwrap();
            assert_eq!(named.to_string(), name);
        }
        let address = |text: &str| text.parse::<Address>().unwrap();
        let name: Name = "site".parse().unwrap();
        let site = Site {
            server: address("https://site:7400"),
            authorities: String::new(),
            token: None,
            namespace: None,
        };
        let contexts = Contexts {
            current: None,
            all: [(name.clone(), site)].into(),
        };
        replaceable(&contexts, &name, &address("https://site:7400")).unwrap();
        replaceable(&contexts, &name, &address("https://site:7401")).unwrap_err();
    }
}
