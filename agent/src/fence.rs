//! What an agent stops by itself because it does not hear from the server.
//!
//! Between the ledger and the reconciler: what is held becomes what is to run now. An exclusive
//! instance runs only under a lease, which the agent counts from when it sent the heartbeat that
//! renewed it, and only if the server's assignment was taken over before that; so it is over
//! before the server starts another one. The clock goes on while the machine sleeps, and what it
//! says is written down, so that an agent that was restarted knows it before anything else.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use windlass_api::wire::{AssignedInstance, Lease};

use crate::{board::publish, data_dir::DataDir, ledger::Held};

/// How often it is looked at leases at least while something hangs on one: a timer stands still
/// while the machine sleeps.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How many heartbeats may wait for their answer.
const BEATS_MAX: usize = 16;

/// The time since the machine was switched on, asleep or not.
pub(crate) type SinceBoot = Duration;

/// Reads it.
pub(crate) type BootClock = Arc<dyn Fn() -> SinceBoot + Send + Sync>;

/// The clock of this machine.
pub(crate) fn boot_clock() -> BootClock {
    Arc::new(|| {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
    })
}

/// What is known of the contact with the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Contact {
    /// When the server was last heard from for certain.
    pub(crate) heard: SinceBoot,
    /// When the lease is over; zero without one.
    pub(crate) lease_ends: SinceBoot,
}

/// The contact, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeptContact {
    /// The boot that the times count from.
    boot: String,
    contact: Contact,
}

impl KeptContact {
    pub(crate) fn new(boot: String, contact: Contact) -> Self {
        Self { boot, contact }
    }

    /// What it says in this boot. Without anything the server was heard from just now: who never
    /// was connected has lost nothing.
    pub(crate) fn read(kept: Option<Self>, boot: &str, now: SinceBoot) -> Contact {
        match kept.filter(|kept| kept.boot == boot) {
            Some(kept) => kept.contact,
            None => Contact {
                heard: now,
                lease_ends: Duration::ZERO,
            },
        }
    }
}

/// The heartbeats of one connection that wait for their answer.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    last: u64,
    sent: VecDeque<(u64, SinceBoot)>,
    /// Since when the agent works on what this server wants; before that it has no lease.
    assigned: Option<SinceBoot>,
}

impl Beats {
    /// A heartbeat is about to be sent. Returns its number.
    pub(crate) fn send(&mut self, now: SinceBoot) -> u64 {
        self.last += 1;
        if self.sent.len() == BEATS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.last, now));
        self.last
    }

    /// The agent works on the assignment of this server.
    pub(crate) fn assigned(&mut self, now: SinceBoot) {
        self.assigned.get_or_insert(now);
    }

    /// What the server's answer to a heartbeat means.
    pub(crate) fn renewed(&mut self, lease: &Lease, before: Contact) -> Contact {
        let sent = self.sent.iter().find(|(beat, _)| *beat == lease.beat);
        let Some((_, sent)) = sent.copied() else {
            return before;
        };
        self.sent.retain(|(beat, _)| *beat > lease.beat);
        let counts = self.assigned.is_some_and(|assigned| assigned <= sent);
        let ends = sent + Duration::from_millis(lease.lease_ms);
        Contact {
            heard: before.heard.max(sent),
            lease_ends: match counts {
                true => before.lease_ends.max(ends),
                false => before.lease_ends,
            },
        }
    }
}

/// What may run now of what is held, and when that is to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fenced {
    pub(crate) held: Option<Arc<Held>>,
    pub(crate) until: Option<SinceBoot>,
}

