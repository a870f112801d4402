//! The last lines that a container wrote.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use windlass_api::{
    status::{LAST_LOG_LINE_BYTES_MAX, LAST_LOG_LINES_MAX},
    wire::LogOptions,
};

use crate::runtime::{ContainerId, Runtime};

/// How long reading them may take. What is told of the instance waits for it.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// How much of them is read, in bytes: lines that are far too long are of no use to anybody.
const BYTES_MAX: usize = 64 << 10;

/// Reads the last lines of a container. None if it has gone, or the engine does not answer.
pub(super) async fn read<R: Runtime>(runtime: &R, id: &ContainerId) -> Vec<String> {
    let options = LogOptions {
        tail: Some(u32::try_from(LAST_LOG_LINES_MAX).unwrap_or(u32::MAX)),
        ..LogOptions::default()
    };
    let mut text = Vec::new();
    let reading = async {
        let mut log = runtime.logs(id, &options).await?;
        while text.len() < BYTES_MAX
            && let Some(piece) = log.next().await
        {
            text.extend_from_slice(&piece?);
        }
        Ok(())
    };
    match timeout(READ_WITHIN, reading).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let error: crate::runtime::Error = error;
            tracing::debug!(container = id.0, reason = %error, "the last lines cannot be read");
        }
        Err(_) => tracing::debug!(container = id.0, "the last lines cannot be read in time"),
    }
    lines(&text)
}

/// The last lines of an output, fit to be shown anywhere.
fn lines(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let all: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = &all[all.len().saturating_sub(LAST_LOG_LINES_MAX)..];
    last.iter().map(|line| presentable(line)).collect()
}

/// A line without characters that do something to a terminal, cut where it is too long.
fn presentable(line: &str) -> String {
    let chars = line.trim_end().chars();
    let mut line: String = chars
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect();
    line.truncate(line.floor_char_boundary(LAST_LOG_LINE_BYTES_MAX));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_short_and_harmless() {
        let mut output: Vec<u8> = (0..20)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect();
        output.extend(b"\x1b[31mred\xff\tend\r\n\n");
        output.extend("\u{e4}".repeat(300).into_bytes());
        let lines = lines(&output);
        assert_eq!(lines.len(), LAST_LOG_LINES_MAX);
        assert_eq!(lines[0], "line 12");
        assert_eq!(lines[8], "\u{fffd}[31mred\u{fffd} end");
        assert_eq!(lines[9].len(), LAST_LOG_LINE_BYTES_MAX);
    }
}
