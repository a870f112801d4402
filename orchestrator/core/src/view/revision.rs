//! The revisions of a workload.

use windlass_api::{ids::WorkloadKey, resource::Revision};

use crate::{cluster::Cluster, diff, plan::revisions_of};

/// The revisions of a workload that are kept, the oldest first.
#[must_use]
pub fn revisions(cluster: &Cluster, key: &WorkloadKey) -> Vec<Revision> {
    let wanted = cluster.workloads.get(key).map(|w| w.revision);
    let mut before = None;
    let mut revisions = Vec::new();
    for key in revisions_of(cluster, key) {
        let Some(record) = cluster.revisions.get(&key) else {
            continue;
        };
        let template = &*record.template;
        let of_it = cluster.instances_of(&key.workload);
        let of_it = of_it.filter(|i| i.revision == key.number).count();
        revisions.push(Revision {
            number: key.number,
            created_at: record.created_at,
            images: template
                .containers
                .iter()
                .map(|c| c.image.to_string())
                .collect(),
            wanted: wanted == Some(key.number),
            good: record.good_since.is_some(),
            instances: u32::try_from(of_it).unwrap_or(u32::MAX),
            changes: match before {
                Some(before) => diff::fields(Some(before), Some(template)),
                // There is nothing that it differs from.
                None => Vec::new(),
            },
        });
        before = Some(template);
    }
    revisions
}
