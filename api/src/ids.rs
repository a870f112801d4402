//! Identifiers. Each is a newtype that is parsed once, at the edge.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// The longest name, in bytes: a DNS label (RFC 1123), since names become host names.
pub const NAME_LEN_MAX: usize = 63;

/// The longest name of a workload, in bytes. `-<slot>-<serial>` is appended to name
/// an instance, and that must stay a DNS label, too.
pub const WORKLOAD_NAME_LEN_MAX: usize = 40;

const NAME_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The string has no characters.
    #[error("a name must not be empty")]
    Empty,
    /// The string is longer than a DNS label may be.
    #[error("a name has at most {max} characters, this one has {len}")]
    TooLong {
        /// The number of bytes found.
        len: usize,
        /// The number of bytes allowed.
        max: usize,
    },
    /// A character is not allowed, or stands where it must not.
    #[error(
        "`{name}` is not a name: use lower-case letters, digits and `-`, \
         and begin and end with a letter or digit"
    )]
    Characters {
        /// The string, cut to a printable length.
        name: String,
    },
}

fn check_name(s: &str, max: usize) -> Result<(), NameError> {
    if s.is_empty() {
        return Err(NameError::Empty);
    }
    if s.len() > max {
        return Err(NameError::TooLong { len: s.len(), max });
    }
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let outer = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = s.as_bytes();
    if bytes.iter().all(|b| inner(*b)) && outer(bytes.first()) && outer(bytes.last()) {
        Ok(())
    } else {
        let name = s.chars().take(NAME_LEN_MAX).collect();
        Err(NameError::Characters { name })
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                check_name(s, $max)?;
                Ok(Self(s.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": NAME_PATTERN, "maxLength": $max })
            }
        }
    };
}

name_type!(
    /// The name of a workload, unique in its namespace. At most [`WORKLOAD_NAME_LEN_MAX`] bytes.
    WorkloadName,
    WORKLOAD_NAME_LEN_MAX
);
name_type!(
    /// A namespace. It exists because something in it exists.
    Namespace,
    NAME_LEN_MAX
);
name_type!(
    /// The name of a node, unique in the cluster.
    NodeName,
    NAME_LEN_MAX
);
name_type!(
    /// The name of a port, unique in its workload.
    PortName,
    NAME_LEN_MAX
);
name_type!(
    /// The name of a container, unique in its workload.
    ContainerName,
    WORKLOAD_NAME_LEN_MAX
);
name_type!(
    /// The name of a volume, unique in its workload.
    VolumeName,
    WORKLOAD_NAME_LEN_MAX
);
name_type!(
    /// An instance: `<workload>-<slot>-<serial>`. The serial number is never used twice in a
    /// cluster, so that an id never means two things.
    InstanceId,
    NAME_LEN_MAX
);

impl ContainerName {
    /// The name of the only container, where a manifest names none.
    #[must_use]
    pub fn only() -> Self {
        Self("main".into())
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

impl InstanceId {
    /// The serial number at its end, which no other instance has.
    #[must_use]
    pub fn serial(&self) -> Option<u64> {
        self.0.rsplit_once('-')?.1.parse().ok()
    }

    /// The id of the instance that fills `slot` of `workload`, with a cluster-wide serial number.
    #[must_use]
    pub fn new(workload: &WorkloadName, slot: Slot, serial: u64) -> Self {
        // 40 + 1 + 4 + 1 + at most 17 digits stay within a label for the first 10^17 instances.
        Self(format!("{workload}-{slot}-{serial}").into())
    }
}

/// A workload's full name, written `namespace/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkloadKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The name in it.
    pub name: WorkloadName,
}

impl WorkloadKey {
    /// Joins the two parts.
    #[must_use]
    pub fn new(namespace: Namespace, name: WorkloadName) -> Self {
        Self { namespace, name }
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for WorkloadKey {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let (namespace, name) = s.split_once('/').ok_or_else(|| NameError::Characters {
            name: s.chars().take(NAME_LEN_MAX).collect(),
        })?;
        Ok(Self {
            namespace: namespace.parse()?,
            name: name.parse()?,
        })
    }
}

impl Serialize for WorkloadKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkloadKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for WorkloadKey {
    fn schema_name() -> Cow<'static, str> {
        "WorkloadKey".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "namespace/name" })
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number that follows this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

number_type!(
    /// The stable index of a replica, from 0.
    Slot,
    u32
);
number_type!(
    /// The number of a workload's revision: from 1, and it only grows.
    RevisionNumber,
    u32
);
number_type!(
    /// The number of a node's assignment. It only grows, by one at every change.
    Generation,
    u64
);
number_type!(
    /// The number of a committed state of the cluster. It only grows, by one at every commit;
    /// an object carries that of its last change, which is its `ETag`.
    Version,
    u64
);
number_type!(
    /// Counts, from 1, how often the cluster's state may have gone back: it was restored from an
    /// export, or found to be older than what agents have seen. Generations of different epochs
    /// do not follow one another.
    Epoch,
    u64
);

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, uuid::Error> {
                s.parse().map(Self)
            }
        }
    };
}

