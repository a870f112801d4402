//! The connection that becomes a command's input and output.
//!
//! bollard reads such connections, too, but guesses from each first byte whether Docker frames the
//! output; what a program writes to a terminal can look like a frame, whose length it would then
//! wait for in memory. Whether there are frames is known here, and they are passed on in pieces.

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadHalf, split},
    net::UnixStream,
};
use windlass_api::wire::{Channel, ExecOptions};

use super::super::{
    engine::{CHANGE_WITHIN, Engine},
    error,
};
use crate::{
    reach::{ExecId, Output, Running},
    runtime::{BoxStream, Error, ErrorKind, Result},
};

/// How much is read at a time, in bytes: what Docker writes at a time.
const PIECE_BYTES: usize = 32 << 10;
/// The head of a frame: the number of the output, three zeros, and the length.
const HEAD_BYTES: usize = 8;
/// The longest message of a refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 16 << 10;

/// Starts a command that was prepared.
pub(super) async fn start(
    engine: &Engine,
    exec: &ExecId,
    options: &ExecOptions,
) -> Result<Running> {
    const DOING: &str = "start the command";
    engine.client().await?;
    let body = json!({ "Detach": false, "Tty": options.terminal.is_some() }).to_string();
    let request = Request::post(format!("/exec/{}/start", exec.0))
        .header(header::HOST, "docker")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "tcp")
        .body(Full::new(Bytes::from(body)))
        .expect("an id of docker's is part of a path");
    let opened = async {
        let broken = |error: &dyn std::fmt::Display| Error {
            kind: ErrorKind::Unreachable,
            message: format!("cannot {DOING}: {error}"),
        };
        let stream = UnixStream::connect(engine.socket());
        let stream = stream.await.map_err(|error| broken(&error))?;
        let connected = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| broken(&error))?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(refusal(DOING, response).await);
            }
            let upgraded = hyper::upgrade::on(response).await;
            upgraded.map_err(|error| broken(&error))
        };
        let mut connection = std::pin::pin!(connection.with_upgrades());
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            done = exchange.as_mut() => done,
            // It ends when it is handed over, or broke, which the exchange says better.
            _ = connection.as_mut() => exchange.await,
        }
    };
    let upgraded = engine.limit(DOING, CHANGE_WITHIN, opened).await?;
    let (reader, input) = split(TokioIo::new(upgraded));
    let output = if options.terminal.is_some() {
        plain(reader)
    } else {
        framed(reader)
    };
    Ok(Running {
        input: Box::pin(input),
        output,
    })
}

/// What the engine says when it does not start a command.
async fn refusal(doing: &str, response: http::Response<Incoming>) -> Error {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
    let body = body.await.map(|body| body.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|body| Some(body["message"].as_str()?.to_owned()))
        .unwrap_or_else(|| format!("docker answers with status {status}"));
    error::refused(doing, status, &message)
}

type Reader = ReadHalf<TokioIo<Upgraded>>;

fn broken(error: std::io::Error) -> Error {
    Error {
        kind: ErrorKind::Unreachable,
        message: format!("the output of the command broke off: {error}"),
    }
}

/// Output that is passed on as it is: that of a terminal.
fn plain(reader: Reader) -> BoxStream<Output> {
    Box::pin(stream::try_unfold(reader, |mut reader| async {
        let bytes = piece(&mut reader, PIECE_BYTES).await.map_err(broken)?;
        Ok((!bytes.is_empty()).then_some((
            Output {
                channel: Channel::Output,
                bytes,
            },
            reader,
        )))
    }))
}

/// Output in frames, which say where it was written to.
fn framed<R: AsyncRead + Send + Unpin + 'static>(reader: R) -> BoxStream<Output> {
    let frames = Frames {
        reader,
        channel: Channel::Output,
        rest: 0,
    };
    Box::pin(stream::try_unfold(frames, |mut frames| async {
        let output = frames.next().await.map_err(broken)?;
        Ok(output.map(|output| (output, frames)))
    }))
}

struct Frames<R> {
    reader: R,
    channel: Channel,
    /// How much of the frame is still to come.
    rest: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    async fn next(&mut self) -> std::io::Result<Option<Output>> {
        while self.rest == 0 {
            let mut head = [0; HEAD_BYTES];
            // The end is where a frame would begin.
            if self.reader.read(&mut head[..1]).await? == 0 {
                return Ok(None);
            }
            self.reader.read_exact(&mut head[1..]).await?;
            self.channel = match head[0] {
                2 => Channel::Error,
                _ => Channel::Output,
            };
            let [.., a, b, c, d] = head;
            self.rest =
                usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(std::io::Error::other)?;
        }
        let bytes = piece(&mut self.reader, self.rest.min(PIECE_BYTES)).await?;
        if bytes.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.rest -= bytes.len();
        Ok(Some(Output {
            channel: self.channel,
            bytes,
        }))
    }
}

/// What can be read at once, at most `limit` bytes; empty at the end.
async fn piece(reader: &mut (impl AsyncRead + Unpin), limit: usize) -> std::io::Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(limit);
    (&mut *reader)
        .take(u64::try_from(limit).unwrap_or(u64::MAX))
        .read_buf(&mut buffer)
        .await?;
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn read(bytes: &'static [u8]) -> Result<Vec<(Channel, Bytes)>> {
        let outputs = framed(bytes).map_ok(|output| (output.channel, output.bytes));
        outputs.try_collect().await
    }

    #[tokio::test]
    async fn frames_say_where_output_was_written_to() {
        let bytes = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x00\x02\0\0\0\0\0\0\x03err";
        let expected = [
            (Channel::Output, Bytes::from_static(b"out")),
            (Channel::Error, Bytes::from_static(b"err")),
        ];
        assert_eq!(read(bytes).await.unwrap(), expected);
        assert_eq!(read(b"").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_frame_that_breaks_off_is_no_end() {
        for bytes in [
            &b"\x01\0\0"[..],
            b"\x01\0\0\0\0\0\0\x03ou",
            b"\x01\0\0\0\xff\xff\xff\xff",
        ] {
            assert!(read(bytes).await.is_err(), "{bytes:?}");
        }
    }
}
