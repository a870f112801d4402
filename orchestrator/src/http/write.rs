//! What the requests that change something have in common: a condition, a key that makes them
//! repeatable, and a JSON body.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use windlass_api::{json, problem::Code};
use windlass_core::{access::Caller, command::idempotency::KEY_LEN_MAX};

use super::{
    Api,
    envelope::too_large,
    etag::{IfMatch, digest},
};
use crate::{controller::Idempotency, error::Error};

/// How long a client may take to send a body of at most 1 MiB: as long as for the head. Until it
/// has, it takes the place of another one that writes.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// The header with the key that makes a request repeatable.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request that changes something.
#[derive(Debug)]
pub(super) struct WriteRequest {
    /// What it expects to find.
    pub(super) if_match: IfMatch,
    /// What makes it repeatable, if the client wants that.
    pub(super) idempotency: Option<Idempotency>,
    content: Content,
    body: Bytes,
}

/// What the client says the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Json,
    Other,
}

impl FromRequest<Arc<Api>> for WriteRequest {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Error> {
        let if_match = IfMatch::of(request.headers())?;
        let owner = match request.extensions().get() {
            Some(Caller::Person(person)) => person.token.to_string(),
            _ => String::new(),
        };
        let key = key(request.headers())?;
        let content = content(request.headers());
        let method = request.method().clone();
        let uri = request.uri().clone();
        let conditions = [header::IF_MATCH, header::IF_NONE_MATCH]
            .map(|name| request.headers().get(name).cloned());
        let body = timeout(BODY_WITHIN, Bytes::from_request(request, api))
            .await
            .map_err(|_| {
                let detail = format!(
                    "the body of the request did not come within {} s",
                    BODY_WITHIN.as_secs()
                );
                Error::new(Code::Timeout, detail)
            })?
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => too_large(),
                _ => Error::malformed("the body of the request broke off"),
            })?;
        let idempotency = key.map(|key| {
            let target = uri.path_and_query().map_or("", |target| target.as_str());
            let [if_match, if_none_match] = conditions
                .each_ref()
                .map(|condition| condition.as_ref().map_or(&b""[..], HeaderValue::as_bytes));
            let parts = [
                // What somebody did is not told to somebody else who chose the same key.
                owner.as_bytes(),
                method.as_str().as_bytes(),
                target.as_bytes(),
                if_match,
                if_none_match,
                &body,
            ];
            Idempotency {
                key,
                request: digest(parts),
            }
        });
        Ok(Self {
            if_match,
            idempotency,
            content,
            body,
        })
    }
}

impl WriteRequest {
    /// The body, which is a JSON object. What is not JSON is malformed; JSON that is something else
    /// is invalid, with the path of the field.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        if self.content != Content::Json {
            // Also what keeps web pages from sending writes without asking first.
            return Err(Error::malformed(
                "the body has to be JSON, and the request has to say so: \
                 `content-type: application/json`",
            ));
        }
        json::object(&self.body).map_err(|error| match error {
            json::Error::Syntax(message) => {
                Error::malformed(format!("the body is not JSON: {message}"))
            }
            json::Error::Form(mistake) => Error::invalid(vec![mistake]),
        })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let fit = |key: &&str| {
        (1..=KEY_LEN_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
    };
    match value.to_str().ok().filter(fit) {
        Some(key) if values.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Error::malformed(format!(
            "the idempotency-key header has to be one key of at most {KEY_LEN_MAX} visible ASCII \
             characters, like a uuid"
        ))),
    }
}

fn content(headers: &HeaderMap) -> Content {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Content::Json
    } else {
        Content::Other
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use windlass_api::{problem::Code, resource::Scale};

    use super::*;

    fn parse<T: DeserializeOwned>(body: &str) -> Result<T, Error> {
        let request = WriteRequest {
            if_match: IfMatch::Absent,
            idempotency: None,
            content: Content::Json,
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        request.json()
    }

    #[test]
    fn broken_json_says_where() {
        for bad in ["", "{", "{\"replicas\": 1,}", "{} {}", "nan"] {
            let error = parse::<Value>(bad).unwrap_err();
            assert_eq!(error.problem().code, Code::Malformed, "{bad}");
            assert!(
                error.problem().detail.contains("line 1 column"),
                "{error:?}"
            );
        }
        let deep = "[".repeat(100_000);
        let error = parse::<Value>(&deep).unwrap_err();
        assert!(
            error.problem().detail.contains("recursion limit"),
            "{error:?}"
        );
    }

    #[test]
    fn json_of_another_form_names_the_field() {
        for (bad, path) in [
            (r#"{"replicas": -1}"#, "replicas"),
            (r#"{"replicas": "three"}"#, "replicas"),
            (r#"{"replicas": 99999999999}"#, "replicas"),
            (r#"{"replica": 1}"#, "replica"),
            (r#"[]"#, ""),
            (r#"[3]"#, ""),
            (r#"{"replicas": 1, "replicas": 2}"#, "replicas"),
        ] {
            let error = parse::<Scale>(bad).unwrap_err();
            assert_eq!(error.problem().code, Code::Invalid, "{bad}");
            assert_eq!(error.problem().errors[0].path, path, "{bad}");
        }
    }

    #[test]
    fn keys_are_short_and_visible() {
        let of = |key: &str| key_of(&[key]);
        assert_eq!(of("a-1"), Ok(Some("a-1".to_owned())));
        assert_eq!(key_of(&[]), Ok(None));
        for bad in ["", "a b", "ü", &"x".repeat(KEY_LEN_MAX + 1)] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(key_of(&["a", "b"]).is_err());
    }

    fn key_of(values: &[&str]) -> Result<Option<String>, Error> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, value.parse().unwrap());
        }
        key(&headers)
    }
}
