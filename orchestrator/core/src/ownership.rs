//! Workloads that others have made: the jobs of a schedule, and those that were run by hand. They
//! are deleted with what made them.

use windlass_api::{
    event::{Severity, Subject},
    ids::{WORKLOAD_NAME_LEN_MAX, WorkloadKey, WorkloadName},
    resource::JobState,
};

use crate::{cluster::Cluster, record::Change, transaction::Transaction};

/// Deletes a workload, what is written down about it, and all that it has made. The instances are
/// stopped by the plan that follows.
pub(crate) fn delete(txn: &mut Transaction, key: &WorkloadKey, why: &str) {
    let mut left = vec![(key.clone(), why.to_owned())];
    while let Some((key, why)) = left.pop() {
        let cluster = txn.cluster();
        let made = cluster.owned_by(&key);
        left.extend(made.map(|owned| (owned.clone(), format!("{} was deleted", key.name))));
        let mut changes: Vec<_> = cluster
            .indices_of(&key)
            .map(|index| Change::Index(index.key.clone(), None))
            .collect();
        if cluster.jobs.contains_key(&key) {
            changes.push(Change::Job(key.clone(), None));
        }
        if cluster.schedules.contains_key(&key) {
            changes.push(Change::Schedule(key.clone(), None));
        }
        changes.push(Change::Workload(key.clone(), None));
        changes.into_iter().for_each(|change| txn.put(change));
        txn.event(Subject::workload(&key), Severity::Normal, "Deleted", why);
    }
}

/// The jobs that a workload has made and that have ended, the newest end first.
pub(crate) fn ended_jobs<'a>(
    cluster: &'a Cluster,
    owner: &WorkloadKey,
) -> Vec<(&'a WorkloadKey, &'a JobState)> {
    let mut jobs: Vec<_> = cluster
        .owned_by(owner)
        .filter_map(|key| Some((key, &cluster.jobs.get(key)?.state)))
        .filter(|(_, state)| state.finished_at().is_some())
        .collect();
    jobs.sort_by(|a, b| (b.1.finished_at(), b.0).cmp(&(a.1.finished_at(), a.0)));
    jobs
}

/// The jobs that a workload has made and that have not ended.
pub(crate) fn active_jobs<'a>(
    cluster: &'a Cluster,
    owner: &WorkloadKey,
) -> impl Iterator<Item = &'a WorkloadKey> {
    cluster.owned_by(owner).filter(|key| {
        let job = cluster.jobs.get(*key);
        job.is_none_or(|job| job.state.finished_at().is_none())
    })
}

/// The name of something that `stem` makes: `<stem>-<suffix>`. Where that is too long, the stem is
/// cut and a digest of it is put in, so that two long names which begin alike stay apart.
pub(crate) fn derived_name(stem: &WorkloadName, suffix: &str) -> WorkloadName {
    let stem = stem.as_str();
    let whole = format!("{stem}-{suffix}");
    let name = if whole.len() <= WORKLOAD_NAME_LEN_MAX {
        whole
    } else {
        let digest = format!("{:08x}", digest(stem));
        let room = WORKLOAD_NAME_LEN_MAX.saturating_sub(suffix.len() + digest.len() + 2);
        let cut = stem.get(..room).unwrap_or(stem).trim_end_matches('-');
        format!("{cut}-{digest}-{suffix}")
    };
    name.parse()
        .expect("a name that is cut between its letters is a name")
}

/// FNV-1a, 32 bits: the same on every server and in every version, which is all that is asked.
fn digest(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_names_are_short_enough_and_stay_apart() {
        let name = |stem: &str, suffix| derived_name(&stem.parse().unwrap(), suffix).to_string();
        assert_eq!(name("load", "run-1"), "load-run-1");
        let long = "a".repeat(WORKLOAD_NAME_LEN_MAX - 1);
        let (a, b) = (
            name(&format!("{long}a"), "29000000"),
            name(&format!("{long}b"), "29000000"),
        );
        assert_eq!(a.len(), WORKLOAD_NAME_LEN_MAX);
        assert_ne!(a, b);
        // The place of the cut is no letter.
        let dashes = format!("a{}b", "-".repeat(38));
        assert_eq!(
            name(&dashes, "run-12"),
            "a-3bd0bb09-run-12".replace("3bd0bb09", &format!("{:08x}", digest(&dashes)))
        );
    }
}
