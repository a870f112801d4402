//! `windlass backup`.

use std::{io::Write, path::PathBuf};

use clap::Subcommand;
use windlass_orchestrator::store::{Existing, Summary, restore, salvage, verify_export};

use super::{process, server};
use crate::{error::Failure, output};

/// Check and restore exports of the server's state
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A running server exports its state by itself, into `exports` in its data directory.")]
pub(crate) enum Backup {
    /// Check that an export is whole
    Verify {
        /// The export
        file: PathBuf,
    },
    /// Make what is left of a store that no server opens an export, to be restored
    Salvage {
        /// The server's data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Make the state in an export that of a server, which must not run
    #[command(after_help = "\
Containers are not touched by it. An agent that has seen a newer state keeps to that one, and says in
its log how to make it accept the older one.")]
    Restore {
        /// The export
        file: PathBuf,
        /// The server's data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Replace a store that is usable; it is kept aside
        #[arg(long)]
        replace: bool,
    },
}

impl Backup {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Verify { file } => {
                let summary = verify_export(&file).map_err(|error| process::failure(&error))?;
                say(&format!("{} is whole", file.display()), &summary)
            }
            Self::Salvage { data_dir } => {
                let verifier = server::verifier()?;
                let (file, summary) = salvage(&data_dir, Some(&verifier))
                    .map_err(|error| process::failure(&error))?;
                say(&format!("salvaged to {}", file.display()), &summary)
            }
            Self::Restore {
                file,
                data_dir,
                replace,
            } => {
                let existing = if replace {
                    Existing::MoveAside
                } else {
                    Existing::Refuse
                };
                let verifier = server::verifier()?;
                let summary = restore(&file, &data_dir, existing, Some(&verifier))
                    .map_err(|error| process::failure(&error))?;
                let (file, dir) = (file.display(), data_dir.display());
                say(&format!("restored {file} to {dir}"), &summary)
            }
        }
    }
}

fn say(done: &str, summary: &Summary) -> Result<(), Failure> {
    let Summary { position, records } = summary;
    writeln!(output::stdout(), "{done}: {records} records, {position}").map_err(Failure::from)
}
