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

/// Rows under headers. Rows that come later keep to the columns of the earlier ones.
#[derive(Debug)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    widths: Vec<usize>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headers: Vec<&'static str>) -> Self {
        Self {
            widths: headers.iter().map(|h| h.len()).collect(),
            headers,
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

    /// Writes the headers and the rows, and forgets the rows.
    pub(crate) fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        let headers = self.headers.iter().map(Cell::new).collect::<Vec<_>>();
        self.write_row(&headers, out)?;
        self.write_rows(out)
    }

    /// Writes the rows, and forgets them.
    pub(crate) fn write_rows(&mut self, out: &mut impl Write) -> io::Result<()> {
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
        table.row(vec![Cell::new("a"), Cell::new("b"), Cell::new("c")]);
        assert_eq!(written(|out| table.write_rows(out)), "a        b      c\n");
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
