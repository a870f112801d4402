//! A TCP connection whose other half is the other side of a stream.

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Error, Incoming, Message, Outgoing};
use crate::wire::{Control, STALLED_AFTER};

/// How much is read at a time, in bytes.
const PIECE_BYTES: usize = 32 << 10;

/// Passes on what both sides say, until both have said all, or one is gone.
///
/// # Errors
/// One of them broke off; the other one was told.
pub async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    connection: TcpStream,
    (mut outgoing, mut incoming): (Outgoing<S>, Incoming<S>),
) -> Result<(), Error> {
    let (mut reader, mut writer) = connection.into_split();
    let ended = {
        let saying = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PIECE_BYTES);
                if reader.read_buf(&mut buffer).await.map_err(broken)? == 0 {
                    return outgoing.control(&Control::Eof).await;
                }
                outgoing.data(buffer.split().freeze()).await?;
            }
        };
        let listening = async {
            loop {
                match incoming.next().await? {
                    None => return Ok(Heard::Farewell),
                    Some(Message::Data(bytes)) => {
                        match timeout(STALLED_AFTER, writer.write_all(&bytes)).await {
                            Ok(written) => written.map_err(broken)?,
                            Err(_) => return Err(Error::Stalled),
                        }
                    }
                    Some(Message::Control(Control::Eof)) => {
                        writer.shutdown().await.map_err(broken)?;
                        return Ok(Heard::All);
                    }
                    Some(Message::Control(other)) => {
                        let what = format!("{other:?} is nothing that a connection is told");
                        return Err(Error::Malformed(what));
                    }
                }
            }
        };
        let (mut saying, mut listening) = (std::pin::pin!(saying), std::pin::pin!(listening));
        tokio::select! {
            said = saying.as_mut() => match said {
                Ok(()) => listening.await.map(drop),
                Err(error) => Err(error),
            },
            heard = listening.as_mut() => match heard {
                Ok(Heard::All) => saying.await,
                Ok(Heard::Farewell) => return Ok(()),
                Err(error) => Err(error),
            },
        }
    };
    match ended {
        Ok(()) => outgoing.close(incoming).await,
        Err(error) => {
            // Why it broke off is worth more than whether that could be said.
            let _said = outgoing.abort(incoming, &error.to_string()).await;
            Err(error)
        }
    }
}

/// How whoever forwards ended.
enum Heard {
    /// It says no more, and listens.
    All,
    /// It is gone.
    Farewell,
}

fn broken(error: std::io::Error) -> Error {
    Error::Closed(format!("the connection broke: {error}"))
}