uuid_type!(
    /// The identity of a cluster, made when its store is created.
    ClusterId
);
uuid_type!(
    /// The identity of an agent, made when its data directory is created. It tells two machines
    /// with one name apart.
    AgentId
);
uuid_type!(
    /// One join of a node: another one after it was removed and joins again.
    AdmissionId
);
uuid_type!(
    /// The identity of a workload: another one after it was deleted and made again.
    Uid
);

/// The length of a digest, in bytes.
pub const DIGEST_BYTES: usize = 32;

/// A string is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits, in lower case")]
pub struct DigestError;

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; DIGEST_BYTES]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;
            fn from_str(s: &str) -> Result<Self, DigestError> {
                let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
                if s.len() != 2 * DIGEST_BYTES || !s.bytes().all(digit) {
                    return Err(DigestError);
                }
                let mut bytes = [0; DIGEST_BYTES];
                for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
                    *byte = u8::from_str_radix(&s[at..at + 2], 16).map_err(|_| DigestError)?;
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

digest_type!(
    /// What is kept of a token: a SHA-256 that recognises it, and is of no use to whoever reads it.
    TokenHash
);
digest_type!(
    /// The SHA-256 of a certificate, by which it is recognised before it can be verified.
    Fingerprint
);

name_type!(
    /// The name of a token in lists and logs: the first ten digits of its [`TokenHash`].
    TokenId,
    TOKEN_ID_LEN
);

/// The length of a [`TokenId`]. Among 1,000 tokens two have the same one once in two million times,
/// and the second is made anew then.
pub const TOKEN_ID_LEN: usize = 10;

impl TokenHash {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> TokenId {
        let mut text = self.to_string();
        text.truncate(TOKEN_ID_LEN);
        TokenId(text.into())
    }
}

impl ClusterId {
    /// The first eight digits: enough to tell the clusters on one Docker engine apart.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.0.simple().to_string();
        text.truncate(8);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web", "web-1", "0"] {
            assert!(good.parse::<WorkloadName>().is_ok(), "{good}");
        }
        let long = "x".repeat(41);
        for bad in [
            "", "-a", "a-", "A", "a.b", "../etc", "a/b", "a\0", "ä", &long,
        ] {
            assert!(bad.parse::<WorkloadName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_survives_being_written() {
        let hash = TokenHash([0xab; DIGEST_BYTES]);
        let text = hash.to_string();
        assert_eq!(text, "ab".repeat(32));
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(hash.id().as_str(), "ababababab");
        let long = format!("{text}0");
        for bad in [
            "",
            "ab",
            &text[1..],
            &long,
            &text.to_uppercase(),
            &"+b".repeat(32),
        ] {
            assert_eq!(bad.parse::<TokenHash>(), Err(DigestError), "{bad}");
        }
        assert_eq!("é".repeat(32).parse::<TokenHash>(), Err(DigestError));
    }

    #[test]
    fn instance_ids_stay_labels() {
        let workload = "w".repeat(40).parse().unwrap();
        let id = InstanceId::new(&workload, Slot(9_999), 99_999_999_999_999_999);
        assert!(id.as_str().parse::<InstanceId>().is_ok());
    }

    #[test]
    fn a_workload_key_reads_back() {
        let key: WorkloadKey = "shop/web".parse().unwrap();
        assert_eq!(key.to_string(), "shop/web");
        assert!("web".parse::<WorkloadKey>().is_err());
    }
}
