//! How records lie in the disk store: keys, chunks and checksums. Pure.
//!
//! Each record is one or more chunks. A chunk's key is `1`, the length of the table's name, the
//! table, the id, and the chunk's number in two bytes; its value is a frame:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | [`FORMAT`] |
//! | 4 | CRC-32C over the chunk's key and all that follows here |
//! | 2 | the number of chunks of the record |
//! | 4 | the record's digest: CRC-32C over its first chunk's key and its whole value |
//! | … | the chunk's part of the value |
//!
//! The head, under the key `0`, is written with every batch. It counts the records and adds up
//! their digests, so that a record which vanished or came back from the past is noticed although
//! every chunk that is there is sound. All numbers are little-endian, except in keys.

use std::collections::BTreeMap;

use windlass_api::ids::{Epoch, Version};

use super::{Key, Position, Records};

/// The format that this code writes, and the newest that it reads.
pub(super) const FORMAT: u8 = 1;

/// The longest part of a value in one chunk. A page holds up to 17 chunks before it is split and
/// a quarter of a segment at most; what is longer would go to files that are never synced. With
/// 1 MiB segments that leaves 15 KiB, less keys and some room.
pub(super) const CHUNK_BYTES: usize = 8 << 10;

const HEAD_KEY: u8 = 0;
const CHUNK_KEY: u8 = 1;
const CRC_END: usize = 5;
const FRAME_BYTES: usize = 11;
const HEAD_BYTES: usize = CRC_END + 4 * 8;

/// A raw key of the underlying engine.
pub(super) type RawKey = Vec<u8>;
/// A raw value of the underlying engine.
pub(super) type RawValue = Vec<u8>;

/// Why stored bytes are not what was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// They are from a newer windlass.
    UnknownFormat(u8),
    /// They are wrong.
    Broken(String),
}

fn broken<T>(what: impl Into<String>) -> Result<T, Damage> {
    Err(Damage::Broken(what.into()))
}

/// What is known about all records together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) position: Position,
    pub(super) count: u64,
    /// The sum of the records' digests, wrapping.
    pub(super) digest: u64,
}

impl Head {
    /// The head of an empty state.
    pub(super) const fn empty(position: Position) -> Self {
        Self {
            position,
            count: 0,
            digest: 0,
        }
    }

    pub(super) fn key() -> RawKey {
        vec![HEAD_KEY]
    }

    /// Takes account of a record that was written or removed.
    pub(super) fn replace(&mut self, old: Option<Stored>, new: Option<Stored>) {
        if let Some(old) = old {
            self.count -= 1;
            self.digest = self.digest.wrapping_sub(u64::from(old.digest));
        }
        if let Some(new) = new {
            self.count += 1;
            self.digest = self.digest.wrapping_add(u64::from(new.digest));
        }
    }

    pub(super) fn encode(&self) -> RawValue {
        let mut body = Vec::with_capacity(HEAD_BYTES);
        for number in [
            self.position.epoch.0,
            self.position.version.0,
            self.count,
            self.digest,
        ] {
            body.extend(number.to_le_bytes());
        }
        frame(&Self::key(), &body)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damage> {
        let body = unframe(&Self::key(), value)?;
        let mut numbers = body
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| u64::from_le_bytes(*b));
        match (
            numbers.next(),
            numbers.next(),
            numbers.next(),
            numbers.next(),
        ) {
            (Some(epoch), Some(version), Some(count), Some(digest)) => Ok(Self {
                position: Position {
                    epoch: Epoch(epoch),
                    version: Version(version),
                },
                count,
                digest,
            }),
            _ => broken("the head is too short"),
        }
    }
}

/// What a chunk says about its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) chunks: u16,
    pub(super) digest: u32,
}

impl Stored {
    /// Reads it from the record's first chunk, `value` under `key`.
    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Damage> {
        split_chunk(key, value).map(|(stored, _)| stored)
    }
}

/// The key of a record's chunk.
pub(super) fn chunk_key(key: &Key, chunk: u16) -> RawKey {
    let mut raw = Vec::with_capacity(4 + key.table.len() + key.id.len());
    raw.push(CHUNK_KEY);
    raw.push(u8::try_from(key.table.len()).expect("a batch was checked before it is encoded"));
    raw.extend(key.table.as_bytes());
    raw.extend(key.id.as_bytes());
    raw.extend(chunk.to_be_bytes());
    raw
}

/// The checksum of a record as a whole.
pub(super) fn digest(key: &Key, value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&chunk_key(key, 0)), value)
}