/// What may run now.
pub(crate) fn fence(held: Option<&Arc<Held>>, contact: &Contact, now: SinceBoot) -> Fenced {
    let Some(held) = held else {
        return Fenced {
            held: None,
            until: None,
        };
    };
    let ends = |assigned: &AssignedInstance| runs_until(assigned, contact);
    let is_over = |assigned: &AssignedInstance| ends(assigned).is_some_and(|end| end <= now);
    let instances = &held.assignment.instances;
    let until = instances.values().filter_map(ends).filter(|end| *end > now);
    let until = until.min();
    if !instances.values().any(is_over) {
        let held = Some(Arc::clone(held));
        return Fenced { held, until };
    }
    let mut fenced = Held::clone(held);
    fenced.assignment.instances = instances
        .iter()
        .filter(|(_, assigned)| !is_over(assigned))
        .map(|(id, assigned)| (id.clone(), assigned.clone()))
        .collect::<BTreeMap<_, _>>();
    Fenced {
        held: Some(Arc::new(fenced)),
        until,
    }
}

/// Until when an instance may run if nothing is heard from the server; `None`: for ever.
fn runs_until(assigned: &AssignedInstance, contact: &Contact) -> Option<SinceBoot> {
    let template = &assigned.template;
    #[cfg(feature = "mutants")]
    if windlass_api::mutants::Mutant::SkippedFence.is_on() {
        return None;
    }
    let lease = template.exclusive.then_some(contact.lease_ends);
    let silence = template
        .stop_after
        .map(|after| contact.heard + after.as_std());
    lease.into_iter().chain(silence).min()
}

/// Keeps what may run in step with what is held and with the contact to the server.
pub(crate) struct Fence {
    pub(crate) held: watch::Receiver<Option<Arc<Held>>>,
    pub(crate) contact: watch::Receiver<Contact>,
    pub(crate) clock: BootClock,
    pub(crate) boot: String,
    pub(crate) data: Arc<DataDir>,
    pub(crate) effective: watch::Sender<Option<Arc<Held>>>,
}

impl Fence {
    /// What may run at the start.
    pub(crate) fn first(
        held: Option<&Arc<Held>>,
        contact: &Contact,
        clock: &BootClock,
    ) -> watch::Sender<Option<Arc<Held>>> {
        watch::Sender::new(fence(held, contact, clock()).held)
    }

    /// Works until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let held = self.held.borrow_and_update().clone();
            let contact = *self.contact.borrow_and_update();
            let now = (self.clock)();
            let fenced = fence(held.as_ref(), &contact, now);
            self.tell(held.as_deref(), &fenced);
            if depends(held.as_deref()) {
                self.keep(contact).await;
            }
            let left = fenced.until.map(|until| until.saturating_sub(now));
            let look_at = Instant::now() + left.unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL);
            // Cancel-safe: what changed is read at the top.
            tokio::select! {
                () = shutdown.cancelled() => {}
                Ok(()) = self.held.changed() => {}
                Ok(()) = self.contact.changed() => {}
                () = sleep_until(look_at), if fenced.until.is_some() => {}
            }
        }
    }

    fn tell(&self, held: Option<&Held>, fenced: &Fenced) {
        let count = |held: Option<&Held>| held.map_or(0, |held| held.assignment.instances.len());
        let before = self.effective.borrow().clone();
        if before != fenced.held {
            let stopped = count(held) - count(fenced.held.as_deref());
            if stopped > 0 {
                tracing::warn!(
                    instances = stopped,
                    "instances are stopped since the server was not heard from for too long"
                );
            }
            publish(&self.effective, fenced.held.clone());
        }
    }

    /// Writes the contact down. That it survives a power cut is not needed: nothing runs after one.
    async fn keep(&self, contact: Contact) {
        let (data, boot) = (Arc::clone(&self.data), self.boot.clone());
        let kept = KeptContact::new(boot, contact);
        let written = spawn_blocking(move || data.write_contact(&kept)).await;
        if let Err(error) = written.expect("writing does not panic") {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the lease of the node cannot be written down");
        }
    }
}

/// Whether something that is held depends on the contact with the server.
pub(crate) fn depends(held: Option<&Held>) -> bool {
    let mut instances = held
        .into_iter()
        .flat_map(|h| h.assignment.instances.values());
    instances.any(|a| a.template.exclusive || a.template.stop_after.is_some())
}

#[cfg(test)]
mod tests;
