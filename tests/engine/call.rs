//! The calls that agents make, as they come over the socket.

use std::collections::BTreeMap;

use hyper::{Method, Uri};
use serde_json::Value;

/// A call to the engine's API. Those that are not here agents in these tests do not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Version,
    Info,
    Containers,
    Inspect,
    Create,
    Start,
    Stop,
    Remove,
    Logs,
    Events,
    Images,
    Image,
    Networks,
    CreateNetwork,
    RemoveNetwork,
    Volumes,
}

/// A version of the API, like 1.41.
pub(crate) type ApiVersion = (u32, u32);

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) call: Call,
    /// The version that the client speaks; `None` if it does not say.
    pub(crate) version: Option<ApiVersion>,
    /// The container, image or network that is meant; empty where there is none.
    pub(crate) target: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Request {
    /// What a request means; `None` if it is none that is known.
    pub(crate) fn read(method: &Method, uri: &Uri, body: Value) -> Option<Self> {
        let path = uri.path().trim_start_matches('/');
        let (version, path) = match path.split_once('/') {
            Some((first, rest)) if version(first).is_some() => (version(first), rest),
            _ => (None, path),
        };
        let (call, target) = route(method.as_str(), path)?;
        Some(Self {
            call,
            version,
            target: decoded(target),
            query: query(uri.query().unwrap_or_default()),
            body,
        })
    }

    /// The values of a filter, like those of `label`.
    pub(crate) fn filter(&self, key: &str) -> Vec<String> {
        let filters = self.query.get("filters").map_or("{}", String::as_str);
        let filters: Value = serde_json::from_str(filters).unwrap_or_default();
        let values = filters[key].as_array().cloned().unwrap_or_default();
        let text = |value: Value| value.as_str().map(str::to_owned);
        values.into_iter().filter_map(text).collect()
    }
}

fn version(segment: &str) -> Option<ApiVersion> {
    let (major, minor) = segment.strip_prefix('v')?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The call, and what is meant by it.
fn route<'a>(method: &str, path: &'a str) -> Option<(Call, &'a str)> {
    let of = |prefix: &str, suffix: &str| -> Option<&'a str> {
        let target = path.strip_prefix(prefix)?.strip_suffix(suffix)?;
        (!target.is_empty()).then_some(target)
    };
    let whole = match (method, path) {
        ("GET", "version") => Some(Call::Version),
        ("GET", "info") => Some(Call::Info),
        ("GET", "events") => Some(Call::Events),
        ("GET", "containers/json") => Some(Call::Containers),
        ("POST", "containers/create") => Some(Call::Create),
        ("GET", "images/json") => Some(Call::Images),
        ("GET", "networks") => Some(Call::Networks),
        ("POST", "networks/create") => Some(Call::CreateNetwork),
        ("GET", "volumes") => Some(Call::Volumes),
        _ => None,
    };
    if let Some(call) = whole {
        return Some((call, ""));
    }
    [
        ("GET", "containers/", "/json", Call::Inspect),
        ("GET", "containers/", "/logs", Call::Logs),
        ("POST", "containers/", "/start", Call::Start),
        ("POST", "containers/", "/stop", Call::Stop),
        ("DELETE", "containers/", "", Call::Remove),
        ("GET", "images/", "/json", Call::Image),
        ("DELETE", "networks/", "", Call::RemoveNetwork),
    ]
    .into_iter()
    .filter(|(of_method, ..)| *of_method == method)
    .find_map(|(_, prefix, suffix, call)| Some((call, of(prefix, suffix)?)))
}

fn query(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decoded(key), decoded(&value.replace('+', " "))))
        .collect()
}

/// Percent-encoded text as it was meant.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let code = rest
            .get(at + 1..at + 3)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(b'%'));
        rest = &rest[if code.is_some() { at + 3 } else { at + 1 }..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}
