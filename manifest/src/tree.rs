//! From the parser's events to trees of nodes: "composing", in the words of the YAML
//! specification. What an alias stands for is shared, and counted as if it was written out.

mod composer;
mod frame;

use std::sync::Arc;

use saphyr_parser::{Event, Parser, StrInput};

use composer::{Composer, Stop};

use crate::{
    node::{Node, Size, Span},
    syntax,
    text::{Mistake, Text},
};

/// How deep collections may be nested. The deepest manifest needs 6.
pub(crate) const DEPTH_MAX: usize = 64;
/// How many values one call may hold once aliases are written out. A resource with every field
/// has about 100, and a call has at most 500 resources.
const NODES_MAX: usize = 100_000;
/// How many bytes of text one call may hold once aliases are written out: as much as is read.
const BYTES_MAX: usize = crate::source::TOTAL_BYTES_MAX;

/// What may still be read in a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    nodes: usize,
    bytes: usize,
}

/// A document that is not empty.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Arc<Node>,
    /// What was wrong with it, but did not hide the rest of it.
    pub(crate) mistakes: Vec<Mistake>,
}

/// The documents of a text, one after the other. After a mistake that hides the rest of a
/// document, the next one is the next line that begins one.
pub(crate) struct Documents<'t> {
    text: &'t Text<'t>,
    parser: Parser<'t, StrInput<'t>>,
    /// The parser's line 1, in the text.
    first_line: usize,
    /// The line in which the current document begins.
    document_line: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    /// The budget of the call did not suffice.
    Spent,
}

impl Budget {
    pub(crate) fn for_a_call() -> Self {
        Self {
            nodes: NODES_MAX,
            bytes: BYTES_MAX,
        }
    }

    fn spend(&mut self, size: Size, span: Span) -> Result<(), Stop> {
        let nodes = self.nodes.checked_sub(size.nodes);
        let bytes = self.bytes.checked_sub(size.bytes);
        let (Some(nodes), Some(bytes)) = (nodes, bytes) else {
            let message = format!(
                "more than {NODES_MAX} values or {} MiB of text once every alias is written out",
                BYTES_MAX >> 20
            );
            let help = "use fewer aliases, or apply fewer resources at a time";
            return Err(Stop::Call(Mistake::new(span, "", message).with_help(help)));
        };
        (self.nodes, self.bytes) = (nodes, bytes);
        Ok(())
    }
}

impl<'t> Documents<'t> {
    pub(crate) fn of(text: &'t Text<'t>) -> Self {
        Self {
            text,
            parser: Parser::new_from_str(text.text),
            first_line: 1,
            document_line: 1,
            state: State::Reading,
        }
    }

    /// The next document that is not empty, or why it cannot be read.
    pub(crate) fn next(&mut self, budget: &mut Budget) -> Option<Result<Document, Mistake>> {
        while self.state == State::Reading {
            let mistake = match self.compose(budget) {
                Ok(Some(document)) => return Some(Ok(document)),
                Ok(None) => continue,
                Err(Stop::Call(mistake)) => {
                    self.state = State::Spent;
                    return Some(Err(mistake));
                }
                Err(Stop::Document(mistake)) => mistake,
                Err(Stop::UnknownAnchor(span)) => syntax::unknown_anchor(span, self.text),
                Err(Stop::Syntax(error)) => {
                    let line = error.marker().line() + self.first_line - 1;
                    syntax::explain(&error, line, self.text)
                }
            };
            self.recover(mistake.span.line);
            return Some(Err(mistake));
        }
        None
    }

    /// Whether reading ended since the budget of the call did not suffice.
    pub(crate) fn budget_is_spent(&self) -> bool {
        self.state == State::Spent
    }

    /// Goes on at the first document that begins after the current one and not before a line.
    fn recover(&mut self, line: usize) {
        match self.text.next_document(line.max(self.document_line + 1)) {
            None => self.state = State::Ended,
            Some(line) => {
                self.parser = Parser::new_from_str(&self.text.text[self.text.start_of(line)..]);
                self.first_line = line;
                self.document_line = line;
            }
        }
    }

    /// Reads up to the end of a document; `None` if it is empty, or the text ended.
    fn compose(&mut self, budget: &mut Budget) -> Result<Option<Document>, Stop> {
        let mut composer = Composer::default();
        loop {
            let Some(event) = self.parser.next_event() else {
                self.state = State::Ended;
                return Ok(None);
            };
            let (event, span) = event.map_err(Stop::Syntax)?;
            let span = self.span(span);
            match event {
                Event::Nothing | Event::StreamStart => {}
                Event::StreamEnd => self.state = State::Ended,
                Event::DocumentStart(_) => self.document_line = span.line,
                Event::DocumentEnd => return Ok(composer.finish()),
                event => composer.take(event, span, budget)?,
            }
        }
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        let (start, end) = (span.start, span.end);
        Span {
            line: start.line() + self.first_line - 1,
            column: start.col() + 1,
            width: if start.line() == end.line() {
                end.col().saturating_sub(start.col())
            } else {
                usize::MAX
            },
        }
    }
}

#[cfg(test)]
mod tests;
