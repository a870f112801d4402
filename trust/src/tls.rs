//! How connections are encrypted, and who is believed to be at their other end.
//!
//! TLS 1.3 only. The server has a certificate of the cluster's authority, and so have agents; people
//! have none, they show a token. Sessions are not resumed: a resumed one would go on with the
//! certificate that it began with.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use windlass_api::{access::SERVER_NAME, ids::Fingerprint};

use crate::certificate::{Certificate, fingerprint};

/// For how long a node whose certificate has expired may still renew it: a site may have been dark
/// for a season. Until it has, it may do nothing else.
pub const RENEWABLE_FOR: Duration = Duration::from_hours(365 * 24);

/// A configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No authority is trusted, or one of them is no certificate.
    #[error("there is no authority to trust")]
    NoAuthority,
    /// The library refused it.
    #[error("the encryption cannot be set up: {0}")]
    Refused(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn store(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, Error> {
    let mut store = RootCertStore::empty();
    for authority in authorities {
        let added = store.add(authority.clone());
        added.map_err(|_| Error::NoAuthority)?;
    }
    Ok(Arc::new(store))
}

/// For the server. Whoever shows a certificate must have it from one of `authorities`; nobody must
/// show one.
///
/// # Errors
/// There is no authority.
pub fn server(
    key: Arc<CertifiedKey>,
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(store(authorities)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|_| Error::NoAuthority)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Agents { verifier }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For an agent (with its certificate) or a person (without one), who knows the cluster.
///
/// # Errors
/// There is no authority.
pub fn client(
    key: Option<Arc<CertifiedKey>>,
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<ClientConfig>, Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(store(authorities)?, provider());
    let verifier = verifier.build().map_err(|_| Error::NoAuthority)?;
    configured(key, verifier)
}

/// For whoever knows of the cluster only the fingerprint of its authority, from a token.
///
/// # Errors
/// The library refused it.
pub fn first_contact(authority: Fingerprint) -> Result<Arc<ClientConfig>, Error> {
    configured(
        None,
        Arc::new(Pinned {
            authority,
            provider: provider(),
        }),
    )
}

fn configured(
    key: Option<Arc<CertifiedKey>>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The name to look for in a server's certificate, whatever its address is.
///
/// # Panics
/// Never: the name is a constant.
#[must_use]
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("it is a DNS name")
}

/// The authority in the chain that a server showed, by its fingerprint.
#[must_use]
pub fn authority_in<'a>(
    chain: &'a [CertificateDer<'static>],
    authority: Fingerprint,
) -> Option<&'a CertificateDer<'static>> {
    chain
        .iter()
        .find(|certificate| fingerprint(certificate) == authority)
}

/// Verifies agents. One whose certificate has expired comes through for [`RENEWABLE_FOR`]; what it
/// may do then is decided where everything is that somebody may do.
#[derive(Debug)]
struct Agents {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Agents {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let unreadable = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let certificate = Certificate::read(end_entity).map_err(|_| unreadable.clone())?;
        let time = i64::try_from(now.as_secs()).ok();
        let time = time.and_then(|second| Timestamp::from_second(second).ok());
        let expired_for = certificate.expired_for(time.ok_or_else(|| unreadable.clone())?);
        let judged_at = if expired_for > Duration::ZERO && expired_for <= RENEWABLE_FOR {
            let end = u64::try_from(certificate.not_after.as_second());
            UnixTime::since_unix_epoch(Duration::from_secs(end.map_err(|_| unreadable)?))
        } else {
            now
        };
        self.verifier
            .verify_client_cert(end_entity, intermediates, judged_at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Verifies a server by the fingerprint of its authority, which it sends along.
#[derive(Debug)]
struct Pinned {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let mut shown = intermediates.iter();
        let authority = shown
            .find(|certificate| fingerprint(certificate) == self.authority)
            .ok_or_else(unknown)?;
        let store = store(&[authority.clone().into_owned()]).map_err(|_| unknown())?;
        WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&self.provider))
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests;
