//! One document: what the parser's events make of it.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, ScalarStyle, ScanError, Tag};

use super::{
    Budget, DEPTH_MAX, Document,
    frame::{Frame, Refusal},
};
use crate::{
    collect::MISTAKES_MAX,
    node::{Node, Size, Span, Value},
    scalar::{Form, Scalar},
    syntax::too_deep,
    text::Mistake,
};

/// Why the rest of a document is not read.
pub(super) enum Stop {
    /// The text is not YAML.
    Syntax(ScanError),
    /// An alias of nothing.
    UnknownAnchor(Span),
    /// This document is refused.
    Document(Mistake),
    /// Nothing more of this call is read.
    Call(Mistake),
}

/// A document on its way.
#[derive(Default)]
pub(super) struct Composer {
    stack: Vec<Frame>,
    root: Option<Arc<Node>>,
    /// The value of each anchor; `None` while it is still being read.
    anchors: HashMap<usize, Option<Arc<Node>>>,
    mistakes: Vec<Mistake>,
}

impl Composer {
    /// The document, unless it is empty.
    pub(super) fn finish(self) -> Option<Document> {
        let root = self.root?;
        let empty =
            matches!(&root.value, Value::Scalar(s) if s.text.is_empty() && s.form == Form::Plain);
        (!empty || !self.mistakes.is_empty()).then_some(Document {
            root,
            mistakes: self.mistakes,
        })
    }

    /// Takes an event of this document. What stands for no node is passed over.
    pub(super) fn take(
        &mut self,
        event: Event<'_>,
        span: Span,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let one = Size {
            nodes: 1,
            ..Size::default()
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = self.scalar(text.into_owned(), style, tag.as_deref(), span);
                let size = Size {
                    bytes: scalar.text.len(),
                    ..one
                };
                budget.spend(size, span)?;
                let value = Value::Scalar(scalar);
                self.complete(anchor, Node { span, value, size })?;
            }
            Event::SequenceStart(anchor, tag) => {
                budget.spend(one, span)?;
                self.open(Frame::sequence(span, anchor), tag.as_deref(), "seq")?;
            }
            Event::MappingStart(anchor, tag) => {
                budget.spend(one, span)?;
                self.open(Frame::mapping(span, anchor), tag.as_deref(), "map")?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.stack.pop() {
                    let anchor = frame.anchor;
                    self.complete(anchor, frame.close())?;
                }
            }
            Event::Alias(anchor) => self.alias(anchor, span, budget)?,
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame, tag: Option<&Tag>, own_tag: &str) -> Result<(), Stop> {
        let fits = |t: &Tag| t.is_yaml_core_schema() && t.suffix == own_tag;
        if let Some(tag) = tag.filter(|t| !fits(t)) {
            self.refuse_tag(tag, frame.span);
        }
        if self.stack.len() >= DEPTH_MAX {
            return Err(Stop::Document(too_deep(frame.span)));
        }
        if frame.anchor > 0 {
            self.anchors.insert(frame.anchor, None);
        }
        self.stack.push(frame);
        Ok(())
    }

    /// A node is whole: it becomes what its anchor stands for, and a part of what is open.
    fn complete(&mut self, anchor: usize, node: Node) -> Result<(), Stop> {
        let node = Arc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Some(Arc::clone(&node)));
        }
        let span = node.span;
        self.add(node, span)
    }

    fn alias(&mut self, anchor: usize, span: Span, budget: &mut Budget) -> Result<(), Stop> {
        // Anchors end with their document, which the parser does not know.
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Stop::UnknownAnchor(span));
        };
        let Some(node) = node.clone() else {
            let mistake = Mistake::new(
                span,
                self.path(),
                "an alias cannot stand for a part of itself",
            );
            return Err(Stop::Document(mistake));
        };
        budget.spend(node.size, span)?;
        if self.stack.len() + node.size.depth > DEPTH_MAX {
            return Err(Stop::Document(too_deep(span)));
        }
        self.add(node, span)
    }

    /// Adds a node to what is open. `at` is where it is used, which for an alias is not where
    /// it was defined.
    fn add(&mut self, node: Arc<Node>, at: Span) -> Result<(), Stop> {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let refused = frame.add(node, at);
        let mistake = |message: &str| Mistake::new(at, self.path(), message);
        let mistake = match refused {
            Ok(()) => return Ok(()),
            // Mostly a template, of which the rest makes no sense either.
            Err(Refusal::ComplexKey) => {
                let help = "if this is a template, render it first; if it is a value, quote it";
                let mistake = mistake("a key must be plain text").with_help(help);
                return Err(Stop::Document(mistake));
            }
            Err(Refusal::Duplicate(first)) => mistake(&format!(
                "this key is there twice, first in line {}",
                first.line
            ))
            .with_help("remove one of them"),
            Err(Refusal::Merge) => mistake("`<<` takes a mapping, or a list of mappings")
                .with_help("write an alias of a mapping, like `<<: *base`"),
        };
        self.note(mistake);
        Ok(())
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, tag: Option<&Tag>, at: Span) -> Scalar {
        let form = match style {
            ScalarStyle::Plain => Form::Plain,
            ScalarStyle::SingleQuoted
            | ScalarStyle::DoubleQuoted
            | ScalarStyle::Literal
            | ScalarStyle::Folded => Form::Text,
        };
        let Some(tag) = tag else {
            return Scalar { text, form };
        };
        if tag.is_yaml_core_schema() && tag.suffix == "str" {
            let form = Form::Text;
            return Scalar { text, form };
        }
        self.refuse_tag(tag, at);
        // `!node.labels.gpu` was meant to be text. Read as such it is no second mistake.
        if text.is_empty() && !tag.is_yaml_core_schema() {
            let (text, form) = (tag.to_string(), Form::Text);
            return Scalar { text, form };
        }
        Scalar { text, form }
    }

    fn refuse_tag(&mut self, tag: &Tag, span: Span) {
        let (shown, help) = if tag.is_yaml_core_schema() {
            (format!("!!{}", tag.suffix), "remove the tag")
        } else {
            let help = "put a value that begins with `!` in quotes, or remove the tag";
            (tag.to_string(), help)
        };
        let message = format!("the tag `{shown}` is not taken here");
        let mistake = Mistake::new(span, self.path(), message).with_help(help);
        self.note(mistake);
    }

    fn note(&mut self, mistake: Mistake) {
        if self.mistakes.len() < MISTAKES_MAX {
            self.mistakes.push(mistake);
        }
    }

    /// The path of what is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            frame.push_path(&mut path);
        }
        path
    }
}
