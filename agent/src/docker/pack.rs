//! Packs a program into an image, so that it can be tried without a registry.
//!
//! The image holds the executable, its loader and the shared objects that the running process has
//! mapped, at their own paths: nothing else is needed to start it.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use bollard::{
    body_try_stream,
    query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions},
};
use futures_util::{TryStreamExt, future};

use super::{
    Docker,
    engine::{CHANGE_WITHIN, READ_WITHIN},
};
use crate::runtime::{Error, ErrorKind, Result};
use contents::Contents;

mod archive;
mod contents;
mod elf;

/// The executable's path in the image.
const PROGRAM: &str = "/windlass";
/// The label that tells what an image was packed from.
const FINGERPRINT_LABEL: &str = "windlass.pack";
/// How long the engine may take to import the image: a debug build has 200 MB, and a slow card
/// writes 1 MB/s.
const IMPORT_WITHIN: Duration = Duration::from_secs(300);

/// What packing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackOutcome {
    /// The image was made.
    Built,
    /// It was there, made from the same executable.
    Unchanged,
}

impl Docker {
    /// Makes an image with the tag `tag` (`name:tag`) out of an executable that needs no more
    /// shared objects than the running process has. `/proc/self/exe` is the program that runs,
    /// even if its file was replaced.
    ///
    /// # Errors
    /// If the executable or an object cannot be read, or the engine does not take the image.
    pub async fn pack(&self, executable: &Path, tag: &str) -> Result<PackOutcome> {
        let doing = format!("pack {} into image {tag}", executable.display());
        let failed = |error: io::Error| Error {
            kind: ErrorKind::Other,
            message: format!("cannot {doing}: {error}"),
        };
        let fingerprint = fingerprint(executable).map_err(failed)?;
        let before = self.packed(tag).await?;
        if before
            .as_ref()
            .is_some_and(|packed| packed.fingerprint == fingerprint)
        {
            return Ok(PackOutcome::Unchanged);
        }
        let contents = Contents::of(executable).map_err(failed)?;
        let (repo, version) = tag.rsplit_once(':').unwrap_or((tag, "latest"));
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(repo)
            .tag(version)
            .changes(vec![
                format!("ENTRYPOINT [\"{PROGRAM}\"]"),
                format!("LABEL {FINGERPRINT_LABEL}={fingerprint}"),
                "EXPOSE 8080".to_owned(),
            ])
            .build();
        let (archive, mut failure) = archive::stream(contents);
        let body = Some(body_try_stream(archive));
        let import = self
            .engine
            .client()
            .await?
            .create_image(Some(options), body, None);
        let import = import.try_for_each(|_| future::ok(()));
        let imported = self.engine.call(&doing, IMPORT_WITHIN, import).await;
        match (imported, failure.try_recv()) {
            (Ok(()), _) => {}
            // The engine only knows that the upload broke off.
            (Err(_), Ok(error)) => return Err(failed(error)),
            (Err(error), Err(_)) => return Err(error),
        }
        if let Some(before) = before
            && let Err(error) = self.remove_untagged(&before.image_id).await
        {
            // A container may still use it.
            tracing::debug!(%error, image = before.image_id, "a replaced image is left");
        }
        Ok(PackOutcome::Built)
    }

    /// Removes an image that lost its tag, since each has a hundred megabytes. One that somebody
    /// gave another tag stays.
    async fn remove_untagged(&self, image_id: &str) -> Result<()> {
        let client = self.engine.client().await?;
        let inspect = client.inspect_image(image_id);
        let image = self
            .engine
            .call("look for the image", READ_WITHIN, inspect)
            .await?;
        if image.repo_tags.is_some_and(|tags| !tags.is_empty()) {
            return Ok(());
        }
        let remove = client.remove_image(image_id, None::<RemoveImageOptions>, None);
        self.engine
            .call("remove the image", CHANGE_WITHIN, remove)
            .await
            .map(drop)
    }

    /// The image of that tag, if it exists and was packed.
    async fn packed(&self, tag: &str) -> Result<Option<Packed>> {
        let inspect = self.engine.client().await?.inspect_image(tag);
        match self
            .engine
            .call(&format!("look for image {tag}"), READ_WITHIN, inspect)
            .await
        {
            Ok(image) => {
                let mut labels = image.config.and_then(|c| c.labels).unwrap_or_default();
                let fingerprint = labels.remove(FINGERPRINT_LABEL);
                let packed = image.id.zip(fingerprint);
                Ok(packed.map(|(image_id, fingerprint)| Packed {
                    image_id,
                    fingerprint,
                }))
            }
            Err(error) if error.kind == ErrorKind::ImageMissing => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// An image that was packed before.
struct Packed {
    image_id: String,
    fingerprint: String,
}

/// Tells one build of an executable from another. A build writes a new file, so its size, inode
/// and time of change are enough, and cost nothing for a file of a hundred megabytes. At worst a
/// file that was copied is packed again.
fn fingerprint(executable: &Path) -> io::Result<String> {
    let meta = fs::metadata(executable)?;
    Ok(format!(
        "{}-{}-{}.{}",
        meta.size(),
        meta.ino(),
        meta.mtime(),
        meta.mtime_nsec()
    ))
}
