//! The part of a spec that every instance of a revision is made from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Span,
    image::ImageRef,
    spec::{Port, PullPolicy, Resources, RestartPolicy, ScalarText, WorkloadSpec},
};

/// What an instance is made from. Two equal templates are one revision: how many copies there
/// are and where they run is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTemplate {
    /// The container.
    pub container: Container,
    /// What to do when it ends.
    pub restart: RestartPolicy,
    /// How long it may take to stop.
    pub stop_grace_period: Span,
    /// How often a restart of the workload was asked for. It makes an otherwise equal template
    /// a new revision, so that a restart rolls like any other change.
    #[serde(default)]
    pub restarts_asked: u32,
}

/// One container of an instance. The fields are those of [`crate::spec::ServiceSpec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "documented where the user writes them, in `ServiceSpec`"
)]
pub struct Container {
    pub image: ImageRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, ScalarText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<ScalarText>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, ScalarText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
}

impl WorkloadSpec {
    /// The template that this spec describes, after `restarts_asked` requests to restart.
    #[must_use]
    pub fn template(&self, restarts_asked: u32) -> InstanceTemplate {
        let Self::Service(spec) = self;
        InstanceTemplate {
            container: Container {
                image: spec.image.clone(),
                command: spec.command.clone(),
                args: spec.args.clone(),
                env: spec.env.clone(),
                working_dir: spec.working_dir.clone(),
                user: spec.user.clone(),
                labels: spec.labels.clone(),
                ports: spec.ports.clone(),
                resources: spec.resources.clone(),
                stop_signal: spec.stop_signal.clone(),
                image_pull_policy: spec.image_pull_policy,
            },
            restart: spec.restart,
            stop_grace_period: spec.stop_grace_period,
            restarts_asked,
        }
    }
}
