//! Small expressions about nodes: requirements, taints and tolerations.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{ids::NodeName, validate::check_label_key};

/// What expressions can ask of a node.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    /// The node's name.
    pub name: &'a NodeName,
    /// The node's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The operating system, as Docker names it (`linux`).
    pub os: &'a str,
    /// The processor architecture, as Docker names it (`x86_64`).
    pub arch: &'a str,
}

/// Something that a node has or has not: `node.labels.KEY`, `node.name`, `node.os`, `node.arch`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeAttribute {
    /// The value of a label.
    Label(String),
    /// The node's name.
    Name,
    /// The operating system.
    Os,
    /// The processor architecture.
    Arch,
}

/// An expression that a node meets or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The attribute has one of these values.
    In(NodeAttribute, Vec<String>),
    /// The attribute has none of these values; a node without it meets this.
    NotIn(NodeAttribute, Vec<String>),
    /// The node has the attribute.
    Exists(NodeAttribute),
    /// The node has not the attribute.
    Missing(NodeAttribute),
}

/// Keeps workloads that do not tolerate it off a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// The key.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
}

/// Which taints a workload does not mind: a key with any value, or with a certain one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Toleration {
    /// The key.
    pub key: String,
    /// The value; absent: any.
    pub value: Option<String>,
}

/// A string is not an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Not an attribute.
    #[error(
        "`{0}` is not known of a node: use `node.labels.KEY`, `node.name`, `node.os` or `node.arch`"
    )]
    Attribute(String),
    /// Not a requirement.
    #[error(
        "`{0}` is not an expression: write `node.labels.zone == eu`, `!=`, `in (a, b)`, \
         `not in (a, b)`, `node.labels.gpu` or `!node.labels.gpu`"
    )]
    Requirement(String),
    /// Not a taint or toleration.
    #[error("`{0}` is not a taint: write `key` or `key=value`")]
    Taint(String),
}

impl NodeAttribute {
    /// The attribute's value for a node, if it has it.
    #[must_use]
    pub fn of<'a>(&self, node: NodeFacts<'a>) -> Option<&'a str> {
        match self {
            Self::Label(key) => node.labels.get(key).map(String::as_str),
            Self::Name => Some(node.name.as_str()),
            Self::Os => Some(node.os),
            Self::Arch => Some(node.arch),
        }
    }
}

impl Requirement {
    /// Whether a node meets the requirement.
    #[must_use]
    pub fn is_met_by(&self, node: NodeFacts<'_>) -> bool {
        let has = |attribute: &NodeAttribute, values: &[String]| {
            attribute
                .of(node)
                .is_some_and(|v| values.iter().any(|w| w == v))
        };
        match self {
            Self::In(attribute, values) => has(attribute, values),
            Self::NotIn(attribute, values) => !has(attribute, values),
            Self::Exists(attribute) => attribute.of(node).is_some(),
            Self::Missing(attribute) => attribute.of(node).is_none(),
        }
    }
}

impl Toleration {
    /// Whether the taint does not keep the workload off.
    #[must_use]
    pub fn covers(&self, taint: &Taint) -> bool {
        self.key == taint.key && self.value.as_ref().is_none_or(|v| *v == taint.value)
    }
}

fn clip(s: &str) -> String {
    s.chars().take(120).collect()
}

impl FromStr for NodeAttribute {
    type Err = ExpressionError;
    fn from_str(s: &str) -> Result<Self, ExpressionError> {
        match s {
            "node.name" => Ok(Self::Name),
            "node.os" => Ok(Self::Os),
            "node.arch" => Ok(Self::Arch),
            _ => match s.strip_prefix("node.labels.") {
                Some(key) if check_label_key(key).is_ok() => Ok(Self::Label(key.to_owned())),
                _ => Err(ExpressionError::Attribute(clip(s))),
            },
        }
    }
}

