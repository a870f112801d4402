//! What the specs of all kinds have in common.

use std::collections::BTreeMap;

use super::{
    ContainerSpec, Dependency, Mount, Placement, Port, PreStop, Probes, PullPolicy, Resources,
    RestartPolicy, ScalarText, Volume,
};
use crate::{duration::Span, ids::ContainerName, image::ImageRef};

/// What the specs of all kinds have in common: how an instance is made, and where.
#[derive(Debug, Clone, Copy)]
pub struct InstanceSpec<'a> {
    /// The fields of the only container, as far as they are there.
    pub shorthand: Shorthand<'a>,
    /// The containers, if they are listed.
    pub containers: &'a [ContainerSpec],
    /// What runs before them, one after the other.
    pub init_containers: &'a [ContainerSpec],
    /// The volumes.
    pub volumes: &'a [Volume],
    /// Docker labels for every container.
    pub labels: &'a BTreeMap<String, ScalarText>,
    /// What to do when a container ends, if the manifest says it.
    pub restart: Option<RestartPolicy>,
    /// How long an instance may take to stop.
    pub stop_grace_period: Span,
    /// Where the instances may run.
    pub placement: &'a Placement,
    /// What they wait for.
    pub depends_on: &'a [Dependency],
}

/// The fields of the only container of an instance, directly in the spec of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "documented where the user writes them, in `ServiceSpec`"
)]
pub struct Shorthand<'a> {
    pub image: Option<&'a ImageRef>,
    pub command: Option<&'a Vec<String>>,
    pub args: Option<&'a Vec<String>>,
    pub env: &'a BTreeMap<String, ScalarText>,
    pub working_dir: Option<&'a String>,
    pub user: Option<&'a ScalarText>,
    pub ports: &'a [Port],
    pub resources: &'a Resources,
    pub stop_signal: Option<&'a String>,
    pub image_pull_policy: Option<PullPolicy>,
    pub mounts: &'a [Mount],
    pub probes: &'a Probes,
    pub pre_stop: Option<&'a PreStop>,
}

impl Shorthand<'_> {
    /// The names of the fields that are there.
    #[must_use]
    pub fn present(&self) -> Vec<&'static str> {
        // One by one, so that a field which is new cannot be forgotten here.
        let Self {
            image,
            command,
            args,
            env,
            working_dir,
            user,
            ports,
            resources,
            stop_signal,
            image_pull_policy,
            mounts,
            probes,
            pre_stop,
        } = self;
        let fields = [
            ("image", image.is_some()),
            ("command", command.is_some()),
            ("args", args.is_some()),
            ("env", !env.is_empty()),
            ("workingDir", working_dir.is_some()),
            ("user", user.is_some()),
            ("ports", !ports.is_empty()),
            ("resources", !resources.is_empty()),
            ("stopSignal", stop_signal.is_some()),
            ("imagePullPolicy", image_pull_policy.is_some()),
            ("mounts", !mounts.is_empty()),
            ("probes", !probes.is_empty()),
            ("preStop", pre_stop.is_some()),
        ];
        let present = fields.into_iter().filter(|(_, present)| *present);
        present.map(|(name, _)| name).collect()
    }

    /// The container that the fields describe; `None` without an image.
    #[must_use]
    pub fn container(&self) -> Option<ContainerSpec> {
        Some(ContainerSpec {
            name: ContainerName::only(),
            image: self.image?.clone(),
            command: self.command.cloned(),
            args: self.args.cloned(),
            env: self.env.clone(),
            working_dir: self.working_dir.cloned(),
            user: self.user.cloned(),
            ports: self.ports.to_vec(),
            resources: self.resources.clone(),
            stop_signal: self.stop_signal.cloned(),
            image_pull_policy: self.image_pull_policy.unwrap_or_default(),
            mounts: self.mounts.to_vec(),
            probes: self.probes.clone(),
            pre_stop: self.pre_stop.cloned(),
            sidecar: false,
            retries: None,
        })
    }
}

impl InstanceSpec<'_> {
    /// The containers, whichever way they are written; none if no image is named.
    #[must_use]
    pub fn all_containers(&self) -> Vec<ContainerSpec> {
        if self.containers.is_empty() {
            self.shorthand.container().into_iter().collect()
        } else {
            self.containers.to_vec()
        }
    }
}
