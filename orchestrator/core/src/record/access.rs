//! Who was let in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_api::{
    access::TokenUse,
    ids::{AdmissionId, TokenHash, Version},
};

/// A token, of which only the hash is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// By which it is recognised.
    pub hash: TokenHash,
    /// What it is for.
    pub usage: TokenUse,
    /// Whose it is, for people.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// The version of its last change.
    pub version: Version,
}

/// The join by which a node is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionRecord {
    /// Which one. Certificates of any other are worth nothing.
    pub id: AdmissionId,
    /// When that was.
    pub at: Timestamp,
}
