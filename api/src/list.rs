//! Lists and watches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Version;

/// How many items a page has unless `limit` says otherwise.
pub const PAGE_DEFAULT: usize = 500;
/// The most items of one page.
pub const PAGE_MAX: usize = 5_000;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "{T}List")]
pub struct List<T> {
    /// The items, in the order of their names.
    pub items: Vec<T>,
    /// The version of the state that the page was taken from. A watch can begin at that of the
    /// first page: later ones are taken from later states.
    pub version: Version,
    /// Where the next page begins; absent on the last one. Pass it as `continue`. A page can have
    /// fewer items than `limit` and not be the last, if they are large.
    #[serde(rename = "continue", default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One message of a watch, sent as one server-sent event: the event's `event` is the type, its
/// `data` this object, and its `id`, on the last event of a version, that version: a watch can go
/// on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
#[schemars(rename = "{T}WatchEvent")]
pub enum WatchEvent<T> {
    /// The object was made or changed.
    Put {
        /// The version of the change.
        version: Version,
        /// The object after it.
        object: T,
    },
    /// The object is gone, or no longer selected.
    Delete {
        /// The version of the change.
        version: Version,
        /// The object's name: `namespace/name`, or `name` where there is no namespace.
        name: String,
    },
    /// Nothing that is selected changed up to this version. Sent now and then, so that a watch
    /// that is interrupted can go on from a version that is not yet forgotten.
    Bookmark {
        /// The version.
        version: Version,
    },
    /// The watcher was too slow and missed changes: list again, and watch from there.
    Gone {
        /// The oldest version from which a watch can begin.
        oldest: Version,
    },
}
