//! The places that an instance has for containers, and who sits on them.

use jiff::Timestamp;
use windlass_api::{
    spec::{ContainerSpec, RestartPolicy},
    status::Exit,
    template::InstanceTemplate,
    wire::AssignedInstance,
};

use crate::{
    history::{Halt, History, InstanceHistory, NETWORK_LOST, Role},
    runtime::{Container, ContainerState, Part, shares_network},
};

/// A place for a container of an instance that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat<'a> {
    pub(super) role: Role,
    /// Its place among those of the manifest, by which it is shown.
    pub(super) position: usize,
    /// What its container is made from; `None` for the pause container.
    pub(super) spec: Option<&'a ContainerSpec>,
    /// The container that is there.
    pub(super) container: Option<&'a Container>,
    pub(super) history: Option<&'a History>,
}

/// How a container came to its end for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Success,
    Failure(String),
}

/// The roles of the containers of an instance, in the order in which they start: the pause
/// container, if there is one, then the init containers, the sidecars and the main ones.
pub(crate) fn roles(template: &InstanceTemplate) -> impl Iterator<Item = (Part, Role)> {
    specs(template).map(|(role, spec)| (part(spec), role))
}

fn specs(template: &InstanceTemplate) -> impl Iterator<Item = (Role, Option<&ContainerSpec>)> {
    let pause = shares_network(template).then_some((Role::Pause, None));
    let inits = template.init_containers.iter();
    let sidecars = template.containers.iter().filter(|c| c.sidecar);
    let mains = template.containers.iter().filter(|c| !c.sidecar);
    pause
        .into_iter()
        .chain(inits.map(|spec| (Role::Init, Some(spec))))
        .chain(sidecars.map(|spec| (Role::Sidecar, Some(spec))))
        .chain(mains.map(|spec| (Role::Main, Some(spec))))
}

fn part(spec: Option<&ContainerSpec>) -> Part {
    spec.map_or(Part::Pause, |spec| Part::Named(spec.name.clone()))
}

fn position(template: &InstanceTemplate, spec: Option<&ContainerSpec>) -> usize {
    let mut containers = template.containers.iter();
    let found = spec.and_then(|spec| containers.position(|c| c.name == spec.name));
    found.unwrap_or_default()
}

/// The places of an instance, and the containers that have none there.
#[derive(Debug)]
pub(super) struct Seats<'a> {
    pub(super) all: Vec<Seat<'a>>,
    /// Made from another revision, or for no place.
    pub(super) strangers: Vec<&'a Container>,
    /// Of the right revision, for a place that another one has; or being removed.
    pub(super) surplus: Vec<&'a Container>,
}

impl<'a> Seats<'a> {
    /// Seats the containers, of which the one to keep comes first.
    pub(super) fn new(
        assigned: &'a AssignedInstance,
        containers: &[&'a Container],
        history: &'a InstanceHistory,
    ) -> Self {
        let mut strangers = Vec::new();
        let mut surplus = Vec::new();
        let mut all: Vec<Seat<'a>> = specs(&assigned.template)
            .map(|(role, spec)| Seat {
                role,
                position: position(&assigned.template, spec),
                spec,
                container: None,
                history: history.part(&part(spec)),
            })
            .collect();
        for container in containers {
            let seat = all.iter_mut().find(|seat| seat.part() == container.part);
            match seat {
                Some(seat) if container.revision == assigned.revision => {
                    let goes = matches!(container.state, ContainerState::Removing);
                    if seat.container.is_none() && !goes {
                        seat.container = Some(container);
                    } else {
                        surplus.push(*container);
                    }
                }
                _ => strangers.push(*container),
            }
        }
        Self {
            all,
            strangers,
            surplus,
        }
    }

    pub(super) fn of(&self, role: Role) -> impl Iterator<Item = &Seat<'a>> {
        self.all.iter().filter(move |seat| seat.role == role)
    }

    /// Those of the init containers, which run before the others, and of the others.
    pub(super) fn named(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.all.iter().filter(|seat| seat.role != Role::Pause)
    }

    /// Sidecars and main containers, which run together.
    pub(super) fn together(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.of(Role::Sidecar).chain(self.of(Role::Main))
    }

    /// Whether the network is there that they share, if they share one.
    pub(super) fn has_network(&self) -> bool {
        self.of(Role::Pause)
            .all(|pause| pause.started_at().is_some())
    }

