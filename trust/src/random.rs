//! Bytes that nobody can guess.

use ring::rand::{SecureRandom, SystemRandom};

use crate::secret::Secret;

/// There was no randomness to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct RandomError;

/// As many as this.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| RandomError)
}

/// As many as this, for nobody else.
pub(crate) fn secret(length: usize) -> Result<Secret, RandomError> {
    let mut bytes = vec![0; length];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map(|()| Secret::new(bytes)).map_err(|_| RandomError)
}
