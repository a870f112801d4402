//! An HTTP check: one `GET` over a connection of its own.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use windlass_api::spec::HttpCheck;

use super::NAME_CHARS_MAX;
use crate::probe::shortened;

/// How much of an answer is read, in bytes: enough that a server can say what it wants to say
/// before the connection ends, and a bound.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The buffer of a connection, in bytes; the least that hyper takes. Heads are far smaller.
const BUFFER_BYTES: usize = 8 << 10;

/// A request, made ready.
#[derive(Debug)]
pub(super) struct Get {
    uri: Uri,
    headers: HeaderMap,
    check: HttpCheck,
}

impl Get {
    /// The request of a check, or why there is none.
    pub(super) fn new(check: &HttpCheck) -> Result<Self, String> {
        let uri = check.path.parse();
        let uri: Uri = uri.map_err(|error| format!("its path is none: {error}"))?;
        let mut headers = HeaderMap::with_capacity(check.headers.len() + 3);
        let agent = concat!("windlass/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        for (name, value) in &check.headers {
            let invalid = |_| format!("its header {name} is none");
            let key: HeaderName = name.parse().map_err(|_| invalid(()))?;
            let value = HeaderValue::from_bytes(value.0.as_bytes()).map_err(|_| invalid(()))?;
            headers.insert(key, value);
        }
        Ok(Self {
            uri,
            headers,
            check: check.clone(),
        })
    }

    /// Asks, and says what was seen unless it is well.
    pub(super) async fn ask(&self, stream: TcpStream, address: SocketAddr) -> Result<(), String> {
        let failed = |error: hyper::Error| format!("was not answered in HTTP: {error}");
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let mut request = Request::new(Empty::<Bytes>::new());
        request.uri_mut().clone_from(&self.uri);
        request.headers_mut().clone_from(&self.headers);
        let host = HeaderValue::from_str(&address.to_string()).expect("an address is plain ASCII");
        request.headers_mut().entry(header::HOST).or_insert(host);
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let mut body = response.into_body();
            let mut read = 0;
            while read < BODY_BYTES_MAX
                && let Some(frame) = body.frame().await.transpose()?
            {
                read += frame.data_ref().map_or(0, Bytes::len);
            }
            Ok(status)
        };
        tokio::pin!(connection, exchange);
        // Dropping either closes the connection.
        let status = tokio::select! {
            biased;
            status = &mut exchange => status,
            // It is driven to its end, after which the exchange has all that there is.
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(error),
            },
        };
        match status.map_err(failed)? {
            status if self.check.accepts(status) => Ok(()),
            status => Err(format!("answered {status}")),
        }
    }
}

/// The path without its query, which may hold more than others should read.
impl fmt::Display for Get {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shortened(self.uri.path(), NAME_CHARS_MAX))
    }
}
