//! The decisions of the server: what a command changes, what follows from it, and where.
//!
//! Everything here is a function of a [`cluster::Cluster`] and a time that the caller passes in.
//! Nothing reads a clock, draws a random number, does I/O or logs: the same input gives the same
//! output. The server around it (crate `windlass-orchestrator`) makes the changes durable.

pub mod access;
pub mod cluster;
pub mod command;
pub mod dependency;
pub mod diff;
pub mod health;
pub mod lease;
pub mod leaving;
mod ownership;
pub mod plan;
pub mod record;
pub mod rollout;
pub mod scheduler;
pub mod tally;
pub mod transaction;
pub mod view;
