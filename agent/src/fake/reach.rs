//! Reaching into pretended containers. What a command is called says what it does.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, duplex, sink};
use windlass_api::wire::{Channel, ExecOptions, FileInfo, FileKind, SignalName, TerminalSize};

use super::Fake;
use crate::{
    reach::{Archive, Consumption, ExecId, Output, Reach, Running},
    runtime::{BoxStream, ContainerId, ContainerState, Error, ErrorKind, Owner, Result},
};

/// How much a pretended command holds of its input, in bytes.
const INPUT_BYTES: usize = 16;

impl Fake {
    /// What was done to commands and files, in order.
    #[must_use]
    pub fn reached(&self) -> Vec<String> {
        self.state().reached.clone()
    }

    fn note(&self, what: String) {
        self.state().reached.push(what);
    }
}

fn output(text: &'static str) -> Result<Output> {
    Ok(Output {
        channel: Channel::Output,
        bytes: Bytes::from_static(text.as_bytes()),
    })
}

impl Reach for Fake {
    async fn prepare(&self, id: &ContainerId, options: &ExecOptions) -> Result<ExecId> {
        let state = self.state();
        let found = state.containers.get(id);
        match found.map(|(_, container)| &container.state) {
            Some(ContainerState::Running { .. }) => Ok(ExecId(options.command.join(" "))),
            _ => Err(Error {
                kind: ErrorKind::Other,
                message: format!("container {} does not run", id.0),
            }),
        }
    }

    /// `cat` gives back what it is given, `hang` does nothing, `nope` cannot be run; anything else
    /// writes a line.
    async fn begin(&self, exec: &ExecId, _: &ExecOptions) -> Result<Running> {
        let silent: BoxStream<Output> = Box::pin(stream::pending());
        let said = |text| -> BoxStream<Output> { Box::pin(stream::iter([output(text)])) };
        Ok(match exec.0.as_str() {
            "cat" => {
                let (input, other) = duplex(INPUT_BYTES);
                let echo = stream::unfold(other, |mut other| async {
                    let mut bytes = BytesMut::with_capacity(INPUT_BYTES);
                    let read = other.read_buf(&mut bytes).await.unwrap_or(0);
                    let bytes = bytes.freeze();
                    let channel = Channel::Output;
                    (read > 0).then_some((Ok(Output { channel, bytes }), other))
                });
                Running {
                    input: Box::pin(input),
                    output: Box::pin(echo),
                }
            }
            "hang" => Running {
                input: Box::pin(sink()),
                output: silent,
            },
            "nope" => Running {
                input: Box::pin(sink()),
                output: said("OCI runtime exec failed: process: not found: unknown"),
            },
            _ => Running {
                input: Box::pin(sink()),
                output: said("done\n"),
            },
        })
    }

    async fn resize(&self, _: &ExecId, size: TerminalSize) -> Result<()> {
        self.note(format!("resize {size}"));
        Ok(())
    }

    async fn signal(&self, _: &ExecId, signal: SignalName) -> Result<()> {
        self.note(format!("signal {signal:?}"));
        Ok(())
    }

    /// `exit N` exits with N, `nope` as Docker has it.
    async fn exit_code(&self, exec: &ExecId) -> Result<Option<i64>> {
        let code = exec.0.strip_prefix("exit ").map(|code| code.parse());
        Ok(match (exec.0.as_str(), code) {
            ("hang", _) => None,
            ("nope", _) => Some(126),
            (_, Some(Ok(code))) => Some(code),
            _ => Some(0),
        })
    }

    /// There is a file everywhere but in `/nowhere`.
    async fn file_info(&self, _: &ContainerId, path: &str) -> Result<Option<(FileInfo, String)>> {
        let info = FileInfo {
            name: path.trim_start_matches('/').to_owned(),
            kind: FileKind::File,
            size: 3,
        };
        Ok((path != "/nowhere").then(|| (info, path.to_owned())))
    }

    async fn read_files(&self, _: &ContainerId, _: &str) -> Result<BoxStream<Bytes>> {
        Ok(Box::pin(stream::iter([Ok(Bytes::from_static(b"tar"))])))
    }

    async fn write_files(&self, _: &ContainerId, path: &str, mut archive: Archive) -> Result<()> {
        let mut len = 0;
        while let Some(bytes) = archive.next().await {
            match bytes {
                Ok(bytes) => len += bytes.len(),
                Err(error) => {
                    self.note(format!("half an archive: {error}"));
                    return Err(Error {
                        kind: ErrorKind::Other,
                        message: error.to_string(),
                    });
                }
            }
        }
        self.note(format!("{len} bytes to {path}"));
        Ok(())
    }

    async fn consumption(&self, owner: &Owner) -> Result<Vec<Consumption>> {
        let state = self.state();
        let running = state.containers.values().filter(|(of, container)| {
            of == owner && matches!(container.state, ContainerState::Running { .. })
        });
        Ok(running
            .map(|(_, container)| Consumption {
                id: container.id.clone(),
                instance: container.instance.clone(),
                namespace: container.namespace.clone(),
                cpu_ns: 0,
                memory_bytes: 1 << 20,
                received_bytes: 0,
                sent_bytes: 0,
            })
            .collect())
    }
}
