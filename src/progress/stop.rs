//! Says why a workload goes no further by itself, and what to do about it.

use windlass_api::{
    client::Client,
    ids::WorkloadKey,
    resource::{Instance, Workload},
};

use super::{
    Scene, Target, Until,
    standing::{self, Stop},
};
use crate::{
    error::{Exit, Failure},
    output::{self, state::first_line},
    trouble,
};

/// The failure of what was waited for, if anything of it goes no further.
pub(super) async fn failure(
    client: &Client,
    targets: &[Target],
    until: Until,
    scene: &Scene<'_>,
) -> Option<Failure> {
    let stopped: Vec<(&Workload, Stop<'_>)> = targets
        .iter()
        .filter_map(|target| scene.workload(target))
        .filter_map(|workload| Some((workload, standing::stop_of(workload, until)?)))
        .collect();
    let (first, rest) = stopped.split_first()?;
    let mut notes = explain(client, first, scene).await;
    for other in rest {
        notes.push(headline(other));
        notes.extend(explain(client, other, scene).await);
    }
    let failure = Failure::new(Exit::Failed, headline(first)).notes(notes);
    Some(failure.hint(hint(first)))
}

fn headline((workload, stop): &(&Workload, Stop<'_>)) -> String {
    let key = workload.manifest.key();
    match stop {
        Stop::RolledBack { reason } => {
            let revision = workload.status.revision;
            let reason = first_line(reason);
            format!("the update of {key} was rolled back to revision {revision}: {reason}")
        }
        Stop::Paused { reason } => {
            format!("the update of {key} is paused: {}", first_line(reason))
        }
        Stop::JobFailed { reason } => format!("job {key} failed: {}", first_line(reason)),
    }
}

/// What to do about it. A name with its namespace is taken by every command.
fn hint((workload, stop): &(&Workload, Stop<'_>)) -> String {
    let key = workload.manifest.key();
    match stop {
        Stop::RolledBack { .. } => format!(
            "mend the manifest and apply it again, or try the same once more with `windlass \
             rollout restart {key}`"
        ),
        Stop::Paused { .. } => format!(
            "go on with `windlass rollout resume {key}`, or back with `windlass rollout abort {key}`"
        ),
        Stop::JobFailed { .. } => format!(
            "see `windlass describe workload {key}`, or run it once more with `windlass job run \
             {key}`"
        ),
    }
}

/// What to do about what is not there in time. Nothing was undone.
pub(super) fn what_to_do_late(key: &WorkloadKey, workload: Option<&Workload>) -> String {
    let rollout = workload.and_then(|w| w.status.rollout.as_ref());
    match rollout.filter(|r| r.failure.is_some()) {
        Some(rollout) if rollout.from.is_some() => format!(
            "it is tried on: mend the manifest and apply it again, or go back with `windlass \
             rollout abort {key}`"
        ),
        Some(_) => format!(
            "it is tried on, since there is nothing to go back to: mend the manifest and apply it \
             again, or take it away with `windlass delete {key}`"
        ),
        None => format!(
            "nothing was undone; see `windlass describe workload {key}`, or wait longer with \
             --timeout"
        ),
    }
}

/// The last lines of the log: as the reason has them, or else of an instance that is in trouble.
async fn explain(
    client: &Client,
    (workload, stop): &(&Workload, Stop<'_>),
    scene: &Scene<'_>,
) -> Vec<String> {
    let (Stop::RolledBack { reason } | Stop::Paused { reason } | Stop::JobFailed { reason }) = stop;
    let log = output::quoted_log(reason);
    if !log.is_empty() {
        return log;
    }
    let instances: Vec<&Instance> = scene.instances_of(&workload.manifest.key());
    let troubles = trouble::look(client, instances.into_iter()).await;
    troubles.iter().flat_map(trouble::Trouble::lines).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use windlass_api::ids::RevisionNumber;

    use super::*;
    use crate::fixtures::{self, NOW};

    #[test]
    fn each_stop_says_what_to_do() {
        let mut workload = fixtures::workload("web", 3, 3);
        let state = json!({ "state": "RolledBack", "reason": "exit code 1\ncannot open /data" });
        workload.status.rollout = Some(fixtures::rollout(state));
        let told = |workload: &Workload| {
            let stop = standing::stop_of(workload, Until::Done).unwrap();
            (headline(&(workload, stop)), hint(&(workload, stop)))
        };
        let (headline, hint) = told(&workload);
        assert_eq!(
            headline,
            "the update of default/web was rolled back to revision 1: exit code 1"
        );
        assert!(
            hint.contains("`windlass rollout restart default/web`"),
            "{hint}"
        );

        let state = json!({ "state": "Paused", "reason": "asked for" });
        workload.status.rollout = Some(fixtures::rollout(state));
        let (headline, hint) = told(&workload);
        assert_eq!(headline, "the update of default/web is paused: asked for");
        assert!(hint.contains("rollout resume default/web"), "{hint}");

        let late = |workload: &Workload| what_to_do_late(&workload.manifest.key(), Some(workload));
        let state = json!({ "state": "Progressing" });
        workload.status.rollout = Some(fixtures::rollout(state));
        assert!(late(&workload).contains("with --timeout"));
        let state = json!({ "state": "Canary", "failure": "exit code 1" });
        let rollout = workload.status.rollout.insert(fixtures::rollout(state));
        rollout.from = None;
        assert!(late(&workload).contains("`windlass delete default/web`"));
        workload.status.rollout.as_mut().unwrap().from = Some(RevisionNumber(1));
        assert!(late(&workload).contains("`windlass rollout abort default/web`"));

        let state = json!({ "state": "Failed", "finishedAt": NOW, "reason": "exit code 3" });
        let (headline, hint) = told(&fixtures::job("load", state));
        assert_eq!(headline, "job default/load failed: exit code 3");
        assert!(hint.contains("job run default/load"), "{hint}");
    }
}
