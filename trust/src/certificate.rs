//! What a certificate says.

use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use windlass_api::ids::Fingerprint;
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use crate::subject::Subject;

/// How long before they are made certificates hold, since clocks differ.
pub(crate) const BACKDATED: Duration = Duration::from_hours(1);

/// What a certificate says, which is true only if it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Who it speaks for.
    pub subject: Subject,
    /// From when.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// A certificate cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not one.
    #[error("it is not a certificate")]
    Malformed,
    /// It has not exactly one name of ours.
    #[error("the certificate does not say who in a cluster it speaks for")]
    Nameless,
}

impl Certificate {
    /// Reads one.
    ///
    /// # Errors
    /// It is not a certificate, or not one of ours.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, Error> {
        let (rest, parsed) = x509_parser::certificate::X509Certificate::from_der(der)
            .map_err(|_| Error::Malformed)?;
        if !rest.is_empty() {
            return Err(Error::Malformed);
        }
        let names = parsed.subject_alternative_name();
        let names = names
            .map_err(|_| Error::Malformed)?
            .ok_or(Error::Nameless)?;
        let mut uris = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        // A second name could be read by somebody else as the one that counts.
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(Error::Nameless);
        };
        let second = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|_| Error::Malformed)
        };
        let validity = parsed.validity();
        Ok(Self {
            subject: uri.parse().map_err(|_| Error::Nameless)?,
            not_before: second(validity.not_before)?,
            not_after: second(validity.not_after)?,
        })
    }

    /// For how long it was made.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        let span = self.not_after.duration_since(self.not_before);
        span.unsigned_abs().saturating_sub(BACKDATED)
    }

    /// When it is to be renewed: when half of its time is over, so that a site has the other half
    /// to be reached in.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        let half = self.lifetime() / 2;
        self.not_after.checked_sub(half).unwrap_or(self.not_before)
    }

    /// For how long it has been expired. Zero until then.
    #[must_use]
    pub fn expired_for(&self, now: Timestamp) -> Duration {
        let since = now.duration_since(self.not_after);
        since.try_into().unwrap_or(Duration::ZERO)
    }
}

/// By which a certificate is recognised.
#[must_use]
pub fn fingerprint(der: &CertificateDer<'_>) -> Fingerprint {
    let digest = digest(&SHA256, der);
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// A certificate in PEM.
#[must_use]
pub fn to_pem(der: &CertificateDer<'_>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()))
}

/// The certificates in a text in PEM, one or more.
///
/// # Errors
/// There is none, or what is there is not PEM.
pub fn from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::Malformed),
    }
}
