//! The Docker runtime on a real engine. Without one these tests fail, and say so in one line.

#![allow(
    clippy::unwrap_used,
    reason = "in a test, whatever goes wrong fails it"
)]

#[path = "docker/fixture.rs"]
mod fixture;
#[path = "docker/health.rs"]
mod health;
#[path = "docker/lifecycle.rs"]
mod lifecycle;
#[path = "docker/networks.rs"]
mod networks;
#[path = "docker/refusals.rs"]
mod refusals;
#[path = "docker/server.rs"]
mod server;
#[path = "docker/several.rs"]
mod several;
#[path = "docker/streams.rs"]
mod streams;
