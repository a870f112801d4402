//! How a workload gets from one revision to the next: the bounds, and the states on the way.

use jiff::{SignedDuration, Timestamp};
use windlass_api::{
    duration::Span,
    ids::RevisionNumber,
    resource::RolloutState,
    spec::{OnFailure, UpdateOrder, UpdatePolicy, WorkloadSpec},
    template::InstanceTemplate,
};

use crate::record::{Canaries, Gate, Progress, RolloutRecord, WorkloadRecord};

/// What an update may do, after all that the manifest leaves open was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Which of two instances of a slot comes first.
    pub order: UpdateOrder,
    /// Why that order, where the manifest does not say.
    pub order_reason: Option<String>,
    /// How many slots are replaced at the same time.
    pub parallelism: u32,
    /// How many instances there may be beyond the wanted number.
    pub surge: u32,
    /// The same for instances that move to another node, where a host port is not in the way.
    pub surge_of_moves: u32,
    /// How many of the wanted instances may be unavailable where a new one starts first.
    pub unavailable: u32,
    /// How many may be unavailable where the old one has to make room first.
    pub unavailable_in_stead: u32,
    /// How long an instance has to be ready to be available.
    pub min_ready: Span,
    /// How long there may be no progress.
    pub progress_deadline: SignedDuration,
    /// What to do when it fails.
    pub on_failure: OnFailure,
    /// How many new instances are started beside the old ones before it is promoted.
    pub canary: u32,
}

impl Bounds {
    /// The bounds of a workload whose instances are made from `template`.
    #[must_use]
    pub fn of(spec: &WorkloadSpec, template: Option<&InstanceTemplate>) -> Self {
        let defaults = UpdatePolicy::default();
        let policy = spec.update().unwrap_or(&defaults);
        let (order, order_reason) = order(spec, policy, template);
        let parallelism = policy.parallelism.max(1);
        let is_daemon = matches!(spec, WorkloadSpec::Daemon(_));
        let (surge, unavailable) = match order {
            UpdateOrder::StartFirst => (parallelism, 0),
            UpdateOrder::StopFirst => (0, parallelism),
        };
        let canary = match spec {
            WorkloadSpec::Service(service) => policy.canary.min(service.replicas),
            WorkloadSpec::Daemon(_) | WorkloadSpec::Job(_) | WorkloadSpec::CronJob(_) => 0,
        };
        Self {
            order,
            order_reason,
            parallelism,
            surge: policy.max_surge.unwrap_or(surge),
            surge_of_moves: policy.max_surge.unwrap_or(match policy.order {
                Some(_) => surge,
                // That the order follows from a host port is nothing to another node.
                None if is_daemon || spec.is_exclusive() => surge,
                None => parallelism,
            }),
            unavailable: policy.max_unavailable.unwrap_or(unavailable),
            // Where nothing is said, a successor that fits nowhere beside its predecessor may take
            // its place: an update that cannot happen at all helps nobody.
            unavailable_in_stead: policy.max_unavailable.unwrap_or(parallelism),
            min_ready: policy.min_ready,
            progress_deadline: policy.progress_deadline.as_signed(),
            on_failure: policy.on_failure,
            canary,
        }
    }

    /// Whether a new instance may run beside the old one of its slot.
    #[must_use]
    pub fn starts_beside(&self) -> bool {
        match self.order {
            UpdateOrder::StartFirst => self.surge > 0,
            // Nothing may be stopped, so that the order cannot be kept.
            UpdateOrder::StopFirst => self.surge > 0 && self.unavailable == 0,
        }
    }

    /// Whether an instance that moves to another node may start there beside the one it replaces.
    #[must_use]
    pub fn moves_beside(&self) -> bool {
        self.starts_beside() || self.surge_of_moves > self.surge
    }
}

/// The order, and why where the manifest does not say.
fn order(
    spec: &WorkloadSpec,
    policy: &UpdatePolicy,
    template: Option<&InstanceTemplate>,
) -> (UpdateOrder, Option<String>) {
    if let WorkloadSpec::Daemon(_) = spec {
        let reason = "a node has one instance of a daemon".to_owned();
        return (UpdateOrder::StopFirst, Some(reason));
    }
    if spec.is_exclusive() {
        let reason = "two instances of a copy must not run at the same time".to_owned();
        return (UpdateOrder::StopFirst, Some(reason));
    }
    if let Some(order) = policy.order {
        return (order, None);
    }
    if policy.max_surge == Some(0) {
        let reason = "maxSurge is 0".to_owned();
        return (UpdateOrder::StopFirst, Some(reason));
    }
    let host_port = template.and_then(|t| t.ports().find_map(|port| port.host));
    match host_port {
        Some(port) if spec.replicas() == Some(1) && policy.max_unavailable != Some(0) => {
            let reason = format!("the only copy has the host port {port}");
            (UpdateOrder::StopFirst, Some(reason))
        }
        Some(_) | None => {
            let reason = "nothing keeps a new copy from running beside the old one".to_owned();
            (UpdateOrder::StartFirst, Some(reason))
        }
    }
}

impl RolloutRecord {
    /// A rollout that begins.
    #[must_use]
    pub fn begin(
        from: Option<RevisionNumber>,
        to: RevisionNumber,
        canary: u32,
        now: Timestamp,
    ) -> Self {
        let from = from.filter(|from| *from != to);
        // Without anything to be beside there are no canaries.
        let canaries = if canary > 0 && from.is_some() {
            Canaries::Awaited
        } else {
            Canaries::Promoted
        };
        let mut rollout = Self {
            from,
            to,
            state: RolloutState::Progressing,
            canaries,
            gate: Gate::Open,
            started_at: now,
            progressed_at: now,
            progress: Progress::default(),
            judged_from: now,
            failure: None,
            passed_over: Default::default(),
        };
        rollout.go_on(now);
        rollout
    }

    /// Goes on after it was paused or promoted, or begins.
    pub fn go_on(&mut self, now: Timestamp) {
        self.state = match self.canaries {
            Canaries::Awaited => RolloutState::Canary,
            Canaries::Promoted => RolloutState::Progressing,
        };
        self.progressed_at = now;
        self.judged_from = now;
        self.failure = None;
    }
}

impl WorkloadRecord {
    /// Makes `to` the wanted revision, and begins to roll it out. One that was going on is
    /// superseded: the last good revision stays what it was. With a number of canaries, it stops
    /// at them.
    pub fn roll_to(&mut self, to: RevisionNumber, canary: u32, now: Timestamp) {
        self.revision = to;
        if self.manifest.spec.update().is_some() {
            self.rollout = Some(RolloutRecord::begin(self.last_good, to, canary, now));
        }
    }

    /// Makes the last good revision the wanted one again.
    pub fn roll_back(&mut self, to: RevisionNumber, reason: String, now: Timestamp) {
        self.revision = to;
        if let Some(rollout) = &mut self.rollout {
            rollout.state = RolloutState::RollingBack { reason };
            rollout.progressed_at = now;
            rollout.failure = None;
            rollout.passed_over.clear();
        }
    }
}
