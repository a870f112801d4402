//! Selectors: which of a list's items are wanted.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::validate::check_label_key;

/// Conditions that an item must meet, all of them: `a=b,c!=d,e,!f`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Equals(String, String),
    Differs(String, String),
    Exists(String),
    Missing(String),
}

/// A string is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a selector: write conditions like `key=value`, `key!=value`, `key` or `!key`, with commas between them"
)]
pub struct SelectorError(String);

impl Selector {
    /// Whether every item is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that are asked for.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|c| match c {
            Condition::Equals(k, _)
            | Condition::Differs(k, _)
            | Condition::Exists(k)
            | Condition::Missing(k) => k.as_str(),
        })
    }

    /// Whether an item is selected whose values `get` looks up.
    pub fn selects<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|c| match c {
            Condition::Equals(k, v) => get(k) == Some(v.as_str()),
            Condition::Differs(k, v) => get(k) != Some(v.as_str()),
            Condition::Exists(k) => get(k).is_some(),
            Condition::Missing(k) => get(k).is_none(),
        })
    }

    /// Whether an item with these labels is selected.
    #[must_use]
    pub fn selects_labels<V: AsRef<str>>(&self, labels: &BTreeMap<String, V>) -> bool {
        self.selects(|key| labels.get(key).map(AsRef::as_ref))
    }
}

impl AsRef<str> for crate::spec::ScalarText {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(s: &str) -> Result<Self, SelectorError> {
        if s.trim().is_empty() {
            return Ok(Self::default());
        }
        s.split(',')
            .map(|c| condition(c.trim()))
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| SelectorError(s.chars().take(120).collect()))
    }
}

fn condition(s: &str) -> Option<Condition> {
    let key = |k: &str| {
        check_label_key(k.trim())
            .is_ok()
            .then(|| k.trim().to_owned())
    };
    if let Some((k, v)) = s.split_once("!=") {
        Some(Condition::Differs(key(k)?, v.trim().to_owned()))
    } else if let Some((k, v)) = s.split_once("==").or_else(|| s.split_once('=')) {
        Some(Condition::Equals(key(k)?, v.trim().to_owned()))
    } else if let Some(k) = s.strip_prefix('!') {
        Some(Condition::Missing(key(k)?))
    } else {
        Some(Condition::Exists(key(s)?))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, c) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match c {
                Condition::Equals(k, v) => write!(f, "{comma}{k}={v}")?,
                Condition::Differs(k, v) => write!(f, "{comma}{k}!={v}")?,
                Condition::Exists(k) => write!(f, "{comma}{k}")?,
                Condition::Missing(k) => write!(f, "{comma}!{k}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        for (text, selected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=db", true),
            ("app", true),
            ("!app", false),
        ] {
            assert_eq!(
                text.parse::<Selector>().unwrap().selects_labels(&labels),
                selected,
                "{text}"
            );
        }
        for bad in [",", "=x", "a b=c", "!"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }
}
