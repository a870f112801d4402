//! What breaks, one thing at a time, on the hosts of a lab: `cargo test --test lab -- --ignored`.
//!
//! What else a lab needs is told in `lab.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and these run in real time"
)]

mod faults {
    mod agents;
    mod clocks;
    mod dark;
    mod disks;
    mod engines;
    mod links;
    mod ports;
    mod servers;
    mod stops;
}
#[allow(dead_code, reason = "other tests use the rest of it")]
mod harness;
#[allow(dead_code, reason = "the soak uses the rest of it")]
mod lab;
