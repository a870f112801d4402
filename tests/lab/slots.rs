//! The slots of the workload `web`: what runs in them really, and what the server knows of it.

use std::{collections::BTreeSet, time::Duration};

use super::{links::NOT_LOST_BEFORE, recorder::Run};
use crate::Lab;

/// How long a replacement may take to run at the most, from the moment that a link was cut. It is
/// to take no longer than 15 s where nothing else runs, which is told, not required: this machine may
/// be busy.
const REPLACED_WITHIN: Duration = Duration::from_secs(30);
/// How soon after a link was mended everything has to be as it should, on a machine that is busy. Its
/// agent may have to give up an attempt of 10 s before it connects.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// For how long nothing may happen after that.
const QUIET: Duration = Duration::from_secs(10);

/// Whether in every slot one instance runs, the server sees it so, and nothing is left of others.
pub(super) fn is_whole(lab: &Lab, replicas: usize) -> bool {
    let running = lab.recorder().running("web");
    let slots: BTreeSet<u32> = running.iter().map(|run| run.slot).collect();
    let names: BTreeSet<String> = running.iter().map(|run| run.instance.clone()).collect();
    let known = lab.instances("web");
    let known: BTreeSet<String> = known.iter().map(|i| crate::text(i, "/name")).collect();
    running.len() == replicas
        && slots.len() == replicas
        && names == known
        && lab.list("instances").len() == replicas
        && lab.recorder().containers() == replicas
}

/// How many run on other hosts than those.
pub(super) fn runs_elsewhere(lab: &Lab, dark: &[&str]) -> usize {
    elsewhere(lab, dark).len()
}

fn elsewhere(lab: &Lab, dark: &[&str]) -> Vec<Run> {
    let mut runs = lab.recorder().running("web");
    runs.retain(|run| !dark.contains(&run.host.as_str()));
    runs
}

/// Waits until as many run elsewhere as ran on hosts that are dark now, which were cut off at
/// `cut`: not too early, and not too late.
pub(super) fn replaced(lab: &Lab, dark: &[&str], cut: Duration) {
    let wanted = lab.recorder().running("web").len();
    lab.eventually("what is lost is replaced", |lab| {
        runs_elsewhere(lab, dark) == wanted
    });
    let new = elsewhere(lab, dark).into_iter().map(|run| run.from);
    for from in new.filter(|from| *from > cut) {
        let after = from - cut;
        eprintln!("replaced {:.1} s after the cut", after.as_secs_f64());
        assert!(
            (NOT_LOST_BEFORE..REPLACED_WITHIN).contains(&after),
            "replaced after {after:?}\n{}",
            lab.story()
        );
    }
}

/// Waits until everything is whole, and checks that it stays so without anybody touching anything.
pub(super) fn healed(lab: &Lab, replicas: usize) {
    let took = lab.within(HEALED_WITHIN, "one of each slot is left", |lab| {
        lab.all_connected() && is_whole(lab, replicas)
    });
    eprintln!("healed {:.1} s after the link was", took.as_secs_f64());
    let quiet = lab.recorder().mark();
    std::thread::sleep(QUIET);
    lab.untouched_since(quiet);
    assert!(is_whole(lab, replicas), "{}", lab.story());
}
