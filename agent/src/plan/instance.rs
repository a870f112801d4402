//! What follows for one instance, from all that is known of it.
//!
//! An instance that is wanted goes through the same stages however it got where it is: the network,
//! the init containers one after the other, the sidecars one after the other, the main containers
//! together. Whatever is missing of the earliest stage is done next; what runs is left alone.

use jiff::Timestamp;
use windlass_api::{
    ids::InstanceId,
    resource::Goal,
    spec::PullPolicy,
    status::{InstanceStatus, Phase},
    wire::AssignedInstance,
};

use super::{
    Action, Activity, ImageState, Input, Leaves, Step, StopManner, assigned,
    seat::{End, Seat, Seats},
};
use crate::{
    history::{Halt, History, InstanceHistory, Member, Retry, Role},
    probe::{Start, Verdict},
    runtime::{Container, ContainerState, Part, StopRank, shares_network},
};

/// What follows for one instance.
pub(super) struct Decision {
    pub(super) steps: Vec<Step>,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) status: InstanceStatus,
}

/// All that is known of one instance.
pub(super) struct Instance<'a> {
    pub(super) id: &'a InstanceId,
    pub(super) input: &'a Input<'a>,
    /// Its containers, the ones to keep first.
    pub(super) containers: &'a [&'a Container],
    pub(super) history: &'a InstanceHistory,
}

/// What is to be done now, and what later.
#[derive(Debug, Default)]
pub(super) struct Work<'a> {
    steps: Vec<Step>,
    /// What has to be waited for, the earliest first.
    waits: Vec<(Part, &'a Retry)>,
}

impl<'a> Instance<'a> {
    /// What to do, and what to tell.
    pub(super) fn decide(&self) -> Decision {
        let input = self.input;
        let Some(assignment) = input.assignment else {
            let phase = if self.is_busy() {
                Phase::Stopping
            } else {
                self.phase_unassigned()
            };
            return self.decided(Work::default(), self.status_unassigned(phase));
        };
        let Some(wanted) = assigned(Some(assignment), self.id) else {
            let work = self.clear_away();
            return self.decided(work, self.status_unassigned(Phase::Stopping));
        };
        let seats = Seats::new(wanted, self.containers, self.history);
        let work = self.work(wanted, &seats);
        let phase = self.phase(wanted, &seats, &work);
        let status = self.status(&seats, phase);
        self.decided(work, status)
    }

    fn decided(&self, work: Work<'_>, status: InstanceStatus) -> Decision {
        Decision {
            wake_at: work.waits.iter().map(|(_, retry)| retry.at).min(),
            steps: work.steps,
            status,
        }
    }

