//! Writes YAML, for what is shown.

use serde_json::Value;

use crate::scalar::{Resolved, resolve};

/// Longer keys are not taken by YAML parsers before a `:` on the same line.
const PLAIN_KEY_BYTES_MAX: usize = 1000;

/// A value as YAML, the same text for the same value. It reads back equal, also by parsers
/// of YAML 1.1.
#[must_use]
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut out),
        Value::Object(fields) if !fields.is_empty() => mapping(fields, 0, &mut out),
        scalar => {
            out.push_str(&one_line(scalar));
            out.push('\n');
        }
    }
    out
}

/// Writes lines, of which the first one begins where `out` ends.
fn sequence(items: &[Value], indent: usize, out: &mut String) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            pad(indent, out);
        }
        out.push_str("- ");
        match item {
            Value::Array(items) if !items.is_empty() => sequence(items, indent + 2, out),
            Value::Object(fields) if !fields.is_empty() => mapping(fields, indent + 2, out),
            scalar => line(scalar, out),
        }
    }
}

/// Writes lines, of which the first one begins where `out` ends.
fn mapping(fields: &serde_json::Map<String, Value>, indent: usize, out: &mut String) {
    for (i, (key, value)) in fields.iter().enumerate() {
        if i > 0 {
            pad(indent, out);
        }
        let key = string(key);
        if key.len() > PLAIN_KEY_BYTES_MAX {
            out.push_str("? ");
            out.push_str(&key);
            out.push('\n');
            pad(indent, out);
        } else {
            out.push_str(&key);
        }
        out.push(':');
        match value {
            Value::Array(items) if !items.is_empty() => {
                begin(indent + 2, out);
                sequence(items, indent + 2, out);
            }
            Value::Object(fields) if !fields.is_empty() => {
                begin(indent + 2, out);
                mapping(fields, indent + 2, out);
            }
            scalar => {
                out.push(' ');
                line(scalar, out);
            }
        }
    }
}

fn begin(indent: usize, out: &mut String) {
    out.push('\n');
    pad(indent, out);
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn line(value: &Value, out: &mut String) {
    out.push_str(&one_line(value));
    out.push('\n');
}

/// A scalar, or an empty collection.
fn one_line(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(text) => string(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

fn string(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Whether a text needs no quotes: it begins with a letter, `/` or a digit, has only harmless
/// characters, and is read as text by YAML 1.2 and by 1.1, with its many words for booleans, its
/// dates (`2024-01-01`) and its numbers to the base of 60 (`1:30`).
fn is_plain(text: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+ ".contains(c);
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let looks_like_a_number = text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_hexdigit() || "-_.:+xoT Z".contains(c));
    let word_of_1_1 = ["y", "n", "yes", "no", "on", "off"]
        .iter()
        .any(|w| text.eq_ignore_ascii_case(w));
    begins_well
        && text.chars().all(harmless)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !looks_like_a_number
        && !word_of_1_1
        && matches!(resolve(text), Resolved::Text(_))
}

/// In double quotes, with an escape for whatever is not printable.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || is_special(c) => out.push_str(&escape(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Line and paragraph separators, marks that are not seen, and what is no character.
fn is_special(c: char) -> bool {
    matches!(
        c,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}'
    )
}

fn escape(c: char) -> String {
    match u32::from(c) {
        code @ 0..=0xff => format!("\\x{code:02x}"),
        code => format!("\\u{code:04x}"),
    }
}

#[cfg(test)]
mod tests;
