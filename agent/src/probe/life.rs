//! How one life of a container is, from one start to its end, as its probes see it. No I/O; the
//! time is passed in.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use windlass_api::{
    spec::{Probe, Probes},
    status::Readiness,
};

use super::{Health, Start, Verdict};
use track::{Next, Track};

mod track;

/// Over how long the first checks of containers that are seen at the same time are spread: all of
/// a node after a start of the agent. A check takes about a millisecond, so that 200 containers
/// come one after the other, and nobody waits long to be found ready.
const SPREAD_MAX: Duration = Duration::from_millis(200);

/// How long a reason stands until another one of the same failure takes its place: what a command
/// prints may differ each time, and every change goes through the server's store.
const REASON_STANDS: Duration = Duration::from_secs(10);

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// See [`Probes::startup`].
    Startup,
    /// See [`Probes::readiness`].
    Readiness,
    /// See [`Probes::liveness`].
    Liveness,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// The probe for it.
    pub(super) fn of(self, probes: &Probes) -> Option<&Probe> {
        match self {
            Self::Startup => probes.startup.as_ref(),
            Self::Readiness => probes.readiness.as_ref(),
            Self::Liveness => probes.liveness.as_ref(),
        }
    }

    /// The probe's name, for people.
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup probe",
            Self::Readiness => "readiness probe",
            Self::Liveness => "liveness probe",
        }
    }
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All is well.
    Passed,
    /// It is not, and this is what was seen.
    Failed(String),
    /// The check could not be made, for which the container is not to blame.
    Unknown,
}

/// One life of a container.
#[derive(Debug)]
pub(super) struct Life {
    stage: Stage,
    tracks: BTreeMap<Role, Track>,
    serving: Serving,
    /// Why it cannot serve, as it was told last.
    told: Option<Told>,
}

#[derive(Debug)]
enum Stage {
    /// Its startup probe has not passed yet; the others wait.
    Starting,
    /// It has started, or has no startup probe.
    Started,
    /// It is to be restarted. Nothing changes that: only its next life is another one.
    Doomed { reason: String },
}

/// Whether a readiness probe passed often enough in a row, and did not fail so since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Serving {
    /// It has not passed so often yet.
    NotYet,
    /// It has.
    Yes,
    /// It had, and then failed too often.
    NoLonger,
}

#[derive(Debug)]
struct Told {
    reason: String,
    at: Instant,
}

impl Life {
    /// A life that is `age` old. `seed` decides when within [`SPREAD_MAX`] its first checks are.
    /// `before` says how it was when an earlier agent looked after it, if it had started then.
    pub(super) fn new(
        probes: &Probes,
        age: Duration,
        seed: u32,
        before: Option<Serving>,
        now: Instant,
    ) -> Self {
        let mut tracks = BTreeMap::new();
        for role in Role::ALL {
            if let Some(probe) = role.of(probes) {
                tracks.insert(role, Track::new(probe, age, now));
            }
        }
        let stage = match before {
            None if tracks.contains_key(&Role::Startup) => Stage::Starting,
            None | Some(_) => Stage::Started,
        };
        let mut life = Self {
            stage,
            tracks,
            serving: before.unwrap_or(Serving::NotYet),
            told: None,
        };
        life.schedule(|track| track.ripe + spread(seed, track.interval));
        life
    }

    /// What the next agent is to know, if it has started.
    pub(super) fn started(&self) -> Option<Serving> {
        match self.stage {
            Stage::Started => Some(self.serving),
            Stage::Starting | Stage::Doomed { .. } => None,
        }
    }

    /// The checks that are due, each with its time.
    pub(super) fn due(&self) -> impl Iterator<Item = (Instant, Role)> {
        self.tracks.iter().filter_map(|(role, track)| {
            let Next::At(at) = track.next else {
                return None;
            };
            Some((at, *role))
        })
    }

    /// A check begins.
    pub(super) fn begin(&mut self, role: Role, now: Instant) {
        if let Some(track) = self.tracks.get_mut(&role) {
            track.next = Next::Begun(now);
        }
    }

    /// A check that was taken had to wait, and began only then.
    pub(super) fn began(&mut self, role: Role, at: Instant) {
        if let Some(track) = self.tracks.get_mut(&role)
            && matches!(track.next, Next::Begun(_))
        {
            track.next = Next::Begun(at);
        }
    }

