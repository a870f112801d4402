//! The bodies of answers that come as they are made.

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Error, innermost};
use crate::wire::{OUTCOME, Outcome};

/// The body of an answer that may never end, and who sends it.
#[derive(Debug)]
pub(in crate::client) struct Stream {
    body: Incoming,
    server: String,
    ending: Ending,
}

/// What is known of how a body ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    /// Its end is all that there will be.
    Untold,
    /// It will be told.
    Awaited,
    /// It was told.
    Told(Outcome),
}

impl Stream {
    pub(in crate::client) fn new(response: Response<Incoming>, server: &str) -> Self {
        let trailer = response.headers().get(header::TRAILER);
        let ending = match trailer {
            Some(name) if name.as_bytes().eq_ignore_ascii_case(OUTCOME.as_bytes()) => {
                Ending::Awaited
            }
            Some(_) | None => Ending::Untold,
        };
        Self {
            body: response.into_body(),
            server: server.to_owned(),
            ending,
        }
    }

    /// Who sends it.
    pub(in crate::client) fn server(&self) -> &str {
        &self.server
    }

    /// The next piece, or `None` after the last one. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, or the body broke off.
    pub(in crate::client) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = match self.body.frame().await {
                None => return self.end().map(|()| None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(self.broken(innermost(&error))),
            };
            match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(frame) => {
                    let outcome = frame.trailers_ref().and_then(outcome);
                    self.ending = outcome.map_or(self.ending.clone(), Ending::Told);
                }
            }
        }
    }

    fn end(&self) -> Result<(), Error> {
        match &self.ending {
            Ending::Untold | Ending::Told(Outcome::Done) => Ok(()),
            Ending::Told(Outcome::BrokeOff { reason }) => Err(Error::BrokeOff {
                why: reason.clone(),
            }),
            Ending::Awaited => Err(self.broken("how it ended was not told".to_owned())),
        }
    }

    fn broken(&self, why: String) -> Error {
        Error::Broken {
            server: self.server.clone(),
            why,
        }
    }
}

fn outcome(trailers: &HeaderMap) -> Option<Outcome> {
    let json = trailers.get(OUTCOME)?;
    serde_json::from_slice(json.as_bytes()).ok()
}
