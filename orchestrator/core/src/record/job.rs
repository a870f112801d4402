//! What is written down about jobs and schedules.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_api::{
    ids::{Slot, WorkloadKey},
    resource::JobState,
    spec::{Schedule, Zone},
    status::Exit,
};

use super::InstanceRecord;

/// How far a job is. What each of its indices led to is in an [`IndexRecord`] of its own, so that
/// the end of one instance costs the same in a job of one and in a job of thousands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Whether it goes on, and how it ended. It never leaves an end.
    pub state: JobState,
    /// When it began: once what it depends on was there.
    pub started_at: Timestamp,
}

/// The full name of an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IndexKey {
    /// The job.
    pub job: WorkloadKey,
    /// The index, which is the slot of its instances.
    pub index: Slot,
}

/// What an index of a job led to. There is none before the first of its instances has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRecord {
    /// Its full name.
    pub key: IndexKey,
    /// Whether it is done.
    pub state: IndexState,
    /// How many of its attempts have failed: instances, and restarts of their containers.
    pub failures: u32,
    /// How the container that decided about it last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// What failed last, and the last lines of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Whether an index of a job is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexState {
    /// It is not, and its next instance is not started before this time.
    Open {
        /// When.
        retry_at: Timestamp,
    },
    /// It has completed, which it never does a second time.
    Completed,
    /// It has failed too often.
    GivenUp,
}

/// What a job has already taken into account of one of its instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounted {
    /// How many failed attempts.
    pub failures: u32,
    /// Whether it has ended.
    pub end: End,
}

impl Accounted {
    /// Whether nothing of it was taken into account.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl InstanceRecord {
    /// Whether it is an instance of a job that has ended. It is only there for its log then, and
    /// uses nothing of its node.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.accounted.end == End::Noted
    }
}

/// Whether an instance of a job has ended, as its job knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It has not.
    #[default]
    NotYet,
    /// It has: it uses nothing, and is only there for its log.
    Noted,
}

/// What a schedule has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// What it was when this was written. Another one counts from the moment of the change.
    pub schedule: Schedule,
    /// The zone of it.
    pub time_zone: Zone,
    /// Whether it was suspended when this was written.
    pub suspended: Suspension,
    /// What was due at this moment and before is dealt with.
    pub since: Timestamp,
    /// The last moment at which it was due and a job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
}

/// Whether a schedule makes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suspension {
    /// It does.
    Active,
    /// It was suspended, and what is due meanwhile is left out.
    Suspended,
}
