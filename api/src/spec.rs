//! What a user writes: the spec of each kind of workload.
//!
//! Every kind describes an instance in the same words; `kind_spec!` adds them to what is particular
//! to it. Where an instance has one container, the container's fields stand directly in the spec.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{duration::Span, image::ImageRef};

mod container;
mod disconnect;
mod instance;
mod job;
mod placement;
mod probe;
mod scalar;
mod update;

pub use container::{
    ContainerSpec, Limits, Mount, Port, Protocol, PullPolicy, Resources, Scratch, Volume,
};
pub use disconnect::{DisconnectPolicy, OnReturn};
pub use instance::{InstanceSpec, Shorthand};
pub use job::{Concurrency, JobHistory, Schedule, ScheduleError, Zone, ZoneError};
pub use placement::{Placement, Rebalance, Strategy};
pub use probe::{
    Check, ExecCheck, GrpcCheck, HttpCheck, PortRef, PortRefError, PreStop, Probe, Probes,
    StatusRange, StatusRangeError, TcpCheck,
};
pub use scalar::{SCALAR_TEXT, ScalarText};
pub use update::{Dependency, DependencyCondition, OnFailure, UpdateOrder, UpdatePolicy};

/// The kind of a workload.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Kind {
    /// Kept running, `replicas` times.
    Service,
    /// Kept running, once on every node that it may run on.
    Daemon,
    /// Run until it completed.
    Job,
    /// Makes a job whenever it is due.
    CronJob,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Service, Self::Daemon, Self::Job, Self::CronJob];

    /// The kind's name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Daemon => "Daemon",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The spec of a workload of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(
    clippy::large_enum_variant,
    reason = "all of them are large, the largest a quarter more than the others; a box would be \
              in the way of every match"
)]
pub enum WorkloadSpec {
    /// The spec of a [`Kind::Service`].
    Service(ServiceSpec),
    /// The spec of a [`Kind::Daemon`].
    Daemon(DaemonSpec),
    /// The spec of a [`Kind::Job`].
    Job(JobSpec),
    /// The spec of a [`Kind::CronJob`].
    CronJob(CronJobSpec),
}

/// Declares the spec of a kind: its own fields, and those that describe an instance.
macro_rules! kind_spec {
    ($(#[$doc:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($own)*
            /// The image to run, like `nginx:1.27` or `registry.site:5000/team/app@sha256:...`. This
            /// and the fields of a container below are for the only one; several stand under
            /// `containers`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub image: Option<ImageRef>,
            /// Replaces the image's entry point.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub command: Option<Vec<String>>,
            /// Replaces the image's command; the arguments to the entry point.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub args: Option<Vec<String>>,
            /// Environment variables. Numbers and booleans are taken as they are written.
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            pub env: BTreeMap<String, ScalarText>,
            /// The directory in which the command starts.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub working_dir: Option<String>,
            /// The user to run as: a name or number, optionally `:group`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub user: Option<ScalarText>,
            /// The ports that the container listens on.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub ports: Vec<Port>,
            /// What one copy needs (for placement), and may use at most (enforced).
            #[serde(default, skip_serializing_if = "Resources::is_empty")]
            pub resources: Resources,
            /// The signal that asks the container to stop, like `SIGQUIT`. Default: the image's, or
            /// `SIGTERM`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub stop_signal: Option<String>,
            /// When to pull the image. Default `IfNotPresent`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub image_pull_policy: Option<PullPolicy>,
            /// Where the volumes appear in the container.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub mounts: Vec<Mount>,
            /// How to tell whether the container has started, can serve, and lives. Default: by the
            /// image's own `HEALTHCHECK`, if it has one.
            #[serde(default, skip_serializing_if = "Probes::is_empty")]
            pub probes: Probes,
            /// What to do before the container is asked to stop, within its grace period.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub pre_stop: Option<PreStop>,
            /// The containers of an instance, if it has several: they share its network, and can
            /// share its volumes.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub containers: Vec<ContainerSpec>,
            /// What runs before the containers start, one after the other, each to its end.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub init_containers: Vec<ContainerSpec>,
            /// The volumes that the containers can mount.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub volumes: Vec<Volume>,
            /// Docker labels to put on the containers. `windlass.` is reserved.
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            pub labels: BTreeMap<String, ScalarText>,
            /// What to do when a container ends. Default `Always`; of jobs `Never`, which makes a
            /// fresh instance after each failure.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub restart: Option<RestartPolicy>,
            /// How long an instance may take to stop before it is killed. Default `10s`.
            #[serde(default = "default_grace")]
            pub stop_grace_period: Span,
            /// Which nodes may run the copies, and which of those to prefer.
            #[serde(default, skip_serializing_if = "Placement::is_empty")]
            pub placement: Placement,
            /// The workloads that have to be there before an instance is first started.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub depends_on: Vec<Dependency>,
        }

        impl $name {
            /// What it says about an instance.
            #[must_use]
            pub fn instance(&self) -> InstanceSpec<'_> {
                InstanceSpec {
                    shorthand: Shorthand {
                        image: self.image.as_ref(),
                        command: self.command.as_ref(),
                        args: self.args.as_ref(),
                        env: &self.env,
                        working_dir: self.working_dir.as_ref(),
                        user: self.user.as_ref(),
                        ports: &self.ports,
                        resources: &self.resources,
                        stop_signal: self.stop_signal.as_ref(),
                        image_pull_policy: self.image_pull_policy,
                        mounts: &self.mounts,
                        probes: &self.probes,
                        pre_stop: self.pre_stop.as_ref(),
                    },
                    containers: &self.containers,
                    init_containers: &self.init_containers,
                    volumes: &self.volumes,
                    labels: &self.labels,
                    restart: self.restart,
                    stop_grace_period: self.stop_grace_period,
                    placement: &self.placement,
                    depends_on: &self.depends_on,
                }
            }
        }
    };
}

