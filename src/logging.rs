//! What the server and the agent log: to standard error, as `WINDLASS_LOG` filters it.

use std::io::{self, IsTerminal};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    error::{Exit, Failure},
    output::live,
};

/// The variable that holds the filter, as `tracing-subscriber` reads it.
const VARIABLE: &str = "WINDLASS_LOG";

/// Sets up the log of this process. `default` is the filter that holds unless told otherwise.
pub(crate) fn start(default: &str) -> Result<(), Failure> {
    let text = std::env::var(VARIABLE).unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("{VARIABLE}={text} is not a filter: {error}"),
        )
        .hint("write a level like `debug`, or `info,windlass_agent=debug`")
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| live::Above)
        .with_ansi(io::stderr().is_terminal() && anstream_allows_colors())
        .with_filter(filter);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter_fn(is_safe)))
        .try_init()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot set up the log: {error}")))
}

fn anstream_allows_colors() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// The Docker client logs whole requests below the level of info, with the environment of
/// containers in them. Whatever the filter says, that never reaches a log.
fn is_safe(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("bollard") || *metadata.level() <= Level::INFO
}
