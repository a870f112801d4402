//! A connection to a port of an instance.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use windlass_api::{
    socket::{self, Incoming, Message, Outgoing},
    wire::{Control, STALLED_AFTER},
};

use super::Trouble;

/// How long an instance may take to accept a connection: it is on the same machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How much is read at a time, in bytes.
const PIECE_BYTES: usize = 32 << 10;

/// Connects to a port of an instance.
pub(super) async fn connect(address: IpAddr, port: u16) -> Result<TcpStream, String> {
    let address = SocketAddr::new(address, port);
    let connected = timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(format!(
                "nothing in the instance listens on port {port}, or only on its own loopback"
            ));
        }
        Ok(Err(error)) => return Err(format!("no connection to {address}: {error}")),
        Err(_) => {
            let limit = CONNECT_WITHIN.as_secs();
            return Err(format!("no connection to {address} within {limit} s"));
        }
    };
    // What somebody waits for is not held back. Without it, it is only slower.
    let _slower = stream.set_nodelay(true);
    Ok(stream)
}

/// Passes on what both sides say, until both have said all, or one is gone.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    connection: TcpStream,
    (mut outgoing, mut incoming): (Outgoing<S>, Incoming<S>),
) -> Result<(), Trouble> {
    let (mut reader, mut writer) = connection.into_split();
    let ended = {
        let saying = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PIECE_BYTES);
                if reader.read_buf(&mut buffer).await.map_err(of_instance)? == 0 {
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
                            Ok(written) => written.map_err(of_instance)?,
                            Err(_) => return Err(socket::Error::Stalled),
                        }
                    }
                    Some(Message::Control(Control::Eof)) => {
                        writer.shutdown().await.map_err(of_instance)?;
                        return Ok(Heard::All);
                    }
                    Some(Message::Control(other)) => {
                        let what = format!("{other:?} is nothing that a connection is told");
                        return Err(socket::Error::Malformed(what));
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
        Ok(()) => outgoing.close(incoming).await?,
        Err(error) => outgoing.abort(incoming, &error.to_string()).await?,
    }
    Ok(())
}

/// How whoever forwards ended.
enum Heard {
    /// It says no more, and listens.
    All,
    /// It is gone.
    Farewell,
}

fn of_instance(error: std::io::Error) -> socket::Error {
    socket::Error::Closed(format!("the instance's connection broke: {error}"))
}
