//! A document as a tree of nodes that know their place in the text.

use std::sync::Arc;

use crate::scalar::Scalar;

/// A place in a text: where it begins, and how much of the line belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// In characters; [`usize::MAX`] if what begins here goes on in further lines.
    pub(crate) width: usize,
}

/// A value. Nodes are shared where a document uses an alias.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    pub(crate) size: Size,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) node: Arc<Node>,
}

/// The key of an entry, always text.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: Arc<str>,
    pub(crate) span: Span,
}

/// What a node amounts to when every alias in it is written out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) nodes: usize,
    pub(crate) bytes: usize,
    /// How many collections are nested in each other; 0 for a scalar.
    pub(crate) depth: usize,
}

/// A node that was looked up, and how it was reached.
pub(crate) struct Found<'a> {
    /// The path of the field, like `spec.ports[1].host`.
    pub(crate) path: String,
    /// The key it stands under; absent for an element of a sequence and for the root.
    pub(crate) key: Option<Span>,
    pub(crate) node: &'a Node,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| *e.key.text == *key)
    }

    /// The entries, if this is a mapping.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            Value::Scalar(_) | Value::Sequence(_) => &[],
        }
    }

    /// The node that a trail of positions in mappings and sequences leads to.
    pub(crate) fn follow(&self, trail: &[usize]) -> Found<'_> {
        let mut found = Found::root(self);
        for position in trail {
            match &found.node.value {
                Value::Mapping(entries) => found.enter(&entries[*position]),
                Value::Sequence(items) => found.enter_item(*position, &items[*position]),
                Value::Scalar(_) => break,
            }
        }
        found
    }

    /// The node at a field's path, or the nearest existing one above it. Keys may contain dots
    /// and brackets themselves: the longest key that fits wins.
    pub(crate) fn find(&self, path: &str) -> Found<'_> {
        let mut found = Found::root(self);
        let mut rest = path;
        while !rest.is_empty() {
            match &found.node.value {
                Value::Mapping(entries) => {
                    let fitting = entries.iter().filter(|e| begins(rest, &e.key.text));
                    let Some(entry) = fitting.max_by_key(|e| e.key.text.len()) else {
                        break;
                    };
                    rest = &rest[entry.key.text.len()..];
                    found.enter(entry);
                }
                Value::Sequence(items) => {
                    let position = rest
                        .strip_prefix('[')
                        .and_then(|r| r.split_once(']'))
                        .and_then(|(n, after)| Some((n.parse::<usize>().ok()?, after)));
                    let Some((position, after)) = position.filter(|(n, _)| *n < items.len()) else {
                        break;
                    };
                    rest = after;
                    found.enter_item(position, &items[position]);
                }
                Value::Scalar(_) => break,
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
        found
    }
}

/// Whether a path begins with this key, as a whole.
fn begins(path: &str, key: &str) -> bool {
    let rest = path.strip_prefix(key);
    rest.is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']))
}

impl<'a> Found<'a> {
    fn root(node: &'a Node) -> Self {
        Self {
            path: String::new(),
            key: None,
            node,
        }
    }

    fn enter(&mut self, entry: &'a Entry) {
        push_key(&mut self.path, &entry.key.text);
        self.key = Some(entry.key.span);
        self.node = &entry.node;
    }

    fn enter_item(&mut self, position: usize, node: &'a Node) {
        push_index(&mut self.path, position);
        self.key = None;
        self.node = node;
    }

    /// What to point at when the value is wrong: the value if it is a scalar that can be seen,
    /// otherwise the key, since a collection may go on for many lines.
    pub(crate) fn span(&self) -> Span {
        let seen = matches!(self.node.value, Value::Scalar(_)) && self.node.span.width > 0;
        match self.key {
            Some(key) if !seen => key,
            _ => self.node.span,
        }
    }
}

/// Appends a key to the path of a field.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// Appends a position in a sequence to the path of a field.
pub(crate) fn push_index(path: &mut String, position: usize) {
    path.push_str(&format!("[{position}]"));
}

#[cfg(test)]
mod tests {
    use crate::{
        text::Text,
        tree::{Budget, Documents},
    };

    #[test]
    fn paths_lead_to_the_nearest_node() {
        let text = Text::new(
            "x",
            "spec:\n  labels:\n    a: 1\n    a.b: 2\n    a.b/c[0]: 3\n  ports:\n  - host: 1\n  - { host: 2 }\n",
        );
        let document = Documents::of(&text).next(&mut Budget::for_a_call());
        let root = document.unwrap().unwrap().root;
        for (path, found, line, column) in [
            ("spec.labels.a", "spec.labels.a", 3, 8),
            ("spec.labels.a.b", "spec.labels.a.b", 4, 10),
            ("spec.labels.a.b/c[0]", "spec.labels.a.b/c[0]", 5, 15),
            ("spec.labels.ab", "spec.labels", 2, 3),
            ("spec.ports[1].host", "spec.ports[1].host", 8, 13),
            ("spec.ports[0].container", "spec.ports[0]", 7, 5),
            ("spec.ports[7].host", "spec.ports", 6, 3),
            ("spec.ports[x", "spec.ports", 6, 3),
            ("status", "", 1, 1),
            ("", "", 1, 1),
        ] {
            let at = root.find(path);
            assert_eq!(at.path, found, "{path}");
            assert_eq!((at.span().line, at.span().column), (line, column), "{path}");
        }
    }
}
