//! What streams carry: see [`StreamRequest`].
//!
//! A stream is a WebSocket between an agent and the server, and for those that a person speaks
//! into, a second one between the server and the command line, with the same messages: the server
//! passes them on. Binary messages are data; text messages are one JSON [`Control`] each. Whoever
//! has no more to say closes with the code 1000 (normal), or says [`Control::Failed`] before it.
//! The server pings both sides; who hears nothing for [`SILENT_AFTER`] gives the stream up.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ContainerName, InstanceId};

/// The most data in one message, in bytes: what Docker gives at a time. With queues of a few
/// messages, this is what a stream costs in memory.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;

/// The longest message on a stream, in bytes. Room for the statistics of a node's thousand
/// instances, which come as one message; everything else keeps to [`CHUNK_BYTES_MAX`].
pub const STREAM_MESSAGE_BYTES_MAX: usize = 1 << 20;

/// How often the server pings both sides of a stream: often enough that tables of connections in
/// routers, which forget after a few minutes at the earliest, keep it.
pub const PING_EVERY: Duration = Duration::from_secs(20);

/// How long a side may say nothing, not even answer a ping, until it counts as gone: three pings
/// and their way.
pub const SILENT_AFTER: Duration = Duration::from_secs(70);

/// How long a side may take nothing of what is sent to it. The same as the server's limit for all
/// its connections, so that the reason is known wherever it is noticed.
pub const STALLED_AFTER: Duration = Duration::from_secs(60);

/// How long nobody may say anything on a stream, though both sides are there: a command that
/// somebody has forgotten takes one of the few streams of its node. As long as a kubelet waits.
pub const IDLE_AFTER: Duration = Duration::from_secs(4 * 3_600);

/// The trailer of a body that comes as it is made: an [`Outcome`], as JSON. An answer that names
/// it and ends without it was cut off.
pub const OUTCOME: &str = "x-windlass-outcome";

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Outcome {
    /// That was all.
    Done,
    /// There is more of it.
    BrokeOff {
        /// Why it does not come, for a person.
        reason: String,
    },
}

/// What a stream is to carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum StreamRequest {
    /// The output of an instance's container, as binary messages; the agent closes at the end.
    Logs {
        /// The instance.
        instance: InstanceId,
        /// The container; absent: the main one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<ContainerName>,
        /// Which part of it.
        options: LogOptions,
    },
    /// Runs a command in a container. What goes to it is its standard input; what comes from it
    /// begins with a byte that says which [`Channel`] it is of. The last message is
    /// [`Control::Exit`] or [`Control::Failed`].
    Exec {
        /// The instance.
        instance: InstanceId,
        /// The container; absent: the main one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<ContainerName>,
        /// The command and how it is run.
        options: ExecOptions,
    },
    /// A TCP connection to a port of an instance. [`Control::Eof`] closes one direction.
    Forward {
        /// The instance.
        instance: InstanceId,
        /// The port, as the instance's containers see it.
        port: u16,
    },
    /// Reads a file or folder as a tar archive, after [`Control::Found`] or [`Control::Missing`].
    ReadFiles {
        /// The instance.
        instance: InstanceId,
        /// The container; absent: the main one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<ContainerName>,
        /// The absolute path. Where it leads to is read, if it is a symbolic link.
        path: String,
        /// How much of it is wanted.
        part: FilePart,
    },
    /// Unpacks a tar archive, which ends with [`Control::Eof`], in a folder of a container. The
    /// agent closes when it is done.
    WriteFiles {
        /// The instance.
        instance: InstanceId,
        /// The container; absent: the main one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<ContainerName>,
        /// The absolute path of the folder.
        path: String,
    },
    /// What the node and its instances use at the moment: one binary message, a JSON
    /// [`crate::stats::NodeUsage`].
    Stats,
}

/// Which part of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogOptions {
    /// Whether to go on with what is written from now on.
    #[serde(default)]
    pub follow: bool,
    /// How many of the last lines; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Only what was written since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whether each line begins with its time.
    #[serde(default)]
    pub timestamps: bool,
}

