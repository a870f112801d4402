//! References to container images.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A reference to an image, as it was written: `[registry/]path[:tag][@digest]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef(String);

/// A string is not a reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an image: write `[registry/]name[:tag][@sha256:digest]` in lower case, like `nginx:1.27`"
)]
pub struct ImageError(String);

/// The registry that a reference without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";

impl ImageRef {
    /// The reference as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The registry's host and port, [`DEFAULT_REGISTRY`] where none is named.
    #[must_use]
    pub fn registry(&self) -> &str {
        match self.0.split_once('/') {
            Some((host, _)) if is_registry(host) => host,
            _ => DEFAULT_REGISTRY,
        }
    }

    /// The reference with its tag: `:latest` where neither tag nor digest is written.
    #[must_use]
    pub fn with_tag(&self) -> String {
        let (_, tag, digest) = split(&self.0);
        if tag.is_none() && digest.is_none() {
            format!("{}:latest", self.0)
        } else {
            self.0.clone()
        }
    }
}

fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// Path, tag and digest.
fn split(s: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match s.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (s, None),
    };
    // A colon behind the last slash begins a tag; one before it, a registry's port.
    match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag), digest),
        _ => (rest, None, digest),
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;
    fn from_str(s: &str) -> Result<Self, ImageError> {
        let (path, tag, digest) = split(s);
        let part = |p: &str| {
            let edge =
                |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let bytes = p.as_bytes();
            edge(bytes.first())
                && edge(bytes.last())
                && bytes.iter().all(|b| edge(Some(b)) || b"._-".contains(b))
                && !p.contains("..")
        };
        let host = |h: &str| {
            let (name, port) = h.split_once(':').unwrap_or((h, "0"));
            let label = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
            let edges = |n: &str| !n.starts_with(['.', '-']) && !n.ends_with(['.', '-']);
            !name.is_empty()
                && edges(name)
                && name.bytes().all(label)
                && port.parse::<u16>().is_ok()
        };
        let path_ok = match path.split_once('/') {
            Some((first, rest)) if is_registry(first) => host(first) && rest.split('/').all(part),
            _ => path.split('/').all(part),
        };
        let tag_ok = tag.is_none_or(|t| {
            let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            (1..=128).contains(&t.len())
                && t.bytes().all(|b| word(b) || b == b'.' || b == b'-')
                && t.bytes().next().is_some_and(word)
        });
        let digest_ok = digest.is_none_or(|d| {
            d.strip_prefix("sha256:")
                .is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()))
        });
        if s.len() <= 512 && path_ok && tag_ok && digest_ok {
            Ok(Self(s.to_owned()))
        } else {
            Err(ImageError(s.chars().take(120).collect()))
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for ImageRef {
    fn schema_name() -> Cow<'static, str> {
        "ImageRef".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "examples": ["nginx:1.27"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        for (text, registry, tagged) in [
            ("nginx", "docker.io", "nginx:latest"),
            ("nginx:1.27", "docker.io", "nginx:1.27"),
            ("team/app", "docker.io", "team/app:latest"),
            (
                "localhost:5000/app",
                "localhost:5000",
                "localhost:5000/app:latest",
            ),
            (
                "registry.site/a/b:v1",
                "registry.site",
                "registry.site/a/b:v1",
            ),
        ] {
            let image: ImageRef = text.parse().unwrap();
            assert_eq!(
                (image.registry(), image.with_tag().as_str()),
                (registry, tagged)
            );
        }
        let pinned = format!("nginx@sha256:{}", "a".repeat(64));
        assert_eq!(pinned.parse::<ImageRef>().unwrap().with_tag(), pinned);
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            "",
            "Nginx",
            "a b",
            "../x",
            "a//b",
            "a:",
            ":tag",
            "a@sha256:12",
            "-a",
            "a:b:c",
        ] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad}");
        }
    }
}
