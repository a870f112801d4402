//! Waits until workloads are as they should be, and shows how far they are.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tokio::time::{self, Instant, MissedTickBehavior};
use windlass_api::{
    client::{Change, Client, Mirror, Selection},
    duration::Span,
    ids::{Uid, WorkloadKey},
    resource::{Instance, Workload},
};

use crate::{
    error::{Exit, Failure},
    trouble,
};

mod clock;
mod display;
mod follow;
mod standing;
mod stop;

use self::clock::ServerClock;
pub(crate) use self::{
    display::Display,
    follow::follow,
    standing::{Standing, Until, are_canaries_waiting, describe_instance},
};

/// How often a live area is drawn again: smooth for the eye, cheap for the terminal.
pub(crate) const DRAW_EVERY: Duration = Duration::from_millis(100);

/// A workload that is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) key: WorkloadKey,
    /// The identity; one of another identity is not the workload that is waited for.
    pub(crate) uid: Option<Uid>,
}

impl Target {
    /// The workload as it is now.
    pub(crate) fn of(workload: &Workload) -> Self {
        Self {
            key: workload.manifest.key(),
            uid: Some(workload.meta.uid),
        }
    }
}

/// What is known of the workloads that are waited for.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) workloads: &'a BTreeMap<String, Workload>,
    pub(crate) instances: &'a BTreeMap<String, Instance>,
    /// What time it is for the server.
    pub(crate) now: Timestamp,
}

impl Scene<'_> {
    /// The workload, if it is still the one that is waited for.
    pub(crate) fn workload(&self, target: &Target) -> Option<&Workload> {
        let workload = self.workloads.get(&target.key.to_string())?;
        target
            .uid
            .is_none_or(|uid| uid == workload.meta.uid)
            .then_some(workload)
    }

    /// The instances of a workload, by slot.
    pub(crate) fn instances_of(&self, key: &WorkloadKey) -> Vec<&Instance> {
        let mut instances: Vec<_> = self
            .instances
            .values()
            .filter(|i| i.namespace == key.namespace && i.workload == key.name)
            .collect();
        instances.sort_by_key(|i| (i.slot, i.revision));
        instances
    }
}

/// Waits until all `targets` are as `until` says, at most for `limit`.
///
/// # Errors
/// With the reasons and the last lines of the logs when time is up, or when all that can be
/// reached is, and something stays behind; or if the server is away for too long, or a workload is
/// deleted that was to run.
pub(crate) async fn wait(
    client: &Client,
    targets: &[Target],
    until: Until,
    limit: Span,
    display: &mut Display,
) -> Result<Vec<Workload>, Failure> {
    let (workloads, instances) = selections(targets);
    let mut workloads = Mirror::<Workload>::open(client, workloads).await?;
    let mut instances = Mirror::<Instance>::open(client, instances).await?;
    let clock = ServerClock::read(client).await?;
    let deadline = Instant::now() + limit.as_std();
    let mut draw = time::interval(DRAW_EVERY);
    draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    display.begin(targets, until, &scene(&workloads, &instances, &clock))?;
    loop {
        let now = scene(&workloads, &instances, &clock);
        if all_reached(targets, until, &now)? {
            display.end(&now)?;
            if let Some(failure) = stop::failure(client, targets, until, &now).await {
                return Err(failure);
            }
            return Ok(targets
                .iter()
                .filter_map(|t| now.workload(t))
                .cloned()
                .collect());
        }
        let wake = standing::next_available(targets, until, &now).map(|at| clock.until(at));
        // Both mirrors lose nothing when they are dropped here, nor does a tick.
        tokio::select! {
            change = workloads.changed() => drop(change?),
            change = instances.changed() => match change? {
                Change::Put(name) | Change::Delete(name) => {
                    display.instance_changed(&name, &scene(&workloads, &instances, &clock))?;
                }
                Change::Relisted => display.relisted(&scene(&workloads, &instances, &clock))?,
            },
            // Without a change, since time is all that it takes.
            () = time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
            _ = draw.tick(), if display.is_live() => display.draw(&scene(&workloads, &instances, &clock))?,
            () = time::sleep_until(deadline) => {
                let scene = scene(&workloads, &instances, &clock);
                display.clear()?;
                return Err(out_of_time(client, targets, until, limit, &scene).await);
            }
        }
    }
}

fn scene<'a>(
    workloads: &'a Mirror<Workload>,
    instances: &'a Mirror<Instance>,
    clock: &ServerClock,
) -> Scene<'a> {
    Scene {
        workloads: workloads.items(),
        instances: instances.items(),
        now: clock.now(),
    }
}

/// What to watch: as little as one selection of each kind can say.
fn selections(targets: &[Target]) -> (Selection, Selection) {
    if let [target] = targets {
        let of = Selection::of(&target.key.namespace);
        let name = &target.key.name;
        return (of.clone().field("name", name), of.field("workload", name));
    }
    let selection = match targets.first().map(|t| &t.key.namespace) {
        Some(first) if targets.iter().all(|t| t.key.namespace == *first) => Selection::of(first),
        _ => Selection::all(),
    };
    (selection.clone(), selection)
}

fn all_reached(targets: &[Target], until: Until, scene: &Scene<'_>) -> Result<bool, Failure> {
    let mut all = true;
    for target in targets {
        match standing::of(target, until, scene) {
            Standing::Reached | Standing::Stopped => {}
            Standing::Underway => all = false,
            Standing::Gone => {
                return Err(Failure::new(
                    Exit::NotFound,
                    format!("workload {} was deleted in the meantime", target.key),
                ));
            }
        }
    }
    Ok(all)
}

/// Says what is missing, and why, as far as it can be known.
async fn out_of_time(
    client: &Client,
    targets: &[Target],
    until: Until,
    limit: Span,
    scene: &Scene<'_>,
) -> Failure {
    let late: Vec<&Target> = targets
        .iter()
        .filter(|target| standing::of(target, until, scene) == Standing::Underway)
        .collect();
    let names: Vec<String> = late.iter().map(|target| target.key.to_string()).collect();
    let mut notes = Vec::new();
    for target in &late {
        notes.push(standing::describe(target, until, scene));
        let instances = scene.instances_of(&target.key);
        let told = scene
            .workload(target)
            .map(|w| w.status.reasons.as_slice())
            .unwrap_or_default();
        for trouble in trouble::look(client, instances.into_iter()).await {
            // What the workload's own reason says already is worth its log only.
            if trouble.has_log()
                || !told
                    .iter()
                    .any(|reason| reason.starts_with(&trouble.reason))
            {
                notes.extend(trouble.lines());
            }
        }
    }
    let detail = format!("{} not {} after {limit}", names.join(", "), until.name());
    let failure = Failure::new(Exit::Timeout, detail).notes(notes);
    match late.first() {
        Some(target) => failure.hint(stop::what_to_do_late(&target.key, scene.workload(target))),
        None => failure,
    }
}

#[cfg(test)]
mod tests;