kind_spec! {
    /// Kept running, `replicas` times.
    ServiceSpec {
        /// How many copies to keep running. Default 1.
        #[serde(default = "one")]
        #[schemars(range(max = 10_000))]
        pub replicas: u32,
        /// How copies are replaced by those of a new revision.
        #[serde(default, skip_serializing_if = "UpdatePolicy::is_default")]
        pub update: UpdatePolicy,
        /// Whether copies move by themselves when nodes come that would be better for them. A move
        /// keeps the bounds of `update`. Default `manual`: only `windlass rebalance` moves them.
        #[serde(default, skip_serializing_if = "Rebalance::is_manual")]
        pub rebalance: Rebalance,
        /// What happens to copies whose node is not heard from.
        #[serde(default, skip_serializing_if = "DisconnectPolicy::is_default")]
        pub disconnect: DisconnectPolicy,
        /// Whether two instances of one copy must never run at the same time, whatever happens to
        /// nodes and links: an agent that has not heard from the server for long enough stops its
        /// own, and another one is started only after that. Default `false`.
        #[serde(default, skip_serializing_if = "is_false")]
        pub exclusive: bool,
    }
}

kind_spec! {
    /// Kept running, once on every node that it may run on.
    DaemonSpec {
        /// How copies are replaced by those of a new revision: node by node, the old one first.
        #[serde(default, skip_serializing_if = "UpdatePolicy::is_default")]
        pub update: UpdatePolicy,
    }
}

