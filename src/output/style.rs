//! Colours. They are always written, and taken out again by the stream where they are not wanted.

use std::fmt::{self, Display};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

/// Nothing special.
pub(crate) const PLAIN: Style = Style::new();
/// What is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What is on its way.
pub(crate) const BUSY: Style = AnsiColor::Yellow.on_default();
/// What needs somebody.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What matters less.
pub(crate) const DIM: Style = Style::new().dimmed();
/// What things are called.
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();
/// Titles.
pub(crate) const TITLE: Style = Style::new().bold();

/// Tell instances apart. Red is left to trouble.
pub(crate) const PREFIXES: [Style; 5] = [
    AnsiColor::Cyan.on_default(),
    AnsiColor::Yellow.on_default(),
    AnsiColor::Green.on_default(),
    AnsiColor::Magenta.on_default(),
    AnsiColor::Blue.on_default(),
];

/// When to use colours.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Decides it for all output of this process.
    pub(crate) fn apply(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// `text` in a style.
pub(crate) fn paint<T: Display>(style: Style, text: T) -> impl Display {
    Painted(style, text)
}

struct Painted<T>(Style, T);

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:#}", self.0, self.1, self.0)
    }
}
