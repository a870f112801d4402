//! Entity tags (RFC 9110, section 8.8) and the conditions that name them.
//!
//! A tag is `"<version>.<digest>"`. The version is that of the object's last change by a user or
//! operator, and all that `If-Match` looks at: a status that moved on is no conflict. The digest
//! is of everything that is shown, so that `If-None-Match` notices a status that moved on.
//! `If-Match: "<version>"` is enough.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use windlass_api::ids::Version;

use crate::error::Error;

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// Anything, or nothing.
    Absent,
    /// Something: `*`.
    Something,
    /// This version.
    Version(Version),
}

impl IfMatch {
    /// What the headers of a write say. `If-None-Match: *`, the standard's way to say "only create",
    /// is the same as `If-Match: "0"`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let condition = Self::of_if_match(headers)?;
        let mut values = headers.get_all(header::IF_NONE_MATCH).iter();
        match (values.next(), values.next(), condition) {
            (None, _, condition) => Ok(condition),
            (Some(value), None, Self::Absent) if value.as_bytes().trim_ascii() == b"*" => {
                Ok(Self::Version(Version(0)))
            }
            (Some(_), _, _) => Err(Error::malformed(
                "the if-none-match header of a write can only be `*`, which means: only create; \
                 and not together with if-match",
            )),
        }
    }

    fn of_if_match(headers: &HeaderMap) -> Result<Self, Error> {
        let mut values = headers.get_all(header::IF_MATCH).iter();
        let Some(value) = values.next() else {
            return Ok(Self::Absent);
        };
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        match text.map(str::trim) {
            Some("*") => Some(Self::Something),
            Some(text) => version(text).map(Self::Version),
            None => None,
        }
        .ok_or_else(|| {
            Error::malformed(
                "the if-match header has to be `*` or one etag as the server gave it, \
                 like `\"12\"`, quotes included",
            )
        })
    }

    /// The version that a write of an existing object expects. Where nothing exists, the write is
    /// refused for that reason, so `*` adds nothing.
    pub(super) fn version(self) -> Option<Version> {
        match self {
            Self::Absent | Self::Something => None,
            Self::Version(version) => Some(version),
        }
    }
}

/// The version in a strong tag, with or without a digest.
fn version(tag: &str) -> Option<Version> {
    let inner = tag.strip_prefix('"')?.strip_suffix('"')?;
    let number = inner.split_once('.').map_or(inner, |(number, _)| number);
    // `parse` would take a sign.
    number
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| number.parse().ok())?
}

/// An object as JSON, with its tag.
pub(super) fn tagged<T: Serialize>(status: StatusCode, version: Version, object: &T) -> Response {
    let body = serde_json::to_vec(object).expect("the API's types are valid JSON");
    let tag = format!("\"{version}.{:016x}\"", digest([&body[..]]));
    let tag = HeaderValue::try_from(tag).expect("digits in quotes are a header's value");
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::ETAG, tag),
    ];
    (status, headers, Body::from(body)).into_response()
}

/// The answer to a read: without the body if the client has it already.
pub(super) fn unless_known(headers: &HeaderMap, response: Response) -> Response {
    let Some(tag) = response.headers().get(header::ETAG).cloned() else {
        return response;
    };
    let known = |value: &HeaderValue| {
        value.to_str().is_ok_and(|list| {
            list.split(',').map(str::trim).any(|known| {
                // A cache compares weakly (RFC 9110, section 13.1.2).
                known == "*" || tag == known.strip_prefix("W/").unwrap_or(known)
            })
        })
    };
    if headers.get_all(header::IF_NONE_MATCH).iter().any(known) {
        (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response()
    } else {
        response
    }
}

/// FNV-1a with 64 bits over the parts, each ended by a byte that no UTF-8 text has. It is kept in
/// the store, so it has to be the same for ever, which `std`'s hashers do not promise.
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = parts
        .into_iter()
        .flat_map(|part| part.iter().chain(&[0xff]));
    bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn if_match_reads_versions() {
        for (text, expected) in [
            ("*", IfMatch::Something),
            ("\"12\"", IfMatch::Version(Version(12))),
            (" \"12.00ff\" ", IfMatch::Version(Version(12))),
        ] {
            assert_eq!(
                IfMatch::of(&headers(header::IF_MATCH, text)),
                Ok(expected),
                "{text}"
            );
        }
        assert_eq!(IfMatch::of(&HeaderMap::new()), Ok(IfMatch::Absent));
        for bad in [
            "12",
            "W/\"12\"",
            "\"x\"",
            "\"-1\"",
            "\"+1\"",
            "\"1\", \"2\"",
            "\"\"",
            "",
        ] {
            assert!(
                IfMatch::of(&headers(header::IF_MATCH, bad)).is_err(),
                "{bad}"
            );
        }
        let mut twice = headers(header::IF_MATCH, "\"1\"");
        twice.append(header::IF_MATCH, HeaderValue::from_static("\"2\""));
        assert!(IfMatch::of(&twice).is_err());
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let answer = |text| tagged(StatusCode::OK, Version(3), &text);
        let tag = answer("a").headers()[header::ETAG]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(tag.starts_with("\"3."), "{tag}");
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".to_owned(),
        ] {
            let request = headers(header::IF_NONE_MATCH, &known);
            let response = unless_known(&request, answer("a"));
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(response.headers()[header::ETAG], tag);
        }
        let request = headers(header::IF_NONE_MATCH, &tag);
        let changed = unless_known(&request, answer("b"));
        assert_eq!(
            changed.status(),
            StatusCode::OK,
            "the version is the same, the content is not"
        );
    }

    #[test]
    fn digests_tell_the_parts_apart() {
        // The reference value of FNV-1a for `a`, over the byte that ends the part.
        assert_eq!(digest([&b""[..]; 0]), 0xcbf2_9ce4_8422_2325);
        assert_ne!(digest([&b"ab"[..], b"c"]), digest([&b"a"[..], b"bc"]));
        assert_ne!(digest([&b"a"[..]]), digest([&b"a"[..], b""]));
    }
}