    /// Whether the init containers have done their work: something runs that waited for it.
    pub(super) fn is_past_init(&self) -> bool {
        self.together().any(Seat::lives)
    }

    /// How the instance came to its end, if it did: an init container failed once too often, or
    /// all main containers ended and are not to be started again.
    pub(super) fn end(&self, policy: RestartPolicy) -> Option<End> {
        if !self.is_past_init()
            && let Some(reason) = self.of(Role::Init).find_map(|init| init.exhausted(policy))
        {
            return Some(End::Failure(reason));
        }
        let mut failure = None;
        for main in self.of(Role::Main) {
            match main.end(policy)? {
                End::Success => {}
                End::Failure(reason) => failure = failure.or(Some(reason)),
            }
        }
        Some(failure.map_or(End::Success, End::Failure))
    }
}

impl<'a> Seat<'a> {
    pub(super) fn part(&self) -> Part {
        part(self.spec)
    }

    /// Since when its container runs, if it does.
    pub(super) fn started_at(&self) -> Option<Timestamp> {
        match self.container?.state {
            ContainerState::Running { started_at } => Some(started_at),
            ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Removing => {
                None
            }
        }
    }

    /// Whether its container lost the network that it shared.
    pub(super) fn is_cut_off(&self) -> bool {
        let run = self.container.and_then(Container::run);
        run.is_some_and(|run| self.history.is_some_and(|h| h.is_cut_off(run)))
    }

    /// Whether its container runs, in the network of the others.
    pub(super) fn runs(&self) -> bool {
        self.started_at().is_some() && !self.is_cut_off()
    }

    /// Whether its container was started in the network of the others, though it may have ended.
    pub(super) fn lives(&self) -> bool {
        self.container.and_then(Container::run).is_some() && !self.is_cut_off()
    }

    /// How its container ended, if it did.
    pub(super) fn exit(&self) -> Option<(Timestamp, &'a Exit)> {
        match &self.container?.state {
            ContainerState::Exited { started_at, exit } => Some((*started_at, exit)),
            ContainerState::Created | ContainerState::Running { .. } | ContainerState::Removing => {
                None
            }
        }
    }

    /// How its last run ended, if it did: as it is seen, or as it is remembered of a container
    /// that somebody removed.
    fn last_end(&self) -> Option<(Timestamp, &'a Exit)> {
        match self.container {
            Some(_) => self.exit(),
            None => self.history?.last_end(),
        }
    }

    /// Whether its container ended, though it may be there no longer.
    pub(super) fn has_ended(&self) -> bool {
        self.last_end().is_some()
    }

    /// Why its container failed, if it ended with a failure.
    pub(super) fn failure(&self) -> Option<String> {
        let (run, exit) = self.last_end()?;
        match self.history.and_then(|history| history.halt_of(run)) {
            Some(Halt::Unwell(reason)) => Some(reason.clone()),
            Some(Halt::NetworkLost) => Some(NETWORK_LOST.to_owned()),
            Some(Halt::Over) => None,
            None => (exit.code != 0 || exit.oom_killed).then(|| exit.to_string()),
        }
    }

    /// Whether an init container did its work.
    pub(super) fn is_done(&self) -> bool {
        self.exit().is_some() && self.failure().is_none() && !self.is_cut_off()
    }

    /// Why an init container is not tried again, if it is not.
    fn exhausted(&self, policy: RestartPolicy) -> Option<String> {
        let failure = self.failure()?;
        let spec = self.spec?;
        let retries = match (spec.retries, policy) {
            (Some(retries), _) => retries,
            (None, RestartPolicy::Never) => 0,
            (None, RestartPolicy::Always | RestartPolicy::OnFailure) => return None,
        };
        let failures = self.history.map_or(0, History::failures);
        (failures > retries).then(|| match failures {
            1 => format!("init container `{}`: {failure}", spec.name),
            times => format!("init container `{}`: {failure}, {times} times", spec.name),
        })
    }

    /// How a main container came to its end, if it is not to be started again.
    pub(super) fn end(&self, policy: RestartPolicy) -> Option<End> {
        self.last_end()?;
        match (policy, self.failure()) {
            (RestartPolicy::Always, _) | (RestartPolicy::OnFailure, Some(_)) => None,
            (RestartPolicy::OnFailure | RestartPolicy::Never, None) => Some(End::Success),
            (RestartPolicy::Never, Some(reason)) => Some(End::Failure(reason)),
        }
    }
}
