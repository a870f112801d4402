//! `windlass schema`.

use crate::{error::Failure, output};

/// Prints the JSON Schema of manifests.
pub(crate) fn run() -> Result<(), Failure> {
    output::json(&windlass_manifest::schema())
}
