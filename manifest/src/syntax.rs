//! The parser's errors in words that say what to do.

use saphyr_parser::ScanError;

use crate::{
    node::Span,
    text::{Mistake, Text, clip},
    tree::DEPTH_MAX,
};

/// The most characters of an anchor's name that a message repeats.
const ANCHOR_CHARS_MAX: usize = 60;

/// What the parser says (a part of it), what that means, and what to do about it.
const EXPLANATIONS: [(&str, &str, &str); 21] = [
    (
        "mapping values are not allowed",
        "a key cannot begin here",
        "check the indentation, or put a value that contains `: ` in quotes",
    ),
    (
        "invalid indentation in quoted scalar",
        "this quote is never closed",
        "close it with the same kind of quote",
    ),
    (
        "quoted scalar, found unexpected",
        "this quote is never closed",
        "close it with the same kind of quote",
    ),
    (
        "indentation in flow construct",
        "a `[` or `{` above this is not closed",
        "close it, or indent what belongs to it",
    ),
    (
        "illegal placement of ':'",
        "a `[` above this is not closed",
        "close it, or put a value with special characters in quotes",
    ),
    (
        "trailing content after double-quoted",
        "there is more text behind the closing quote",
        "write `\\\"` for a quote inside of quotes",
    ),
    (
        "unknown escape character",
        "there is no such escape in double quotes",
        "write `\\\\` for a backslash, or use single quotes",
    ),
    (
        "invalid Unicode character escape",
        "this escape stands for half a character",
        "write the character itself",
    ),
    // Before `tab`, which is a part of it.
    (
        "unprintable character",
        "a character with the code 0 cannot stand in a manifest",
        "remove it; is the file damaged?",
    ),
    (
        "byte order mark",
        "there is a byte order mark, which is not seen, in the middle of the text",
        "remove it; perhaps files were joined that each began with one",
    ),
    ("tab", "a tab cannot be used for indentation", "use spaces"),
    (
        "expected ',' or '}'",
        "a `,` or `}` is missing before this",
        "close the `{`, or put a value with special characters in quotes",
    ),
    (
        "expected ',' or ']'",
        "a `,` or `]` is missing before this",
        "close the `[`, or put a value with special characters in quotes",
    ),
    (
        "indentation",
        "the indentation does not fit the lines above",
        "begin it in the same column as its siblings",
    ),
    (
        "expected '-' indicator",
        "a list goes on with something that is not `- `",
        "begin every element with `- `, in the same column",
    ),
    (
        "did not find expected key",
        "the indentation does not fit the lines above",
        "begin every key of a mapping in the same column",
    ),
    (
        "simple key expect",
        "a `:` is missing before this",
        "write `key: value`; perhaps the line above lacks its `:`",
    ),
    (
        "block sequence entries are not allowed",
        "a list cannot begin here",
        "begin it in a line of its own, below its key",
    ),
    (
        "expected node content",
        "a value is missing before this",
        "write it, and close every `[` and `{`",
    ),
    (
        "the handle wasn't declared",
        "this tag is not known",
        "put a value that begins with `!` in quotes",
    ),
    (
        "expected <document start>",
        "something follows the end of the document",
        "begin another document with `---`, and check the indentation",
    ),
];

/// How many lines below a tab is looked for: the parser tells of it where the value begins that
/// goes on with it.
const TAB_LINES: usize = 20;

/// The mistake that an error of the parser stands for. Its line is `line` of the text.
pub(crate) fn explain(error: &ScanError, line: usize, text: &Text<'_>) -> Mistake {
    let info = error.info();
    // At the end of the text the parser stands in a line that is not there.
    let last = text.last_line;
    let (line, column) = if line > last {
        (last, text.line(last).chars().count() + 1)
    } else {
        (line, error.marker().col() + 1)
    };
    let span = Span {
        line,
        column,
        width: 1,
    };
    if info.contains("unknown anchor") {
        return unknown_anchor(span, text);
    }
    if info.contains("recursion limit") {
        return too_deep(span);
    }
    if let Some(unexpected) = info.strip_prefix("unexpected character: ") {
        let unexpected = unexpected.trim_matches(['`', '\'']);
        let shown = if unexpected.is_empty() {
            "`"
        } else {
            unexpected
        };
        let message = format!("a value cannot begin with {shown:?}");
        return Mistake::new(span, "", message).with_help("put the value in quotes");
    }
    let Some((part, message, help)) = EXPLANATIONS.iter().find(|(part, ..)| info.contains(part))
    else {
        return Mistake::new(span, "", format!("this is not YAML: {info}"));
    };
    let span = if *part == "tab" {
        tab(line, text).unwrap_or(span)
    } else {
        span
    };
    Mistake::new(span, "", *message).with_help(*help)
}

/// The first tab that indents a line.
fn tab(from: usize, text: &Text<'_>) -> Option<Span> {
    (from..from + TAB_LINES).find_map(|line| {
        let mut indentation = text
            .line(line)
            .chars()
            .take_while(|c| matches!(c, ' ' | '\t'));
        let column = indentation.position(|c| c == '\t')? + 1;
        Some(Span {
            line,
            column,
            width: 1,
        })
    })
}

/// An alias of an anchor that was not defined.
pub(crate) fn unknown_anchor(span: Span, text: &Text<'_>) -> Mistake {
    let name: String = text
        .line(span.line)
        .chars()
        .skip(span.column)
        .take_while(|c| !c.is_whitespace() && !",[]{}".contains(*c))
        .collect();
    let span = Span {
        width: name.chars().count() + 1,
        ..span
    };
    let message = format!(
        "the anchor `{}` is not defined above in this document",
        clip(&name, ANCHOR_CHARS_MAX)
    );
    Mistake::new(span, "", message)
        .with_help("define it with `&name` first, or quote a value that begins with `*`")
}

/// Collections that are nested too deep.
pub(crate) fn too_deep(span: Span) -> Mistake {
    let message = format!("lists and mappings are nested more than {DEPTH_MAX} deep");
    Mistake::new(span, "", message).with_help("no field of a manifest is that deep")
}
