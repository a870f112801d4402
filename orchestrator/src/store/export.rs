//! The state as text, one JSON object in a line: a header, the records ordered by key, a trailer.
//!
//! ```text
//! {"windlassExport":1,"version":12,"epoch":1,"records":2}
//! {"table":"node","id":"a","text":"…","crc":305419896}
//! {"table":"node","id":"b","base64":"…","crc":2596069104}
//! {"records":2,"crc":3735928559}
//! ```
//! A record's `crc` is a CRC-32C over its key and value, the trailer's is one over all lines
//! before it.

use std::{
    borrow::Borrow,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use windlass_api::ids::{Epoch, Version};

use super::{Batch, Error, Key, Position, Records, Result, Summary, record};

const FORMAT: u64 = 1;

/// The longest line: the largest value, each byte of which JSON may write as six, and the rest.
const LINE_BYTES_MAX: u64 = 6 * (Batch::VALUE_BYTES_MAX as u64 + 4096);

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "windlassExport")]
    format: u64,
    version: Version,
    epoch: Epoch,
    records: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    table: String,
    id: String,
    #[serde(flatten)]
    value: Value,
    crc: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Value {
    Text(String),
    Base64(String),
}

#[derive(Serialize, Deserialize)]
struct Trailer {
    records: u64,
    crc: u32,
}

/// Writes `records` as an export.
pub(super) fn write(to: &mut dyn Write, records: &Records) -> io::Result<Summary> {
    let summary = records.summary();
    for line in Lines::new(summary, records.records.iter().map(|(k, v)| (k, v))) {
        to.write_all(&line)?;
    }
    Ok(summary)
}

/// The lines of an export, one after the other.
pub(crate) struct Lines<I> {
    summary: Summary,
    records: I,
    crc: u32,
    next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Header,
    Record,
    Nothing,
}

impl<I> Lines<I> {
    /// The export of `records`, which are as many as `summary` says and ordered by key.
    pub(crate) fn new(summary: Summary, records: I) -> Self {
        Self {
            summary,
            records,
            crc: 0,
            next: Next::Header,
        }
    }

    fn line(&mut self, line: &impl Serialize) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(line).expect("the lines have string keys");
        bytes.push(b'\n');
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        bytes
    }
}

impl<I, K, V> Iterator for Lines<I>
where
    I: Iterator<Item = (K, V)>,
    K: Borrow<Key>,
    V: AsRef<[u8]>,
{
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let Summary { position, records } = self.summary;
        match self.next {
            Next::Nothing => None,
            Next::Header => {
                self.next = Next::Record;
                Some(self.line(&Header {
                    format: FORMAT,
                    version: position.version,
                    epoch: position.epoch,
                    records,
                }))
            }
            Next::Record => match self.records.next() {
                Some((key, value)) => Some(self.line(&line_of(key.borrow(), value.as_ref()))),
                None => {
                    self.next = Next::Nothing;
                    let crc = self.crc;
                    Some(self.line(&Trailer { records, crc }))
                }
            },
        }
    }
}

fn line_of(key: &Key, value: &[u8]) -> Line {
    Line {
        table: key.table.clone(),
        id: key.id.clone(),
        value: match str::from_utf8(value) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Base64(BASE64_STANDARD.encode(value)),
        },
        crc: record::digest(key, value),
    }
}

/// Reads the export at `path` to its end and checks every part of it.
///
/// # Errors
/// [`Error::BadExport`] if it is not whole, [`Error::UnknownFormat`] if a newer windlass wrote it.
pub fn verify_export(path: &Path) -> Result<Summary> {
    copy_export(open(path)?, path, &mut io::sink())
}

/// Copies an export to `to` and checks every part of it on the way; what was written counts only
/// after `Ok`. In errors it is called `name`.
///
/// # Errors
/// As [`verify_export`], and [`Error::Io`] if it cannot be read or written.
pub fn copy_export(from: impl Read, name: &Path, to: &mut dyn Write) -> Result<Summary> {
    let mut records = 0;
    let position = each(from, name, to, |_, _| records += 1)?;
    Ok(Summary { position, records })
}

/// Reads the export at `path` and checks every part of it.
pub(super) fn read(path: &Path) -> Result<Records> {
    let mut records = Vec::new();
    let take = |key, value| records.push((key, value));
    let position = each(open(path)?, path, &mut io::sink(), take)?;
    Ok(Records {
        records,
        ..Records::none(position)
    })
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::io("open", path))
}

/// Gives each record to `take`. What was given counts only after `Ok`.
fn each(
    from: impl Read,
    name: &Path,
    to: &mut dyn Write,
    mut take: impl FnMut(Key, Vec<u8>),
) -> Result<Position> {
    let mut lines = Reading {
        name,
        from: BufReader::new(from),
        to,
        number: 0,
        crc: 0,
    };
    let header: Header = lines.next()?;
    if header.format != FORMAT {
        return Err(Error::UnknownFormat {
            what: name.display().to_string(),
            found: header.format,
            known: FORMAT,
        });
    }
    let mut last = None;
    for _ in 0..header.records {
        let line: Line = lines.next()?;
        let key = Key::new(line.table, line.id);
        let value = match line.value {
            Value::Text(text) => text.into_bytes(),
            Value::Base64(text) => BASE64_STANDARD
                .decode(text)
                .map_err(|error| lines.bad(&error.to_string()))?,
        };
        if record::digest(&key, &value) != line.crc {
            return Err(lines.bad("the record's checksum does not match"));
        }
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err(lines.bad("the records are not in order"));
        }
        last = Some(key.clone());
        take(key, value);
    }
    let crc = lines.crc;
    let trailer: Trailer = lines.next()?;
    if trailer.records != header.records || trailer.crc != crc {
        return Err(lines.bad("the checksum of the whole does not match"));
    }
    lines.end()?;
    Ok(Position {
        epoch: header.epoch,
        version: header.version,
    })
}

/// An export that is being read, and copied.
struct Reading<'a, R> {
    name: &'a Path,
    from: BufReader<R>,
    to: &'a mut dyn Write,
    number: u64,
    crc: u32,
}

impl<R: Read> Reading<'_, R> {
    fn next<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = Vec::new();
        self.number += 1;
        let mut limited = self.from.by_ref().take(LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut line);
        read.map_err(Error::io("read", self.name))?;
        if line.last() != Some(&b'\n') {
            return Err(self.bad("the file ends in the middle"));
        }
        let written = self.to.write_all(&line);
        written.map_err(Error::io("write", self.name))?;
        self.crc = crc32c::crc32c_append(self.crc, &line);
        serde_json::from_slice(&line).map_err(|error| self.bad(&error.to_string()))
    }

    fn end(&mut self) -> Result<()> {
        let rest = self.from.fill_buf();
        if rest.map_err(Error::io("read", self.name))?.is_empty() {
            Ok(())
        } else {
            Err(self.bad("something follows its end"))
        }
    }

    fn bad(&self, what: &str) -> Error {
        Error::BadExport {
            path: self.name.to_owned(),
            what: format!("line {}: {what}", self.number),
        }
    }
}

#[cfg(test)]
mod tests;
