//! What was read of single containers, as long as it can be trusted.

use std::collections::{BTreeMap, BTreeSet};

use super::containers::{Checked, Inspected, Listed, Status};
use crate::runtime::{ContainerId, ContainerState, Healthcheck};

/// The states of the containers that the last list named, and nothing else.
///
/// Docker's list lacks exit codes and times, so a container that runs or ended is read by itself,
/// once for each state that it is in and once more after each event about it. One that was never
/// started is not: the engine answers only when it has started, so that a list would take as long
/// as the slowest start.
#[derive(Debug, Default)]
pub(super) struct Inspections {
    entries: BTreeMap<ContainerId, Entry>,
    /// Containers that are not ours although they look like it, and that were warned of.
    not_ours: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Entry {
    /// How often something happened to the container.
    marks: u64,
    /// What was read, and `marks` at the time when that was begun.
    read: Option<(u64, Inspected)>,
}

/// What is known of a listed container.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// All of it.
    Known(Inspected),
    /// It has to be read; the result is handed in with the ticket.
    Needed(Ticket),
}

/// When a container began to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Inspections {
    /// Something happened to a container: what was read of it before is not to be trusted.
    pub(super) fn mark(&mut self, id: &ContainerId) {
        // One that is not in here will be read anyway when it is listed.
        if let Some(entry) = self.entries.get_mut(id) {
            entry.marks += 1;
        }
    }

    /// Anything may have happened: events were missed.
    pub(super) fn mark_all(&mut self) {
        for entry in self.entries.values_mut() {
            entry.marks += 1;
        }
    }

    /// What is known of each container of a list. What is not in it is forgotten.
    pub(super) fn look_up(&mut self, listed: &[Listed]) -> Vec<Lookup> {
        let ids: BTreeSet<&ContainerId> = listed.iter().map(|l| &l.id).collect();
        self.entries.retain(|id, _| ids.contains(id));
        listed.iter().map(|l| self.look_up_one(l)).collect()
    }

    fn look_up_one(&mut self, listed: &Listed) -> Lookup {
        match listed.status {
            Status::Created => return known(ContainerState::Created),
            Status::Removing => return known(ContainerState::Removing),
            Status::Running | Status::Exited => {}
        }
        let entry = self.entries.entry(listed.id.clone()).or_default();
        match &entry.read {
            Some((marks, inspected)) if *marks == entry.marks && agree(inspected, listed) => {
                Lookup::Known(inspected.clone())
            }
            _ => Lookup::Needed(Ticket(entry.marks)),
        }
    }

    /// Keeps what was read of a container.
    pub(super) fn store(&mut self, id: &ContainerId, ticket: Ticket, inspected: Inspected) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.read = Some((ticket.0, inspected));
        }
    }

    /// Notes which containers of a list are not ours. Returns those that are new.
    pub(super) fn note_not_ours(&mut self, ids: BTreeSet<String>) -> Vec<String> {
        let new = ids.difference(&self.not_ours).cloned().collect();
        self.not_ours = ids;
        new
    }
}

/// What needs no reading.
fn known(state: ContainerState) -> Lookup {
    Lookup::Known(Inspected {
        state,
        healthcheck: None,
    })
}

/// Whether a list shows what was read before it.
fn agree(inspected: &Inspected, listed: &Listed) -> bool {
    let checked = inspected.healthcheck.as_ref().map(|check| match check {
        Healthcheck::Starting => Checked::Starting,
        Healthcheck::Healthy => Checked::Healthy,
        Healthcheck::Unhealthy { .. } => Checked::Unhealthy,
    });
    let runs = listed.status == Status::Running;
    status_of(&inspected.state) == listed.status && (!runs || checked == listed.checked)
}

