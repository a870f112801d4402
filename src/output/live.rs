//! The area at the end of standard error that progress is drawn in, on a terminal. There is one in
//! the process, so that what is logged meanwhile comes above it instead of into it.

use std::{
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many lines of the area are on the screen.
static HEIGHT: Mutex<usize> = Mutex::new(0);

fn height() -> MutexGuard<'static, usize> {
    // A number is whole whatever panicked.
    HEIGHT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes `lines`, which are no longer than the screen is wide, over those that are there.
pub(crate) fn redraw(lines: &[String]) -> io::Result<()> {
    draw(&mut height(), lines, &mut io::stderr().lock())
}

/// Leaves what stands in the area, and begins a new one below it.
pub(crate) fn keep() {
    *height() = 0;
}

fn draw(height: &mut usize, lines: &[String], out: &mut impl Write) -> io::Result<()> {
    if *height > 0 {
        // The terminal may have echoed a Ctrl-C, and the cursor be behind it.
        write!(out, "\r\x1b[{height}A")?;
    }
    // Each line is cleared as it is written, so that nothing flickers; then what is left below.
    for line in lines {
        writeln!(out, "{line}\x1b[K")?;
    }
    write!(out, "\x1b[J")?;
    *height = lines.len();
    out.flush()
}

fn write_above(height: &mut usize, text: &[u8], out: &mut impl Write) -> io::Result<()> {
    if *height > 0 {
        // It is drawn again, below, before long.
        draw(height, &[], out)?;
    }
    out.write_all(text)
}

/// Standard error for whole lines that come above the area.
#[derive(Debug)]
pub(crate) struct Above;

impl Write for Above {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        write_above(&mut height(), text, &mut io::stderr().lock())?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal shows that understands the sequences that are used here.
    fn screen(written: &[u8]) -> Vec<String> {
        let mut lines: Vec<String> = vec![String::new()];
        let (mut row, mut column) = (0, 0);
        let mut text = std::str::from_utf8(written).unwrap();
        while let Some(c) = text.chars().next() {
            text = &text[c.len_utf8()..];
            match c {
                '\n' => {
                    (row, column) = (row + 1, 0);
                    lines.resize(lines.len().max(row + 1), String::new());
                }
                '\r' => column = 0,
                '\x1b' => {
                    let end = text.find(char::is_alphabetic).unwrap();
                    match &text[end..=end] {
                        "A" => row -= text[1..end].parse::<usize>().unwrap(),
                        "J" => {
                            lines.truncate(row + 1);
                            lines[row].truncate(column);
                        }
                        "K" => lines[row].truncate(column),
                        other => panic!("{other}"),
                    }
                    text = &text[end + 1..];
                }
                c => {
                    lines[row].truncate(column);
                    lines[row].push(c);
                    column += 1;
                }
            }
        }
        lines.retain(|line| !line.is_empty());
        lines
    }

    #[test]
    fn what_is_logged_comes_above_the_area() {
        let mut out = Vec::new();
        let mut height = 0;
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        draw(&mut height, &lines(&["web 1/2", "api 0/1"]), &mut out).unwrap();
        write_above(&mut height, b"WARN one\n", &mut out).unwrap();
        write_above(&mut height, b"WARN two\n", &mut out).unwrap();
        draw(&mut height, &lines(&["web 2/2", "api 0/1"]), &mut out).unwrap();
        assert_eq!(screen(&out), ["WARN one", "WARN two", "web 2/2", "api 0/1"]);
        draw(&mut height, &lines(&["web 2/2"]), &mut out).unwrap();
        assert_eq!(screen(&out), ["WARN one", "WARN two", "web 2/2"]);
        // The echo of a Ctrl-C stands where the cursor was.
        out.extend(b"^C");
        draw(&mut height, &lines(&["web gone"]), &mut out).unwrap();
        assert_eq!(screen(&out), ["WARN one", "WARN two", "web gone"]);
    }
}
