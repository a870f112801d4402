//! The resources of the API, as they are written and shown.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned},
};
use uuid::Uuid;

use crate::{
    apply::FieldChange,
    ids::{
        ContainerName, InstanceId, Namespace, NodeName, RevisionNumber, Slot, Uid, Version,
        WorkloadKey, WorkloadName,
    },
    json,
    spec::{Kind, Port, Probes, ScalarText, WorkloadSpec},
    status::InstanceStatus,
    validate::FieldError,
};

mod cluster;
mod node;
mod progress;

pub use cluster::{ClusterInfo, Evictions, Restore, RestoreCause, StoreState};
pub use node::{
    Capacity, DrainRequest, Node, NodeInfo, NodePatch, NodeStatus, Scheduling, SchedulingChange,
};
pub use progress::{
    IndexStatus, JOB_INDICES_MAX, JobState, JobStatus, RolloutState, RolloutStatus, ScheduleStatus,
    WorkloadStatus,
};

/// A workload as a user writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Manifest {
    /// The kind; it decides what `spec` is.
    pub kind: Kind,
    /// The name, unique in its namespace.
    pub name: WorkloadName,
    /// The namespace. Default `default`.
    #[schemars(default)]
    pub namespace: Namespace,
    /// Labels, to select resources by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub labels: BTreeMap<String, ScalarText>,
    /// What is wanted.
    pub spec: WorkloadSpec,
}

/// A manifest whose spec is of one kind: what a parser that knows the kind reads.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "{S}Document")]
pub struct Document<S> {
    /// The kind; it decides what `spec` is.
    pub kind: Kind,
    /// The name, unique in its namespace.
    pub name: WorkloadName,
    /// The namespace. Default `default`.
    #[serde(default)]
    pub namespace: Option<Namespace>,
    /// Labels, to select resources by.
    #[serde(default)]
    pub labels: BTreeMap<String, ScalarText>,
    /// What is wanted.
    pub spec: S,
    /// Written by the system. Accepted, so that what was read can be applied again, and not used.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub meta: Option<de::IgnoredAny>,
    /// Written by the system. Accepted, so that what was read can be applied again, and not used.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub status: Option<de::IgnoredAny>,
}

impl<S> Document<S> {
    /// The manifest, in `namespace` where the document names none.
    pub fn into_manifest(self, namespace: &Namespace, spec: fn(S) -> WorkloadSpec) -> Manifest {
        Manifest {
            kind: self.kind,
            name: self.name,
            namespace: self.namespace.unwrap_or_else(|| namespace.clone()),
            labels: self.labels,
            spec: spec(self.spec),
        }
    }
}

impl Manifest {
    /// The workload's full name.
    #[must_use]
    pub fn key(&self) -> WorkloadKey {
        WorkloadKey::new(self.namespace.clone(), self.name.clone())
    }

    /// Reads a manifest from JSON.
    ///
    /// # Errors
    /// The first mistake, with the path of the field.
    pub fn from_json(value: serde_json::Value) -> Result<Self, FieldError> {
        #[derive(Deserialize)]
        struct Head {
            kind: Kind,
        }
        let Head { kind } =
            Head::deserialize(&value).map_err(|e| FieldError::new("kind", e.to_string()))?;
        match kind {
            Kind::Service => read(value, WorkloadSpec::Service),
            Kind::Daemon => read(value, WorkloadSpec::Daemon),
            Kind::Job => read(value, WorkloadSpec::Job),
            Kind::CronJob => read(value, WorkloadSpec::CronJob),
        }
    }
}

/// Reads a manifest whose kind is known.
fn read<S: DeserializeOwned>(
    value: serde_json::Value,
    spec: fn(S) -> WorkloadSpec,
) -> Result<Manifest, FieldError> {
    let document: Document<S> = json::from_value(value)?;
    Ok(document.into_manifest(&Namespace::default(), spec))
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_json(serde_json::Value::deserialize(d)?).map_err(de::Error::custom)
    }
}

/// What the system keeps about a resource that a user wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// The identity: another one after the resource was deleted and made again.
    pub uid: Uid,
    /// The version of the last change, which is also the `ETag`.
    pub version: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a user last changed it.
    pub updated_at: Timestamp,
    /// The workload that made it: the schedule of a job, or the job that was run again. It is
    /// deleted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<WorkloadName>,
}

/// A workload as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// What the user wrote.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// What the system keeps about it.
    pub meta: Meta,
    /// How far it is.
    pub status: WorkloadStatus,
}

/// What an operator does about a change of revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "action",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum RolloutAction {
    /// The canaries are good: go on with the others.
    Promote,
    /// Go back to the last good revision.
    Abort,
    /// Replace nothing until `resume`.
    Pause,
    /// Go on.
    Resume,
    /// Go back to an earlier revision.
    Undo {
        /// Which one. Default: the last good one before that which is wanted now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<RevisionNumber>,
    },
}

