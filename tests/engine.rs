//! The real binary, server and agent as processes of their own, against a pretended Docker engine
//! that goes wrong as each test says.
//!
//! Only the test that compares it with a real engine needs one, and fails without.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and these run in real time"
)]

#[allow(dead_code, reason = "other tests use the rest of it")]
mod harness;
mod engine {
    mod answer;
    pub(crate) mod call;
    pub(crate) mod events;
    pub(crate) mod fake;
    pub(crate) mod script;
    pub(crate) mod site;
    mod socket;
    pub(crate) mod state;

    mod conflicts;
    mod crashes;
    mod full_disk;
    mod garbage;
    mod hangs;
    mod races;
    mod replaced;
    mod schedule;
    mod silence;
    mod slow;
    mod truth;
}
