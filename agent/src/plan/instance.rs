//! What follows for one instance, from all that is known of it.

use jiff::Timestamp;
use windlass_api::{
    ids::{ContainerName, InstanceId},
    resource::Goal,
    spec::{PullPolicy, RestartPolicy},
    status::{ContainerPhase, ContainerStatus, Exit, InstanceStatus, Phase, Readiness},
    wire::{AssignedInstance, Assignment},
};

use super::{Activity, ImageState, Step, assigned};
use crate::{
    history::History,
    probe::Healths,
    runtime::{Container, ContainerState},
};

/// What follows for one instance.
pub(super) struct Decision {
    pub(super) next: Next,
    /// Its phase if nothing is being done.
    pub(super) phase: Phase,
}

/// The next thing to do.
pub(super) enum Next {
    /// Nothing.
    Rest,
    /// Something, at this time.
    Wait(Timestamp),
    /// This, now.
    Do(Step),
}

impl Decision {
    fn rest(phase: Phase) -> Self {
        Self {
            next: Next::Rest,
            phase,
        }
    }
}

/// Whether an instance is to be on the node.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// There is no assignment that would tell.
    Unknown,
    /// It is not assigned.
    No,
    /// It is assigned.
    Yes(&'a AssignedInstance),
}

impl<'a> Wanted<'a> {
    pub(super) fn new(assignment: Option<&'a Assignment>, id: &InstanceId) -> Self {
        match (assignment, assigned(assignment, id)) {
            (None, _) => Self::Unknown,
            (Some(_), None) => Self::No,
            (Some(_), Some(assigned)) => Self::Yes(assigned),
        }
    }
}

/// All that is known of one instance.
pub(super) struct Instance<'a> {
    pub(super) id: &'a InstanceId,
    pub(super) wanted: Wanted<'a>,
    /// Its containers, the one to keep first.
    pub(super) containers: &'a [&'a Container],
    pub(super) history: &'a History,
    pub(super) health: &'a Healths,
    pub(super) image: Option<ImageState>,
    pub(super) now: Timestamp,
}

