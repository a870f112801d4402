//! How results are written: tables, JSON, YAML, names.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::error::{ErrorFormat, Failure};

pub(crate) mod age;
pub(crate) mod columns;
pub(crate) mod live;
pub(crate) mod quantity;
pub(crate) mod state;
pub(crate) mod style;
pub(crate) mod table;

/// How lists are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// Columns for people
    Table,
    /// More columns
    Wide,
    /// JSON, as the API gives it
    Json,
    /// YAML, which can be applied again
    Yaml,
    /// Names that other commands take, one to a line
    Name,
}

/// How anything else is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// How to write what is no list.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// How to write the result: text or json
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(crate) output: TextFormat,
}

impl From<ListFormat> for ErrorFormat {
    fn from(format: ListFormat) -> Self {
        match format {
            ListFormat::Json => Self::Json,
            ListFormat::Table | ListFormat::Wide | ListFormat::Yaml | ListFormat::Name => {
                Self::Text
            }
        }
    }
}

impl From<TextFormat> for ErrorFormat {
    fn from(format: TextFormat) -> Self {
        match format {
            TextFormat::Json => Self::Json,
            TextFormat::Text => Self::Text,
        }
    }
}

/// Standard output, without colours where they are not wanted.
pub(crate) fn stdout() -> anstream::AutoStream<io::StdoutLock<'static>> {
    anstream::stdout().lock()
}

/// Tells a person something on standard error. Whoever closed it does not want to be told.
pub(crate) fn say(text: &str) {
    drop(writeln!(anstream::stderr(), "{text}"));
}

/// Tells a person something in passing, in brackets.
pub(crate) fn say_dim(text: String) {
    let text = format!("({})", printable(&text));
    say(&style::paint(style::DIM, text).to_string());
}

/// Writes `value` as JSON for people and programs.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).expect("what is shown is valid JSON");
    writeln!(stdout(), "{text}").map_err(Failure::from)
}

/// Writes `value` as one line of JSON.
pub(crate) fn json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(value).expect("what is shown is valid JSON");
    writeln!(out, "{text}")
}

/// `value` as YAML.
pub(crate) fn to_yaml(value: &impl Serialize) -> String {
    windlass_manifest::to_yaml(&serde_json::to_value(value).expect("what is shown is valid JSON"))
}

/// `text` without line feeds and escape sequences, so that words from outside stay in their line.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A line of a log, as it is shown below what it explains.
pub(crate) fn quoted(line: &str) -> String {
    format!("  | {}", printable(line))
}

/// The lines of a log that stand below the first line of a reason.
pub(crate) fn quoted_log(reason: &str) -> Vec<String> {
    let lines = reason.lines().skip(1);
    lines
        .map(|line| quoted(line.strip_prefix("  ").unwrap_or(line)))
        .collect()
}