/// A record as chunks, and what they say about it.
pub(super) fn encode(key: &Key, value: &[u8]) -> (Stored, Vec<(RawKey, RawValue)>) {
    // An empty value has one chunk, too.
    let parts = value
        .chunks(CHUNK_BYTES)
        .chain(value.is_empty().then_some(value));
    let parts = parts.collect::<Vec<_>>();
    let stored = Stored {
        chunks: u16::try_from(parts.len()).expect("values are limited to 2048 chunks"),
        digest: digest(key, value),
    };
    let chunks = (0u16..).zip(parts).map(|(number, part)| {
        let raw_key = chunk_key(key, number);
        let mut body = Vec::with_capacity(FRAME_BYTES - CRC_END + part.len());
        body.extend(stored.chunks.to_le_bytes());
        body.extend(stored.digest.to_le_bytes());
        body.extend(part);
        let raw_value = frame(&raw_key, &body);
        (raw_key, raw_value)
    });
    (stored, chunks.collect())
}

/// Puts records together from all that is stored, and proves that nothing is missing.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    head: Option<Head>,
    records: BTreeMap<Key, Assembled>,
}

#[derive(Debug)]
struct Assembled {
    stored: Stored,
    chunks: u16,
    value: Vec<u8>,
}

impl Assembly {
    /// Adds a stored key and value. They come ordered by key, so that the chunks of a record do.
    pub(super) fn add(&mut self, raw_key: &[u8], raw_value: &[u8]) -> Result<(), Damage> {
        if raw_key == Head::key() {
            self.head = Some(Head::decode(raw_value)?);
            return Ok(());
        }
        let (key, chunk) = parse_chunk_key(raw_key)?;
        let (stored, part) = split_chunk(raw_key, raw_value)?;
        if chunk == 0 {
            let value = part.to_vec();
            let first = Assembled {
                stored,
                chunks: 1,
                value,
            };
            self.records.insert(key, first);
            return Ok(());
        }
        match self.records.get_mut(&key) {
            Some(record) if record.chunks == chunk && record.stored == stored => {
                record.chunks += 1;
                record.value.extend(part);
                Ok(())
            }
            Some(_) | None => broken(format!("the parts of {key} do not belong together")),
        }
    }

    /// Everything was added. `None` for a store in which nothing was ever written.
    pub(super) fn finish(self) -> Result<Option<(Head, Records)>, Damage> {
        let Some(head) = self.head else {
            return if self.records.is_empty() {
                Ok(None)
            } else {
                broken("the head is missing")
            };
        };
        let mut sum = Head::empty(head.position);
        let mut records = Records::none(head.position);
        records.records.reserve_exact(self.records.len());
        for (key, record) in self.records {
            let Assembled { stored, value, .. } = record;
            if record.chunks != stored.chunks || digest(&key, &value) != stored.digest {
                return broken(format!("a part of {key} is missing"));
            }
            sum.replace(None, Some(stored));
            records.records.push((key, value));
        }
        if sum != head {
            return broken(format!(
                "it should have {} records with the sum {:x}, and has {} with the sum {:x}",
                head.count, head.digest, sum.count, sum.digest
            ));
        }
        Ok(Some((head, records)))
    }
}

fn parse_chunk_key(raw: &[u8]) -> Result<(Key, u16), Damage> {
    let parsed = || {
        let rest = raw.strip_prefix(&[CHUNK_KEY])?;
        let (table_len, rest) = rest.split_first()?;
        let (table, rest) = rest.split_at_checked(usize::from(*table_len))?;
        let (id, chunk) = rest.split_last_chunk::<2>()?;
        let table = str::from_utf8(table).ok()?;
        let id = str::from_utf8(id).ok()?;
        Some((Key::new(table, id), u16::from_be_bytes(*chunk)))
    };
    parsed().map_or_else(|| broken("a key is malformed"), Ok)
}

fn split_chunk<'a>(key: &[u8], value: &'a [u8]) -> Result<(Stored, &'a [u8]), Damage> {
    let body = unframe(key, value)?;
    let parsed = || {
        let (chunks, rest) = body.split_first_chunk::<2>()?;
        let (digest, part) = rest.split_first_chunk::<4>()?;
        let stored = Stored {
            chunks: u16::from_le_bytes(*chunks),
            digest: u32::from_le_bytes(*digest),
        };
        Some((stored, part))
    };
    parsed().map_or_else(|| broken("a chunk is too short"), Ok)
}

fn frame(key: &[u8], body: &[u8]) -> RawValue {
    let mut value = Vec::with_capacity(CRC_END + body.len());
    value.push(FORMAT);
    value.extend(checksum(key, body).to_le_bytes());
    value.extend(body);
    value
}

fn unframe<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Damage> {
    let Some((format, rest)) = value.split_first() else {
        return broken("a value is empty");
    };
    let Some((crc, body)) = rest.split_first_chunk::<4>() else {
        return broken("a value is too short");
    };
    if u32::from_le_bytes(*crc) != checksum(key, body) {
        return broken("a checksum does not match");
    }
    match *format {
        FORMAT => Ok(body),
        newer => Err(Damage::UnknownFormat(newer)),
    }
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

#[cfg(test)]
mod tests;
