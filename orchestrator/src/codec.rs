//! Changes as the store keeps them: one table for each kind of record, JSON as the value.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use windlass_api::ids::{ClusterId, Version};
use windlass_core::{
    cluster::Cluster,
    record::{Change, IndexKey, IndexRecord, RevisionKey, RevisionRecord},
};

use crate::store::{Batch, Key, Lines, Position, Records, Summary};

/// A stored record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record's table is not known to this version.
    #[error(
        "the store has a record of an unknown kind, `{table}/{id}`: it was written by a newer windlass"
    )]
    UnknownTable {
        /// The table.
        table: String,
        /// The record's id.
        id: String,
    },
    /// The record is not what its table holds.
    #[error("the stored record `{table}/{id}` cannot be read")]
    Record {
        /// The table.
        table: String,
        /// The record's id.
        id: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The record's id is not of the form that its table has.
    #[error("the stored record `{table}/{id}` has an unusable id")]
    Id {
        /// The table.
        table: String,
        /// The record's id.
        id: String,
    },
}

/// What the store is to write for these changes. Of several changes to one record the last counts.
#[must_use]
pub(crate) fn encode(version: Version, changes: &[Change]) -> Batch {
    let mut batch = Batch::new(version);
    for change in changes {
        if let Change::Cluster(record) = change {
            batch.begin_epoch(record.epoch);
        }
        let key = key_of(change);
        match value_of(change) {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
    }
    batch
}

/// The whole state as an export, line by line. It is that of the store at this version, and reading
/// it holds up nobody.
pub(crate) fn export(cluster: &Cluster) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
    let mut records: Vec<(Key, Change)> = cluster.whole().map(|c| (key_of(&c), c)).collect();
    records.sort_by(|(a, _), (b, _)| a.cmp(b));
    let summary = Summary {
        position: Position {
            epoch: cluster.record.epoch,
            version: cluster.version,
        },
        records: records.len() as u64,
    };
    let values = records
        .into_iter()
        .filter_map(|(key, change)| Some((key, value_of(&change)?)));
    Lines::new(summary, values)
}

fn key_of(change: &Change) -> Key {
    match change {
        Change::Cluster(_) => Key::new("cluster", "cluster"),
        Change::Workload(key, _) => Key::new("workload", key),
        Change::Job(key, _) => Key::new("job", key),
        Change::Index(key, _) => Key::new("index", index_id(key)),
        Change::Schedule(key, _) => Key::new("schedule", key),
        Change::Revision(key, _) => Key::new("revision", revision_id(key)),
        Change::Instance(id, _) => Key::new("instance", id),
        Change::Node(name, _) => Key::new("node", name),
        Change::Assignment(name, _) => Key::new("assignment", name),
        Change::Images(name, _) => Key::new("images", name),
        Change::Event(id, _) => Key::new("event", id),
        Change::Token(id, _) => Key::new("token", id),
        Change::Admission(name, _) => Key::new("admission", name),
        Change::Idempotency(key, _) => Key::new("idempotency", key),
    }
}

/// `None` for a record that is removed.
fn value_of(change: &Change) -> Option<Vec<u8>> {
    match change {
        Change::Cluster(r) => Some(json(r)),
        Change::Workload(_, r) => r.as_ref().map(json),
        Change::Job(_, r) => r.as_ref().map(json),
        Change::Index(_, r) => r.as_ref().map(json),
        Change::Schedule(_, r) => r.as_ref().map(json),
        Change::Revision(_, r) => r.as_ref().map(json),
        Change::Instance(_, r) => r.as_ref().map(json),
        Change::Node(_, r) => r.as_ref().map(json),
        Change::Assignment(_, r) => r.as_ref().map(json),
        Change::Images(_, r) => r.as_ref().map(json),
        Change::Event(_, r) => r.as_ref().map(json),
        Change::Token(_, r) => r.as_ref().map(json),
        Change::Admission(_, r) => r.as_ref().map(json),
        Change::Idempotency(_, r) => r.as_ref().map(json),
    }
}

fn revision_id(key: &RevisionKey) -> String {
    format!("{}/{}", key.workload, key.number)
}

fn index_id(key: &IndexKey) -> String {
    format!("{}/{}", key.job, key.index)
}

fn json<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys and no failing serializers")
}

/// The state that the store holds. An empty store holds that of a new cluster.
///
/// # Errors
/// The first record that cannot be read.
pub(crate) fn decode(records: &Records, new_id: ClusterId) -> Result<Cluster, Error> {
    let mut cluster = Cluster::new(new_id);
    for (key, value) in &records.records {
        cluster.apply(&change(key, value)?);
    }
    cluster.version = records.version;
    Ok(cluster)
}

fn change(key: &Key, value: &[u8]) -> Result<Change, Error> {
    let table = key.table.as_str();
    let bad_id = || Error::Id {
        table: table.to_owned(),
        id: key.id.clone(),
    };
    Ok(match table {
        "cluster" => Change::Cluster(read(key, value)?),
        "workload" => Change::Workload(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "revision" => {
            let record: Arc<RevisionRecord> = read(key, value)?;
            Change::Revision(record.key.clone(), Some(record))
        }
        "job" => Change::Job(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "index" => {
            let record: Arc<IndexRecord> = read(key, value)?;
            Change::Index(record.key.clone(), Some(record))
        }
        "schedule" => Change::Schedule(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "instance" => Change::Instance(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "node" => Change::Node(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "assignment" => Change::Assignment(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "images" => Change::Images(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "event" => Change::Event(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "token" => Change::Token(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "admission" => Change::Admission(
            key.id.parse().map_err(|_| bad_id())?,
            Some(read(key, value)?),
        ),
        "idempotency" => Change::Idempotency(key.id.clone(), Some(read(key, value)?)),
        other => {
            return Err(Error::UnknownTable {
                table: other.to_owned(),
                id: key.id.clone(),
            });
        }
    })
}

fn read<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|source| Error::Record {
        table: key.table.clone(),
        id: key.id.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use windlass_api::{
        ids::{Slot, WorkloadKey},
        resource::JobState,
    };
    use windlass_core::record::{IndexState, JobRecord, ScheduleRecord, Suspension};

    use super::*;

    #[test]
    fn what_is_written_down_about_jobs_reads_back() {
        let key: WorkloadKey = "default/load".parse().unwrap();
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let job = JobRecord {
            state: JobState::Running,
            started_at: at,
        };
        let index = IndexRecord {
            key: IndexKey {
                job: key.clone(),
                index: Slot(7),
            },
            state: IndexState::Open { retry_at: at },
            failures: 2,
            exit: None,
            failure: Some("exit code 3".to_owned()),
        };
        let schedule = ScheduleRecord {
            schedule: "@daily".parse().unwrap(),
            time_zone: "Europe/Berlin".parse().unwrap(),
            suspended: Suspension::Active,
            since: at,
            last: Some(at),
        };
        let index_key = index.key.clone();
        for written in [
            Change::Job(key.clone(), Some(Arc::new(job))),
            Change::Index(index_key, Some(Arc::new(index))),
            Change::Schedule(key.clone(), Some(Arc::new(schedule))),
        ] {
            let (key, value) = (key_of(&written), value_of(&written));
            assert_eq!(change(&key, &value.unwrap()).unwrap(), written);
        }
    }
}