impl FromStr for Requirement {
    type Err = ExpressionError;
    fn from_str(s: &str) -> Result<Self, ExpressionError> {
        let error = || ExpressionError::Requirement(clip(s));
        let value = |v: &str| {
            let v = v.trim();
            let v = v
                .strip_prefix('"')
                .and_then(|v| v.strip_suffix('"'))
                .unwrap_or(v);
            let plain =
                !v.is_empty() && v.len() <= 256 && !v.contains(['"', '(', ')', ',', '=', '!']);
            plain.then(|| v.to_owned()).ok_or_else(error)
        };
        let values = |v: &str| {
            let inner = v.trim().strip_prefix('(').and_then(|v| v.strip_suffix(')'));
            inner
                .ok_or_else(error)?
                .split(',')
                .map(value)
                .collect::<Result<Vec<_>, _>>()
        };
        let text = s.trim();
        if let Some((left, right)) = text.split_once("==") {
            Ok(Self::In(left.trim().parse()?, vec![value(right)?]))
        } else if let Some((left, right)) = text.split_once("!=") {
            Ok(Self::NotIn(left.trim().parse()?, vec![value(right)?]))
        } else if let Some((left, right)) = text.split_once(" not in ") {
            Ok(Self::NotIn(left.trim().parse()?, values(right)?))
        } else if let Some((left, right)) = text.split_once(" in ") {
            Ok(Self::In(left.trim().parse()?, values(right)?))
        } else if text.contains(char::is_whitespace) || text.is_empty() {
            Err(error())
        } else if let Some(attribute) = text.strip_prefix('!') {
            Ok(Self::Missing(attribute.parse()?))
        } else {
            Ok(Self::Exists(text.parse()?))
        }
    }
}

fn key_value(s: &str) -> Result<(String, Option<String>), ExpressionError> {
    let error = || ExpressionError::Taint(clip(s));
    let (key, value) = match s.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (s, None),
    };
    check_label_key(key).map_err(|_| error())?;
    match value {
        Some(v) if v.is_empty() || v.len() > 256 || v.contains(char::is_whitespace) => Err(error()),
        _ => Ok((key.to_owned(), value.map(str::to_owned))),
    }
}

impl FromStr for Taint {
    type Err = ExpressionError;
    fn from_str(s: &str) -> Result<Self, ExpressionError> {
        let (key, value) = key_value(s)?;
        Ok(Self {
            key,
            value: value.unwrap_or_default(),
        })
    }
}

impl FromStr for Toleration {
    type Err = ExpressionError;
    fn from_str(s: &str) -> Result<Self, ExpressionError> {
        let (key, value) = key_value(s)?;
        Ok(Self { key, value })
    }
}

impl fmt::Display for NodeAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(key) => write!(f, "node.labels.{key}"),
            Self::Name => f.write_str("node.name"),
            Self::Os => f.write_str("node.os"),
            Self::Arch => f.write_str("node.arch"),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(a, values) if values.len() == 1 => write!(f, "{a} == {}", values[0]),
            Self::NotIn(a, values) if values.len() == 1 => write!(f, "{a} != {}", values[0]),
            Self::In(a, values) => write!(f, "{a} in ({})", values.join(", ")),
            Self::NotIn(a, values) => write!(f, "{a} not in ({})", values.join(", ")),
            Self::Exists(a) => write!(f, "{a}"),
            Self::Missing(a) => write!(f, "!{a}"),
        }
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            f.write_str(&self.key)
        } else {
            write!(f, "{}={}", self.key, self.value)
        }
    }
}

impl fmt::Display for Toleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => f.write_str(&self.key),
            Some(value) => write!(f, "{}={value}", self.key),
        }
    }
}

macro_rules! text_serde {
    ($name:ident, $example:expr) => {
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

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "examples": [$example] })
            }
        }
    };
}

text_serde!(NodeAttribute, "node.labels.rack");
text_serde!(Requirement, "node.labels.zone == eu");
text_serde!(Taint, "dedicated=gpu");
text_serde!(Toleration, "dedicated=gpu");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_read_print_and_decide() {
        let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
        let name = "n1".parse().unwrap();
        let node = NodeFacts {
            name: &name,
            labels: &labels,
            os: "linux",
            arch: "x86_64",
        };
        for (text, met) in [
            ("node.labels.zone == eu", true),
            ("node.labels.zone != eu", false),
            ("node.labels.rack != 7", true),
            ("node.labels.zone in (us, eu)", true),
            ("node.labels.zone not in (us, eu)", false),
            ("node.labels.zone", true),
            ("!node.labels.zone", false),
            ("node.name == n2", false),
        ] {
            let requirement: Requirement = text.parse().unwrap();
            assert_eq!(requirement.is_met_by(node), met, "{text}");
            assert_eq!(requirement.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in [
            "",
            "zone == eu",
            "node.labels. == eu",
            "node.labels.zone =",
            "node.labels.a b",
            "node.labels.zone == ",
            "node.labels.zone in eu",
            "node.labels.zone == a == b",
        ] {
            assert!(bad.parse::<Requirement>().is_err(), "{bad}");
        }
        for bad in ["", "=x", "a b", "a="] {
            assert!(bad.parse::<Toleration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_toleration_without_value_covers_any() {
        let taint: Taint = "dedicated=gpu".parse().unwrap();
        assert!("dedicated".parse::<Toleration>().unwrap().covers(&taint));
        assert!(!"dedicated=db".parse::<Toleration>().unwrap().covers(&taint));
    }
}
