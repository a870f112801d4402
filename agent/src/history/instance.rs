//! What is remembered of an instance as a whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Halt, History};
use crate::runtime::{Container, ContainerState, Part};

/// What is remembered of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct InstanceHistory {
    /// What is remembered of each of its containers.
    parts: BTreeMap<Part, History>,
    /// When the pause container was started in whose network the others are.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Timestamp>,
    /// The last lines of the container that failed last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    last_log: Vec<String>,
}

impl InstanceHistory {
    /// What is remembered of a container.
    pub(crate) fn part(&self, part: &Part) -> Option<&History> {
        self.parts.get(part)
    }

    /// The same, to be changed.
    pub(crate) fn part_mut(&mut self, part: &Part) -> &mut History {
        self.parts.entry(part.clone()).or_default()
    }

    /// The last lines of the container that failed last.
    pub(crate) fn last_log(&self) -> &[String] {
        &self.last_log
    }

    /// They are there.
    pub(crate) fn log_read(&mut self, lines: Vec<String>) {
        self.last_log = lines;
    }

    /// The pause container was seen, or that there is none, beside the `others`. Notes which of
    /// their runs have lost the network that it held.
    pub(crate) fn observe_network(&mut self, pause: Option<&Container>, others: &[&Container]) {
        let running_since = match pause.map(|pause| &pause.state) {
            Some(ContainerState::Running { started_at }) => Some(*started_at),
            // Stopped by us, after the others were.
            Some(ContainerState::Exited { started_at, .. })
                if self.part(&Part::Pause).and_then(|p| p.halt_of(*started_at))
                    == Some(&Halt::Over) =>
            {
                return;
            }
            Some(
                ContainerState::Exited { .. } | ContainerState::Created | ContainerState::Removing,
            )
            | None => None,
        };
        let lost = match (running_since, self.network) {
            (Some(since), Some(known)) => since != known,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if lost {
            for (part, run) in others.iter().filter_map(|c| Some((&c.part, c.run()?))) {
                // What was started after the new one is in its network: an agent may have been
                // killed before it could write down that there is a new one.
                if running_since.is_none_or(|since| run < since) {
                    self.part_mut(part).cut_off(run);
                }
            }
        }
        self.network = running_since;
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use windlass_api::status::Exit;

    use super::*;
    use crate::testing::seen;

    const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn at(secs: i64) -> Timestamp {
        START + SignedDuration::from_secs(secs)
    }

    fn running(part: &str, secs: i64) -> Container {
        let started_at = at(secs);
        Container {
            part: part.parse().unwrap(),
            ..seen("web-0-1", part, ContainerState::Running { started_at })
        }
    }

    fn exited(part: &str, secs: i64) -> Container {
        let exit = Exit {
            code: 137,
            oom_killed: false,
            reason: None,
            finished_at: at(secs + 1),
        };
        let state = ContainerState::Exited {
            started_at: at(secs),
            exit,
        };
        Container {
            state,
            ..running(part, secs)
        }
    }

    fn is_cut_off(history: &InstanceHistory, secs: i64) -> bool {
        let main = history.part(&Part::only());
        main.is_some_and(|main| main.is_cut_off(at(secs)))
    }

    #[test]
    fn what_runs_when_the_network_goes_has_lost_it() {
        let mut history = InstanceHistory::default();
        let (pause, main) = (running("_pause", 0), running("main", 1));
        history.observe_network(Some(&pause), &[&main]);
        assert!(!is_cut_off(&history, 1));
        history.observe_network(Some(&exited("_pause", 0)), &[&main]);
        assert!(is_cut_off(&history, 1));
        // Its next run is in the new network.
        history.observe_network(Some(&running("_pause", 9)), &[&running("main", 10)]);
        assert!(!is_cut_off(&history, 10));
    }

    #[test]
    fn a_network_that_was_replaced_between_two_looks_is_lost() {
        let mut history = InstanceHistory::default();
        let main = running("main", 1);
        history.observe_network(Some(&running("_pause", 0)), &[&main]);
        history.observe_network(Some(&running("_pause", 5)), &[&main]);
        assert!(is_cut_off(&history, 1));
    }

    #[test]
    fn an_agent_that_forgot_cuts_nothing_off() {
        let mut history = InstanceHistory::default();
        history.observe_network(Some(&running("_pause", 5)), &[&running("main", 1)]);
        assert!(!is_cut_off(&history, 1));
        // Nor one that remembers a network from before what it did last.
        let mut history = InstanceHistory::default();
        history.observe_network(Some(&running("_pause", 0)), &[&running("main", 1)]);
        history.observe_network(Some(&running("_pause", 5)), &[&running("main", 6)]);
        assert!(!is_cut_off(&history, 6));
    }

    #[test]
    fn a_pause_container_that_we_stopped_at_the_end_was_not_lost() {
        let mut history = InstanceHistory::default();
        let main = exited("main", 1);
        history.observe_network(Some(&running("_pause", 0)), &[&main]);
        history.part_mut(&Part::Pause).halt(at(0), Halt::Over);
        history.observe_network(Some(&exited("_pause", 0)), &[&main]);
        assert!(!is_cut_off(&history, 1));
    }
}
