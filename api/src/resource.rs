//! The resources of the API, as they are written and shown.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

use crate::{
    expression::Taint,
    ids::{
        AgentId, Generation, InstanceId, Namespace, NodeName, RevisionNumber, Slot, Uid, Version,
        WorkloadKey, WorkloadName,
    },
    quantity::{CpuMillis, MemoryBytes},
    spec::{Kind, Port, ScalarText, ServiceSpec, WorkloadSpec},
    status::{InstanceStatus, NodeState},
    validate::FieldError,
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
            Kind::Service => {
                let document: Document<ServiceSpec> = serde_path_to_error::deserialize(value)
                    .map_err(|e| {
                        let path = e.path().to_string();
                        let path = if path == "." { String::new() } else { path };
                        FieldError::new(path, e.into_inner().to_string())
                    })?;
                Ok(document.into_manifest(&Namespace::default(), WorkloadSpec::Service))
            }
        }
    }
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

/// How far a workload is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The revision that is wanted.
    pub revision: RevisionNumber,
    /// How many instances are wanted.
    pub wanted: u32,
    /// How many instances of any revision run.
    pub running: u32,
    /// How many instances of the wanted revision run.
    pub updated: u32,
    /// Whether all that is wanted runs, and nothing else.
    pub settled: bool,
    /// Why it is not settled, the most frequent reason first; empty if it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
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
    /// The image that this revision names.
    pub image: String,
    /// The ports that this revision declares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The node that was chosen, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// What the server wants of it.
    pub goal: Goal,
    /// Whether its node is lost, so that `status` is only what was last seen.
    pub node_lost: bool,
    /// The version of its last change.
    pub version: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its phase last changed.
    pub phase_since: Timestamp,
    /// What its agent last saw.
    pub status: InstanceStatus,
}

/// A node as it is shown: a machine that runs an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The name, unique in the cluster.
    pub name: NodeName,
    /// The node's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What keeps workloads off it that do not tolerate it.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Whether new instances may be placed on it.
    pub scheduling: Scheduling,
    /// The version of its last change, which is also the `ETag`.
    pub version: Version,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// What its agent last said of it.
    pub status: NodeStatus,
}

/// Whether new instances may be placed on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Scheduling {
    /// They may.
    #[default]
    Enabled,
    /// An operator said no. What runs there runs on.
    Cordoned,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Whether it can be given work.
    #[serde(flatten)]
    pub state: NodeState,
    /// When the state last changed.
    pub state_since: Timestamp,
    /// The machine and its software.
    pub info: NodeInfo,
    /// What instances may use in all.
    pub capacity: Capacity,
    /// What instances have set aside.
    #[serde(default)]
    pub allocated: Capacity,
    /// How many instances are assigned to it.
    #[serde(default)]
    pub instances: u32,
    /// The generation of its assignment.
    pub generation: Generation,
}

/// CPU and memory of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// CPU time.
    pub cpu: CpuMillis,
    /// Memory.
    pub memory: MemoryBytes,
}

/// What an agent says of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// The agent's identity.
    pub agent_id: AgentId,
    /// The agent's version.
    pub agent_version: String,
    /// The Docker engine's own id. Nodes that share an engine share its host ports.
    pub engine_id: String,
    /// The Docker engine's version.
    pub engine_version: String,
    /// The operating system, as Docker names it.
    pub os: String,
    /// The processor architecture, as Docker names it.
    pub arch: String,
}

/// A change to a node that an operator asks for. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePatch {
    /// Allow or refuse new instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Labels to set; `null` removes one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// The taints, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<Taint>>,
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
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::status::Phase;

    #[test]
    fn a_manifest_reads_back() {
        let value = json!({
            "kind": "Service", "name": "web", "labels": { "app": "web" },
            "spec": { "image": "nginx:1.27", "env": { "PORT": 80, "DEBUG": true }, "resources": { "cpu": 0.5 } },
        });
        let manifest = Manifest::from_json(value).unwrap();
        let WorkloadSpec::Service(spec) = &manifest.spec;
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
