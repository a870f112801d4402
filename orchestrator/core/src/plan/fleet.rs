//! What each slot of a workload that rolls holds, and how far its rollout is because of that.

use std::collections::BTreeMap;

use jiff::Timestamp;
use windlass_api::{
    ids::{NodeName, RevisionNumber, Slot},
    resource::{Goal, RolloutState},
    spec::OnReturn,
    status::NodeState,
};

use crate::{
    cluster::Cluster,
    lease,
    leaving::{Leaving, Terms},
    record::{Canaries, InstanceRecord, Progress, RevisionKey, RolloutRecord, WorkloadRecord},
    rollout::Bounds,
};

/// A slot that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    /// The only node that its instances may run on, if they may not run on any.
    pub(super) pinned: Option<NodeName>,
    /// What may happen to it.
    pub(super) rule: Rule,
}

/// What may happen to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is filled, and brought to the wanted revision.
    Fill,
    /// It keeps what it has: nothing may be added on its node.
    Keep,
    /// It keeps what it has, and nobody counts on it: its node is lost.
    Absent,
}

/// What a slot holds. At most one instance of each kind is worth keeping.
#[derive(Debug, Default)]
pub(super) struct Held<'a> {
    /// Of the wanted revision, on a node where it may be.
    pub(super) current: Vec<&'a InstanceRecord>,
    /// Of the wanted revision, and to leave its node once another one has taken its place.
    pub(super) moving: Vec<&'a InstanceRecord>,
    /// Of another revision, or on a node where it may no longer be.
    pub(super) outdated: Vec<&'a InstanceRecord>,
    /// To leave its node at once.
    pub(super) expelled: Vec<(&'a InstanceRecord, Leaving<'a>)>,
    /// On a node that is lost: nobody can tell whether they run.
    pub(super) unseen: Vec<&'a InstanceRecord>,
}

/// What is done with a slot at this stage of the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The old instance is replaced by a new one.
    Replace,
    /// A new instance is started, and the old one stays.
    Canary,
    /// What is there stays.
    Hold,
}

/// Whether an instance that nobody can see may be replaced. What is later is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GivenUp {
    /// It may.
    Now,
    /// It may from then on: the slot has moved a moment ago.
    From(Timestamp),
    /// Something else has to happen first.
    NotYet,
}

/// What becomes of two instances of a slot after a lost node is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returned<'a> {
    /// This one stays.
    Keep(&'a InstanceRecord),
    /// Both stay until then, or until it is clear which of them does.
    KeepBothUntil(Timestamp),
}

/// A workload that rolls, slot by slot.
pub(super) struct Fleet<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) workload: &'a WorkloadRecord,
    pub(super) bounds: Bounds,
    pub(super) now: Timestamp,
    pub(super) slots: BTreeMap<Slot, (Seat, Held<'a>)>,
    /// The instances in slots that are not wanted.
    pub(super) surplus: Vec<&'a InstanceRecord>,
    /// Of each slot the instance that is to stop and, as far as anybody can see, is not gone yet.
    pub(super) stopping: BTreeMap<Slot, &'a InstanceRecord>,
}

/// How far a rollout is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) progress: Progress,
    /// Whether every slot has an available instance of the wanted revision, and no other.
    pub(super) complete: bool,
    /// The slots in which the wanted revision has failed, and how.
    pub(super) failed: BTreeMap<Slot, String>,
    /// When it has failed unless something happens until then.
    pub(super) deadline: Option<Timestamp>,
}

impl<'a> Held<'a> {
    /// Whether nothing is there but current instances.
    pub(super) fn is_alone(&self) -> bool {
        self.predecessors().next().is_none() && self.expelled.is_empty() && self.unseen.is_empty()
    }

    /// What is to be replaced.
    pub(super) fn predecessors(&self) -> impl Iterator<Item = &'a InstanceRecord> {
        self.outdated.iter().chain(&self.moving).copied()
    }
}

