//! Why a node could not be read.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use crate::{suggest, text::clip};

/// The most characters of a value that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// One error of serde, and the way to the node that it is about.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) blame: Blame,
    /// Positions in mappings and sequences, the innermost first.
    trail: Vec<usize>,
}

/// What is wrong.
#[derive(Debug)]
pub(crate) enum Kind {
    /// The node lacks a field that it must have.
    Missing(&'static str),
    /// The mapping has a field that is not known.
    Unknown {
        /// The field that was probably meant.
        meant: Option<&'static str>,
        help: String,
    },
    /// Anything else.
    Wrong {
        message: String,
        help: Option<String>,
    },
}

/// What of an entry is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    Key,
    Value,
}

impl Fault {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            blame: Blame::Value,
            trail: Vec::new(),
        }
    }

    fn wrong(message: String, help: Option<String>) -> Self {
        Self::new(Kind::Wrong { message, help })
    }

    /// The way from the root.
    pub(crate) fn trail(&self) -> Vec<usize> {
        self.trail.iter().rev().copied().collect()
    }

    /// The same fault, seen from the collection that holds the node at this position.
    pub(super) fn below(mut self, position: usize) -> Self {
        self.trail.push(position);
        self
    }

    /// The fault of a key, seen from its mapping.
    pub(super) fn at_key(mut self, position: usize) -> Self {
        self.blame = Blame::Key;
        self.below(position)
    }

    pub(super) fn not_a_variant(found: Unexpected<'_>, variants: &[&str]) -> Self {
        let known: Vec<_> = variants.iter().map(|v| format!("`{v}`")).collect();
        let known = match known.as_slice() {
            [many @ .., last] if !many.is_empty() => format!("{} or {last}", many.join(", ")),
            few => few.join(""),
        };
        Self::wrong(
            format!("expected {known}, not {}", shown(found)),
            value_help(found),
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Missing(field) => write!(f, "missing field `{field}`"),
            Kind::Unknown { .. } => f.write_str("unknown field"),
            Kind::Wrong { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::wrong(message.to_string(), None)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expectation(&expected.to_string());
        let help = match found {
            Unexpected::Bool(_)
            | Unexpected::Unsigned(_)
            | Unexpected::Signed(_)
            | Unexpected::Float(_)
                if expected == "a string" =>
            {
                Some("put it in quotes".to_owned())
            }
            Unexpected::Str(_) if expected == "a list" => {
                Some("write `[a, b]`, or lines that begin with `- `".to_owned())
            }
            _ => value_help(found),
        };
        Self::wrong(format!("expected {expected}, not {}", shown(found)), help)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expectation(&expected.to_string());
        Self::wrong(format!("expected {expected}, not {}", shown(found)), None)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("`{}` is not known", clip(variant, SHOWN_CHARS_MAX));
        Self::wrong(message, Some(suggest::help(variant, expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let kind = Kind::Unknown {
            meant: suggest::nearest(field, expected),
            help: suggest::help(field, expected),
        };
        Self::new(kind)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::Missing(field))
    }
}

/// What to do about a key without a value.
fn value_help(found: Unexpected<'_>) -> Option<String> {
    (found == Unexpected::Unit).then(|| "give it a value, or remove the key".to_owned())
}

/// What serde expects, in the words of YAML.
fn expectation(serde: &str) -> String {
    match serde {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "a mapping",
        other if other.starts_with("struct ") => "a mapping",
        other => other,
    }
    .to_owned()
}

fn shown(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Bool(b) => format!("the boolean `{b}`"),
        Unexpected::Unsigned(n) => format!("the number `{n}`"),
        Unexpected::Signed(n) => format!("the number `{n}`"),
        Unexpected::Float(n) => format!("the number `{n}`"),
        Unexpected::Str(text) => format!("the text `{}`", clip(text, SHOWN_CHARS_MAX)),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}
