//! The text of a source: its lines, and how pieces of it are shown.

use crate::{
    error::{Error, Excerpt, Place},
    node::Span,
};

/// The most characters of a line that an excerpt shows.
const EXCERPT_CHARS_MAX: usize = 100;
/// How many characters an excerpt of a long line shows before what is to blame.
const EXCERPT_LEAD: usize = 40;

/// A mistake whose source is known from where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) span: Span,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Mistake {
    pub(crate) fn new(span: Span, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            span,
            path: path.into(),
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A named text, split into lines as YAML does: at LF, CR LF and CR.
pub(crate) struct Text<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    /// Where each line begins, in bytes.
    starts: Vec<usize>,
    /// The last line that is not blank, or 1.
    pub(crate) last_line: usize,
}

impl<'a> Text<'a> {
    pub(crate) fn new(name: &'a str, text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let mut starts = vec![0];
        for (i, byte) in bytes.iter().enumerate() {
            let ends_line = match byte {
                b'\n' => true,
                b'\r' => bytes.get(i + 1) != Some(&b'\n'),
                _ => false,
            };
            if ends_line {
                starts.push(i + 1);
            }
        }
        let end = text.trim_end().len();
        let last_line = starts.partition_point(|start| *start < end).max(1);
        Self {
            name,
            text,
            starts,
            last_line,
        }
    }

    /// A line, counted from 1, without its end; empty if there is no such line.
    pub(crate) fn line(&self, number: usize) -> &'a str {
        let Some(start) = number.checked_sub(1).and_then(|i| self.starts.get(i)) else {
            return "";
        };
        let end = self.starts.get(number).copied().unwrap_or(self.text.len());
        self.text[*start..end].trim_end_matches(['\r', '\n'])
    }

    /// Where a line begins, in bytes.
    pub(crate) fn start_of(&self, line: usize) -> usize {
        let start = self.starts.get(line.saturating_sub(1)).copied();
        start.unwrap_or(self.text.len())
    }

    /// The first line at or after `line` that begins a document.
    pub(crate) fn next_document(&self, line: usize) -> Option<usize> {
        (line..=self.starts.len()).find(|number| {
            let rest = self.line(*number).strip_prefix("---");
            rest.is_some_and(|r| r.is_empty() || r.starts_with([' ', '\t']))
        })
    }

    /// The mistake with its source, place and line.
    pub(crate) fn error(&self, mistake: &Mistake) -> Error {
        let Span { line, column, .. } = mistake.span;
        let place = Place {
            line,
            column,
            excerpt: self.excerpt(mistake.span),
        };
        let help = mistake.help.as_deref();
        Error::new(
            self.name,
            Some(place),
            &mistake.path,
            &mistake.message,
            help,
        )
    }

    fn excerpt(&self, span: Span) -> Excerpt {
        let line = self.line(span.line);
        let at = span.column.saturating_sub(1);
        let skipped = if at < EXCERPT_CHARS_MAX {
            0
        } else {
            at - EXCERPT_LEAD
        };
        let text: String = line.chars().skip(skipped).take(EXCERPT_CHARS_MAX).collect();
        let text = printable(text.trim_end());
        let before = at - skipped;
        let blamed: String = line.chars().skip(at).take(span.width).collect();
        let room = text.chars().count().saturating_sub(before);
        Excerpt {
            text,
            before,
            width: seen_width(&blamed).min(room).max(1),
        }
    }
}

/// How many characters of what the parser takes for a value belong to it: behind a quoted one it
/// includes the comment.
fn seen_width(blamed: &str) -> usize {
    let quote = blamed.chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        return blamed.trim_end().chars().count();
    };
    let mut chars = blamed.chars().enumerate().skip(1).peekable();
    while let Some((position, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            let doubled = quote == '\'' && chars.next_if(|(_, next)| *next == quote).is_some();
            if !doubled {
                return position + 1;
            }
        }
    }
    blamed.trim_end().chars().count()
}

/// The text with every character replaced that a terminal would obey or hide.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The text, printable, and cut with an ellipsis if it has more than `max` characters.
pub(crate) fn clip(text: &str, max: usize) -> String {
    let mut cut: String = text.chars().take(max).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    printable(&cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_in_yaml() {
        let text = Text::new("x", "a\nb\r\nc\rd");
        let lines: Vec<_> = (1..=4).map(|n| text.line(n)).collect();
        assert_eq!(lines, ["a", "b", "c", "d"]);
        assert_eq!((text.line(0), text.line(5)), ("", ""));
        assert_eq!(text.last_line, 4);
        assert_eq!(Text::new("x", "a\nb\n\n \n").last_line, 2);
        assert_eq!(Text::new("x", "").last_line, 1);
    }

    #[test]
    fn documents_begin_at_their_marker() {
        let text = Text::new("x", "a\n---\n---b\n --- \n--- c\n");
        assert_eq!(text.next_document(1), Some(2));
        assert_eq!(text.next_document(3), Some(5));
        assert_eq!(text.next_document(6), None);
    }

    #[test]
    fn a_long_line_is_cut_around_the_blame() {
        let line = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let text = Text::new("x", &line);
        let span = Span {
            line: 1,
            column: 501,
            width: 4,
        };
        let excerpt = text.excerpt(span);
        assert_eq!(excerpt.text.chars().count(), EXCERPT_CHARS_MAX);
        assert_eq!(&excerpt.text[excerpt.before..][..excerpt.width], "HERE");
    }

    #[test]
    fn the_blame_ends_with_the_value() {
        for (blamed, width) in [
            ("abc  ", 3),
            ("\"a b\" # c", 5),
            ("\"a\\\"b\" # \"", 6),
            ("'a''b' # '", 6),
            ("\"open", 5),
            ("", 0),
        ] {
            assert_eq!(seen_width(blamed), width, "{blamed}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_replaced() {
        assert_eq!(clip("a\u{1b}[31m\u{202e}b", 20), "a\u{fffd}[31m\u{fffd}b");
        assert_eq!(clip("abcd", 3), "abc…");
    }
}