impl<'a> Fleet<'a> {
    /// The workload with the wanted slots `seats`.
    pub(super) fn new(
        cluster: &'a Cluster,
        workload: &'a WorkloadRecord,
        seats: BTreeMap<Slot, Seat>,
        now: Timestamp,
    ) -> Self {
        let key = RevisionKey {
            workload: workload.manifest.key(),
            number: workload.revision,
        };
        let template = cluster.revisions.get(&key).map(|r| &*r.template);
        let mut fleet = Self {
            cluster,
            workload,
            bounds: Bounds::of(&workload.manifest.spec, template),
            now,
            slots: seats
                .into_iter()
                .map(|(slot, seat)| (slot, (seat, Held::default())))
                .collect(),
            surplus: Vec::new(),
            stopping: BTreeMap::new(),
        };
        for instance in cluster.instances_of(&key.workload) {
            let gone = || cluster.is_out_of_sight(instance) && !cluster.may_still_run(instance);
            match instance.goal {
                Goal::Prepare | Goal::Run => fleet.add(instance),
                Goal::Stop if gone() => {}
                Goal::Stop => {
                    fleet.stopping.entry(instance.slot).or_insert(instance);
                }
            }
        }
        fleet
    }

    fn add(&mut self, instance: &'a InstanceRecord) {
        let Some((_, held)) = self.slots.get_mut(&instance.slot) else {
            self.surplus.push(instance);
            return;
        };
        let leaving = self.cluster.leaving(instance);
        let current = is_current(self.cluster, self.workload, instance);
        if self.cluster.is_out_of_sight(instance) {
            held.unseen.push(instance);
        } else if let Some(leaving) = leaving.filter(|l| l.terms(self.now) == Terms::AtOnce) {
            held.expelled.push((instance, leaving));
        } else if current && leaving.is_some() {
            held.moving.push(instance);
        } else if current {
            held.current.push(instance);
        } else {
            held.outdated.push(instance);
        }
    }

    /// Whether nothing is there that is not wanted or on its way out.
    pub(super) fn is_quiet(&self) -> bool {
        self.surplus.is_empty() && self.stopping.is_empty()
    }

    /// Whether the instance is to leave its node.
    pub(super) fn leaves(&self, instance: &InstanceRecord) -> bool {
        self.cluster.leaving(instance).is_some()
    }

    /// When what is to leave its node is stopped at the latest.
    pub(super) fn drain_deadline(&self) -> Option<Timestamp> {
        let held = self.slots.values().map(|(_, held)| held);
        let leaving = held.flat_map(|held| held.moving.iter().chain(&held.outdated));
        let deadline = |i: &&'a InstanceRecord| self.cluster.leaving(i)?.deadline();
        leaving.filter_map(deadline).min()
    }

