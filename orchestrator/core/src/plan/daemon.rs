//! Daemons: one instance on every node that they may run on.

use jiff::Timestamp;

use super::moves::Moves;
use crate::{cluster::Cluster, record::WorkloadRecord};

/// What is to be done for a daemon.
pub(super) fn moves(_: &Cluster, _: &WorkloadRecord, _: Timestamp) -> Moves {
    Moves::default()
}