/// Declares the spec of a kind that makes jobs: the fields of jobs, and its own.
macro_rules! job_spec {
    ($(#[$doc:meta])* $name:ident { $($own:tt)* }) => {
        kind_spec! {
            $(#[$doc])*
            $name {
                $($own)*
                /// How many instances have to complete, each with an index from 0 on in
                /// `WINDLASS_INDEX`. Default 1.
                #[serde(default = "one")]
                #[schemars(range(min = 1, max = 10_000))]
                pub completions: u32,
                /// How many instances may run at the same time. Default 1.
                #[serde(default = "one")]
                #[schemars(range(min = 1, max = 10_000))]
                pub parallelism: u32,
                /// How many instances may fail before the job fails; each next one waits longer than the
                /// one before. Default 6.
                #[serde(default = "six")]
                pub backoff_limit: u32,
                /// How often one index may fail before it is given up while the others go on. Then
                /// `backoffLimit` is not looked at. Default: indices are not told apart.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub backoff_limit_per_index: Option<u32>,
                /// How long the job may take in all before it fails. Default: as long as it does.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub active_deadline: Option<Span>,
                /// How long after its end the job is deleted. Default: it is kept; those that a
                /// schedule made, as `history` says.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub ttl_after_finished: Option<Span>,
            }
        }
    };
}

job_spec! {
    /// Run until it completed.
    JobSpec {}
}

job_spec! {
    /// Makes a job whenever it is due.
    CronJobSpec {
        /// When it is due: five fields (minute, hour, day of month, month, day of week), or a
        /// word like `@daily`.
        pub schedule: Schedule,
        /// The time zone of the schedule, like `Europe/Berlin`. Default `UTC`. A time of day that
        /// clocks leave out when they are put forward is due right after the gap; one that they show
        /// twice when they are put back is due once, the first time; what is due every hour is due in
        /// both.
        #[serde(default, skip_serializing_if = "Zone::is_utc")]
        pub time_zone: Zone,
        /// What to do when it is due and the job before still runs. Default `Forbid`.
        #[serde(default)]
        pub concurrency: Concurrency,
        /// How late a job may start, because the server was away when it was due. Of several that
        /// were missed, only the last one is made up for. Default: any time later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub starting_deadline: Option<Span>,
        /// Whether to make no more jobs for now. Default `false`.
        #[serde(default, skip_serializing_if = "is_false")]
        pub suspend: bool,
        /// How many of its finished jobs to keep.
        #[serde(default, skip_serializing_if = "JobHistory::is_default")]
        pub history: JobHistory,
    }
}

impl From<&CronJobSpec> for JobSpec {
    /// The job that is made whenever the schedule is due.
    fn from(spec: &CronJobSpec) -> Self {
        Self {
            image: spec.image.clone(),
            command: spec.command.clone(),
            args: spec.args.clone(),
            env: spec.env.clone(),
            working_dir: spec.working_dir.clone(),
            user: spec.user.clone(),
            ports: spec.ports.clone(),
            resources: spec.resources.clone(),
            stop_signal: spec.stop_signal.clone(),
            image_pull_policy: spec.image_pull_policy,
            mounts: spec.mounts.clone(),
            probes: spec.probes.clone(),
            pre_stop: spec.pre_stop.clone(),
            containers: spec.containers.clone(),
            init_containers: spec.init_containers.clone(),
            volumes: spec.volumes.clone(),
            labels: spec.labels.clone(),
            restart: spec.restart,
            stop_grace_period: spec.stop_grace_period,
            placement: spec.placement.clone(),
            depends_on: spec.depends_on.clone(),
            completions: spec.completions,
            parallelism: spec.parallelism,
            backoff_limit: spec.backoff_limit,
            backoff_limit_per_index: spec.backoff_limit_per_index,
            active_deadline: spec.active_deadline,
            ttl_after_finished: spec.ttl_after_finished,
        }
    }
}

fn one() -> u32 {
    1
}

fn six() -> u32 {
    6
}

fn is_false(value: &bool) -> bool {
    !value
}

fn default_grace() -> Span {
    Span::from_secs(10)
}

/// What to do when a container ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    /// Start it again, whatever its exit code.
    #[default]
    Always,
    /// Start it again if its exit code is not 0.
    OnFailure,
    /// Leave it.
    Never,
}

impl WorkloadSpec {
    /// The kind that this is the spec of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::Daemon(_) => Kind::Daemon,
            Self::Job(_) => Kind::Job,
            Self::CronJob(_) => Kind::CronJob,
        }
    }

    /// What it says about an instance.
    #[must_use]
    pub fn instance(&self) -> InstanceSpec<'_> {
        match self {
            Self::Service(spec) => spec.instance(),
            Self::Daemon(spec) => spec.instance(),
            Self::Job(spec) => spec.instance(),
            Self::CronJob(spec) => spec.instance(),
        }
    }

    /// What to do when a container ends.
    #[must_use]
    pub fn restart(&self) -> RestartPolicy {
        self.instance().restart.unwrap_or(match self.kind() {
            Kind::Service | Kind::Daemon => RestartPolicy::Always,
            Kind::Job | Kind::CronJob => RestartPolicy::Never,
        })
    }

    /// How instances are replaced by those of a new revision, of a kind that does so.
    #[must_use]
    pub fn update(&self) -> Option<&UpdatePolicy> {
        match self {
            Self::Service(spec) => Some(&spec.update),
            Self::Daemon(spec) => Some(&spec.update),
            Self::Job(_) | Self::CronJob(_) => None,
        }
    }

    /// What happens to instances whose node is lost, of a kind that says so.
    #[must_use]
    pub fn disconnect(&self) -> Option<&DisconnectPolicy> {
        match self {
            Self::Service(spec) => Some(&spec.disconnect),
            Self::Daemon(_) | Self::Job(_) | Self::CronJob(_) => None,
        }
    }

    /// Whether two instances of a slot must never run at the same time.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        match self {
            Self::Service(spec) => spec.exclusive,
            Self::Daemon(_) | Self::Job(_) | Self::CronJob(_) => false,
        }
    }

    /// How many instances the user asks for, of a kind that can be scaled.
    #[must_use]
    pub fn replicas(&self) -> Option<u32> {
        match self {
            Self::Service(spec) => Some(spec.replicas),
            Self::Daemon(_) | Self::Job(_) | Self::CronJob(_) => None,
        }
    }
}
