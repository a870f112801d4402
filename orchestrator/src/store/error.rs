//! What can be wrong with a store, and what a person does about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use windlass_api::ids::Version;

use super::Position;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full, or nearly so. Reading goes on.
    #[error(
        "not enough space for the store in {dir}: {available_bytes} bytes are free and \
         {needed_bytes} are needed; free some, and writes are taken again"
    )]
    NoSpace {
        /// The data directory.
        dir: PathBuf,
        /// What the file system still gives, in bytes.
        available_bytes: u64,
        /// What it must give, in bytes.
        needed_bytes: u64,
        /// Whether the batch is stored.
        landed: Landed,
    },
    /// Nothing more can be promised: a write or a sync failed, or the store's thread died.
    #[error("the store failed and takes no more writes: {what}; check the disk, then start again")]
    Failed {
        /// What failed first.
        what: String,
    },
    /// A file operation failed outside of a commit.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error(
        "the store in {dir} is in use by another windlass server; stop that one, or give this \
         one a directory of its own with --data-dir"
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// The store cannot be read, or not all of it.
    #[error("the store is damaged: {what}; {remedy}")]
    Corrupt {
        /// What is wrong with it.
        what: String,
        /// What to do.
        remedy: Remedy,
    },
    /// The store lacks writes that were acknowledged.
    #[error(
        "the store ends at {found}, but {expected} was acknowledged; {}{remedy}",
        remedy.salvage_of(*found)
    )]
    TailMissing {
        /// Where it ends.
        found: Position,
        /// Where it must at least end.
        expected: Position,
        /// What to do.
        remedy: Remedy,
    },
    /// Nobody can tell whether the store lacks writes that were acknowledged.
    #[error(
        "the store's high-water mark {} is missing, so nobody can tell whether {found} is all that \
         was acknowledged; {}{remedy}",
        mark.display(),
        remedy.salvage_of(*found)
    )]
    MarkMissing {
        /// The file that is missing.
        mark: PathBuf,
        /// Where the store ends.
        found: Position,
        /// What else to do.
        remedy: Remedy,
    },
    /// Somebody else wrote in between.
    #[error("the newest version is {newest}, not {expected} as the writer believes")]
    Fenced {
        /// What the writer took for the newest.
        expected: Version,
        /// What is the newest.
        newest: Version,
    },
    /// A newer windlass wrote this.
    #[error(
        "{what} has format {found}, this windlass knows formats up to {known}; start the \
         version that wrote it"
    )]
    UnknownFormat {
        /// The store or the export.
        what: String,
        /// The format that was found.
        found: u64,
        /// The newest known format.
        known: u64,
    },
    /// A batch that no store takes.
    #[error("the batch is invalid: {what}")]
    InvalidBatch {
        /// Why.
        what: String,
    },
    /// A file is no whole and unchanged export.
    #[error("{path} is not a usable export: {what}")]
    BadExport {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A restore would replace a store that is fine.
    #[error(
        "{dir} holds a usable store at {position}; to put the export in its place and keep the \
         old one aside, restore again with --replace"
    )]
    Usable {
        /// The data directory.
        dir: PathBuf,
        /// How far its state has come.
        position: Position,
    },
}

impl Error {
    /// An [`Error::Io`], for `map_err`.
    pub(super) fn io<'a>(
        what: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }

    /// The state was read, and its records make no sense to the caller.
    pub fn unreadable(error: impl std::error::Error) -> Self {
        let what = format!("its records cannot be read: {error}");
        Self::Failed { what }
    }

    /// Whether the process can only stop: it can neither write nor wait for better times.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::NoSpace { .. }
            | Self::Fenced { .. }
            | Self::InvalidBatch { .. }
            | Self::Io { .. }
            | Self::BadExport { .. }
            | Self::Usable { .. } => false,
            Self::Failed { .. }
            | Self::Locked { .. }
            | Self::Corrupt { .. }
            | Self::TailMissing { .. }
            | Self::MarkMissing { .. }
            | Self::UnknownFormat { .. } => true,
        }
    }
}

/// Whether a batch that failed is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// Nothing was written. The same batch can be tried again.
    No,
    /// It may or may not be. The state must be read again, see [`super::Store::try_recover`].
    Unknown,
}

/// The way out of a damaged store: a command that restores the newest usable export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The newest automatic export that is whole, if there is one, and what it holds.
    pub newest_export: Option<(Position, PathBuf)>,
}

impl Remedy {
    /// How what is left of the store becomes an export that can be restored, if anything is left
    /// and it is newer than the newest export.
    fn salvage_of(&self, found: Position) -> String {
        let exported = self.newest_export.as_ref().map(|(position, _)| *position);
        if found == Position::default() || exported.is_some_and(|exported| found <= exported) {
            return String::new();
        }
        format!(
            "to keep {found}, make it an export first, with: windlass backup salvage --data-dir {}; ",
            quoted(&self.data_dir)
        )
    }

    /// The command to run.
    #[must_use]
    pub fn command(&self) -> String {
        let newest = self.newest_export.as_ref();
        let export = newest.map_or("FILE".into(), |(_, path)| quoted(path));
        let data_dir = quoted(&self.data_dir);
        format!("windlass backup restore {export} --data-dir {data_dir}")
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.newest_export {
            Some((position, _)) => write!(
                f,
                "restore the newest export, of {position}, with: {}",
                self.command()
            ),
            None => write!(
                f,
                "there is no export beside it; restore one that was kept elsewhere with: {}",
                self.command()
            ),
        }
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use windlass_api::ids::Epoch;

    use super::*;

    #[test]
    fn the_remedy_is_a_command_that_a_shell_takes() {
        let remedy = Remedy {
            data_dir: "/var/lib/my windlass".into(),
            newest_export: Some((
                Position {
                    epoch: Epoch(1),
                    version: Version(7),
                },
                "/var/lib/my windlass/exports/state-1-7.windlass-export".into(),
            )),
        };
        assert_eq!(
            remedy.command(),
            "windlass backup restore '/var/lib/my windlass/exports/state-1-7.windlass-export' \
             --data-dir '/var/lib/my windlass'"
        );
        assert_eq!(quoted(Path::new("/it's")), r"'/it'\''s'");
    }
}
