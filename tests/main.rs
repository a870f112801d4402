//! Tests that cross crates: the real binary, real processes, real Docker.
//!
//! They need a Docker engine and fail without one.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and these run in real time"
)]

mod cli;
mod crash;
mod docker_outage;
mod harness;
mod jobs;
mod life;
mod lost;
mod moves;
mod people;
mod probes;
mod reach;
mod restarts;
mod restore;
mod rollout;
mod storage;
mod terminal;
mod traffic;
mod trust;
