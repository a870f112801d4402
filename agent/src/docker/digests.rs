//! Under which digests registries have the images that containers run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use windlass_api::image::ImageRef;

use super::{
    containers::Listed,
    engine::{Engine, READ_WITHIN},
};
use crate::runtime::ErrorKind;

/// The digests of the images of the containers that the last list named, by image id.
#[derive(Debug, Default)]
pub(super) struct Digests(Mutex<BTreeMap<String, Vec<String>>>);

impl Digests {
    /// Reads those of images that are new. One that cannot be read is tried again next time.
    pub(super) async fn learn(&self, engine: &Engine, listed: &[Listed]) {
        let ids: BTreeSet<&String> = listed.iter().map(|l| &l.image_id).collect();
        let unknown: Vec<String> = {
            let mut known = self.known();
            known.retain(|id, _| ids.contains(id));
            let unknown = ids.into_iter().filter(|id| !known.contains_key(*id));
            unknown.cloned().collect()
        };
        for id in unknown {
            let Ok(client) = engine.client().await else {
                return;
            };
            let inspect = client.inspect_image(&id);
            match engine.call("read an image", READ_WITHIN, inspect).await {
                Ok(image) => {
                    let digests = image.repo_digests.unwrap_or_default();
                    self.known().insert(id, digests);
                }
                // Removed by force, while containers run it.
                Err(error) if error.kind == ErrorKind::ImageMissing => {
                    self.known().insert(id, Vec::new());
                }
                Err(error) => tracing::debug!(reason = %error, id, "an image cannot be read"),
            }
        }
    }

    /// The digest under which the registry of `image` has the image with that id.
    pub(super) fn of(&self, image_id: &str, image: &str) -> Option<String> {
        let image: ImageRef = image.parse().ok()?;
        let known = self.known();
        let mut digests = known.get(image_id)?.iter();
        digests.find(|digest| is_of(digest, &image)).cloned()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        // Nothing panics while it is held, and at worst an image is read once more.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a digest, like `nginx@sha256:...`, is of the same repository as an image.
fn is_of(digest: &str, image: &ImageRef) -> bool {
    let digest: Option<ImageRef> = digest.parse().ok();
    digest.is_some_and(|digest| repository(&digest) == repository(image))
}

/// Registry and path: Docker leaves out what it takes for granted.
fn repository(image: &ImageRef) -> String {
    let text = image.as_str();
    let text = text.split_once('@').map_or(text, |(name, _)| name);
    let name = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => text,
    };
    let registry = image.registry();
    let path = name.strip_prefix(registry).unwrap_or(name);
    let path = path.trim_start_matches('/');
    let path = path.strip_prefix("library/").unwrap_or(path);
    format!("{registry}/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_belongs_to_the_repository_that_was_pulled_from() {
        let digest = |name: &str| format!("{name}@sha256:{}", "a".repeat(64));
        for (of, image, same) in [
            ("nginx", "nginx:1.27", true),
            ("nginx", "docker.io/library/nginx", true),
            ("reg.site:5000/team/app", "reg.site:5000/team/app:2", true),
            ("reg.site:5000/team/app", "team/app:2", false),
            ("mirror/nginx", "nginx:1.27", false),
        ] {
            let image = image.parse().unwrap();
            assert_eq!(is_of(&digest(of), &image), same, "{of} {image}");
        }
    }
}