/// A command to run in a container, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecOptions {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether something goes to its standard input; otherwise that is empty.
    #[serde(default)]
    pub stdin: bool,
    /// Give it a terminal of this size. Its output and errors are one then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// The kind of terminal, for its environment (`TERM`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal_kind: Option<String>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminalSize {
    /// How many lines it has.
    pub rows: u16,
    /// How many characters a line has.
    pub columns: u16,
}

/// `ROWSxCOLUMNS`, as it stands in a query.
impl fmt::Display for TerminalSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.columns)
    }
}

impl FromStr for TerminalSize {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let size = s
            .split_once('x')
            .and_then(|(rows, columns)| Some((rows.parse().ok()?, columns.parse().ok()?)));
        let (rows, columns) = size.ok_or("write it as ROWSxCOLUMNS, like 24x80")?;
        Ok(Self { rows, columns })
    }
}

/// Which output of a command a binary message is of: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output; all output, if it has a terminal.
    Output,
    /// Standard error.
    Error,
}

impl Channel {
    /// The byte that stands for it: the number of its descriptor.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Output => 1,
            Self::Error => 2,
        }
    }

    /// The channel that a byte stands for.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Output),
            2 => Some(Self::Error),
            _ => None,
        }
    }
}

/// What is said on a stream besides its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Control {
    /// The sender has no more data, but still takes some.
    Eof,
    /// The terminal in front of a person has this size now.
    Resize(TerminalSize),
    /// A signal for the command.
    Signal {
        /// Which one.
        signal: SignalName,
    },
    /// A signal could not be passed on. The command goes on.
    SignalFailed {
        /// Why, for a person.
        reason: String,
    },
    /// The command ended.
    Exit {
        /// Its exit code; 128 + n where signal n ended it.
        code: u8,
    },
    /// What was asked for did not work, or broke off.
    Failed {
        /// Why, for a person.
        reason: String,
        /// The exit code that says so for a command: 125 to 127, as shells and Docker have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<u8>,
    },
    /// A file or folder that was asked for is there.
    Found(FileInfo),
    /// It is not there.
    Missing,
}

impl Control {
    /// What was asked for did not work.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
            code: None,
        }
    }
}

/// The signals that are passed on to commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SignalName {
    /// The terminal is gone.
    Hup,
    /// Ctrl-C.
    Int,
    /// Ctrl-\.
    Quit,
    /// Please end.
    Term,
}

impl SignalName {
    /// The signal's number, the same on all systems.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Hup => 1,
            Self::Int => 2,
            Self::Quit => 3,
            Self::Term => 15,
        }
    }
}

/// How much of a file or folder is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FilePart {
    /// Only what it is.
    Info,
    /// All of it.
    Whole,
}

/// What is at a path in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileInfo {
    /// Its name, without the folders above it.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// The size of a file, in bytes.
    pub size: u64,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FileKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A device, a socket, a link that leads nowhere.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_short_json() {
        for (control, json) in [
            (Control::Eof, r#"{"type":"eof"}"#),
            (
                Control::Resize(TerminalSize {
                    rows: 24,
                    columns: 80,
                }),
                r#"{"type":"resize","rows":24,"columns":80}"#,
            ),
            (
                Control::Signal {
                    signal: SignalName::Int,
                },
                r#"{"type":"signal","signal":"INT"}"#,
            ),
            (Control::Exit { code: 137 }, r#"{"type":"exit","code":137}"#),
            (Control::failed("no"), r#"{"type":"failed","reason":"no"}"#),
        ] {
            assert_eq!(serde_json::to_string(&control).unwrap(), json);
            assert_eq!(serde_json::from_str::<Control>(json).unwrap(), control);
        }
    }

    #[test]
    fn sizes_of_terminals_read_back() {
        let size = TerminalSize {
            rows: 50,
            columns: 132,
        };
        assert_eq!(size.to_string().parse(), Ok(size));
        for bad in ["", "24", "x80", "24x", "24x-1", "24x99999", "24x80x1"] {
            assert!(bad.parse::<TerminalSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn channels_are_the_numbers_of_descriptors() {
        for channel in [Channel::Output, Channel::Error] {
            assert_eq!(Channel::of(channel.byte()), Some(channel));
        }
        assert_eq!(Channel::of(0), None);
    }
}
