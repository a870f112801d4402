//! Why a request did not get the answer that it asked for.

use std::time::Duration;

use crate::problem::{Code, Problem};

/// Why a request did not get the answer that it asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the server is not one.
    #[error("`{address}` is not the address of a server: {why}")]
    Address {
        /// The address as it was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// No connection could be made.
    #[error("cannot reach the server at {server}: {why}")]
    Unreachable {
        /// The server's address.
        server: String,
        /// What the operating system said.
        why: String,
    },
    /// The connection broke before the answer was complete, and again at every further attempt.
    #[error("the connection to the server at {server} broke: {why}")]
    Broken {
        /// The server's address.
        server: String,
        /// How it broke.
        why: String,
    },
    /// What was read broke off, and the server said why.
    #[error("it broke off: {why}")]
    BrokeOff {
        /// Why, for a person.
        why: String,
    },
    /// Whoever is there is not believed.
    #[error("the server at {server} is not believed: {why}")]
    Untrusted {
        /// The server's address.
        server: String,
        /// What is wrong with it.
        why: Distrust,
    },
    /// The server does not encrypt, and should.
    #[error("the server at {server} does not encrypt: {why}")]
    NotEncrypted {
        /// The server's address.
        server: String,
        /// What TLS said.
        why: String,
    },
    /// What is there does not speak HTTP, or not without encryption.
    #[error("what is at {server} does not speak HTTP without encryption")]
    NotHttp {
        /// The server's address.
        server: String,
    },
    /// The server did not answer in time.
    #[error("the server at {server} did not answer within {} s", limit.as_secs())]
    TimedOut {
        /// The server's address.
        server: String,
        /// How long the client waited.
        limit: Duration,
    },
    /// The server refused, and said why.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// What answered does not speak this API.
    #[error("the answer of {server} is not one of a windlass server: {why}")]
    Protocol {
        /// The server's address.
        server: String,
        /// What is wrong with the answer.
        why: String,
    },
}

/// Why a server is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Its certificate is of another authority, or none for servers.
    #[error("this is not the server that the token is for ({0})")]
    Stranger(String),
    /// Its certificate is not good at this time.
    #[error("its certificate has expired, or is not valid yet")]
    Time,
}

impl Error {
    /// What it means that no encryption was agreed on.
    pub(super) fn of_encryption(server: String, error: &rustls::Error) -> Self {
        use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        match error {
            rustls::Error::InvalidCertificate(
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
            ) => Self::Untrusted {
                server,
                why: Distrust::Time,
            },
            rustls::Error::InvalidCertificate(why) => Self::Untrusted {
                server,
                why: Distrust::Stranger(why.to_string()),
            },
            other => Self::NotEncrypted {
                server,
                why: other.to_string(),
            },
        }
    }

    /// The code of the problem, if the server told one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Problem(problem) => Some(problem.code),
            _ => None,
        }
    }

    /// Whether there was no server to speak to, or it went away.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::TimedOut { .. }
        )
    }

    /// What a person can do about it, where the error itself does not say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => Some(
                "is the server running? start one with `windlass server` or `windlass dev`, \
                 or name another with --server or WINDLASS_SERVER",
            ),
            Self::Broken { .. } => {
                Some("look at the server's log; it may have stopped or be starting again")
            }
            Self::TimedOut { .. } => Some("try again; the server's log may say what keeps it busy"),
            Self::Protocol { .. } => Some(
                "is something else listening there? name the server with --server or \
                 WINDLASS_SERVER, and use the same version as the server's",
            ),
            Self::Untrusted {
                why: Distrust::Stranger(_),
                ..
            } => Some(
                "is the address right? if the cluster was set up anew, `windlass login` with a \
                 token of it",
            ),
            Self::Untrusted {
                why: Distrust::Time,
                ..
            } => Some(
                "compare the clocks of both machines; a server has a new certificate after it was \
                 started",
            ),
            Self::NotEncrypted { .. } => Some(
                "is something else listening there? a server encrypts once its cluster has \
                 certificates: `windlass server init`",
            ),
            Self::NotHttp { .. } => Some(
                "a server with certificates is reached by `windlass login https://HOST:PORT`, or on \
                 its own machine through its socket",
            ),
            Self::Address { .. } => Some(
                "write it like http://127.0.0.1:7400, https://site.example:7400 or \
                 unix:/PATH/windlass.sock",
            ),
            Self::Problem(_) | Self::BrokeOff { .. } => None,
        }
    }
}
