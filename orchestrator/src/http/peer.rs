//! Who is at the other end of an encrypted connection, by what they show.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use windlass_api::{ids::ClusterId, problem::Code};
use windlass_core::{
    access::{AgentCaller, Caller, Holds, Shown, identify},
    cluster::Cluster,
};
use windlass_trust::{Certificate, Token, certificate, subject::Role};

use crate::error::Error;

/// How a token is shown in the `authorization` header (RFC 6750).
const SCHEME: &str = "Bearer ";

/// What a connection showed, in the extensions of each request on it. It was verified.
#[derive(Debug, Clone)]
pub(super) struct Peer(Option<Arc<Certificate>>);

impl Peer {
    /// Of a chain of certificates that was verified, or none.
    pub(super) fn of(chain: Option<&[CertificateDer<'_>]>) -> Result<Self, certificate::Error> {
        let first = chain.and_then(<[_]>::first);
        let certificate = first.map(Certificate::read).transpose()?;
        Ok(Self(certificate.map(Arc::new)))
    }

    /// Who sends a request with these headers.
    pub(super) fn caller(
        &self,
        headers: &HeaderMap,
        cluster: &Cluster,
        now: Timestamp,
    ) -> Result<Caller, Error> {
        let certificate = match &self.0 {
            Some(certificate) => agent(certificate, cluster.record.id, now),
            None => None,
        };
        let token = bearer(headers)?.map(|token| token.hash());
        let shown = Shown { certificate, token };
        Ok(identify(cluster, &shown, now)?)
    }
}

/// The agent that a certificate is of. One of another cluster, or of a server, is nobody's here.
fn agent(certificate: &Certificate, cluster: ClusterId, now: Timestamp) -> Option<AgentCaller> {
    let Role::Node { name, admission } = &certificate.subject.role else {
        return None;
    };
    if certificate.subject.cluster != cluster {
        return None;
    }
    // Asked anew for each request: a connection can outlive its certificate.
    let holds = match certificate.expired_for(now) {
        Duration::ZERO => Holds::Yes,
        _ => Holds::ForRenewal,
    };
    Some(AgentCaller {
        node: name.clone(),
        admission: *admission,
        certificate: holds,
    })
}

fn bearer(headers: &HeaderMap) -> Result<Option<Token>, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let unknown = |detail: String| Error::new(Code::Unauthenticated, detail);
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let text = text.and_then(|text| text.strip_prefix(SCHEME));
    let text = text.ok_or_else(|| {
        unknown("the authorization header has to be one: `Bearer` and a token".to_owned())
    })?;
    let token: Token = text
        .parse()
        .map_err(|error: windlass_trust::token::ParseError| unknown(error.to_string()))?;
    Ok(Some(token))
}