impl Instance<'_> {
    /// What to do if nothing is being done, and the phase as long as nothing is.
    pub(super) fn decide(&self) -> Decision {
        match (self.wanted, self.containers) {
            (Wanted::Unknown, _) => Decision::rest(self.phase_unassigned()),
            (Wanted::No, []) => Decision::rest(Phase::Stopping),
            (Wanted::No, [.., last]) => self.dispose(last, Phase::Stopping),
            (Wanted::Yes(wanted), []) => self.decide_absent(wanted),
            (Wanted::Yes(wanted), [kept]) if kept.revision != wanted.revision => {
                self.dispose(kept, Phase::Starting)
            }
            (Wanted::Yes(wanted), [kept]) => self.decide_present(wanted, kept),
            (Wanted::Yes(wanted), [kept, .., surplus]) => {
                // A surplus one may hold a port that the kept one needs: it goes first.
                let phase = self.decide_present(wanted, kept).phase;
                self.dispose(surplus, phase)
            }
        }
    }

    /// The phase while something is being done: a container that is seen to run does run.
    pub(super) fn phase_while(&self, activity: Activity, idle: Phase) -> Phase {
        match (self.wanted, activity) {
            (Wanted::Unknown | Wanted::No, _) => Phase::Stopping,
            (Wanted::Yes(_), _) if idle.is_running() => idle,
            (Wanted::Yes(_), Activity::Fetching) => Phase::Pulling,
            (Wanted::Yes(_), Activity::Starting | Activity::Removing) => Phase::Starting,
        }
    }

    fn decide_absent(&self, wanted: &AssignedInstance) -> Decision {
        let container = wanted.template.main().expect("a template has a container");
        let fetch = || Step::Fetch {
            instance: self.id.clone(),
            image: container.image.clone(),
            policy: container.image_pull_policy,
        };
        let step = match (wanted.goal, self.image, container.image_pull_policy) {
            (Goal::Prepare, Some(ImageState::Ready), _) => {
                return Decision::rest(Phase::Prepared);
            }
            (Goal::Prepare, _, _)
            | (_, Some(ImageState::Missing), _)
            | (_, None, PullPolicy::Always) => fetch(),
            // Where the image may well be there, creating the container is the quickest way to
            // find out.
            (_, Some(ImageState::Ready), _)
            | (_, None, PullPolicy::IfNotPresent | PullPolicy::Never) => {
                Step::Launch(wanted.clone())
            }
        };
        self.attempt(step, Phase::Assigned)
    }

    fn decide_present(&self, wanted: &AssignedInstance, kept: &Container) -> Decision {
        let start = || Step::Start {
            instance: self.id.clone(),
            container: kept.id.clone(),
        };
        match (&kept.state, wanted.goal) {
            (ContainerState::Running { started_at }, _) => Decision::rest(Phase::Running {
                started_at: *started_at,
            }),
            (ContainerState::Removing, _) => self.dispose(kept, Phase::Starting),
            (ContainerState::Created | ContainerState::Exited { .. }, Goal::Prepare) => {
                Decision::rest(Phase::Prepared)
            }
            (ContainerState::Created, _) => self.attempt(start(), Phase::Starting),
            (ContainerState::Exited { exit, .. }, _) => {
                match ended(wanted.template.restart, exit) {
                    Some(phase) => Decision::rest(phase),
                    None => self.attempt(start(), Phase::Starting),
                }
            }
        }
    }

    /// The step now, or when the instance has waited for its turn after a failure.
    fn attempt(&self, step: Step, phase: Phase) -> Decision {
        match self.history.waits_for(self.now) {
            Some(retry) => Decision {
                next: Next::Wait(retry.at),
                phase: Phase::BackingOff {
                    until: retry.at,
                    reason: retry.reason.clone(),
                },
            },
            None => Decision {
                next: Next::Do(step),
                phase,
            },
        }
    }

    fn dispose(&self, container: &Container, phase: Phase) -> Decision {
        let instance = self.id.clone();
        let id = container.id.clone();
        let step = match container.state {
            ContainerState::Running { .. } => Step::Stop {
                instance,
                container: id,
                grace: container.stop_grace,
            },
            ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Removing => {
                Step::Remove {
                    instance,
                    container: id,
                }
            }
        };
        let decision = self.attempt(step, phase.clone());
        Decision { phase, ..decision }
    }

    /// What is seen of an instance while nothing is known about what is wanted.
    fn phase_unassigned(&self) -> Phase {
        match self.containers.first().map(|c| &c.state) {
            Some(ContainerState::Running { started_at }) => Phase::Running {
                started_at: *started_at,
            },
            // Not `Failed`: whether it is to be started again is what is not known.
            Some(ContainerState::Created | ContainerState::Exited { .. }) => Phase::Assigned,
            Some(ContainerState::Removing) | None => Phase::Stopping,
        }
    }

    /// Whether a container that runs can serve: as its probes say, or because it has none.
    fn readiness(&self, container: &Container) -> Readiness {
        if let Some(health) = self.health.get(&container.id) {
            return health.readiness.clone();
        }
        let probed = match self.wanted {
            Wanted::Yes(wanted) => wanted
                .template
                .main()
                .is_some_and(|c| c.probes.startup.is_some() || c.probes.readiness.is_some()),
            Wanted::Unknown | Wanted::No => false,
        };
        match probed {
            true => Readiness::default(),
            false => Readiness::Ready,
        }
    }

    /// What is told of it in this phase.
    pub(super) fn status(&self, phase: Phase) -> InstanceStatus {
        let kept = self.containers.first();
        let seen_exit = kept.and_then(|c| match &c.state {
            ContainerState::Exited { exit, .. } => Some(exit),
            ContainerState::Created | ContainerState::Running { .. } | ContainerState::Removing => {
                None
            }
        });
        InstanceStatus {
            phase,
            readiness: kept.map_or_else(Readiness::default, |c| self.container_status(c).readiness),
            restarts: self.history.restarts(),
            last_exit: seen_exit.or(self.history.last_exit()).cloned(),
            last_log: Vec::new(),
            address: kept.and_then(|c| c.address),
            containers: kept.into_iter().map(|c| self.container_status(c)).collect(),
        }
    }

    fn container_status(&self, container: &Container) -> ContainerStatus {
        let (state, readiness) = match &container.state {
            ContainerState::Created => (
                ContainerPhase::Waiting { reason: None },
                Readiness::default(),
            ),
            ContainerState::Running { started_at } => (
                ContainerPhase::Running {
                    started_at: *started_at,
                },
                self.readiness(container),
            ),
            ContainerState::Exited { .. } | ContainerState::Removing => {
                (ContainerPhase::Exited, Readiness::default())
            }
        };
        ContainerStatus {
            name: ContainerName::only(),
            state,
            readiness,
            restarts: self.history.restarts(),
            last_exit: self.history.last_exit().cloned(),
            id: Some(container.id.0.clone()),
            image_id: Some(container.image_id.clone()),
            image_digest: None,
        }
    }
}

/// The last phase of an instance that is not to be started again after this exit.
fn ended(policy: RestartPolicy, exit: &Exit) -> Option<Phase> {
    let success = exit.code == 0 && !exit.oom_killed;
    match (policy, success) {
        (RestartPolicy::Always, _) | (RestartPolicy::OnFailure, false) => None,
        (RestartPolicy::OnFailure | RestartPolicy::Never, true) => Some(Phase::Succeeded),
        (RestartPolicy::Never, false) => Some(Phase::Failed {
            reason: exit.to_string(),
        }),
    }
}
