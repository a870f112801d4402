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

impl Error {
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
            Self::Address { .. } => Some("write it like http://127.0.0.1:7400"),
            Self::Problem(_) | Self::BrokeOff { .. } => None,
        }
    }
}
