//! The slots of workloads: what runs in them really, and what the server knows of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Lab, recorder::Run, text};

/// A lease is 10 s long and was renewed up to 2 s before a link was cut, or 3 s on a machine that is
/// busy: no node may be lost earlier than this after that.
pub(crate) const NOT_LOST_BEFORE: Duration = Duration::from_secs(7);

/// How long a replacement may take to run at the most, from the moment that a link was cut. It is
/// to take no longer than 15 s where nothing else runs, which is told, not required: this machine may
/// be busy.
const REPLACED_WITHIN: Duration = Duration::from_secs(30);
/// How soon after a link was mended everything has to be as it should, on a machine that is busy. Its
/// agent may have to give up an attempt of 10 s before it connects.
pub(crate) const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// For how long nothing may happen after that.
pub(crate) const QUIET: Duration = Duration::from_secs(10);

/// Whether in every slot of these workloads, which are so many, one instance runs, the server sees
/// it so, and nothing is left of others.
pub(crate) fn are_whole(lab: &Lab, slots: &BTreeMap<&str, usize>) -> bool {
    let mut names = BTreeSet::new();
    for (workload, slots) in slots {
        let running = lab.recorder().running(workload);
        let filled: BTreeSet<u32> = running.iter().map(|run| run.slot).collect();
        if running.len() != *slots || filled.len() != *slots {
            return false;
        }
        names.extend(running.into_iter().map(|run| run.instance));
    }
    let known = lab.list("instances");
    let known: BTreeSet<String> = known.iter().map(|i| text(i, "/name")).collect();
    names == known && lab.recorder().containers() == slots.values().sum::<usize>()
}

/// The same, of `web`, which is everything that there is.
pub(crate) fn is_whole(lab: &Lab, replicas: usize) -> bool {
    are_whole(lab, &BTreeMap::from([("web", replicas)]))
}

/// How many run on other hosts than those.
pub(crate) fn runs_elsewhere(lab: &Lab, dark: &[&str]) -> usize {
    elsewhere(lab, dark).len()
}

fn elsewhere(lab: &Lab, dark: &[&str]) -> Vec<Run> {
    let mut runs = lab.recorder().running("web");
    runs.retain(|run| !dark.contains(&run.host.as_str()));
    runs
}

/// Waits until as many run elsewhere as ran on hosts that are dark now, which were cut off at
/// `cut`: not too early, and not too late.
pub(crate) fn replaced(lab: &Lab, dark: &[&str], cut: Duration) {
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
pub(crate) fn healed(lab: &Lab, replicas: usize) {
    let took = lab.within(HEALED_WITHIN, "one of each slot is left", |lab| {
        lab.all_connected() && is_whole(lab, replicas)
    });
    eprintln!("healed {:.1} s after the link was", took.as_secs_f64());
    let quiet = lab.recorder().mark();
    std::thread::sleep(QUIET);
    lab.untouched_since(quiet);
    assert!(is_whole(lab, replicas), "{}", lab.story());
}
