//! Schedules: they make jobs when they are due.

use jiff::Timestamp;

use super::moves::Moves;
use crate::{cluster::Cluster, record::WorkloadRecord, transaction::Transaction};

/// Makes the jobs that are due, and forgets those that are over.
pub(super) fn advance(_: &mut Transaction, _: &WorkloadRecord) {}

/// When to look at a schedule again. It has no instances of its own.
pub(super) fn moves(_: &Cluster, _: &WorkloadRecord, _: Timestamp) -> Moves {
    Moves::default()
}
