//! Whether an instance serves, and whether it has failed.

use jiff::Timestamp;
use windlass_api::{
    duration::Span,
    ids::ContainerName,
    resource::Goal,
    status::{InstanceStatus, Phase},
    template::InstanceTemplate,
};

use crate::record::InstanceRecord;

/// How often a container of an instance may be restarted before the instance counts as crashing.
/// The first restart comes at once and may be bad luck; what fails again did not start.
const RESTARTS_FORGIVEN: u32 = 1;

impl InstanceRecord {
    /// Whether it does now what it is there for: it is ready, or has ended well.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.available_at(Span::default()).is_some()
    }

    /// When it counts as available, if it goes on as it is.
    #[must_use]
    pub fn available_at(&self, min_ready: Span) -> Option<Timestamp> {
        if self.goal != Goal::Run {
            return None;
        }
        self.status
            .available_at(self.phase_since, self.ready_since, min_ready)
    }

    /// Whether it counts as available: it has been ready for long enough.
    #[must_use]
    pub fn is_available(&self, now: Timestamp, min_ready: Span) -> bool {
        self.available_at(min_ready).is_some_and(|at| at <= now)
    }

    /// Whether it has failed since `since` in a way that waiting does not mend: a container ended
    /// and will not be started again, or did so again after it was.
    #[must_use]
    pub fn has_crashed(&self, template: &InstanceTemplate, since: Timestamp) -> bool {
        if self.phase_since < since || self.serves() {
            return false;
        }
        let restarts = restarts(&self.status, template);
        match self.status.phase {
            Phase::Failed { .. } => true,
            // It waits since it failed after a restart; a failure of another kind, like a pull
            // that cannot be, leaves no exit.
            Phase::BackingOff { .. } => {
                restarts >= RESTARTS_FORGIVEN && self.status.last_exit.is_some()
            }
            Phase::Starting | Phase::Running { .. } => restarts > RESTARTS_FORGIVEN,
            Phase::Pending { .. }
            | Phase::Assigned
            | Phase::Pulling
            | Phase::Prepared
            | Phase::Stopping
            | Phase::Succeeded => false,
        }
    }
}

/// How often the containers were restarted, without those that only come before them: waiting for
/// something by failing until it is there is what init containers are often for.
fn restarts(status: &InstanceStatus, template: &InstanceTemplate) -> u32 {
    if status.containers.is_empty() {
        return status.restarts;
    }
    let init = |name: &ContainerName| template.init_containers.iter().any(|c| c.name == *name);
    let counted = status.containers.iter().filter(|c| !init(&c.name));
    counted.map(|c| c.restarts).sum()
}
