//! Where the command line speaks to, and as whom.
//!
//! In this order: the server that was named, the context that was named, the current context, the
//! socket of a server on this machine, and its usual address. A token from the environment stands
//! for that of a context, and brings along whom to believe.

use std::{os::unix::net::UnixStream, path::PathBuf};

use http::uri::Authority;
use windlass_api::{
    DEFAULT_ADDRESS,
    client::{Address, Bearer, Endpoint},
    ids::{Fingerprint, Namespace},
};
use windlass_orchestrator::SOCKET;
use windlass_trust::{
    Token, certificate,
    tls::{self, client, first_contact},
    token::Kind,
};

use crate::{
    cli::Global,
    commands::process,
    contexts::{Contexts, Name, Site},
    error::{Exit, Failure},
};

/// The variable that a token can be in.
const TOKEN: &str = "WINDLASS_TOKEN";

/// A server, and how to speak to it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) endpoint: Endpoint,
    /// Where to work there, unless told otherwise.
    pub(crate) namespace: Option<Namespace>,
}

/// Finds the server that is meant.
pub(crate) fn find(global: &Global) -> Result<Connection, Failure> {
    let wish = Wish {
        server: match &global.server {
            Some(text) => Some(text.parse()?),
            None => None,
        },
        context: global.context.clone(),
        token: token_of_environment()?,
    };
    let (how, namespace) = choose(wish, Contexts::read, local_socket)?;
    Ok(Connection {
        endpoint: how.endpoint()?,
        namespace,
    })
}

fn token_of_environment() -> Result<Option<Token>, Failure> {
    match std::env::var(TOKEN) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => access_token(&text).map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        // Without quoting it.
        Err(std::env::VarError::NotUnicode(_)) => access_token("").map(Some),
    }
    .map_err(|failure| failure.hint(format!("correct or unset {TOKEN}")))
}

/// Reads a token for the API.
pub(crate) fn access_token(text: &str) -> Result<Token, Failure> {
    let token: Token = text.parse().map_err(|error| {
        let error: windlass_trust::token::ParseError = error;
        Failure::new(Exit::Usage, error.to_string())
    })?;
    match token.kind() {
        Kind::Access => Ok(token),
        Kind::Join => Err(Failure::new(
            Exit::Usage,
            "with this token a node can join, and nothing else",
        )
        .hint("`windlass token create --role ROLE` makes one for people and programs")),
    }
}

/// The socket of a server on this machine, if there is one that this user may open.
fn local_socket() -> Option<PathBuf> {
    let socket = process::default_data_dir("server").ok()?.join(SOCKET);
    UnixStream::connect(&socket).is_ok().then_some(socket)
}

/// What the person said.
#[derive(Debug, Default)]
struct Wish {
    server: Option<Address>,
    context: Option<Name>,
    token: Option<Token>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    Http(Authority),
    Unix(PathBuf),
    Https {
        authority: Authority,
        believe: Believe,
        token: Option<Token>,
    },
}

/// Who is believed to be the server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Believe {
    /// Who has a certificate of the authority with this fingerprint, which a token told.
    Fingerprint(Fingerprint),
    /// Who has one of these, in PEM.
    Authorities(String),
}

impl How {
    fn endpoint(self) -> Result<Endpoint, Failure> {
        match self {
            Self::Http(authority) => Ok(Endpoint::Http(authority)),
            Self::Unix(path) => Ok(Endpoint::Unix(path)),
            Self::Https {
                authority,
                believe,
                token,
            } => {
                let config = match &believe {
                    Believe::Fingerprint(fingerprint) => first_contact(*fingerprint),
                    Believe::Authorities(pem) => {
                        let authorities = certificate::from_pem(pem).map_err(|error| {
                            let detail = format!("the authority of the context: {error}");
                            Failure::new(Exit::Failed, detail).hint("log in again")
                        })?;
                        client(None, &authorities)
                    }
                };
                Ok(Endpoint::Https {
                    authority,
                    config: config.map_err(|error: tls::Error| process::failure(&error))?,
                    token: token.as_ref().map(bearer),
                })
            }
        }
    }
}

