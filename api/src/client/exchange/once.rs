//! Requests that are sent once: what they start, or consume, must not be started twice.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::time;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};

use super::{Attempt, Call, Error, Exchange, REQUEST_LIMIT, VALID, innermost};
use crate::{client::connect::Chain, socket};

/// The WebSocket of a stream.
pub(in crate::client) type Socket = WebSocketStream<TokioIo<Upgraded>>;

impl Exchange {
    /// Sends `call` and hands over the head and the body of the answer.
    pub(in crate::client) async fn respond(
        &self,
        call: &Call,
    ) -> Result<Response<Incoming>, Error> {
        self.opened(call).await.map_err(|failed| failed.error)
    }

    /// Sends `call` and reads the answer as JSON, and tells what its connection was made with.
    pub(in crate::client) async fn json_once<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<(T, Chain), Error> {
        let answer = async {
            let response = self.accepted(self.ask(call.request(self)).await?).await?;
            let chain = response.extensions().get().cloned().unwrap_or_default();
            Ok((self.collect(response).await?, chain))
        };
        let answer = time::timeout(REQUEST_LIMIT, answer).await;
        let (body, chain) = answer
            .unwrap_or_else(|_| Err(self.timed_out()))
            .map_err(|failed: Attempt| failed.error)?;
        Ok((self.parse(call, &body)?, chain))
    }

    /// Sends `call` with a body of any length.
    pub(in crate::client) async fn upload(
        &self,
        call: &Call,
        media_type: &'static str,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), Error> {
        let body = StreamBody::new(body.map(|chunk| chunk.map(Frame::data)));
        let request = call.head(self).header(header::CONTENT_TYPE, media_type);
        let request = request.body(body.boxed_unsync()).expect(VALID);
        let accepted = async {
            // Without a time limit of ours: the server has one for each side that does nothing.
            let response = self.ask(request).await?;
            self.accepted(response).await
        };
        accepted
            .await
            .map(drop)
            .map_err(|failed: Attempt| failed.error)
    }

    /// Opens a WebSocket.
    pub(in crate::client) async fn upgrade(&self, call: &Call) -> Result<Socket, Error> {
        let opened = time::timeout(REQUEST_LIMIT, self.upgraded(call)).await;
        let upgraded = opened
            .unwrap_or_else(|_| Err(self.timed_out()))
            .map_err(|failed| failed.error)?;
        let config = Some(socket::config());
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, config).await)
    }

    async fn upgraded(&self, call: &Call) -> Result<Upgraded, Attempt> {
        let key = generate_key();
        let mut request = call.request(self);
        for (name, value) in [
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, key.as_str()),
        ] {
            let value = value.parse().expect("these are values of headers");
            request.headers_mut().insert(name, value);
        }
        let response = self.ask(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let accepted = self.accepted(response).await?;
            let why = format!("HTTP status {} instead of a WebSocket", accepted.status());
            return Err(self.protocol(why).into());
        }
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| *accept != derive_accept_key(key.as_bytes())) {
            let why = "its WebSocket is the answer to another request".to_owned();
            return Err(self.protocol(why).into());
        }
        hyper::upgrade::on(response).await.map_err(|error| {
            Attempt::from(Error::Broken {
                server: self.server.clone(),
                why: innermost(&error),
            })
        })
    }
}
