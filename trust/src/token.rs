//! Tokens: what somebody shows who has no certificate.
//!
//! A token is `KIND_` and, in the base64 of URLs, the fingerprint of the cluster's authority, a
//! random secret, and a checksum. So whoever uses one for the first time knows which server it is
//! for, and cannot be made to give it to another; and one that was cut while it was copied is told
//! from one that is unknown. The server keeps only [`TokenHash`]es.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{Context, SHA256};
use windlass_api::ids::{DIGEST_BYTES, Fingerprint, TokenHash};
use zeroize::Zeroizing;

use crate::{
    random::{self, RandomError},
    secret::Secret,
};

/// The length of the secret, in bytes: nobody guesses 256 bits, so a plain hash protects it.
const SECRET_BYTES: usize = 32;

/// The length of the checksum, in bytes. It is against mistakes, not against people.
const CHECK_BYTES: usize = 4;

const BYTES: usize = DIGEST_BYTES + SECRET_BYTES + CHECK_BYTES;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A node joins with it, once.
    Join,
    /// A person or a program uses the API with it.
    Access,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Join, Self::Access];

    /// What it begins with: the words that scanners for leaked secrets can look for.
    fn prefix(self) -> &'static str {
        match self {
            Self::Join => "wlj_",
            Self::Access => "wla_",
        }
    }
}

/// A token. Only [`Token::reveal`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    kind: Kind,
    authority: Fingerprint,
    secret: Secret,
}

/// A string is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It does not begin like one.
    #[error("a token begins with `wlj_` (to join) or `wla_` (for the API)")]
    Prefix,
    /// It has another length, other characters, or a checksum that does not match.
    #[error("the token is not complete: copy all of it")]
    Damaged,
}

impl Token {
    /// A new one, for a cluster whose authority has this fingerprint.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate(kind: Kind, authority: Fingerprint) -> Result<Self, RandomError> {
        Ok(Self {
            kind,
            authority,
            secret: random::secret(SECRET_BYTES)?,
        })
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The authority of the cluster that it is for.
    #[must_use]
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    /// What the server keeps of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        let mut context = Context::new(&SHA256);
        context.update(self.kind.prefix().as_bytes());
        context.update(self.secret.expose());
        let digest = context.finish();
        TokenHash(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The token as it is shown to whoever shall have it.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES));
        bytes.extend_from_slice(&self.authority.0);
        bytes.extend_from_slice(self.secret.expose());
        let check = checksum(self.kind, &bytes);
        bytes.extend_from_slice(&check);
        let mut text = Zeroizing::new(self.kind.prefix().to_owned());
        // Reserved at once, since what a growing string leaves behind would not be overwritten.
        text.reserve_exact(BYTES.div_ceil(3) * 4);
        URL_SAFE_NO_PAD.encode_string(&*bytes, &mut text);
        text
    }
}

impl FromStr for Token {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let mut kinds = Kind::ALL.into_iter();
        let (kind, rest) = kinds
            .find_map(|kind| Some((kind, s.strip_prefix(kind.prefix())?)))
            .ok_or(ParseError::Prefix)?;
        let mut bytes = Zeroizing::new([0; BYTES]);
        let decoded = URL_SAFE_NO_PAD.decode_slice(rest, bytes.as_mut_slice());
        if decoded != Ok(BYTES) {
            return Err(ParseError::Damaged);
        }
        let (content, check) = bytes.split_at(BYTES - CHECK_BYTES);
        if checksum(kind, content) != check {
            return Err(ParseError::Damaged);
        }
        let (authority, secret) = content.split_at(DIGEST_BYTES);
        let authority = authority.try_into().map_err(|_| ParseError::Damaged)?;
        Ok(Self {
            kind,
            authority: Fingerprint(authority),
            secret: Secret::new(secret.to_vec()),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[redacted]", self.kind.prefix())
    }
}

fn checksum(kind: Kind, content: &[u8]) -> [u8; CHECK_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(b"checksum of ");
    context.update(kind.prefix().as_bytes());
    context.update(content);
    let digest = context.finish();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&digest.as_ref()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Fingerprint {
        Fingerprint([7; DIGEST_BYTES])
    }

    #[test]
    fn a_token_survives_being_copied() {
        for kind in Kind::ALL {
            let token = Token::generate(kind, authority()).unwrap();
            let copied: Token = token.reveal().parse().unwrap();
            assert_eq!(copied, token);
            assert_eq!(copied.authority(), authority());
            assert_eq!(copied.hash(), token.hash());
        }
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        let hashes: std::collections::BTreeSet<_> = (0..100)
            .map(|_| Token::generate(Kind::Access, authority()).unwrap().hash())
            .collect();
        assert_eq!(hashes.len(), 100);
    }

    #[test]
    fn a_token_that_was_cut_or_changed_is_told_from_one_that_is_unknown() {
        let token = Token::generate(Kind::Join, authority()).unwrap().reveal();
        for at in 4..token.len() {
            assert_eq!(
                token[..at].parse::<Token>(),
                Err(ParseError::Damaged),
                "cut at {at}"
            );
            let mut changed = token.to_string();
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            changed.replace_range(at..=at, other);
            assert_eq!(changed.parse::<Token>(), Err(ParseError::Damaged), "{at}");
        }
        assert_eq!(
            format!("{}A", *token).parse::<Token>(),
            Err(ParseError::Damaged)
        );
    }

    #[test]
    fn a_token_to_join_is_none_for_the_api() {
        let token = Token::generate(Kind::Join, authority()).unwrap();
        let passed_off = token.reveal().replacen("wlj_", "wla_", 1);
        assert_eq!(passed_off.parse::<Token>(), Err(ParseError::Damaged));
        let other = Token {
            kind: Kind::Access,
            ..token.clone()
        };
        assert_ne!(other.hash(), token.hash());
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for bad in ["", "wlj", "password", "WLJ_AAAA", " wlj_"] {
            assert_eq!(bad.parse::<Token>(), Err(ParseError::Prefix), "{bad}");
        }
        assert_eq!("wlj_".parse::<Token>(), Err(ParseError::Damaged));
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::generate(Kind::Join, authority()).unwrap();
        assert_eq!(format!("{token:?}"), "wlj_[redacted]");
    }
}
