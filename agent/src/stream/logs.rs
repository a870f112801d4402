//! The output of a container.

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use windlass_api::socket::{Incoming, Outgoing};

use super::Trouble;
use crate::runtime::BoxStream;

/// Sends what comes until one side ends.
pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    mut logs: BoxStream<Bytes>,
    (mut outgoing, mut incoming): (Outgoing<S>, Incoming<S>),
) -> Result<(), Trouble> {
    let sending = async {
        while let Some(bytes) = logs.next().await {
            match bytes {
                Ok(bytes) => outgoing.data(bytes).await?,
                Err(error) => return Ok(Some(error.message)),
            }
        }
        Ok(None)
    };
    // The one that is not first is not used any more.
    let error = tokio::select! {
        sent = sending => sent.map_err(Trouble::CutOff)?,
        left = incoming.next() => {
            left?;
            return Ok(());
        }
    };
    match error {
        None => outgoing.close(incoming).await?,
        Some(reason) => outgoing.abort(incoming, &reason).await?,
    }
    Ok(())
}
