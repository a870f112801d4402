//! Files of a container, as tar archives.

use std::io;

use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use windlass_api::{
    socket::{self, Incoming, Message, Outgoing},
    wire::{Control, FileInfo, FilePart},
};

use super::{Trouble, fail, logs};
use crate::{
    reach::Reach,
    runtime::{ContainerId, ErrorKind},
};

/// How many pieces of an archive may wait for Docker: with pieces of at most 64 KiB, 256 KiB.
const PIECES_MAX: usize = 4;

/// Says what was found at a path, and sends it if all of it is wanted.
pub(super) async fn read<R: Reach, S: AsyncRead + AsyncWrite + Unpin>(
    runtime: &R,
    id: &ContainerId,
    found: Option<(FileInfo, String)>,
    part: FilePart,
    (mut outgoing, incoming): (Outgoing<S>, Incoming<S>),
) -> Result<(), Trouble> {
    let Some((info, path)) = found else {
        return fail((outgoing, incoming), Control::Missing).await;
    };
    let archive = match part {
        FilePart::Info => None,
        FilePart::Whole => match runtime.read_files(id, &path).await {
            Ok(archive) => Some(archive),
            Err(error) => {
                return fail((outgoing, incoming), Control::failed(error.message)).await;
            }
        },
    };
    outgoing.control(&Control::Found(info)).await?;
    match archive {
        Some(archive) => logs::send(archive, (outgoing, incoming)).await,
        None => Ok(outgoing.close(incoming).await?),
    }
}

/// Unpacks the archive that comes in a folder.
pub(super) async fn write<R: Reach, S: AsyncRead + AsyncWrite + Unpin>(
    runtime: &R,
    id: &ContainerId,
    path: &str,
    (mut outgoing, mut incoming): (Outgoing<S>, Incoming<S>),
) -> Result<(), Trouble> {
    let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
    let archive = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context));
    let writing = runtime.write_files(id, path, archive.boxed());
    let written = {
        let taking = async {
            let ended = take(&mut incoming, &sender).await;
            // An archive that broke off must not look like one that ended.
            if let Err(error) = &ended {
                let _ended = sender.send(Err(io::Error::other(error.to_string()))).await;
            }
            drop(sender);
            ended
        };
        let (mut writing, mut taking) = (std::pin::pin!(writing), std::pin::pin!(taking));
        tokio::select! {
            // Before the end of the archive only if it does not work, or if Docker needs no more of it.
            written = writing.as_mut() => written,
            taken = taking.as_mut() => {
                let written = writing.await;
                // Nobody is left who could be told of it.
                taken?;
                written
            }
        }
    };
    match written {
        Ok(()) => Ok(outgoing.close(incoming).await?),
        Err(error) => {
            let reason = match error.kind {
                ErrorKind::NoSuchFile => format!("there is no folder {path} in the container"),
                _ => error.message,
            };
            outgoing.control(&Control::failed(reason)).await?;
            Ok(outgoing.close(incoming).await?)
        }
    }
}

/// Takes an archive to its end.
async fn take<S: AsyncRead + AsyncWrite + Unpin>(
    incoming: &mut Incoming<S>,
    to: &mpsc::Sender<io::Result<bytes::Bytes>>,
) -> Result<(), socket::Error> {
    loop {
        match incoming.next().await? {
            Some(Message::Data(bytes)) => {
                if to.send(Ok(bytes)).await.is_err() {
                    // Docker takes no more, and says why.
                    return std::future::pending().await;
                }
            }
            Some(Message::Control(Control::Eof)) => return Ok(()),
            Some(Message::Control(other)) => {
                let what = format!("{other:?} is no part of an archive");
                return Err(socket::Error::Malformed(what));
            }
            None => return Err(socket::Error::Closed("the archive was cut off".to_owned())),
        }
    }
}
