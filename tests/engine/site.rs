//! What the tests begin with: a server, an agent, and an engine on which something runs that has
//! nothing to do with what goes wrong.

use serde_json::Value;

use super::{
    call::Call,
    fake::{FakeEngine, started},
};
use crate::harness::{Cluster, Docker, demo};

/// A cluster on a pretended engine, where the service `kept` runs.
pub(crate) struct Site {
    /// First, so that its agent is gone before its engine is.
    pub(crate) cluster: Cluster,
    pub(crate) engine: FakeEngine,
    kept: Kept,
    transitions: Vec<Value>,
}

/// What must stay as it is.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    deeds: Vec<String>,
    started: Option<jiff::Timestamp>,
}

impl Site {
    pub(crate) fn start() -> Self {
        let engine = FakeEngine::start();
        let cluster = Cluster::start_with(1, Docker::Pretended(engine.address()));
        cluster.apply(&demo("kept", ""));
        let kept = Kept::of(&engine);
        assert_eq!(kept.deeds, ["create kept-0-1", "start kept-0-1"]);
        let transitions = transitions(&cluster);
        Self {
            cluster,
            engine,
            kept,
            transitions,
        }
    }

    /// Waits until a workload is as it should be.
    pub(crate) fn settle(&self, workload: &str) {
        let cluster = &self.cluster;
        cluster.ok(&["wait", workload, "--for", "settled", "--timeout", "3m"]);
    }

    /// The status of the first instance of a workload; nothing, while there is none.
    pub(crate) fn status(&self, workload: &str) -> Value {
        let instances = self.cluster.instances(workload);
        instances
            .first()
            .map_or(Value::Null, |i| i["status"].clone())
    }

    /// Waits until a workload waits to be tried again, and returns why.
    pub(crate) fn reason(&self, workload: &str) -> String {
        let backs_off = |site: &Cluster| {
            let instances = site.instances(workload);
            instances.first().map(|i| i["status"]["phase"].clone()) == Some("BackingOff".into())
        };
        self.cluster
            .eventually("it waits to be tried again", backs_off);
        let status = self.status(workload);
        status["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// The status of the node.
    pub(crate) fn node(&self) -> Value {
        let nodes = self.cluster.list("nodes");
        nodes.first().map_or(Value::Null, |n| n["status"].clone())
    }

    /// Waits until the node is in this state, and returns its status.
    pub(crate) fn until_node_is(&self, state: &str) -> Value {
        let is = |cluster: &Cluster| {
            let nodes = cluster.list("nodes");
            nodes.first().is_some_and(|n| n["status"]["state"] == state)
        };
        self.cluster.eventually(&format!("the node is {state}"), is);
        self.node()
    }

    /// Waits until a kind of call came this often after now.
    pub(crate) fn until_called(&self, call: Call, times: usize) {
        let before = self.engine.count(call);
        self.engine
            .eventually(&format!("{call:?} came {times} times"), |engine| {
                engine.count(call) >= before + times
            });
    }

    /// What was done since the beginning, when all is at rest; without `kept`, which must be as it
    /// was.
    pub(crate) fn deeds(&self) -> Vec<String> {
        let deeds = self.engine.deeds_at_rest();
        assert_eq!(
            Kept::of(&self.engine),
            self.kept,
            "it is touched by nothing"
        );
        deeds.into_iter().filter(|deed| !Kept::has(deed)).collect()
    }

    /// What [`Self::deeds`] says, of a node that was ready all the time.
    pub(crate) fn deeds_of_ready_node(&self) -> Vec<String> {
        let deeds = self.deeds();
        let now = transitions(&self.cluster);
        assert_eq!(now, self.transitions, "the node was ready all the time");
        deeds
    }
}

/// The events about nodes, of which each change of a state is one.
fn transitions(cluster: &Cluster) -> Vec<Value> {
    let mut events = cluster.list("events");
    events.retain(|event| event["subject"]["kind"] == "Node");
    events
}

impl Kept {
    fn of(engine: &FakeEngine) -> Self {
        let deeds = engine.deeds().into_iter().filter(|deed| Self::has(deed));
        Self {
            deeds: deeds.collect(),
            started: started(&engine.container_of("kept-0-1")),
        }
    }

    fn has(deed: &str) -> bool {
        deed.ends_with(" kept-0-1")
    }
}
