//! What is wrong with a manifest, and how a person is told.

use std::fmt;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::text::{clip, printable};

/// The longest path of a field that is shown, in characters.
const PATH_CHARS_MAX: usize = 200;
/// The longest message and the longest help, in characters.
const MESSAGE_CHARS_MAX: usize = 600;

/// One mistake. All texts are free of control characters and bounded in length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Error {
    /// The name of the file, or `<stdin>`.
    pub source: String,
    /// Where in the text; absent if the whole source is to blame.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The path of the field, like `spec.ports[1].host`; empty if no field is to blame.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The line's text.
    #[serde(skip)]
    pub excerpt: Excerpt,
}

/// The line that an error is in, cut to a width that fits a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The text.
    pub text: String,
    /// How many of its characters stand before the ones that are to blame.
    pub before: usize,
    /// How many characters are to blame, at least 1.
    pub width: usize,
}

/// Every mistake of a call, in the order of the sources and of the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Errors(pub Vec<Error>);

/// How the parts of an error look. [`Styles::plain`] is what `Display` uses.
#[derive(Debug, Clone, Copy)]
pub struct Styles {
    place: Style,
    gutter: Style,
    blame: Style,
}

impl Error {
    pub(crate) fn new(
        source: &str,
        place: Option<Place>,
        path: &str,
        message: &str,
        help: Option<&str>,
    ) -> Self {
        Self {
            source: printable(source),
            place,
            path: clip(path, PATH_CHARS_MAX),
            message: clip(message, MESSAGE_CHARS_MAX),
            help: help.map(|h| clip(h, MESSAGE_CHARS_MAX)),
        }
    }

    /// An error about a source as a whole.
    pub(crate) fn of_source(source: &str, message: &str, help: &str) -> Self {
        Self::new(source, None, "", message, Some(help))
    }

    /// Where the mistake is, like `web.yaml:7:5: spec.replica: `.
    fn origin(&self) -> String {
        let mut origin = self.source.clone();
        if let Some(place) = &self.place {
            origin.push_str(&format!(":{}:{}", place.line, place.column));
        }
        origin.push_str(": ");
        if !self.path.is_empty() {
            origin.push_str(&self.path);
            origin.push_str(": ");
        }
        origin
    }

    fn render(&self, f: &mut fmt::Formatter<'_>, styles: &Styles) -> fmt::Result {
        let Styles {
            place: at,
            gutter,
            blame,
        } = styles;
        write!(f, "{at}{}{at:#}{}", self.origin(), self.message)?;
        let help = self.help.as_deref().unwrap_or_default();
        let Some(place) = &self.place else {
            return match help {
                "" => Ok(()),
                help => write!(f, "\n  {blame}={blame:#} {help}"),
            };
        };
        let Excerpt {
            text,
            before,
            width,
        } = &place.excerpt;
        let number = place.line.to_string();
        let (margin, indent) = (number.len(), *before);
        let carets = "^".repeat(*width);
        let space = if help.is_empty() { "" } else { " " };
        write!(f, "\n  {gutter}{number} |{gutter:#} {text}")?;
        write!(f, "\n  {gutter}{:margin$} |{gutter:#} ", "")?;
        write!(f, "{:indent$}{blame}{carets}{blame:#}{space}{help}", "")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Errors {
    /// The errors with the lines they are in, in colours. A writer that knows whether it is a
    /// terminal takes the colours out where they do not belong.
    #[must_use]
    pub fn styled(&self, styles: Styles) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            for (i, error) in self.0.iter().enumerate() {
                if i > 0 {
                    f.write_str("\n")?;
                }
                error.render(f, &styles)?;
            }
            Ok(())
        })
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.styled(Styles::plain()).fmt(f)
    }
}

impl std::error::Error for Errors {}

impl Styles {
    /// Without colours.
    #[must_use]
    pub const fn plain() -> Self {
        let style = Style::new();
        Self {
            place: style,
            gutter: style,
            blame: style,
        }
    }

    /// For a terminal.
    #[must_use]
    pub const fn coloured() -> Self {
        Self {
            place: Style::new().bold(),
            gutter: AnsiColor::BrightBlue.on_default(),
            blame: AnsiColor::Red.on_default().bold(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Error {
        let excerpt = Excerpt {
            text: "  replica: 3".to_owned(),
            before: 2,
            width: 7,
        };
        let place = Some(Place {
            line: 7,
            column: 3,
            excerpt,
        });
        let help = Some("did you mean `replicas`?");
        Error::new("web.yaml", place, "spec.replica", "unknown field", help)
    }

    #[test]
    fn one_error_is_one_line() {
        assert_eq!(
            sample().to_string(),
            "web.yaml:7:3: spec.replica: unknown field; did you mean `replicas`?"
        );
    }

    #[test]
    fn errors_show_the_line_and_what_to_do() {
        let gone = Error::of_source("x.yaml", "no such file", "check the path");
        assert_eq!(
            Errors(vec![sample(), gone]).to_string(),
            "web.yaml:7:3: spec.replica: unknown field\n  \
             7 |   replica: 3\n    |   ^^^^^^^ did you mean `replicas`?\n\
             x.yaml: no such file\n  = check the path"
        );
    }

    #[test]
    fn colours_are_only_added() {
        let errors = Errors(vec![sample()]);
        let coloured = errors.styled(Styles::coloured()).to_string();
        assert!(coloured.contains("\u{1b}[1mweb.yaml:7:3"), "{coloured}");
        assert!(!errors.to_string().contains('\u{1b}'));
    }

    #[test]
    fn as_json_the_place_is_flat() {
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["line"], 7);
        assert_eq!(json["column"], 3);
        assert_eq!(json["help"], "did you mean `replicas`?");
    }
}
