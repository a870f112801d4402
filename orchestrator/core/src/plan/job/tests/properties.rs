use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Deed {
    /// Change what may be changed of a job.
    Change {
        job: usize,
        parallelism: u32,
    },
    Sync(u32),
    Lose(u32),
    /// One of the instances ends.
    Finish {
        pick: usize,
        code: i64,
    },
    /// An agent restarts one of the instances.
    Restart {
        pick: usize,
    },
    Wait(i64),
    /// The clock is put back.
    PutBack(i64),
}

const NODES: u32 = 3;
const NAMES: [&str; 2] = ["load", "sync"];

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        1 => (0..2_usize, 1..4_u32).prop_map(|(job, parallelism)| Deed::Change { job, parallelism }),
        6 => (1..=NODES).prop_map(Deed::Sync),
        2 => (1..=NODES).prop_map(Deed::Lose),
        6 => (0..12_usize, prop_oneof![Just(0_i64), Just(0), Just(3)])
            .prop_map(|(pick, code)| Deed::Finish { pick, code }),
        1 => (0..12_usize).prop_map(|pick| Deed::Restart { pick }),
        3 => (1..40_i64).prop_map(Deed::Wait),
        1 => (1..4_000_i64).prop_map(Deed::PutBack),
    ]
}

/// A job's own numbers.
fn spec() -> impl Strategy<Value = Value> {
    let per_index = proptest::option::of(0..3_u32);
    (
        1..6_u32,
        1..4_u32,
        0..6_u32,
        per_index,
        proptest::option::of(60..600_u32),
    )
        .prop_map(|(completions, parallelism, limit, per_index, deadline)| {
            let mut spec = json!({
                "completions": completions,
                "parallelism": parallelism,
                "backoffLimit": limit,
            });
            if let Some(per_index) = per_index {
                spec["backoffLimitPerIndex"] = json!(per_index);
            }
            if let Some(deadline) = deadline {
                spec["activeDeadline"] = json!(format!("{deadline}s"));
            }
            spec
        })
}

impl Works {
    fn pick(&self, pick: usize) -> Option<InstanceId> {
        self.containers.keys().nth(pick).cloned()
    }

    fn do_deed(&mut self, specs: &mut [Value; 2], deed: &Deed) {
        match deed {
            Deed::Change { job, parallelism } => {
                specs[*job]["parallelism"] = json!(parallelism);
                self.job(NAMES[*job], specs[*job].clone());
            }
            Deed::Sync(n) => self.sync(*n),
            Deed::Lose(n) => self.lose(*n),
            Deed::Finish { pick, code } => {
                if let Some(id) = self.pick(*pick) {
                    self.finish(&id, *code);
                }
            }
            Deed::Restart { pick } => {
                let id = self.pick(*pick);
                let container = id.and_then(|id| self.containers.get_mut(&id));
                if let Some((_, status)) = container.filter(|(_, s)| s.phase.is_running()) {
                    status.restarts += 1;
                }
            }
            Deed::Wait(seconds) => self.wait(*seconds),
            Deed::PutBack(seconds) => self.wait(-*seconds),
        }
    }

    /// How many containers of a job run, whatever the server knows.
    fn running(&self, name: &str) -> usize {
        let of_it = |id: &InstanceId| {
            let instance = self.world.cluster.instances.get(id);
            instance.is_some_and(|i| i.workload == key(name))
        };
        let running = self
            .containers
            .iter()
            .filter(|(_, (_, s))| s.phase.is_running());
        running.filter(|(id, _)| of_it(id)).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// `World` checks after every deed: completions and parallelism are
    /// never exceeded, an index never completes twice, a second pass finds nothing, and reloading
    /// the state changes nothing. When nothing fails any more, every job ends.
    #[test]
    fn whatever_happens_every_job_ends_within_its_bounds(
        mut specs in [spec(), spec()],
        deeds in proptest::collection::vec(deed(), 1..60),
    ) {
        let mut works = Works::new(NODES);
        for (name, spec) in NAMES.iter().zip(&specs) {
            works.job(name, spec.clone());
        }
        for deed in &deeds {
            works.do_deed(&mut specs, deed);
        }
        for _ in 0..60 {
            if NAMES.iter().all(|name| works.status(name).settled) {
                break;
            }
            NAMES.iter().for_each(|name| works.finish_all(name, 0));
            works.wait(60);
        }
        works.sync_all();
        for name in NAMES {
            let status = works.status(name);
            prop_assert!(status.settled, "{status:?}");
            prop_assert_eq!(works.live(name).len(), 0);
            let job = status.job.unwrap();
            if let JobState::Completed { .. } = job.state {
                prop_assert_eq!(job.succeeded, job.completions);
            }
        }
        let stopping = works.world.cluster.instances.values().filter(|i| i.goal == Goal::Stop);
        prop_assert_eq!(stopping.count(), 0);
    }

    /// As long as no node is out of sight, no more containers than allowed run at any moment.
    #[test]
    fn no_more_run_than_may_run_together(
        spec in spec(),
        deeds in proptest::collection::vec(deed(), 1..60),
    ) {
        let mut works = Works::new(NODES);
        let parallelism = spec["parallelism"].as_u64().unwrap();
        works.job("load", spec.clone());
        let mut specs = [spec.clone(), spec];
        for deed in &deeds {
            if !matches!(deed, Deed::Lose(_) | Deed::Change { .. }) {
                works.do_deed(&mut specs, deed);
            }
            prop_assert!(works.running("load") as u64 <= parallelism);
        }
    }
}
