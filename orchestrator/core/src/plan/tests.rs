//! What follows from what users ask for, agents report and nodes do.

mod bounds;
mod clock;
mod daemons;
mod deeds;
mod dependencies;
mod lost;
mod moves;
mod properties;
mod rebalance;
mod revisions;
mod rollouts;
mod services;
pub(super) mod world;
