//! Which manifests a command is about.

use std::path::PathBuf;

use clap::Args;
use windlass_api::{ids::Namespace, resource::Manifest};

use crate::error::Failure;

/// Files and folders with manifests.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ManifestArgs {
    /// A file, a folder of .yaml, .yml and .json files, or `-` for standard input
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same, as kubectl and docker write it
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
}

impl ManifestArgs {
    /// Reads all of them; those that name no namespace are in `namespace`.
    pub(crate) fn read(&self, namespace: &Namespace) -> Result<Vec<Manifest>, Failure> {
        let paths: Vec<PathBuf> = self.files.iter().chain(&self.paths).cloned().collect();
        read(&paths, namespace)
    }
}

/// Reads the manifests at `paths`; those that name no namespace are in `namespace`.
pub(crate) fn read(paths: &[PathBuf], namespace: &Namespace) -> Result<Vec<Manifest>, Failure> {
    let sources = windlass_manifest::load(paths)?;
    Ok(windlass_manifest::parse(&sources, namespace)?)
}
