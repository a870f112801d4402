//! Which check of which container is next, and what all of them say. No I/O; the time is passed
//! in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use windlass_api::spec::{ContainerSpec, Probes};

use super::{
    Health, Healths,
    check::Check,
    life::{Life, Outcome, Role, Serving},
};
use crate::runtime::{ContainerId, Healthcheck};

/// A container that runs and is to be probed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The container.
    pub(crate) container: &'a ContainerId,
    /// When it was started. With another start begins another life.
    pub(crate) started_at: Timestamp,
    /// Where it can be reached.
    pub(crate) address: Option<IpAddr>,
    /// What it is made from, and with that its probes.
    pub(crate) spec: &'a ContainerSpec,
    /// What the engine says, where the image has a health check.
    pub(crate) healthcheck: Option<&'a Healthcheck>,
}

/// A life of a container. Numbers are not used twice, so that a result which comes late is never
/// taken for one of the next life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LifeId(u64);

/// A check that is to be made now.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) ticket: Ticket,
    pub(super) container: ContainerId,
    pub(super) address: Option<IpAddr>,
    pub(super) check: Check,
    pub(super) timeout: Duration,
}

/// Which check it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) life: LifeId,
    pub(super) role: Role,
}

/// Whether something is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing is.
    None,
    /// The health of a container changed.
    Health,
}

/// What the next agent is to know of the containers that have started: that it finds them ready
/// where they were, instead of taking them out of service until it has checked all anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory(BTreeMap<String, Remembered>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    started_at: Timestamp,
    serving: Serving,
}

/// All that is probed.
#[derive(Debug, Default)]
pub(crate) struct Rota {
    /// What an earlier agent knew, until the containers were seen for the first time.
    before: Memory,
    patients: BTreeMap<LifeId, Patient>,
    lives: BTreeMap<ContainerId, LifeId>,
    queue: BTreeSet<(Instant, Ticket)>,
    healths: Healths,
    last: u64,
}

#[derive(Debug)]
struct Patient {
    container: ContainerId,
    started_at: Timestamp,
    address: Option<IpAddr>,
    probes: Probes,
    checks: BTreeMap<Role, Check>,
    life: Life,
}

impl Rota {
    /// Probes nothing yet.
    pub(crate) fn new(before: Memory) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// What the next agent is to know.
    pub(crate) fn memory(&self) -> Memory {
        let started = self.patients.values().filter_map(|patient| {
            let remembered = Remembered {
                started_at: patient.started_at,
                serving: patient.life.started()?,
            };
            Some((patient.container.0.clone(), remembered))
        });
        Memory(started.collect())
    }

    /// These containers run, and no others.
    pub(crate) fn observe(&mut self, subjects: &[Subject<'_>], wall: Timestamp, now: Instant) {
        let mut seen = BTreeSet::new();
        let mut healths = Healths::new();
        for subject in subjects {
            if subject.spec.probes.is_empty() {
                if let Some(healthcheck) = subject.healthcheck {
                    healths.insert(subject.container.clone(), Health::of(healthcheck));
                }
                continue;
            }
            let id = self.attend(subject, wall, now);
            seen.insert(id);
            healths.insert(subject.container.clone(), self.patients[&id].life.health());
        }
        self.patients.retain(|id, _| seen.contains(id));
        self.lives.retain(|_, id| seen.contains(id));
        self.queue.retain(|(_, ticket)| seen.contains(&ticket.life));
        self.healths = healths;
        self.before = Memory::default();
    }

    /// Whether a life goes on.
    pub(super) fn attends(&self, life: LifeId) -> bool {
        self.patients.contains_key(&life)
    }

    /// How all of them are.
    pub(crate) fn healths(&self) -> &Healths {
        &self.healths
    }

    /// When the next check is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The next check that is due, which is taken for begun.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Order> {
        let (at, ticket) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        let patient = self.patients.get_mut(&ticket.life)?;
        patient.life.begin(ticket.role, now);
        Some(Order {
            ticket,
            container: patient.container.clone(),
            address: patient.address,
            check: patient.checks[&ticket.role].clone(),
            timeout: ticket.role.of(&patient.probes)?.timeout.as_std(),
        })
    }

    /// A check that was taken began only then.
    pub(super) fn began(&mut self, ticket: Ticket, at: Instant) {
        if let Some(patient) = self.patients.get_mut(&ticket.life) {
            patient.life.began(ticket.role, at);
        }
    }

    /// A check came to its end.
    pub(super) fn finish(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) -> Change {
        let Some(patient) = self.patients.get_mut(&ticket.life) else {
            return Change::None;
        };
        for entry in patient.due(ticket.life) {
            self.queue.remove(&entry);
        }
        patient.life.finish(ticket.role, outcome, now);
        self.queue.extend(patient.due(ticket.life));
        let health = patient.life.health();
        let container = patient.container.clone();
        if self.healths.get(&container) == Some(&health) {
            return Change::None;
        }
        self.healths.insert(container, health);
        Change::Health
    }

    /// The life that a container is in.
    fn attend(&mut self, subject: &Subject<'_>, wall: Timestamp, now: Instant) -> LifeId {
        if let Some(id) = self.lives.get(subject.container)
            && let Some(patient) = self.patients.get_mut(id)
            && patient.started_at == subject.started_at
            && patient.probes == subject.spec.probes
        {
            patient.address = subject.address;
            return *id;
        }
        self.last += 1;
        let id = LifeId(self.last);
        let patient = Patient::new(subject, self.before.of(subject), wall, now);
        self.queue.extend(patient.due(id));
        self.patients.insert(id, patient);
        self.lives.insert(subject.container.clone(), id);
        id
    }
}

impl Memory {
    /// How a life was that goes on.
    fn of(&self, subject: &Subject<'_>) -> Option<Serving> {
        let remembered = self.0.get(&subject.container.0)?;
        let same = remembered.started_at == subject.started_at;
        same.then_some(remembered.serving)
    }
}

impl Patient {
    fn new(subject: &Subject<'_>, before: Option<Serving>, wall: Timestamp, now: Instant) -> Self {
        let Subject {
            container,
            started_at,
            address,
            spec,
            healthcheck: _,
        } = *subject;
        // A clock that was set back makes a container no younger than it can be.
        let age = wall
            .duration_since(started_at)
            .max(SignedDuration::ZERO)
            .unsigned_abs();
        let seed = crc32c::crc32c(container.0.as_bytes());
        let checks = Role::ALL.into_iter().filter_map(|role| {
            let probe = role.of(&spec.probes)?;
            Some((role, Check::new(probe, &spec.ports)))
        });
        Self {
            container: container.clone(),
            started_at,
            address,
            probes: spec.probes.clone(),
            checks: checks.collect(),
            life: Life::new(&spec.probes, age, seed, before, now),
        }
    }

    /// Its entries in the queue.
    fn due(&self, life: LifeId) -> impl Iterator<Item = (Instant, Ticket)> {
        self.life
            .due()
            .map(move |(at, role)| (at, Ticket { life, role }))
    }
}

#[cfg(test)]
mod tests;
