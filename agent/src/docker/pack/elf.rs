//! As much of the ELF format as it takes to find a program's loader.
//!
//! Source: the System V ABI, chapters "ELF Header" and "Program Header".

use std::{
    ffi::OsString,
    io::{self, Read, Seek, SeekFrom},
    os::unix::ffi::OsStringExt,
    path::PathBuf,
};

/// The type of the program header that names the loader.
const PT_INTERP: u64 = 3;
/// The longest path of a loader, in bytes: Linux's `PATH_MAX`.
const PATH_LEN_MAX: u64 = 4096;

/// Where the fields are, which depends on the width of an address. Offsets and widths in bytes.
struct Layout {
    word: usize,
    headers_at: usize,
    header_size: usize,
    header_count: usize,
    segment_at: usize,
    segment_size: usize,
}

const WIDE: Layout = Layout {
    word: 8,
    headers_at: 0x20,
    header_size: 0x36,
    header_count: 0x38,
    segment_at: 0x08,
    segment_size: 0x20,
};
const NARROW: Layout = Layout {
    word: 4,
    headers_at: 0x1c,
    header_size: 0x2a,
    header_count: 0x2c,
    segment_at: 0x04,
    segment_size: 0x10,
};

/// The loader that an executable asks for. `None` if it is linked statically.
///
/// # Errors
/// If the file cannot be read or is no ELF file.
pub(super) fn interpreter(file: &mut (impl Read + Seek)) -> io::Result<Option<PathBuf>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not an ELF executable");
    let header = read_at(file, 0, 0x40)?;
    if !header.starts_with(b"\x7fELF") || header.len() < 6 {
        return Err(invalid());
    }
    let layout = match header[4] {
        1 => NARROW,
        2 => WIDE,
        _ => return Err(invalid()),
    };
    let little_endian = header[5] == 1;
    let number = |bytes: &[u8], at: usize, width: usize| {
        let digits = bytes.get(at..at + width)?.iter();
        let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if little_endian {
            digits.rev().fold(0, join)
        } else {
            digits.fold(0, join)
        })
    };
    let field = |bytes: &[u8], at, width| number(bytes, at, width).ok_or_else(invalid);

    let headers_at = field(&header, layout.headers_at, layout.word)?;
    let header_size = field(&header, layout.header_size, 2)?;
    for index in 0..field(&header, layout.header_count, 2)? {
        let at = headers_at
            .checked_add(index * header_size)
            .ok_or_else(invalid)?;
        let segment = read_at(file, at, header_size)?;
        if field(&segment, 0, 4)? != PT_INTERP {
            continue;
        }
        let path_at = field(&segment, layout.segment_at, layout.word)?;
        let len = field(&segment, layout.segment_size, layout.word)?;
        if len > PATH_LEN_MAX {
            return Err(invalid());
        }
        let mut path = read_at(file, path_at, len)?;
        path.retain(|byte| *byte != 0);
        return Ok(Some(PathBuf::from(OsString::from_vec(path))));
    }
    Ok(None)
}

fn read_at(file: &mut (impl Read + Seek), at: u64, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Cursor};

    use super::*;

    #[test]
    fn this_program_has_a_loader_that_exists() {
        let mut own = File::open("/proc/self/exe").unwrap();
        let loader = interpreter(&mut own)
            .unwrap()
            .expect("tests are linked dynamically");
        assert!(loader.is_absolute() && loader.exists(), "{loader:?}");
    }

    #[test]
    fn a_loader_is_found_in_files_of_other_machines() {
        // 32 bits, most significant byte first: a header, one program header, the path.
        let mut file = vec![0; 0x40];
        file[..6].copy_from_slice(b"\x7fELF\x01\x02");
        file[0x1f] = 0x40;
        file[0x2b] = 0x20;
        file[0x2d] = 1;
        let mut segment = vec![0; 0x20];
        segment[3] = 3;
        segment[7] = 0x60;
        segment[0x13] = 8;
        file.extend(segment);
        file.extend(b"/lib/ld\0");
        let found = interpreter(&mut Cursor::new(&file)).unwrap();
        assert_eq!(found, Some(PathBuf::from("/lib/ld")));
        file[0x2d] = 0;
        assert_eq!(interpreter(&mut Cursor::new(&file)).unwrap(), None);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for bad in [&b""[..], b"#!/bin/sh", b"\x7fELF", &[0; 64]] {
            assert!(interpreter(&mut Cursor::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_damaged_program_is_refused() {
        let mut file = vec![0; 0x40];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x20..0x28].fill(0xff);
        file[0x36] = 0x38;
        file[0x38] = 2;
        assert!(interpreter(&mut Cursor::new(&file)).is_err());
    }
}
