//! What an agent sends, as the body of an answer that comes as it is made. Whether it was all of
//! it is told in a trailer to whoever takes trailers; for everybody else, a body that broke off
//! breaks the connection off.

use std::io;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use http_body_util::StreamBody;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use windlass_api::wire::{Control, OUTCOME, Outcome};

use crate::sessions::{Frame, StreamEnd};

type BodyFrame = hyper::body::Frame<Bytes>;

/// What an agent sends.
pub(super) struct Output {
    pub(super) end: StreamEnd,
    pub(super) shutdown: CancellationToken,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Output {
    /// The answer to a request with these headers: the data, until it ends or breaks off.
    pub(super) fn into_response(self, media_type: HeaderValue, request: &HeaderMap) -> Response {
        let takes_trailers = takes_trailers(request);
        let frames = futures_util::stream::unfold(Some(self), move |output| async move {
            let mut output = output?;
            match output.next().await {
                Ok(Some(bytes)) => Some((Ok(BodyFrame::data(bytes)), Some(output))),
                Ok(None) if takes_trailers => Some((Ok(trailer(&Outcome::Done)), None)),
                Ok(None) => None,
                Err(error) if takes_trailers => {
                    let reason = printable(&error.to_string());
                    Some((Ok(trailer(&Outcome::BrokeOff { reason })), None))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        let mut response = Response::new(Body::new(StreamBody::new(frames)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, media_type);
        if takes_trailers {
            headers.insert(header::TRAILER, HeaderValue::from_static(OUTCOME));
        }
        response
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let part = self.end.incoming.next();
            match self.shutdown.run_until_cancelled(part).await {
                Some(Ok(Some(Frame::Data(bytes)))) => return Ok(Some(bytes)),
                Some(Ok(Some(Frame::Control(Control::Failed { reason, .. })))) => {
                    return Err(io::Error::other(reason));
                }
                Some(Ok(Some(Frame::Control(_)))) => {}
                Some(Ok(None)) => return Ok(None),
                Some(Err(error)) => return Err(error),
                // An error, since a plain end would say that the output ends here.
                None => {
                    let kind = io::ErrorKind::ConnectionAborted;
                    return Err(io::Error::new(kind, "the server stops"));
                }
            }
        }
    }
}

/// Whether a request says that its sender reads trailers. Others would take a body that broke off
/// for a whole one.
fn takes_trailers(request: &HeaderMap) -> bool {
    let values = request.get_all(header::TE).into_iter();
    let mut tokens = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.any(|token| token.trim().eq_ignore_ascii_case("trailers"))
}

/// The text without what a header may not hold.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

fn trailer(outcome: &Outcome) -> BodyFrame {
    let json = serde_json::to_vec(outcome).expect("an outcome is valid JSON");
    let value = HeaderValue::from_bytes(&json).expect("printable text can be in a header");
    BodyFrame::trailers(HeaderMap::from_iter([(
        HeaderName::from_static(OUTCOME),
        value,
    )]))
}