    pub(super) fn rollout(&self) -> Option<&'a RolloutRecord> {
        self.workload.rollout.as_ref()
    }

    /// Whether instances of a revision are promised to be the only ones of their slots, whatever is
    /// wanted now.
    pub(super) fn is_exclusive(&self, number: RevisionNumber) -> bool {
        let key = RevisionKey {
            workload: self.workload.manifest.key(),
            number,
        };
        let revision = self.cluster.revisions.get(&key);
        revision.is_some_and(|revision| revision.template.exclusive)
    }

    pub(super) fn is_available(&self, instance: &InstanceRecord) -> bool {
        instance.is_available(self.now, self.bounds.min_ready)
    }

    pub(super) fn any_available(&self, instances: &[&InstanceRecord]) -> bool {
        instances.iter().any(|i| self.is_available(i))
    }

    /// Whether the instances of a slot that nobody can see may be replaced now, or from when on.
    pub(super) fn given_up(&self, unseen: &[&InstanceRecord]) -> GivenUp {
        let all = unseen.iter().map(|instance| self.is_given_up(instance));
        all.max().unwrap_or(GivenUp::Now)
    }

    fn is_given_up(&self, instance: &InstanceRecord) -> GivenUp {
        let node = instance.node.as_ref();
        let Some(node) = node.and_then(|node| self.cluster.nodes.get(node)) else {
            return GivenUp::Now;
        };
        let NodeState::Lost { waited, .. } = node.state else {
            // It is back, and is about to tell what became of it.
            return GivenUp::NotYet;
        };
        let after = lease::replaced_after(self.cluster, instance);
        if !lease::evicts(self.cluster) || after.is_none_or(|after| waited < after) {
            return GivenUp::NotYet;
        }
        let pause = lease::MOVE_PAUSE.as_signed();
        let again_at = instance.moved_at.and_then(|at| at.checked_add(pause).ok());
        match again_at {
            Some(at) if at > self.now && instance.moved_at <= Some(self.now) => GivenUp::From(at),
            Some(_) | None => GivenUp::Now,
        }
    }

    /// Which of several instances of the wanted revision stays, if more than one is there since a
    /// lost node is back; and until when both do.
    pub(super) fn returned<'h>(&self, current: &'h [&'a InstanceRecord]) -> Option<Returned<'a>> {
        let placed = || current.iter().copied().filter(|i| i.node.is_some());
        if placed().count() < 2 || placed().all(|i| i.moved_at.is_none()) {
            return None;
        }
        let policy = self.workload.manifest.spec.disconnect()?;
        let available = |i: &&InstanceRecord| self.is_available(i);
        match policy.on_return {
            OnReturn::KeepReplacement => {
                let newest = placed()
                    .filter(available)
                    .max_by_key(|i| (i.created_at, &i.id));
                newest.map(Returned::Keep)
            }
            OnReturn::KeepOriginal => {
                let original = placed().min_by_key(|i| (i.created_at, &i.id))?;
                if self.is_available(original) {
                    return Some(Returned::Keep(original));
                }
                let node = self.cluster.nodes.get(original.node.as_ref()?)?;
                let until = node
                    .returned_at?
                    .checked_add(lease::RETURN_LIMIT.as_signed())
                    .ok()?;
                (until > self.now).then_some(Returned::KeepBothUntil(until))
            }
        }
    }

    /// What is done with a slot now.
    pub(super) fn stage(&self, slot: Slot, rule: Rule) -> Stage {
        match rule {
            Rule::Fill => {}
            Rule::Keep | Rule::Absent => return Stage::Hold,
        }
        match self.rollout().map(|r| &r.state) {
            Some(RolloutState::Paused { .. }) => Stage::Hold,
            Some(RolloutState::Canary) if self.is_canary(slot) => Stage::Canary,
            Some(RolloutState::Canary) => Stage::Hold,
            Some(
                RolloutState::Progressing
                | RolloutState::RollingBack { .. }
                | RolloutState::RolledBack { .. }
                | RolloutState::Completed,
            )
            | None => Stage::Replace,
        }
    }

    fn is_canary(&self, slot: Slot) -> bool {
        // The slots of what has canaries are numbered from 0 on.
        slot.0 < self.bounds.canary
    }

    /// How far the rollout is.
    pub(super) fn survey(&self, rollout: &RolloutRecord) -> Survey {
        let mut survey = Survey {
            complete: true,
            ..Survey::default()
        };
        // Whether the operator is waited for, and not the instances.
        let mut canaries_are_up = rollout.canaries == Canaries::Awaited;
        let mut nearly = false;
        // Since when the first of what is waited for has been there: what was made a moment ago
        // because a lost node was given up has its own time.
        let mut awaited_since: Option<Timestamp> = None;
        for (slot, (seat, held)) in &self.slots {
            // One that moves is of the wanted revision for all that: no rollout waits for it.
            let available = self.any_available(&held.current) || self.any_available(&held.moving);
            let begun = !held.current.is_empty() || !held.moving.is_empty();
            survey.progress.available += u32::from(available);
            survey.progress.begun += u32::from(begun);
            canaries_are_up &= available || !self.is_canary(*slot);
            nearly |= !available && held.current.iter().any(|i| i.serves());
            if seat.rule == Rule::Fill {
                survey.complete &= available && held.outdated.is_empty();
                let awaited = held.current.iter().filter(|_| !available);
                let since = awaited.map(|i| i.created_at).chain(awaited_since);
                awaited_since = since.min();
                let crashed = held.current.iter().find(|i| self.has_crashed(rollout, i));
                if let Some(instance) = crashed {
                    survey.failed.insert(*slot, how_it_failed(instance));
                }
            }
        }
        // Who waits for an operator, or only for the proof that it stays ready, is not stuck; and
        // before anything was begun there is nothing to judge.
        let judged = !survey.complete && !canaries_are_up && !nearly && survey.progress.begun > 0;
        let since = awaited_since.unwrap_or(rollout.progressed_at);
        let deadline = since
            .max(rollout.progressed_at)
            .saturating_add(self.bounds.progress_deadline)
            .unwrap_or(Timestamp::MAX);
        if judged && deadline <= self.now {
            self.note_stuck(&mut survey);
        } else if judged {
            survey.deadline = Some(deadline);
        }
        survey
    }

    /// Every slot that is on its way has been so for too long.
    fn note_stuck(&self, survey: &mut Survey) {
        let update = self.workload.manifest.spec.update();
        let deadline = update.map(|u| u.progress_deadline).unwrap_or_default();
        for (slot, (seat, held)) in &self.slots {
            let moves = self.any_available(&held.moving);
            let stuck = held.current.iter().find(|i| !self.is_available(i));
            if let (Rule::Fill, Some(instance), false) = (seat.rule, stuck, moves) {
                let reason = format!("no progress for {deadline}: {}", how_it_is(instance));
                survey.failed.entry(*slot).or_insert(reason);
            }
        }
        if survey.failed.is_empty() {
            let reason =
                format!("no progress for {deadline}: the old instances could not be replaced");
            survey.failed.insert(Slot(0), reason);
        }
    }

    fn has_crashed(&self, rollout: &RolloutRecord, instance: &InstanceRecord) -> bool {
        let template = self.cluster.template_of(instance);
        template.is_some_and(|template| instance.has_crashed(template, rollout.judged_from))
    }
}

