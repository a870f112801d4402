//! Pulling images.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::{Stream, StreamExt};
use windlass_api::image::ImageRef;

use super::{credentials, engine::Engine};
use crate::runtime::{Error, ErrorKind, Result};

/// A pull that says nothing for so long is stuck. How long it takes as a whole does not matter:
/// a large image over a slow line may take hours.
const STALLED_AFTER: Duration = Duration::from_secs(120);
/// What registries and engines say when they do not let somebody in. Many say so of what does not
/// exist, too.
const NOT_LET_IN: [&str; 5] = [
    "unauthorized",
    "authentication required",
    "access denied",
    "denied:",
    "no basic auth credentials",
];

/// Pulls an image with what the machine's Docker configuration has for its registry.
pub(super) async fn pull(engine: &Engine, image: &ImageRef) -> Result<()> {
    let doing = format!("pull image {image}");
    let found = credentials::find(image.registry()).await;
    let options = CreateImageOptionsBuilder::default()
        .from_image(&image.with_tag())
        .build();
    let progress = engine
        .client()
        .await?
        .create_image(Some(options), None, found.credentials);
    let progress = progress.map(|step| step.map_err(|error| engine.translate(&doing, error)));
    follow(progress, &doing)
        .await
        .map_err(|error| explain(error, &found.note))
}

/// Waits for the end of a pull that makes progress.
async fn follow<T>(progress: impl Stream<Item = Result<T>>, doing: &str) -> Result<()> {
    let mut progress = std::pin::pin!(progress);
    loop {
        match tokio::time::timeout(STALLED_AFTER, progress.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(error),
            Err(_) => {
                let seconds = STALLED_AFTER.as_secs();
                return Err(Error {
                    kind: ErrorKind::PullFailed,
                    message: format!("cannot {doing}: stalled, no progress for {seconds} s"),
                });
            }
        }
    }
}

/// What an engine's error means for a pull. `note` says which credentials were used.
fn explain(error: Error, note: &str) -> Error {
    if matches!(error.kind, ErrorKind::Unreachable | ErrorKind::NoSpace) {
        return error;
    }
    let text = error.message.to_lowercase();
    if NOT_LET_IN.iter().any(|words| text.contains(words)) {
        return Error {
            kind: ErrorKind::Unauthorized,
            message: format!("{} ({note})", error.message),
        };
    }
    let missing = text.contains("not found") || text.contains("manifest unknown");
    let kind = if missing {
        ErrorKind::ImageMissing
    } else {
        ErrorKind::PullFailed
    };
    Error { kind, ..error }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[test]
    fn what_registries_say_is_classified() {
        for (message, kind) in [
            (
                "manifest for x:1 not found: manifest unknown",
                ErrorKind::ImageMissing,
            ),
            (
                "pull access denied for x, repository does not exist or may require 'docker login'",
                ErrorKind::Unauthorized,
            ),
            (
                "Get https://x/v2/: unauthorized: authentication required",
                ErrorKind::Unauthorized,
            ),
            (
                "Get https://x/v2/: dial tcp: lookup x: no such host",
                ErrorKind::PullFailed,
            ),
            (
                "Get https://x/v2/: x509: certificate has expired",
                ErrorKind::PullFailed,
            ),
        ] {
            let error = Error {
                kind: ErrorKind::Other,
                message: message.to_owned(),
            };
            assert_eq!(explain(error, "").kind, kind, "{message}");
        }
    }

    #[test]
    fn a_refused_pull_says_which_credentials_were_used() {
        let error = Error {
            kind: ErrorKind::Other,
            message: "unauthorized".to_owned(),
        };
        let explained = explain(error, "as `ann` from /c.json");
        assert_eq!(explained.message, "unauthorized (as `ann` from /c.json)");
    }

    #[test]
    fn an_engine_that_went_away_says_nothing_about_the_image() {
        let message = "connection closed: not found".to_owned();
        let error = Error {
            kind: ErrorKind::Unreachable,
            message,
        };
        assert_eq!(explain(error.clone(), ""), error);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_without_progress_is_given_up() {
        let started = tokio::time::Instant::now();
        let progress = stream::iter([Ok(())]).chain(stream::pending());
        let error = follow(progress, "pull image x").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::PullFailed);
        assert_eq!(
            error.message,
            "cannot pull image x: stalled, no progress for 120 s"
        );
        assert_eq!(started.elapsed(), STALLED_AFTER);
    }
}
