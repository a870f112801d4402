//! Jobs: instances that run until they have completed.

use jiff::Timestamp;

use super::moves::Moves;
use crate::{cluster::Cluster, record::WorkloadRecord, transaction::Transaction};

/// Notes how far a job is.
pub(super) fn advance(_: &mut Transaction, _: &WorkloadRecord) {}

/// What is to be done for a job.
pub(super) fn moves(_: &Cluster, _: &WorkloadRecord, _: Timestamp) -> Moves {
    Moves::default()
}
