//! How an agent finds out how a container is, and what it does before it stops one.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::scalar::ScalarText;
use crate::{duration::Span, ids::PortName};

/// The probes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probes {
    /// Whether it has started. Until it has, the other probes wait; if it never does, the container
    /// is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Probe>,
    /// Whether it can serve. Only then it counts for rollouts and gets traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Probe>,
    /// Whether it lives. If it does not, it is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Probe>,
}

impl Probes {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each with its name in the manifest.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Probe)> {
        [
            ("startup", &self.startup),
            ("readiness", &self.readiness),
            ("liveness", &self.liveness),
        ]
        .into_iter()
        .filter_map(|(name, probe)| Some((name, probe.as_ref()?)))
    }
}

/// A check that is made again and again. It has exactly one of `http`, `tcp`, `exec` and `grpc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["http"] }, { "required": ["tcp"] }, { "required": ["exec"] }, { "required": ["grpc"] },
]))]
pub struct Probe {
    /// A request to the container is answered well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// The container accepts a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// A command in the container ends with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCheck>,
    /// The container says `SERVING` by the gRPC health protocol (version 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcCheck>,
    /// How long to wait after the container's start. Default `0s`.
    #[serde(default)]
    pub delay: Span,
    /// How often to check. Default `10s`; of a startup probe, `1s` finds a start sooner. A readiness
    /// probe that has not passed yet is made more often at first.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// How long a check may take. Default `1s`.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How many checks in a row must pass before a failing container counts as well. Default 1.
    #[serde(default = "default_success")]
    #[schemars(range(min = 1, max = 1_000))]
    pub success_threshold: u32,
    /// How many checks in a row must fail before the container counts as failing. Default 3.
    #[serde(default = "default_failure")]
    #[schemars(range(min = 1, max = 1_000))]
    pub failure_threshold: u32,
}

fn default_interval() -> Span {
    Span::from_secs(10)
}

fn default_timeout() -> Span {
    Span::from_secs(1)
}

fn default_success() -> u32 {
    1
}

fn default_failure() -> u32 {
    3
}

/// What a probe does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check<'a> {
    /// See [`HttpCheck`].
    Http(&'a HttpCheck),
    /// See [`TcpCheck`].
    Tcp(&'a TcpCheck),
    /// See [`ExecCheck`].
    Exec(&'a ExecCheck),
    /// See [`GrpcCheck`].
    Grpc(&'a GrpcCheck),
}

impl Probe {
    /// What it does: every way that is named, of which a valid probe has exactly one.
    pub fn checks(&self) -> impl Iterator<Item = Check<'_>> {
        let http = self.http.as_ref().map(Check::Http);
        let tcp = self.tcp.as_ref().map(Check::Tcp);
        let exec = self.exec.as_ref().map(Check::Exec);
        let grpc = self.grpc.as_ref().map(Check::Grpc);
        [http, tcp, exec, grpc].into_iter().flatten()
    }
}

/// An HTTP/1.1 `GET` request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpCheck {
    /// The container's port: its number, or its name in `ports`.
    pub port: PortRef,
    /// The path, with a query if there is one. Default `/`.
    #[serde(default = "root")]
    pub path: String,
    /// Further headers; `Host` is the container's address unless it is among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, ScalarText>,
    /// The statuses that are well, like `200` or `200-299`. Default `200-399`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<StatusRange>,
}

fn root() -> String {
    "/".to_owned()
}

impl HttpCheck {
    /// Whether an answer with this status is well.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        if self.status.is_empty() {
            return (200..400).contains(&status);
        }
        self.status.iter().any(|range| range.contains(status))
    }
}

/// A TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpCheck {
    /// The container's port: its number, or its name in `ports`.
    pub port: PortRef,
}

/// A command that is run in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecCheck {
    /// The program and its arguments. No shell is involved unless it is the program.
    pub command: Vec<String>,
}

/// A call of `grpc.health.v1.Health/Check` without encryption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcCheck {
    /// The container's port: its number, or its name in `ports`.
    pub port: PortRef,
    /// The service to ask for. Default: the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// What is done before a container is asked to stop. It has exactly one of these; the grace period
/// counts from its beginning. That it fails does not keep the container from being stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["exec"] }, { "required": ["http"] }, { "required": ["sleep"] },
]))]
pub struct PreStop {
    /// A command is run in the container, to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCheck>,
    /// A request is made to the container, whatever its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// Time passes, in which others learn that the container is going.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<Span>,
}

/// A port of a container, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortRef {
    /// The number.
    Number(u16),
    /// The name.
    Name(PortName),
}

/// A string is neither the number of a port nor a name for one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a port: write a number from 1 to 65535, or a name from `ports`")]
pub struct PortRefError(String);

impl FromStr for PortRef {
    type Err = PortRefError;
    fn from_str(s: &str) -> Result<Self, PortRefError> {
        let error = || PortRefError(s.chars().take(80).collect());
        // A number that is too high is not meant as a name, though it could be one.
        if s.bytes().all(|b| b.is_ascii_digit()) {
            let number: u16 = s.parse().map_err(|_| error())?;
            return if number > 0 {
                Ok(Self::Number(number))
            } else {
                Err(error())
            };
        }
        s.parse().map(Self::Name).map_err(|_| error())
    }
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Serialize for PortRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => s.serialize_u16(*number),
            Self::Name(name) => name.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let ScalarText(text) = ScalarText::deserialize(d)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for PortRef {
    fn schema_name() -> Cow<'static, str> {
        "PortRef".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "minimum": 1, "maximum": 65535 })
    }
}

/// HTTP statuses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    from: u16,
    to: u16,
}

/// A string is not a range of HTTP statuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no HTTP status: write one from 100 to 599, or a range like `200-299`")]
pub struct StatusRangeError(String);

impl StatusRange {
    /// Whether a status is in the range.
    #[must_use]
    pub fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = StatusRangeError;
    fn from_str(s: &str) -> Result<Self, StatusRangeError> {
        let error = || StatusRangeError(s.chars().take(40).collect());
        let (from, to) = s.split_once('-').unwrap_or((s, s));
        let status = |text: &str| {
            let number = text.trim().parse::<u16>().ok();
            number.filter(|status| (100..600).contains(status))
        };
        match (status(from), status(to)) {
            (Some(from), Some(to)) if from <= to => Ok(Self { from, to }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            self.from.fmt(f)
        } else {
            write!(f, "{}-{}", self.from, self.to)
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        ScalarText::deserialize(d)?
            .0
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}