/// Whether an instance is of the wanted revision, and its node still meets what the workload
/// requires.
fn is_current(cluster: &Cluster, workload: &WorkloadRecord, instance: &InstanceRecord) -> bool {
    let placement = workload.manifest.spec.instance().placement;
    let allowed = match instance
        .node
        .as_ref()
        .and_then(|node| cluster.nodes.get(node))
    {
        Some(node) => placement.require.iter().all(|r| r.is_met_by(node.facts())),
        None => true,
    };
    instance.revision == workload.revision && allowed
}

/// How an instance failed, with what its container last wrote.
fn how_it_failed(instance: &InstanceRecord) -> String {
    let exit = instance.status.last_exit.as_ref().map(ToString::to_string);
    let said = instance.status.phase.reason().map(str::to_owned);
    let how = said.or(exit).unwrap_or_else(|| "it failed".to_owned());
    with_log(instance, format!("{}: {how}", instance.id))
}

/// How far an instance is that does not get further.
fn how_it_is(instance: &InstanceRecord) -> String {
    let phase = &instance.status.phase;
    let not_ready = match &instance.status.readiness {
        windlass_api::status::Readiness::NotReady { reason } => reason.as_deref(),
        windlass_api::status::Readiness::Ready => None,
    };
    let how = match (phase.reason(), phase.is_running()) {
        (Some(reason), _) => reason.to_owned(),
        (None, true) => match not_ready {
            Some(reason) => format!("not ready: {reason}"),
            None => "not ready".to_owned(),
        },
        (None, false) => phase.name().to_owned(),
    };
    with_log(instance, format!("{}: {how}", instance.id))
}

/// What is said, and below it the last lines of the log, if there are any.
fn with_log(instance: &InstanceRecord, said: String) -> String {
    let lines = instance.status.last_log.iter();
    lines.fold(said, |text, line| format!("{text}\n  {line}"))
}
