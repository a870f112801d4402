//! Writes the lines of containers, each with the name of its own where there are several.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Stdout, Write},
};

use serde_json::json;

use super::origin::Origin;
use crate::output::{
    TextFormat, printable,
    style::{self, PREFIXES, paint},
};

/// Writes lines to `out`. What the containers wrote is passed on byte by byte.
#[derive(Debug)]
pub(super) struct Printer<W> {
    out: W,
    format: TextFormat,
    colours: Colours,
    /// The origins that were seen, in their order: it decides their colour.
    seen: BTreeMap<Origin, usize>,
    /// The length of the longest name.
    width: usize,
}

/// Whether names have colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    On,
    Off,
}

impl Printer<BufWriter<Stdout>> {
    pub(super) fn to_stdout(format: TextFormat) -> Self {
        let colours = match anstream::AutoStream::choice(&io::stdout()) {
            anstream::ColorChoice::Never => Colours::Off,
            _ => Colours::On,
        };
        Self::new(BufWriter::new(io::stdout()), format, colours)
    }
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, format: TextFormat, colours: Colours) -> Self {
        Self {
            out,
            format,
            colours,
            seen: BTreeMap::new(),
            width: 0,
        }
    }

    /// Tells whose lines will come, so that their names are aligned from the first line on.
    pub(super) fn introduce(&mut self, origins: impl IntoIterator<Item = Origin>) {
        for origin in origins {
            let order = self.seen.len();
            self.width = self.width.max(origin.to_string().len());
            self.seen.entry(origin).or_insert(order);
        }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, origin: &Origin, line: &[u8]) -> io::Result<()> {
        if self.format == TextFormat::Json {
            let line = String::from_utf8_lossy(line);
            let mut object = json!({ "instance": origin.instance, "line": line });
            if let Some(container) = &origin.container {
                object["container"] = json!(container);
            }
            return writeln!(self.out, "{object}");
        }
        self.introduce([origin.clone()]);
        if self.seen.len() > 1 {
            let order = self.seen.get(origin).copied().unwrap_or_default();
            let style = match self.colours {
                Colours::On => PREFIXES[order % PREFIXES.len()],
                Colours::Off => style::PLAIN,
            };
            let prefix = format!("{origin:<0$} | ", self.width);
            write!(self.out, "{}", paint(style, prefix))?;
        }
        self.out.write_all(line)?;
        self.out.write_all(b"\n")
    }

    /// Tells on standard error what is to be said about an origin, in its place among the lines.
    pub(super) fn note(&mut self, origin: &Origin, text: &str) -> io::Result<()> {
        self.flush()?;
        let note = format!("({origin}: {})", printable(text));
        writeln!(anstream::stderr(), "{}", paint(style::DIM, note))
    }

    /// Hands on what was written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Origin {
        Origin::instance(&name.parse().unwrap())
    }

    fn text(printer: Printer<Vec<u8>>) -> String {
        String::from_utf8(printer.out).unwrap()
    }

    #[test]
    fn one_instance_needs_no_name() {
        let mut printer = Printer::new(Vec::new(), TextFormat::Text, Colours::On);
        printer.line(&id("web-0-1"), b"\x1b[1mraw\x1b[0m").unwrap();
        assert_eq!(text(printer), "\x1b[1mraw\x1b[0m\n");
    }

    #[test]
    fn several_instances_are_named_and_aligned() {
        let mut printer = Printer::new(Vec::new(), TextFormat::Text, Colours::Off);
        printer.introduce([id("web-0-1"), id("web-10-12")]);
        printer.line(&id("web-0-1"), b"one").unwrap();
        printer.line(&id("web-10-12"), b"two").unwrap();
        assert_eq!(text(printer), "web-0-1   | one\nweb-10-12 | two\n");
    }

    #[test]
    fn names_begin_with_the_second_instance_and_keep_their_colours() {
        let mut printer = Printer::new(Vec::new(), TextFormat::Text, Colours::On);
        for name in ["b", "a", "b"] {
            printer.line(&id(name), b"x").unwrap();
        }
        assert_eq!(
            text(printer),
            "x\n\x1b[33ma | \x1b[0mx\n\x1b[36mb | \x1b[0mx\n"
        );
    }

    #[test]
    fn programs_get_objects() {
        let mut printer = Printer::new(Vec::new(), TextFormat::Json, Colours::On);
        printer.line(&id("a"), b"say \"hi\" \xff").unwrap();
        let mut log = id("a");
        log.container = Some("log".parse().unwrap());
        printer.line(&log, b"x").unwrap();
        assert_eq!(
            text(printer),
            "{\"instance\":\"a\",\"line\":\"say \\\"hi\\\" \u{fffd}\"}\n\
             {\"container\":\"log\",\"instance\":\"a\",\"line\":\"x\"}\n"
        );
    }
}
