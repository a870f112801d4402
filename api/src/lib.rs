//! The types that server, agent and command line share: ids, resources, wire
//! messages and errors.
//!
//! Nothing here decides or performs anything. A value that has been parsed into
//! one of these types is well formed; whether a whole [`spec::ServiceSpec`] makes
//! sense is answered by [`validate`].
#![warn(missing_docs)]

pub mod access;
pub mod apply;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
pub mod duration;
pub mod event;
pub mod expression;
pub mod ids;
pub mod image;
pub mod json;
pub mod list;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod problem;
pub mod quantity;
pub mod rebalance;
pub mod resource;
pub mod selector;
#[cfg(feature = "socket")]
pub mod socket;
pub mod spec;
pub mod stats;
pub mod status;
pub mod template;
pub mod validate;
pub mod wire;

/// The path prefix of every versioned route.
pub const API_PREFIX: &str = "/v1";

/// Where a server listens, and where the command line looks for it, unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7400";
