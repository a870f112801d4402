//! Records that only the server can read.
//!
//! A record is sealed with a *data key*, and each data key with the *key-encryption key*, which is
//! kept apart from the store. So another key-encryption key means that a few data keys are sealed
//! anew, and another data key that records are, one after the other: each says with which key it is
//! sealed, so that this can be interrupted.

use std::fmt;

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305, XNonce};
use ring::digest::{Context as Digest, SHA256};
use serde::{Deserialize, Serialize};

use crate::{
    random::{self, RandomError},
    secret::Secret,
};

/// The length of a key, in bytes.
pub const KEY_BYTES: usize = 32;

/// The length of a nonce, in bytes: long enough to be random.
const NONCE_BYTES: usize = 24;

/// A key that seals.
#[derive(Clone)]
pub struct SealKey {
    id: KeyId,
    bytes: Secret,
}

/// Which key it is, without telling the key: the beginning of a digest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(u64);

/// Something sealed, with all that is needed to open it but the key and the context.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The key that it is sealed with.
    pub key: KeyId,
    nonce: [u8; NONCE_BYTES],
    /// Ciphertext and tag.
    #[serde(with = "text")]
    ciphertext: Vec<u8>,
}

/// Why something sealed is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is sealed with another key.
    #[error("it is sealed with the key {0}, which is not there")]
    OtherKey(KeyId),
    /// It was changed, or was sealed for another place.
    #[error("it was changed, or does not belong here")]
    Forged,
}

/// Bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has {KEY_BYTES} bytes, this one has {0}")]
pub struct LengthError(pub usize);

impl SealKey {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, RandomError> {
        random::secret(KEY_BYTES).map(Self::identified)
    }

    /// The one with these bytes.
    ///
    /// # Errors
    /// There are not [`KEY_BYTES`] of them.
    pub fn from_bytes(bytes: Secret) -> Result<Self, LengthError> {
        match bytes.expose().len() {
            KEY_BYTES => Ok(Self::identified(bytes)),
            other => Err(LengthError(other)),
        }
    }

    fn identified(bytes: Secret) -> Self {
        let mut digest = Digest::new(&SHA256);
        digest.update(b"the id of ");
        digest.update(bytes.expose());
        let digest = digest.finish();
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_ref()[..8]);
        Self {
            id: KeyId(u64::from_be_bytes(first)),
            bytes,
        }
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Its bytes, to be sealed with another key.
    #[must_use]
    pub fn bytes(&self) -> &Secret {
        &self.bytes
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new_from_slice(self.bytes.expose()).expect("the length was checked")
    }

    /// Seals something for the place that `context` names: it cannot be opened for another one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn seal(&self, secret: &Secret, context: &str) -> Result<Sealed, RandomError> {
        let nonce: [u8; NONCE_BYTES] = random::bytes()?;
        let mut buffer = Vec::with_capacity(secret.expose().len() + TAG_BYTES);
        buffer.extend_from_slice(secret.expose());
        self.cipher()
            .encrypt_in_place(&XNonce::from(nonce), context.as_bytes(), &mut buffer)
            .expect("what fits in memory is shorter than the cipher's bound");
        Ok(Sealed {
            key: self.id,
            nonce,
            ciphertext: buffer,
        })
    }

    /// Opens what was sealed with this key for the place that `context` names.
    ///
    /// # Errors
    /// It was sealed with another key or for another place, or was changed.
    pub fn open(&self, sealed: &Sealed, context: &str) -> Result<Secret, OpenError> {
        if sealed.key != self.id {
            return Err(OpenError::OtherKey(sealed.key));
        }
        let mut buffer = sealed.ciphertext.clone();
        self.cipher()
            .decrypt_in_place(&XNonce::from(sealed.nonce), context.as_bytes(), &mut buffer)
            .map_err(|_| OpenError::Forged)?;
        Ok(Secret::new(buffer))
    }
}

/// The length of the tag behind a ciphertext, in bytes.
const TAG_BYTES: usize = 16;

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({}, [redacted])", self.id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            nonce: _,
            ciphertext,
        } = self;
        write!(f, "Sealed({} bytes with {key})", ciphertext.len())
    }
}

/// Bytes as base64.
mod text {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        STANDARD.decode(text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new(b"correct horse".to_vec())
    }

    #[test]
    fn what_is_sealed_is_opened_with_its_key_for_its_place_only() {
        let key = SealKey::generate().unwrap();
        let sealed = key.seal(&secret(), "secret/default/db/1").unwrap();
        assert_eq!(key.open(&sealed, "secret/default/db/1"), Ok(secret()));
        assert_eq!(
            key.open(&sealed, "secret/default/db/2"),
            Err(OpenError::Forged)
        );
        let other = SealKey::generate().unwrap();
        assert_eq!(
            other.open(&sealed, "secret/default/db/1"),
            Err(OpenError::OtherKey(key.id()))
        );
        let passed_off = Sealed {
            key: other.id(),
            ..sealed
        };
        assert_eq!(
            other.open(&passed_off, "secret/default/db/1"),
            Err(OpenError::Forged)
        );
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let key = SealKey::generate().unwrap();
        let sealed = key.seal(&secret(), "here").unwrap();
        for bit in 0..sealed.ciphertext.len() * 8 {
            let mut forged = sealed.clone();
            forged.ciphertext[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                key.open(&forged, "here"),
                Err(OpenError::Forged),
                "bit {bit}"
            );
        }
        for bit in 0..NONCE_BYTES * 8 {
            let mut forged = sealed.clone();
            forged.nonce[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                key.open(&forged, "here"),
                Err(OpenError::Forged),
                "bit {bit}"
            );
        }
        for length in 0..sealed.ciphertext.len() {
            let mut cut = sealed.clone();
            cut.ciphertext.truncate(length);
            assert_eq!(
                key.open(&cut, "here"),
                Err(OpenError::Forged),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn the_same_secret_is_never_sealed_to_the_same_bytes() {
        let key = SealKey::generate().unwrap();
        let seal = || serde_json::to_string(&key.seal(&secret(), "here").unwrap()).unwrap();
        let sealed: std::collections::BTreeSet<_> = (0..100).map(|_| seal()).collect();
        assert_eq!(sealed.len(), 100);
    }

    #[test]
    fn what_is_sealed_survives_being_stored() {
        let key = SealKey::generate().unwrap();
        for length in [0, 1, 1_000] {
            let secret = Secret::new(vec![7; length]);
            let stored = serde_json::to_string(&key.seal(&secret, "here").unwrap()).unwrap();
            let sealed: Sealed = serde_json::from_str(&stored).unwrap();
            assert_eq!(key.open(&sealed, "here"), Ok(secret));
        }
    }

    #[test]
    fn a_key_is_recognised_and_not_shown() {
        let key = SealKey::generate().unwrap();
        let again = SealKey::from_bytes(key.bytes().clone()).unwrap();
        assert_eq!(again.id(), key.id());
        assert_ne!(SealKey::generate().unwrap().id(), key.id());
        assert_eq!(
            format!("{key:?}"),
            format!("SealKey({}, [redacted])", key.id())
        );
        let short = SealKey::from_bytes(Secret::new(vec![0; 31]));
        assert_eq!(short.unwrap_err(), LengthError(31));
    }
}
