//! What the trust in a Windlass cluster is made of: certificates, tokens, and sealed records.
//!
//! Decisions only. Nothing here opens a connection, touches a file or reads a clock: callers say
//! what time it is. Randomness comes from the system, since keys are made here.

pub mod authority;
pub mod certificate;
mod random;
pub mod seal;
pub mod secret;
pub mod subject;
pub mod tls;
pub mod token;

pub use self::{
    authority::Authority, certificate::Certificate, random::RandomError, secret::Secret,
    subject::Subject, token::Token,
};
