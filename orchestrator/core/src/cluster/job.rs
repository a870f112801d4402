//! What the state holds about jobs and schedules.

use std::sync::Arc;

use windlass_api::{
    ids::{Slot, WorkloadKey},
    resource::JobState,
};

use super::Cluster;
use crate::record::{IndexKey, IndexRecord};

impl Cluster {
    /// The workloads that this one has made, and that are deleted with it.
    pub fn owned_by(&self, key: &WorkloadKey) -> impl Iterator<Item = &WorkloadKey> {
        self.owned.get(key).into_iter().flatten()
    }

    /// What the indices of a job led to, as far as they have, in their order.
    pub fn indices_of(&self, job: &WorkloadKey) -> impl Iterator<Item = &Arc<IndexRecord>> {
        let from = IndexKey {
            job: job.clone(),
            index: Slot(0),
        };
        self.indices
            .range(from..)
            .map(|(_, record)| record)
            .take_while(move |record| record.key.job == *job)
    }

    /// Whether the workload is a job in which every index has completed.
    #[must_use]
    pub fn has_completed(&self, key: &WorkloadKey) -> bool {
        let job = self.jobs.get(key);
        job.is_some_and(|job| matches!(job.state, JobState::Completed { .. }))
    }
}
