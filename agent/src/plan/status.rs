//! What is told of an instance and its containers.

use windlass_api::{
    ids::ContainerName,
    status::{ContainerPhase, ContainerStatus, Exit, InstanceStatus, Phase, Readiness},
};

use super::{
    instance::Instance,
    seat::{Seat, Seats},
};
use crate::{
    history::{History, Role},
    runtime::{ContainerState, Part},
};

impl<'a> Instance<'a> {
    /// What is told of a wanted instance in this phase.
    pub(super) fn status(&self, seats: &Seats<'a>, phase: Phase) -> InstanceStatus {
        let containers: Vec<ContainerStatus> = in_order(seats)
            .filter_map(|seat| {
                let name = &seat.spec?.name;
                Some(self.container_status(name, seat, &phase))
            })
            .collect();
        let of = |role: Role| {
            let seats = seats.of(role);
            seats.filter_map(last_exit)
        };
        // That a sidecar was stopped at the end says nothing about the instance.
        let mains = of(Role::Main);
        let last_exit = match phase {
            Phase::Succeeded => mains.max_by_key(|exit| exit.finished_at),
            Phase::Failed { .. } => {
                let inits = of(Role::Init);
                let failed = mains.chain(inits).filter(|exit| exit.code != 0);
                failed.max_by_key(|exit| exit.finished_at)
            }
            _ => {
                let inits = of(Role::Init).filter(|exit| exit.code != 0);
                let others = of(Role::Sidecar).chain(of(Role::Pause)).chain(inits);
                mains.chain(others).max_by_key(|exit| exit.finished_at)
            }
        };
        InstanceStatus {
            readiness: readiness(&phase, &containers),
            phase,
            restarts: containers.iter().map(|container| container.restarts).sum(),
            last_exit,
            last_log: self.history.last_log().to_vec(),
            address: self.address(),
            containers,
        }
    }

    /// What is told of an instance of which it is not known what it is to be.
    pub(super) fn status_unassigned(&self, phase: Phase) -> InstanceStatus {
        let mut containers = Vec::new();
        let mut exits = Vec::new();
        for container in self.containers {
            let Part::Named(name) = &container.part else {
                continue;
            };
            let history = self.history.part(&container.part);
            let seat = Seat {
                role: Role::Main,
                position: 0,
                spec: None,
                container: Some(container),
                history,
            };
            containers.push(self.container_status(name, &seat, &phase));
            exits.extend(last_exit(&seat));
        }
        containers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        InstanceStatus {
            readiness: readiness(&phase, &containers),
            phase,
            restarts: containers.iter().map(|container| container.restarts).sum(),
            last_exit: exits.into_iter().max_by_key(|exit| exit.finished_at),
            last_log: self.history.last_log().to_vec(),
            address: self.address(),
            containers,
        }
    }

    fn container_status(
        &self,
        name: &ContainerName,
        seat: &Seat<'_>,
        phase: &Phase,
    ) -> ContainerStatus {
        let (container, history) = (seat.container, seat.history);
        let waiting = || {
            let retry = history.and_then(|history| history.waits_for(self.input.now));
            let reason = match phase {
                // It is not going to be tried again.
                Phase::Succeeded | Phase::Failed { .. } | Phase::Stopping => None,
                _ => retry.map(|retry| retry.reason.clone()),
            };
            ContainerPhase::Waiting { reason }
        };
        let state = match container.map(|container| &container.state) {
            None if seat.has_ended() => ContainerPhase::Exited,
            None | Some(ContainerState::Created) => waiting(),
            Some(ContainerState::Running { started_at }) => ContainerPhase::Running {
                started_at: *started_at,
            },
            Some(ContainerState::Exited { .. } | ContainerState::Removing) => {
                ContainerPhase::Exited
            }
        };
        ContainerStatus {
            name: name.clone(),
            state,
            readiness: self.readiness(seat),
            restarts: history.map_or(0, History::restarts),
            last_exit: last_exit(seat),
            id: container.map(|container| container.id.0.clone()),
            image_id: container.map(|container| container.image_id.clone()),
            image_digest: container.and_then(|container| container.image_digest.clone()),
        }
    }

    /// Whether a container can serve: as its probes say, or if it runs and has none.
    fn readiness(&self, seat: &Seat<'_>) -> Readiness {
        let Some(container) = seat.container.filter(|_| seat.runs()) else {
            return Readiness::default();
        };
        match self.input.health.get(&container.id) {
            Some(health) => health.readiness.clone(),
            None => {
                let probes = seat.spec.map(|spec| &spec.probes);
                let gated = probes.is_some_and(|p| p.readiness.is_some() || p.startup.is_some());
                if gated {
                    Readiness::default()
                } else {
                    Readiness::Ready
                }
            }
        }
    }

    /// The address that its containers share.
    fn address(&self) -> Option<std::net::IpAddr> {
        self.containers
            .iter()
            .find_map(|container| container.address)
    }
}

/// How a container last ended: as it is seen, or as it is remembered.
fn last_exit(seat: &Seat<'_>) -> Option<Exit> {
    let remembered = || seat.history?.last_exit().cloned();
    let seen = seat.exit().map(|(run, exit)| match seat.history {
        Some(history) => history.explained(run, exit),
        None => exit.clone(),
    });
    seen.or_else(remembered)
}

/// The init containers, then the others, each in the order of the manifest.
fn in_order<'s, 'a>(seats: &'s Seats<'a>) -> impl Iterator<Item = &'s Seat<'a>> {
    let mut together: Vec<_> = seats.together().collect();
    together.sort_by_key(|seat| seat.position);
    seats.of(Role::Init).chain(together)
}

/// Whether an instance can serve: if all its containers can that have not come to their end.
fn readiness(phase: &Phase, containers: &[ContainerStatus]) -> Readiness {
    if !phase.is_running() {
        return Readiness::default();
    }
    let running = containers
        .iter()
        .filter(|c| matches!(c.state, ContainerPhase::Running { .. }));
    for container in running {
        if let Readiness::NotReady { reason } = &container.readiness {
            let reason = reason.as_ref().map(|reason| match containers {
                [_] => reason.clone(),
                _ => format!("{}: {reason}", container.name),
            });
            return Readiness::NotReady { reason };
        }
    }
    Readiness::Ready
}