/// The token as it is shown to a server.
fn bearer(token: &Token) -> Bearer {
    Bearer::new(&token.reveal()).expect("a token is letters, digits and dashes")
}

/// A server of which nothing but the fingerprint of its authority is known, from a token.
pub(crate) fn newcomer(authority: Authority, token: &Token) -> Result<Endpoint, Failure> {
    How::Https {
        authority,
        believe: Believe::Fingerprint(token.authority()),
        token: Some(token.clone()),
    }
    .endpoint()
}

fn choose(
    wish: Wish,
    contexts: impl FnOnce() -> Result<Contexts, Failure>,
    socket: impl FnOnce() -> Option<PathBuf>,
) -> Result<(How, Option<Namespace>), Failure> {
    match wish {
        Wish {
            server: None,
            context,
            token,
        } => {
            let contexts = contexts()?;
            match context.as_ref().or(contexts.current.as_ref()) {
                Some(name) => in_context(contexts.get(name)?, None, token),
                None => {
                    let here = socket().map_or_else(usual, How::Unix);
                    without_token(here, token)
                }
            }
        }
        Wish {
            server: Some(Address::Https(authority)),
            context,
            token,
        } => {
            if let Some(name) = context {
                return in_context(contexts()?.get(&name)?, Some(authority), token);
            }
            if let Some(token) = token {
                let believe = Believe::Fingerprint(token.authority());
                let token = Some(token);
                let how = How::Https {
                    authority,
                    believe,
                    token,
                };
                return Ok((how, None));
            }
            let address = Address::Https(authority);
            let contexts = contexts()?;
            let site = contexts.of(&address).ok_or_else(|| {
                let detail = format!("you are not logged in to {address}");
                Failure::new(Exit::Usage, detail).hint(format!("`windlass login {address}`"))
            })?;
            in_context(site, None, None)
        }
        Wish {
            server: Some(server),
            context: Some(name),
            ..
        } => {
            let detail = format!("both the server {server} and the context {name} are named");
            Err(Failure::new(Exit::Usage, detail)
                .hint("leave one of them out; see also WINDLASS_SERVER and WINDLASS_CONTEXT"))
        }
        Wish {
            server: Some(Address::Http(authority)),
            token,
            ..
        } => without_token(How::Http(authority), token),
        Wish {
            server: Some(Address::Unix(path)),
            token,
            ..
        } => without_token(How::Unix(path), token),
    }
}

fn usual() -> How {
    How::Http(Authority::from_static(DEFAULT_ADDRESS))
}

/// What does not encrypt is not shown a token.
fn without_token(how: How, token: Option<Token>) -> Result<(How, Option<Namespace>), Failure> {
    if token.is_none() {
        return Ok((how, None));
    }
    let detail = format!("{TOKEN} is set, and a token is shown to https:// servers only");
    Err(Failure::new(Exit::Usage, detail).hint(format!(
        "name one with --server or WINDLASS_SERVER, or unset {TOKEN}"
    )))
}

/// The server of a context, perhaps at another address.
fn in_context(
    site: &Site,
    at: Option<Authority>,
    token: Option<Token>,
) -> Result<(How, Option<Namespace>), Failure> {
    let authority = match (at, &site.server) {
        (Some(authority), _) => authority,
        (None, Address::Https(authority)) => authority.clone(),
        (None, Address::Http(authority)) => {
            return without_token(How::Http(authority.clone()), token);
        }
        (None, Address::Unix(path)) => return without_token(How::Unix(path.clone()), token),
    };
    let how = match token {
        Some(token) => How::Https {
            authority,
            believe: Believe::Fingerprint(token.authority()),
            token: Some(token),
        },
        None => How::Https {
            authority,
            believe: Believe::Authorities(site.authorities.clone()),
            token: site.token.clone(),
        },
    };
    Ok((how, site.namespace.clone()))
}

#[cfg(test)]
mod tests;