    /// A check that began came to its end.
    pub(super) fn finish(&mut self, role: Role, outcome: Outcome, now: Instant) {
        let Some(track) = self.tracks.get_mut(&role) else {
            return;
        };
        let Next::Begun(begun) = track.next else {
            return;
        };
        track.add(outcome);
        let pace = match (role, self.serving) {
            (Role::Readiness, Serving::NotYet) => track.eager_pace(),
            (Role::Startup | Role::Readiness | Role::Liveness, _) => track.interval,
        };
        // Not before now, where a check takes longer than its interval.
        track.next = Next::At((begun + pace).max(now));
        self.judge(role, now);
    }

    /// How it is.
    pub(super) fn health(&self) -> Health {
        let not_ready = |reason: Option<&str>| Readiness::NotReady {
            reason: reason.map(str::to_owned),
        };
        let told = self.told.as_ref().map(|told| told.reason.as_str());
        let readiness = match &self.stage {
            Stage::Doomed { reason } => not_ready(Some(reason)),
            Stage::Starting => not_ready(told),
            Stage::Started if !self.tracks.contains_key(&Role::Readiness) => Readiness::Ready,
            Stage::Started => match self.serving {
                Serving::Yes => Readiness::Ready,
                Serving::NotYet | Serving::NoLonger => not_ready(told),
            },
        };
        let start = match &self.stage {
            // What is to be restarted will have to start again.
            Stage::Starting | Stage::Doomed { .. } => Start::Pending,
            Stage::Started => Start::Done,
        };
        let verdict = match &self.stage {
            Stage::Starting | Stage::Started => Verdict::Fine,
            Stage::Doomed { reason } => Verdict::Restart {
                reason: reason.clone(),
            },
        };
        Health {
            start,
            readiness,
            verdict,
        }
    }

    /// What follows from the latest check of a probe.
    fn judge(&mut self, role: Role, now: Instant) {
        let Some(track) = self.tracks.get(&role) else {
            return;
        };
        let exhausted = track.exhausted();
        match role {
            Role::Startup if track.passed() => {
                self.stage = Stage::Started;
                self.told = None;
                self.schedule(|track| track.ripe.max(now));
            }
            Role::Startup => self.tell(role, now),
            Role::Readiness => {
                if track.passed() {
                    self.serving = Serving::Yes;
                } else if exhausted.is_some() && self.serving == Serving::Yes {
                    self.serving = Serving::NoLonger;
                }
                self.tell(role, now);
            }
            Role::Liveness => {}
        }
        if let (Role::Startup | Role::Liveness, Some(reason)) = (role, exhausted) {
            self.stage = Stage::Doomed {
                reason: format!("{}: {reason}", role.name()),
            };
            self.schedule(|track| track.ripe);
        }
    }

    /// Says when the checks are due that are to be made at this stage; the others are not made.
    fn schedule(&mut self, first: impl Fn(&Track) -> Instant) {
        for (role, track) in &mut self.tracks {
            track.next = match (&self.stage, role) {
                (Stage::Starting, Role::Startup)
                | (Stage::Started, Role::Readiness | Role::Liveness) => Next::At(first(track)),
                (Stage::Starting, Role::Readiness | Role::Liveness)
                | (Stage::Started, Role::Startup)
                | (Stage::Doomed { .. }, _) => Next::Never,
            };
        }
    }

    /// Says why it cannot serve, from the probe that says so.
    fn tell(&mut self, role: Role, now: Instant) {
        if self.serving == Serving::Yes {
            self.told = None;
            return;
        }
        let stands = |told: &Told| now < told.at + REASON_STANDS;
        let Some(saw) = self.tracks.get(&role).and_then(Track::saw) else {
            return;
        };
        let reason = format!("{}: {saw}", role.name());
        if self.told.as_ref().is_none_or(|told| !stands(told)) {
            self.told = Some(Told { reason, at: now });
        }
    }
}

/// When within the spread the first check is: always the same for the same seed.
fn spread(seed: u32, interval: Duration) -> Duration {
    SPREAD_MAX.min(interval) * (seed % 1000) / 1000
}

#[cfg(test)]
mod tests;