/// A revision as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The number.
    pub number: RevisionNumber,
    /// When it was made.
    pub created_at: Timestamp,
    /// The images of its containers, as the manifest names them.
    pub images: Vec<String>,
    /// Whether it is the wanted one.
    pub wanted: bool,
    /// Whether all instances were available with it once.
    pub good: bool,
    /// How many instances there are of it.
    pub instances: u32,
    /// The fields in which it differs from the revision before that is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FieldChange>,
}

/// A request to run a job's or a schedule's template once more, as a job of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunJob {
    /// Environment variables to add or replace, in every container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, ScalarText>,
    /// What replaces the arguments of the main container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
}

/// Whether the server wants an instance to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Goal {
    /// Get the image, and wait: the predecessor still holds what the instance needs.
    Prepare,
    /// Run.
    Run,
    /// Stop and disappear.
    Stop,
}

/// An instance as it is shown: one copy of a workload on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The id, unique in the cluster.
    pub name: InstanceId,
    /// The namespace of its workload.
    pub namespace: Namespace,
    /// Its workload.
    pub workload: WorkloadName,
    /// The labels of its workload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, ScalarText>,
    /// The slot that it fills.
    pub slot: Slot,
    /// The revision that it was made from.
    pub revision: RevisionNumber,
    /// The images that this revision names, container by container.
    pub images: Vec<String>,
    /// The ports that this revision declares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The probes that this revision declares, by container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<ContainerName, Probes>,
    /// The node that was chosen, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// What the server wants of it.
    pub goal: Goal,
    /// Whether its node is lost, so that `status` is only what was last seen.
    pub node_lost: bool,
    /// Why it is to leave its node, if it is: its node drains, say, or it was asked to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<String>,
    /// The version of its last change.
    pub version: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its phase last changed.
    pub phase_since: Timestamp,
    /// Since when it is ready, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Timestamp>,
    /// What its agent last saw.
    pub status: InstanceStatus,
}

/// A request to change the number of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scale {
    /// How many instances are wanted.
    pub replicas: u32,
}

/// Who the server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// The cluster's identity.
    pub cluster: Uuid,
    /// The server's version.
    pub server_version: String,
    /// The version of the state that is served.
    pub version: Version,
    /// What time it is on its clock, which its times are of; absent from an older server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{quantity::CpuMillis, status::Phase};

    #[test]
    fn a_manifest_reads_back() {
        let value = json!({
            "kind": "Service", "name": "web", "labels": { "app": "web" },
            "spec": { "image": "nginx:1.27", "env": { "PORT": 80, "DEBUG": true }, "resources": { "cpu": 0.5 } },
        });
        let manifest = Manifest::from_json(value).unwrap();
        let WorkloadSpec::Service(spec) = &manifest.spec else {
            panic!("it is a service");
        };
        assert_eq!(spec.env["PORT"].0, "80");
        assert_eq!(spec.resources.cpu, Some(CpuMillis(500)));
        let again = Manifest::from_json(serde_json::to_value(&manifest).unwrap()).unwrap();
        assert_eq!(again, manifest);
    }

    #[test]
    fn a_mistake_in_json_names_the_field() {
        let value = json!({
            "kind": "Service", "name": "web",
            "spec": { "image": "nginx", "ports": [{ "container": 80 }, { "container": "x" }] },
        });
        let error = Manifest::from_json(value).unwrap_err();
        assert_eq!(error.path, "spec.ports[1].container");
    }

    #[test]
    fn what_is_shown_can_be_read_and_applied_again() {
        let manifest = Manifest::from_json(json!({
            "kind": "Service", "name": "web", "spec": { "image": "nginx" },
        }))
        .unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let workload = Workload {
            manifest: manifest.clone(),
            meta: Meta {
                uid: Uid(Uuid::nil()),
                version: Version(1),
                created_at: now,
                updated_at: now,
                owner: None,
            },
            status: WorkloadStatus::default(),
        };
        let shown = serde_json::to_value(&workload).unwrap();
        assert_eq!(
            serde_json::from_value::<Workload>(shown.clone()).unwrap(),
            workload
        );
        assert_eq!(Manifest::from_json(shown).unwrap(), manifest);
    }

    #[test]
    fn a_status_reads_back() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut status = InstanceStatus::new(Phase::Running { started_at: now });
        status.restarts = 2;
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(
            serde_json::from_str::<InstanceStatus>(&text).unwrap(),
            status
        );
        assert!(
            text.contains(r#""phase":"Running","startedAt":"2026-01-01T00:00:00Z""#),
            "{text}"
        );
    }
}