    /// What brings a wanted instance on its way.
    fn work(&self, wanted: &AssignedInstance, seats: &Seats<'a>) -> Work<'a> {
        let mut work = Work::default();
        // One of these may hold a port or the name that another one needs: they go first.
        for container in first_to_stop(&seats.strangers) {
            self.dispose(&mut work, container, None);
        }
        for container in &seats.surplus {
            self.dispose(&mut work, container, None);
        }
        if !seats.strangers.is_empty() {
            return work;
        }
        if wanted.goal == Goal::Prepare {
            if self.containers.is_empty() {
                self.fetch_all(&mut work, wanted, seats);
            }
        } else if seats.end(wanted.template.restart).is_some() {
            self.halt_all(&mut work, seats, &Halt::Over);
        } else if !seats.has_network() {
            self.make_network(&mut work, wanted, seats);
        } else {
            self.advance(&mut work, wanted, seats);
        }
        work
    }

    /// What makes the network that the containers share.
    fn make_network(&self, work: &mut Work<'a>, wanted: &AssignedInstance, seats: &Seats<'a>) {
        if seats.named().any(|seat| seat.started_at().is_some()) {
            self.halt_all(work, seats, &Halt::NetworkLost);
            return;
        }
        for pause in seats.of(Role::Pause) {
            let others = seats.named().filter_map(|seat| seat.container);
            let mut others = others.peekable();
            if pause.container.is_none() && others.peek().is_some() {
                // They were made for the one that is gone, by its id, and cannot start with another.
                for other in others {
                    self.dispose(work, other, None);
                }
            } else {
                self.start(work, wanted, seats, pause);
            }
        }
    }

    /// What brings an instance on its way whose network is there.
    fn advance(&self, work: &mut Work<'a>, wanted: &AssignedInstance, seats: &Seats<'a>) {
        let cut_off = seats.named().filter(|seat| seat.is_cut_off());
        let cut_off: Vec<_> = cut_off.filter(|s| s.started_at().is_some()).collect();
        if !cut_off.is_empty() {
            for seat in cut_off {
                self.halt(work, seat, &Halt::NetworkLost);
            }
            return;
        }
        for seat in seats.together() {
            if let Some(reason) = self.unwell(seat) {
                self.halt(work, seat, &Halt::Unwell(reason.to_owned()));
            }
        }
        let init = seats.of(Role::Init).find(|init| !init.is_done());
        if let Some(init) = init.filter(|_| !seats.is_past_init()) {
            if !init.runs() {
                self.start(work, wanted, seats, init);
            }
            return;
        }
        // Once a main container was started, a sidecar that fails keeps no other from restarting.
        let are_started = seats.of(Role::Main).any(Seat::lives);
        for sidecar in seats.of(Role::Sidecar) {
            if !sidecar.runs() {
                self.start(work, wanted, seats, sidecar);
            }
            if !are_started && !self.has_started(sidecar) {
                return;
            }
        }
        let policy = wanted.template.restart;
        for main in seats.of(Role::Main) {
            if !main.runs() && main.end(policy).is_none() {
                self.start(work, wanted, seats, main);
            }
        }
    }

    /// Makes all images ready.
    fn fetch_all(&self, work: &mut Work<'a>, wanted: &AssignedInstance, seats: &Seats<'a>) {
        for seat in seats.named() {
            if self.image(seat) != Some(ImageState::Ready) {
                self.attempt(work, &seat.part(), || fetch(wanted, seat));
            }
        }
    }

    /// Creates or starts the container of a seat.
    fn start(
        &self,
        work: &mut Work<'a>,
        wanted: &AssignedInstance,
        seats: &Seats<'a>,
        seat: &Seat<'a>,
    ) {
        let part = seat.part();
        if seats.surplus.iter().any(|surplus| surplus.part == part) {
            return;
        }
        let existing = seat.container.map(|container| Action::Start {
            container: container.id.clone(),
        });
        self.attempt(work, &part, || {
            existing.unwrap_or_else(|| self.launch(wanted, seat))
        });
    }

    fn launch(&self, wanted: &AssignedInstance, seat: &Seat<'_>) -> Action {
        let policy = seat.spec.map(|spec| spec.image_pull_policy);
        match (self.image(seat), policy) {
            (Some(ImageState::Missing), Some(_)) | (None, Some(PullPolicy::Always)) => {
                fetch(wanted, seat)
            }
            // Where the image may well be there, creating the container is the quickest way to
            // find out. That of the pause container is made when it is needed.
            (Some(ImageState::Ready), _)
            | (None, Some(PullPolicy::IfNotPresent | PullPolicy::Never))
            | (_, None) => Action::Launch(wanted.clone()),
        }
    }

    /// Whether a container runs and its startup probe has passed, if it has one.
    fn has_started(&self, seat: &Seat<'_>) -> bool {
        let Some(container) = seat.container.filter(|_| seat.runs()) else {
            return false;
        };
        match self.input.health.get(&container.id) {
            Some(health) => health.start == Start::Done,
            None => seat.spec.is_none_or(|spec| spec.probes.startup.is_none()),
        }
    }

    /// The reason why a probe says that a running container is to be restarted, if it does.
    fn unwell(&self, seat: &Seat<'_>) -> Option<&'a str> {
        seat.started_at()?;
        match &self.input.health.get(&seat.container?.id)?.verdict {
            Verdict::Fine => None,
            Verdict::Restart { reason } => Some(reason),
        }
    }

    fn halt_all(&self, work: &mut Work<'a>, seats: &Seats<'a>, why: &Halt) {
        let running = seats.all.iter().filter(|seat| seat.started_at().is_some());
        let running: Vec<_> = running.collect();
        let containers: Vec<_> = running.iter().filter_map(|seat| seat.container).collect();
        for first in first_to_stop(&containers) {
            let seat = running.iter().find(|seat| seat.part() == first.part);
            if let Some(seat) = seat {
                self.halt(work, seat, why);
            }
        }
    }

    fn halt(&self, work: &mut Work<'a>, seat: &Seat<'a>, why: &Halt) {
        let (Some(container), Some(run)) = (seat.container, seat.started_at()) else {
            return;
        };
        self.attempt(work, &container.part, || Action::Halt {
            container: container.id.clone(),
            manner: self.manner(container),
            run,
            why: why.clone(),
        });
    }

    /// Removes what is left of an instance that is not wanted.
    fn clear_away(&self) -> Work<'a> {
        let mut work = Work::default();
        for container in first_to_stop(self.containers) {
            let is_last = self.containers.len() == 1;
            let others_busy = self.busy_parts().any(|part| *part != container.part);
            if container.stop_rank == StopRank::LAST && others_busy {
                continue;
            }
            let leaves = is_last && !others_busy && !container.volumes.is_empty();
            let leaves = leaves.then(|| Leaves {
                namespace: container.namespace.clone(),
                volumes: container.volumes.clone(),
            });
            self.dispose(&mut work, container, leaves);
        }
        work
    }

    fn dispose(&self, work: &mut Work<'a>, container: &Container, leaves: Option<Leaves>) {
        self.attempt(work, &container.part, || match container.state {
            ContainerState::Running { .. } => Action::Stop {
                container: container.id.clone(),
                manner: self.manner(container),
                leaves,
            },
            ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Removing => {
                Action::Remove {
                    container: container.id.clone(),
                    leaves,
                }
            }
        });
    }

    fn manner(&self, container: &Container) -> StopManner {
        let of_all = self.containers.iter().find_map(|c| c.address);
        StopManner {
            grace: container.stop_grace,
            pre_stop: container.pre_stop.clone(),
            address: container.address.or(of_all),
        }
    }

    /// The action now, or when the container has waited for its turn after a failure; not while
    /// something is being done for it, or is to be.
    fn attempt(&self, work: &mut Work<'a>, part: &Part, action: impl FnOnce() -> Action) {
        let is_taken = work.steps.iter().any(|step| step.member.part == *part);
        if is_taken || self.busy_parts().any(|busy| busy == part) {
            return;
        }
        let history: Option<&'a History> = self.history.part(part);
        match history.and_then(|history| history.waits_for(self.input.now)) {
            Some(retry) => work.waits.push((part.clone(), retry)),
            None => work.steps.push(Step {
                member: self.member(part),
                action: action(),
            }),
        }
    }

    fn image(&self, seat: &Seat<'_>) -> Option<ImageState> {
        let member = self.member(&seat.part());
        self.input.images.get(&member).copied()
    }

    fn member(&self, part: &Part) -> Member {
        Member {
            instance: self.id.clone(),
            part: part.clone(),
        }
    }

    /// What is being done for the instance.
    fn activities(&self) -> impl Iterator<Item = (&'a Part, Activity)> {
        let range = self.input.busy.range(self.member(&Part::FIRST)..);
        range
            .take_while(|(member, _)| member.instance == *self.id)
            .map(|(member, activity)| (&member.part, *activity))
    }

    fn busy_parts(&self) -> impl Iterator<Item = &'a Part> {
        self.activities().map(|(part, _)| part)
    }

