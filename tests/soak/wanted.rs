//! What a soak wants to run, and how it changes that.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    harness::{demo, engine::IMAGE},
    lab::{Lab, slots::are_whole},
};

/// How many copies of `web` there are at least, and how many numbers there are from there on.
const REPLICAS: std::ops::Range<u64> = 2..7;

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Wanted {
    hosts: usize,
    replicas: u64,
    /// The last revision of `web` that can run.
    message: u64,
    /// What has become of the last rollout of `web` in the end.
    rollout: &'static str,
}

impl Wanted {
    /// A service with some copies, which is changed.
    pub(crate) const WEB: &str = "web";
    /// An exclusive one.
    pub(crate) const SINGLE: &str = "single";
    /// One on each host.
    pub(crate) const EACH: &str = "each";
    pub(crate) const WORKLOADS: [&str; 3] = [Self::WEB, Self::SINGLE, Self::EACH];

    /// How long a rollout may take, and the way back where it fails: copies are replaced one by one.
    pub(crate) const ROLLED_OUT_WITHIN: Duration = Duration::from_secs(120);

    /// Lets all of it run.
    pub(crate) fn begin(lab: &Lab) -> Self {
        let wanted = Self {
            hosts: lab.hosts.len(),
            replicas: 4,
            message: 1,
            rollout: "Completed",
        };
        lab.apply(&demo(Self::SINGLE, "exclusive: true"));
        lab.apply(&demo(Self::EACH, "").replace("kind: Service", "kind: Daemon"));
        lab.apply(&wanted.web(""));
        wanted
    }

    fn message(&self) -> String {
        format!("message {}", self.message)
    }

    fn web(&self, environment: &str) -> String {
        let (replicas, message) = (self.replicas, self.message());
        let fields = format!(
            "replicas: {replicas}\n\
             env: {{ DEMO_MESSAGE: '{message}'{environment} }}\n\
             ports: [{{ name: http, container: 8080 }}]\n\
             probes: {{ readiness: {{ http: {{ port: http, path: /readyz }}, interval: 1s }} }}\n\
             update: {{ minReady: 1s, progressDeadline: 20s }}"
        );
        demo(Self::WEB, &fields)
    }

    pub(crate) fn roll_out(&mut self, lab: &Lab) {
        self.message += 1;
        self.rollout = "Completed";
        lab.apply_no_wait(&self.web(""));
    }

    /// To what ends at once, or is never there.
    pub(crate) fn roll_out_badly(&mut self, lab: &Lab, choice: u64) {
        self.rollout = "RolledBack";
        let bad = match choice % 2 {
            0 => self.web(&format!(
                ", DEMO_EXIT_AFTER: 300ms, DEMO_EXIT_CODE: '3', CHOICE: '{choice}'"
            )),
            _ => self
                .web("")
                .replace(IMAGE, &format!("windlass:none-{choice}")),
        };
        lab.apply_no_wait(&bad);
    }

    pub(crate) fn scale(&mut self, lab: &Lab, choice: u64) {
        let span = REPLICAS.end - REPLICAS.start - 1;
        // Another number than before.
        let step = 1 + choice % span;
        self.replicas = REPLICAS.start + (self.replicas - REPLICAS.start + step) % (span + 1);
        lab.ok(&["scale", Self::WEB, &self.replicas.to_string(), "--no-wait"]);
    }

    /// Whether all of it runs, once, and nothing else; everybody knows it so, and web is at its last
    /// good revision.
    pub(crate) fn is_there(&self, lab: &Lab) -> bool {
        let replicas = usize::try_from(self.replicas).expect("a few");
        let slots = BTreeMap::from([
            (Self::WEB, replicas),
            (Self::SINGLE, 1),
            (Self::EACH, self.hosts),
        ]);
        let settled = |workload: &&str| lab.workload(workload)["status"]["settled"] == true;
        Self::WORKLOADS.iter().all(settled) && are_whole(lab, &slots) && self.is_good(lab)
    }

    /// Whether the copies of `web` are those of the last good revision, as their programs say.
    fn is_good(&self, lab: &Lab) -> bool {
        let message = Some(self.message());
        let running = lab.recorder().running(Self::WEB);
        let state = &lab.workload(Self::WEB)["status"]["rollout"]["state"];
        state == self.rollout
            && running
                .iter()
                .all(|run| run.variable("DEMO_MESSAGE") == message)
    }
}
