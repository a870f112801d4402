//! Tables: columns that are aligned by spaces, under upper-case headers.

use std::io::{self, Write};

use anstyle::Style;

use super::{
    printable,
    style::{self, paint},
};

/// The spaces between two columns.
const GAP: usize = 3;

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    pub(crate) fn styled(style: Style, text: impl ToString) -> Self {
        Self {
            text: printable(&text.to_string()),
            style,
        }
    }

    /// A cell.
    pub(crate) fn new(text: impl ToString) -> Self {
        Self::styled(style::PLAIN, text)
    }

    /// A cell whose value may be missing.
    pub(crate) fn or_dash(text: Option<impl ToString>) -> Self {
        text.map_or_else(|| Self::styled(style::DIM, "-"), Self::new)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Rows under headers. Rows that come later keep to the columns of the earlier ones; if they do not
/// fit, they stand under headers of their own.
#[derive(Debug)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    widths: Vec<usize>,
    /// The widths under the headers that were written last.
    written: Option<Vec<usize>>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headers: Vec<&'static str>) -> Self {
        Self {
            widths: headers.iter().map(|h| h.len()).collect(),
            headers,
            written: None,
            rows: Vec::new(),
        }
    }

    /// Adds a row, which has a cell for each header.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.width());
        }
        self.rows.push(cells);
    }

    /// Writes the rows, and forgets them; before them the headers, unless they were written and
    /// the columns are still the same.
    pub(crate) fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        // Nothing stands to the right of the last column.
        let columns = &self.widths[..self.widths.len().saturating_sub(1)];
        if self.written.as_deref() != Some(columns) {
            self.written = Some(columns.to_vec());
            let headers = self.headers.iter().map(Cell::new).collect::<Vec<_>>();
            self.write_row(&headers, out)?;
        }
        for row in std::mem::take(&mut self.rows) {
            self.write_row(&row, out)?;
        }
        Ok(())
    }

    fn write_row(&self, row: &[Cell], out: &mut impl Write) -> io::Result<()> {
        for (i, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            write!(out, "{}", paint(cell.style, &cell.text))?;
            if i + 1 < row.len() {
                write!(out, "{:1$}", "", width - cell.width() + GAP)?;
            }
        }
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        let mut table = Table::new(vec!["NAME", "AGE", "MESSAGE"]);
        table.row(vec![
            Cell::new("web"),
            Cell::new("5s"),
            Cell::new("one\ntwo"),
        ]);
        table.row(vec![Cell::new("größer"), Cell::new("119s"), Cell::new("")]);
        assert_eq!(
            written(|out| table.write(out)),
            "NAME     AGE    MESSAGE\nweb      5s     one two\ngrößer   119s   \n"
        );
    }

    #[test]
    fn rows_that_come_later_are_aligned_under_their_headers() {
        let mut table = Table::new(vec!["NAME", "AGE", "MESSAGE"]);
        let mut write = |cells: [&str; 3]| {
            table.row(cells.map(Cell::new).into());
            written(|out| table.write(out))
        };
        assert_eq!(
            write(["web", "5s", "one"]),
            "NAME   AGE   MESSAGE\nweb    5s    one\n"
        );
        assert_eq!(
            write(["a", "6s", "longer than before"]),
            "a      6s    longer than before\n"
        );
        assert_eq!(
            write(["longer", "7s", "two"]),
            "NAME     AGE   MESSAGE\nlonger   7s    two\n"
        );
        assert_eq!(write(["web", "8s", "three"]), "web      8s    three\n");
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let mut table = Table::new(vec!["A", "B"]);
        table.row(vec![
            Cell::styled(style::GOOD, "x"),
            Cell::or_dash(None::<String>),
        ]);
        let text = written(|out| table.write(out));
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "A   B\nx   -\n"
        );
        assert!(text.contains("\u{1b}[32mx\u{1b}[0m"), "{text:?}");
    }

    #[test]
    fn escape_sequences_from_outside_are_taken_out() {
        assert_eq!(Cell::new("\u{1b}[2Jhi").text, " [2Jhi");
    }
}
