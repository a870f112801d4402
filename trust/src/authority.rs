//! The cluster's own certificate authority, and keys that it makes certificates for.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use windlass_api::{
    access::SERVER_NAME,
    ids::{ClusterId, Fingerprint},
};
use zeroize::Zeroizing;

use crate::{
    certificate::{BACKDATED, fingerprint},
    subject::{Role, Subject},
};

/// How long an authority is good for. It can be replaced at any time; that it ends at all is only
/// because certificates must.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(20 * 365 * 24);

/// A cluster's certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A key or a certificate cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was refused by the library that makes certificates.
    #[error("the certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
    /// It is not in PEM.
    #[error("it is not a certificate or key in PEM")]
    Pem,
    /// The key does not sign for this certificate.
    #[error("key and certificate do not belong together")]
    Mismatch,
    /// The time is not one that certificates can name.
    #[error("the system's clock is wrong: {0}")]
    Time(Timestamp),
    /// The key is not one that TLS can use.
    #[error("the key cannot be used: {0}")]
    Key(rustls::Error),
}

/// For how long a certificate is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// When it is made.
    pub from: Timestamp,
    /// How long it holds.
    pub lifetime: Duration,
}

impl Validity {
    fn apply(self, params: &mut CertificateParams) -> Result<(), Error> {
        let at = |time: Timestamp| {
            OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| Error::Time(time))
        };
        let end = self.from.checked_add(self.lifetime);
        params.not_before = at(self
            .from
            .saturating_sub(BACKDATED)
            .map_err(|_| Error::Time(self.from))?)?;
        params.not_after = at(end.map_err(|_| Error::Time(self.from))?)?;
        Ok(())
    }
}

impl Authority {
    /// A new one, with a key of its own.
    ///
    /// # Errors
    /// The key cannot be made, or `now` is no possible time.
    pub fn create(now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Windlass authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let lifetime = AUTHORITY_LIFETIME;
        Validity {
            from: now,
            lifetime,
        }
        .apply(&mut params)?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// The one that was kept.
    ///
    /// # Errors
    /// One of them is not in PEM, or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let certificate =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| Error::Pem)?;
        let key = KeyPair::from_pem(key).map_err(|_| Error::Pem)?;
        let public_key = {
            let parsed = x509_parser::parse_x509_certificate(&certificate);
            let (_, parsed) = parsed.map_err(|_| Error::Pem)?;
            parsed.public_key().raw.to_vec()
        };
        if public_key != key.subject_public_key_info() {
            return Err(Error::Mismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// Its certificate, for whoever shall trust it.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key, to be kept.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// By which it is recognised.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.certificate)
    }

    /// A certificate, and the key for it, for a server that is reached by these names.
    ///
    /// # Errors
    /// A name is none, or the key cannot be made.
    pub fn server(
        &self,
        cluster: ClusterId,
        hosts: &[Host],
        validity: Validity,
    ) -> Result<Arc<CertifiedKey>, Error> {
        let key = PrivateKey::generate()?;
        let mut names = vec![SanType::DnsName(SERVER_NAME.try_into()?)];
        for host in hosts {
            names.push(match host {
                Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
                Host::Address(address) => SanType::IpAddress(*address),
            });
        }
        let purpose = ExtendedKeyUsagePurpose::ServerAuth;
        let role = Role::Server;
        let subject = Subject { cluster, role };
        let certificate = self.issue(&key.pair, &subject, names, purpose, validity)?;
        key.certified(vec![certificate, self.certificate.clone()])
    }

    /// A certificate for the agent of a node. Of its request only the key counts, and that whoever
    /// made the request has it.
    ///
    /// # Errors
    /// The request is none.
    pub fn agent(
        &self,
        request: &str,
        subject: &Subject,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, Error> {
        let request = CertificateSigningRequestParams::from_pem(request)?;
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        self.issue(&request.public_key, subject, Vec::new(), purpose, validity)
    }

    fn issue(
        &self,
        key: &impl PublicKeyData,
        subject: &Subject,
        mut names: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(
            DnType::CommonName,
            match &subject.role {
                Role::Server => SERVER_NAME,
                Role::Node { name, .. } => name.as_str(),
            },
        );
        names.push(SanType::URI(subject.to_string().as_str().try_into()?));
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        validity.apply(&mut params)?;
        Ok(params.signed_by(key, &self.issuer)?.der().clone())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// Where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// By a name.
    Name(String),
    /// By an address.
    Address(IpAddr),
}

/// The key of somebody who has, or wants, a certificate.
pub struct PrivateKey {
    pair: KeyPair,
}

impl PrivateKey {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self {
            pair: KeyPair::generate()?,
        })
    }

    /// The one that was kept.
    ///
    /// # Errors
    /// It is not a key in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Ok(Self {
            pair: KeyPair::from_pem(pem).map_err(|_| Error::Pem)?,
        })
    }

    /// The key, to be kept.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pair.serialize_pem())
    }

    /// A request for a certificate, in PEM. It says nothing but that its maker has the key.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn request(&self) -> Result<String, Error> {
        Ok(CertificateParams::default()
            .serialize_request(&self.pair)?
            .pem()?)
    }

    /// The key with a certificate, as TLS uses them.
    ///
    /// # Errors
    /// They do not belong together.
    pub fn certified(
        &self,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Arc<CertifiedKey>, Error> {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.pair.serialize_der()));
        let key = any_supported_type(&der).map_err(Error::Key)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(Arc::new(certified)),
            Err(_) => Err(Error::Mismatch),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey([redacted])")
    }
}