    fn is_busy(&self) -> bool {
        self.activities().next().is_some()
    }

    /// Where a wanted instance is on its way, while this is done.
    fn phase(&self, wanted: &AssignedInstance, seats: &Seats<'a>, work: &Work<'a>) -> Phase {
        let policy = wanted.template.restart;
        if let Some(end) = seats.end(policy) {
            return match end {
                End::Success => Phase::Succeeded,
                End::Failure(reason) => Phase::Failed { reason },
            };
        }
        if let Some(started_at) = running_since(seats, wanted) {
            return Phase::Running { started_at };
        }
        let new = work.steps.iter().map(Step::activity);
        let old = self.activities().map(|(_, activity)| activity);
        if new
            .chain(old)
            .any(|activity| activity == Activity::Fetching)
        {
            return Phase::Pulling;
        }
        if let Some((part, retry)) = work.waits.iter().min_by_key(|(_, retry)| retry.at) {
            return Phase::BackingOff {
                until: retry.at,
                reason: named(wanted, part, &retry.reason),
            };
        }
        let nothing_is_done = work.steps.is_empty() && !self.is_busy();
        if wanted.goal == Goal::Prepare && nothing_is_done {
            return Phase::Prepared;
        }
        Phase::Starting
    }

    /// What is seen of an instance while nothing is known about what is wanted.
    fn phase_unassigned(&self) -> Phase {
        let visible = || self.containers.iter().filter(|c| c.part != Part::Pause);
        let running = visible().filter(|c| matches!(c.state, ContainerState::Running { .. }));
        if let Some(started_at) = running.filter_map(|c| c.run()).max() {
            return Phase::Running { started_at };
        }
        let is_there = |c: &&&Container| !matches!(c.state, ContainerState::Removing);
        match visible().find(is_there) {
            // Not `Failed`: whether it is to be started again is what is not known.
            Some(_) => Phase::Assigned,
            None => Phase::Stopping,
        }
    }
}

/// Since when all containers of an instance run that are to run, if they do.
fn running_since(seats: &Seats<'_>, wanted: &AssignedInstance) -> Option<Timestamp> {
    let policy = wanted.template.restart;
    let is_over = |seat: &&Seat<'_>| seat.role == Role::Main && seat.end(policy).is_some();
    let mut to_run = seats.together().filter(|seat| !is_over(seat));
    let all_run = seats.has_network() && to_run.all(Seat::runs);
    if !all_run {
        return None;
    }
    seats.together().filter_map(Seat::started_at).max()
}

/// The containers to stop first of those.
fn first_to_stop<'c>(containers: &[&'c Container]) -> Vec<&'c Container> {
    let first = containers.iter().map(|c| c.stop_rank).min();
    let of_them = containers.iter().filter(|c| Some(c.stop_rank) == first);
    of_them.copied().collect()
}

fn fetch(wanted: &AssignedInstance, seat: &Seat<'_>) -> Action {
    let spec = seat.spec.expect("a pause container has no image to fetch");
    Action::Fetch {
        image: spec.image.clone(),
        pin: wanted.images.get(&spec.name).cloned(),
        policy: spec.image_pull_policy,
    }
}

/// A reason, with the container's name where there are several.
fn named(wanted: &AssignedInstance, part: &Part, reason: &str) -> String {
    match part {
        Part::Named(name) if shares_network(&wanted.template) => format!("{name}: {reason}"),
        Part::Named(_) => reason.to_owned(),
        Part::Pause => format!("the network of the containers: {reason}"),
    }
}
