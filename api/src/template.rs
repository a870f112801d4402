//! The part of a spec that every instance of a revision is made from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Span,
    ids::ContainerName,
    spec::{ContainerSpec, Kind, Port, Probes, RestartPolicy, ScalarText, Volume, WorkloadSpec},
};

/// What an instance is made from. Two equal templates are one revision: how many copies there
/// are, where they run and what they wait for is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTemplate {
    /// The kind of its workload.
    pub kind: Kind,
    /// What runs before the containers, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<ContainerSpec>,
    /// The containers, of which there is at least one.
    pub containers: Vec<ContainerSpec>,
    /// The volumes that they share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Docker labels for every container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, ScalarText>,
    /// What to do when a container ends.
    pub restart: RestartPolicy,
    /// How long an instance may take to stop.
    pub stop_grace_period: Span,
    /// Whether an agent stops it when its lease is over; see [`crate::spec::ServiceSpec`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub exclusive: bool,
    /// How long an agent lets it run without having heard from the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Span>,
    /// How often a restart of the workload was asked for. It makes an otherwise equal template
    /// a new revision, so that a restart rolls like any other change.
    #[serde(default)]
    pub restarts_asked: u32,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl InstanceTemplate {
    /// The container of this name, be it an init container.
    #[must_use]
    pub fn container(&self, name: &ContainerName) -> Option<&ContainerSpec> {
        self.all_containers().find(|c| c.name == *name)
    }

    /// The containers and before them the init containers.
    pub fn all_containers(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// The container that is meant where none is named: the first that is no sidecar.
    #[must_use]
    pub fn main(&self) -> Option<&ContainerSpec> {
        let first = self.containers.first();
        self.containers.iter().find(|c| !c.sidecar).or(first)
    }

    /// The ports of all containers, which share one network.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.containers.iter().flat_map(|c| &c.ports)
    }

    /// The probes of each container that has some.
    #[must_use]
    pub fn probes(&self) -> BTreeMap<ContainerName, Probes> {
        let probed = self.containers.iter().filter(|c| !c.probes.is_empty());
        probed.map(|c| (c.name.clone(), c.probes.clone())).collect()
    }
}

impl WorkloadSpec {
    /// The template that this spec describes, after `restarts_asked` requests to restart.
    #[must_use]
    pub fn template(&self, restarts_asked: u32) -> InstanceTemplate {
        let instance = self.instance();
        InstanceTemplate {
            kind: self.kind(),
            init_containers: instance.init_containers.to_vec(),
            containers: instance.all_containers(),
            volumes: instance.volumes.to_vec(),
            labels: instance.labels.clone(),
            restart: self.restart(),
            stop_grace_period: instance.stop_grace_period,
            exclusive: self.is_exclusive(),
            stop_after: self.disconnect().and_then(|policy| policy.stop_after),
            restarts_asked,
        }
    }
}
