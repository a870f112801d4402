//! What happens to instances whose node is not heard from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Span;

/// What happens to instances whose node is lost: nobody can tell whether they run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisconnectPolicy {
    /// How much longer than it takes to declare a node lost an instance on it is waited for before
    /// it is replaced. Default `0s`: it is replaced at once.
    #[serde(default, skip_serializing_if = "Span::is_zero")]
    pub lost_after: Span,
    /// Whether an instance on a lost node is replaced. Default `true`; otherwise its node is waited
    /// for, however long it takes.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub replace: bool,
    /// How long an agent lets it run without having heard from the server. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Span>,
    /// Which of the two stays when the node is back. Default `keepOriginal`.
    #[serde(default)]
    pub on_return: OnReturn,
}

/// Which of an instance and its replacement stays when the lost node is back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnReturn {
    /// The one that was there first, if it can serve within 30 s of its node's return.
    #[default]
    KeepOriginal,
    /// The one that replaced it.
    KeepReplacement,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

impl Default for DisconnectPolicy {
    fn default() -> Self {
        Self {
            lost_after: Span::default(),
            replace: true,
            stop_after: None,
            on_return: OnReturn::default(),
        }
    }
}

impl DisconnectPolicy {
    /// Whether nothing but the defaults is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
