//! Errors as the API shows them: RFC 9457, `application/problem+json`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::validate::FieldError;

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error as the API shows it (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `urn:windlass:problem:<code>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind of error, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind of error, for programs; it never changes its meaning.
    pub code: Code,
    /// What happened this time, and what to do.
    pub detail: String,
    /// The fields that are to blame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The request's id, which the server's log has, too.
    #[serde(rename = "request_id", default)]
    pub request_id: String,
}

/// The kinds of errors.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request is not well formed.
    Malformed,
    /// The request is well formed and makes no sense.
    Invalid,
    /// Nothing has that name.
    NotFound,
    /// No such route, or not with this method.
    NoRoute,
    /// The object changed since it was read.
    VersionConflict,
    /// The idempotency key was used for another request.
    IdempotencyConflict,
    /// The state does not allow it.
    Conflict,
    /// The version to watch from is no longer known.
    Gone,
    /// The request is too large.
    TooLarge,
    /// The server has too much to do: try again.
    Overloaded,
    /// The request took too long.
    Timeout,
    /// The server's disk is full: nothing was written.
    NoSpace,
    /// The agent of that node is not connected.
    NodeUnreachable,
    /// Whoever asks has not said who they are, or not believably.
    Unauthenticated,
    /// Whoever asks may not do this, or not come from there.
    Forbidden,
    /// A defect of the server.
    Internal,
}

impl Code {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound | Self::NoRoute => 404,
            Self::Conflict | Self::IdempotencyConflict => 409,
            Self::Gone => 410,
            Self::VersionConflict => 412,
            Self::TooLarge => 413,
            Self::Invalid => 422,
            Self::Internal => 500,
            Self::NodeUnreachable => 502,
            Self::Overloaded => 503,
            Self::Timeout => 504,
            Self::NoSpace => 507,
        }
    }

    /// The kind of error, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Malformed => "malformed request",
            Self::Invalid => "invalid request",
            Self::NotFound => "not found",
            Self::NoRoute => "no such route",
            Self::VersionConflict => "changed since it was read",
            Self::IdempotencyConflict => "idempotency key used before",
            Self::Conflict => "conflict",
            Self::Gone => "history is gone",
            Self::TooLarge => "too large",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timed out",
            Self::NoSpace => "no space on the server's disk",
            Self::NodeUnreachable => "node unreachable",
            Self::Unauthenticated => "not known",
            Self::Forbidden => "forbidden",
            Self::Internal => "internal error",
        }
    }

    /// The code as text, as it stands in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::NoRoute => "no-route",
            Self::VersionConflict => "version-conflict",
            Self::IdempotencyConflict => "idempotency-conflict",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::TooLarge => "too-large",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::NoSpace => "no-space",
            Self::NodeUnreachable => "node-unreachable",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Internal => "internal",
        }
    }
}

impl Problem {
    /// An error of this kind.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("urn:windlass:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            errors: Vec::new(),
            request_id: String::new(),
        }
    }

    /// The same error, with the fields that are to blame.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        for error in &self.errors {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