fn status_of(state: &ContainerState) -> Status {
    match state {
        ContainerState::Created => Status::Created,
        ContainerState::Running { .. } => Status::Running,
        ContainerState::Exited { .. } => Status::Exited,
        ContainerState::Removing => Status::Removing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;
    use windlass_api::ids::ClusterId;

    use super::*;
    use crate::runtime::Owner;

    fn listed(state: &str) -> Vec<Listed> {
        listed_as(state, "")
    }

    fn listed_as(state: &str, status: &str) -> Vec<Listed> {
        let owner = Owner {
            cluster: ClusterId(Uuid::nil()),
            node: "n1".parse().unwrap(),
        };
        let summary = serde_json::from_value(json!({
            "Id": "c1", "State": state, "Status": status, "Names": ["/windlass.00000000.shop.web-0-1"],
            "Labels": {
                "windlass.instance": "web-0-1", "windlass.namespace": "shop",
                "windlass.revision": "4", "windlass.stop-grace": "1s",
            },
        }));
        vec![Listed::read(&owner, &summary.unwrap()).unwrap()]
    }

    fn running() -> Inspected {
        Inspected {
            state: ContainerState::Running {
                started_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            },
            healthcheck: None,
        }
    }

    fn ticket(inspections: &mut Inspections, state: &str) -> Ticket {
        match inspections.look_up(&listed(state)).remove(0) {
            Lookup::Needed(ticket) => ticket,
            Lookup::Known(state) => panic!("{state:?} is known"),
        }
    }

    fn id() -> ContainerId {
        ContainerId("c1".to_owned())
    }

    #[test]
    fn a_container_is_read_once_for_each_state() {
        let mut inspections = Inspections::default();
        let first = ticket(&mut inspections, "running");
        inspections.store(&id(), first, running());
        assert_eq!(
            inspections.look_up(&listed("running")),
            [Lookup::Known(running())]
        );
        ticket(&mut inspections, "exited");
    }

    #[test]
    fn a_container_is_read_again_when_its_health_changed_without_an_event() {
        let mut inspections = Inspections::default();
        let first = ticket(&mut inspections, "running");
        inspections.store(&id(), first, running());
        let healthy = || listed_as("running", "Up 2 seconds (healthy)");
        let Lookup::Needed(second) = inspections.look_up(&healthy()).remove(0) else {
            panic!("what was read before has no health");
        };
        let read = Inspected {
            healthcheck: Some(Healthcheck::Healthy),
            ..running()
        };
        inspections.store(&id(), second, read.clone());
        assert_eq!(inspections.look_up(&healthy()), [Lookup::Known(read)]);
    }

    #[test]
    fn a_container_is_read_again_after_an_event() {
        let mut inspections = Inspections::default();
        for mark in [|i: &mut Inspections| i.mark(&id()), Inspections::mark_all] {
            let first = ticket(&mut inspections, "running");
            inspections.store(&id(), first, running());
            mark(&mut inspections);
            ticket(&mut inspections, "running");
        }
    }

    #[test]
    fn an_event_while_a_container_is_read_is_not_lost() {
        let mut inspections = Inspections::default();
        let first = ticket(&mut inspections, "running");
        inspections.mark(&id());
        inspections.store(&id(), first, running());
        let second = ticket(&mut inspections, "running");
        inspections.store(&id(), second, running());
        assert_eq!(
            inspections.look_up(&listed("running")),
            [Lookup::Known(running())]
        );
    }

    #[test]
    fn a_container_that_was_never_started_is_not_read() {
        let mut inspections = Inspections::default();
        let lookups = inspections.look_up(&listed("created"));
        assert_eq!(lookups, [known(ContainerState::Created)]);
    }

    #[test]
    fn what_is_not_listed_is_forgotten() {
        let mut inspections = Inspections::default();
        let first = ticket(&mut inspections, "running");
        inspections.look_up(&[]);
        inspections.store(&id(), first, running());
        assert!(inspections.entries.is_empty());
    }

    #[test]
    fn a_warning_is_given_once() {
        let mut inspections = Inspections::default();
        let odd = || BTreeSet::from(["c9".to_owned()]);
        assert_eq!(inspections.note_not_ours(odd()), ["c9"]);
        assert!(inspections.note_not_ours(odd()).is_empty());
        inspections.note_not_ours(BTreeSet::new());
        assert!(inspections.not_ours.is_empty());
    }
}
