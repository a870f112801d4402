//! Why the engine, or a file beside it, did not do what it was asked. Becomes an [`Error`] where
//! it is known what that means for the store.
//!
//! [`Error`]: super::Error

use std::{fmt, io};

use super::record::Damage;

#[derive(Debug)]
pub(super) enum Fault {
    NoSpace,
    Locked,
    Io(io::Error),
    Corrupt(String),
    UnknownFormat(u8),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io(error),
        }
    }
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        match damage {
            Damage::UnknownFormat(format) => Self::UnknownFormat(format),
            Damage::Broken(what) => Self::Corrupt(what),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("no space is left"),
            Self::Locked => f.write_str("it is in use"),
            Self::Io(error) => error.fmt(f),
            Self::Corrupt(what) => f.write_str(what),
            Self::UnknownFormat(format) => write!(f, "it has the unknown format {format}"),
        }
    }
}
