//! A sequence or mapping whose end was not read yet.

use std::{collections::HashMap, sync::Arc};

use crate::{
    node::{Entry, Key, Node, Size, Span, Value, push_index, push_key},
    scalar::Form,
};

const MERGE_KEY: &str = "<<";

pub(super) struct Frame {
    pub(super) span: Span,
    /// The parser's number for the anchor; 0 if there is none.
    pub(super) anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Arc<Node>>),
    Mapping(Mapping),
}

#[derive(Default)]
struct Mapping {
    entries: Vec<Entry>,
    /// Where each key was first seen.
    seen: HashMap<Arc<str>, Span>,
    /// What `<<` brings in, the first one before the second.
    merged: Vec<Arc<Node>>,
    pending: Option<Pending>,
}

/// A key whose value comes next.
enum Pending {
    Key(Key),
    /// `<<`: the value is a mapping whose entries belong here.
    Merge,
    /// The key was refused: the value is read, and dropped.
    Refused(Arc<str>),
}

/// Why a node cannot be where it is.
pub(super) enum Refusal {
    ComplexKey,
    /// The key was first seen there.
    Duplicate(Span),
    Merge,
}

impl Frame {
    pub(super) fn sequence(span: Span, anchor: usize) -> Self {
        Self {
            span,
            anchor,
            content: Content::Sequence(Vec::new()),
        }
    }

    pub(super) fn mapping(span: Span, anchor: usize) -> Self {
        Self {
            span,
            anchor,
            content: Content::Mapping(Mapping::default()),
        }
    }

    pub(super) fn add(&mut self, node: Arc<Node>, at: Span) -> Result<(), Refusal> {
        match &mut self.content {
            Content::Sequence(items) => {
                items.push(node);
                Ok(())
            }
            Content::Mapping(mapping) => match mapping.pending.take() {
                None => mapping.key(&node, at),
                Some(Pending::Refused(_)) => Ok(()),
                Some(Pending::Key(key)) => {
                    mapping.entries.push(Entry { key, node });
                    Ok(())
                }
                Some(Pending::Merge) => mapping.merge(node),
            },
        }
    }

    pub(super) fn push_path(&self, path: &mut String) {
        match &self.content {
            Content::Sequence(items) => push_index(path, items.len()),
            Content::Mapping(mapping) => match &mapping.pending {
                Some(Pending::Key(key)) => push_key(path, &key.text),
                Some(Pending::Merge) => push_key(path, MERGE_KEY),
                Some(Pending::Refused(key)) => push_key(path, key),
                None => {}
            },
        }
    }

    pub(super) fn close(self) -> Node {
        let span = self.span;
        let mut size = Size {
            nodes: 1,
            ..Size::default()
        };
        let value = match self.content {
            Content::Sequence(items) => {
                items.iter().for_each(|item| size.include(item));
                Value::Sequence(items)
            }
            Content::Mapping(mapping) => {
                let entries = mapping.close();
                for entry in &entries {
                    size.nodes += 1;
                    size.bytes += entry.key.text.len();
                    size.include(&entry.node);
                }
                Value::Mapping(entries)
            }
        };
        size.depth += 1;
        Node { span, value, size }
    }
}

impl Mapping {
    fn key(&mut self, node: &Node, at: Span) -> Result<(), Refusal> {
        let Value::Scalar(scalar) = &node.value else {
            return Err(Refusal::ComplexKey);
        };
        let text: Arc<str> = scalar.text.as_str().into();
        if let Some(first) = self.seen.get(&text) {
            self.pending = Some(Pending::Refused(text));
            return Err(Refusal::Duplicate(*first));
        }
        self.seen.insert(Arc::clone(&text), at);
        self.pending = Some(if *text == *MERGE_KEY && scalar.form == Form::Plain {
            Pending::Merge
        } else {
            Pending::Key(Key { text, span: at })
        });
        Ok(())
    }

    fn merge(&mut self, node: Arc<Node>) -> Result<(), Refusal> {
        let is_mapping = |n: &Node| matches!(n.value, Value::Mapping(_));
        match &node.value {
            Value::Mapping(_) => self.merged.push(node),
            Value::Sequence(items) if items.iter().all(|i| is_mapping(i)) => {
                self.merged.extend(items.iter().cloned());
            }
            Value::Sequence(_) | Value::Scalar(_) => return Err(Refusal::Merge),
        }
        Ok(())
    }

    /// The entries: what is written here comes before what was merged.
    fn close(mut self) -> Vec<Entry> {
        for node in self.merged {
            let Value::Mapping(entries) = &node.value else {
                continue;
            };
            for entry in entries {
                if !self.seen.contains_key(&entry.key.text) {
                    self.seen
                        .insert(Arc::clone(&entry.key.text), entry.key.span);
                    self.entries.push(entry.clone());
                }
            }
        }
        self.entries
    }
}

impl Size {
    fn include(&mut self, node: &Node) {
        self.nodes += node.size.nodes;
        self.bytes += node.size.bytes;
        self.depth = self.depth.max(node.size.depth);
    }
}
