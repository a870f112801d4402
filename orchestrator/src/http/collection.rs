//! The kinds of objects that can be listed and watched.

use std::{
    collections::BTreeSet,
    fmt::Display,
    ops::Bound::{self, Excluded, Unbounded},
    str::FromStr,
};

use schemars::JsonSchema;
use serde::Serialize;
use windlass_api::{
    event::{Event, EventId, Severity, Subject},
    ids::{InstanceId, Namespace, NodeName, WorkloadKey},
    resource::{Goal, Instance, Node, Workload},
};
use windlass_core::{cluster::Cluster, record::Change, view};

use crate::history::Commit;

/// A kind of objects that can be listed and watched.
pub(super) trait Collection: Send + Sync + 'static {
    /// What the objects are sorted by, and pages go on after.
    type Key: Clone + Ord + Display + FromStr + Send + Sync;
    /// An object as it is shown.
    type Object: Serialize + PartialEq + JsonSchema + Send;
    /// What field selectors can ask for.
    const FIELDS: &'static [&'static str];

    /// The keys after `after`, in order.
    fn keys<'a>(
        cluster: &'a Cluster,
        after: Option<&Self::Key>,
    ) -> impl Iterator<Item = &'a Self::Key>;
    /// The object with this key.
    fn get(cluster: &Cluster, key: &Self::Key) -> Option<Self::Object>;
    /// The namespace of an existing object, if it has one.
    fn namespace<'a>(cluster: &'a Cluster, key: &'a Self::Key) -> Option<&'a Namespace>;
    /// The full name by which a watch tells that an object is gone.
    fn name(object: &Self::Object) -> String;
    /// The value of a label.
    fn label<'a>(object: &'a Self::Object, key: &str) -> Option<&'a str>;
    /// The value of one of [`Collection::FIELDS`].
    fn field<'a>(object: &'a Self::Object, key: &str) -> Option<&'a str>;
    /// The objects that a commit may have changed, also through what they are made from.
    fn touched(commit: &Commit) -> BTreeSet<Self::Key>;
}

fn beyond<K>(after: Option<&K>) -> (Bound<&K>, Bound<&K>) {
    (after.map_or(Unbounded, Excluded), Unbounded)
}

/// The states on both sides of a commit, since what a change is about may be in either only.
fn sides(commit: &Commit) -> [&Cluster; 2] {
    [&commit.before, &commit.after]
}

/// What a change is about, as far as the API shows it.
enum About<'a> {
    /// What a user wrote, and what follows from it for each of its instances.
    Workload(&'a WorkloadKey),
    /// How far a job or a schedule is.
    Progress(&'a WorkloadKey),
    Instance(&'a InstanceId),
    Node(&'a NodeName),
    Assignment(&'a NodeName),
    Event(EventId),
    /// What no collection shows.
    Nothing,
}

impl<'a> About<'a> {
    fn of(change: &'a Change) -> Self {
        match change {
            Change::Workload(key, _) => Self::Workload(key),
            Change::Job(key, _) | Change::Schedule(key, _) => Self::Progress(key),
            Change::Index(key, _) => Self::Progress(&key.job),
            Change::Instance(id, _) => Self::Instance(id),
            Change::Node(name, _) => Self::Node(name),
            Change::Assignment(name, _) => Self::Assignment(name),
            Change::Event(id, _) => Self::Event(*id),
            Change::Cluster(_)
            | Change::Revision(..)
            | Change::Images(..)
            | Change::Token(..)
            | Change::Admission(..)
            | Change::Idempotency(..) => Self::Nothing,
        }
    }
}

/// The workloads.
#[derive(Debug)]
pub(super) struct Workloads;

impl Collection for Workloads {
    type Key = WorkloadKey;
    type Object = Workload;
    const FIELDS: &'static [&'static str] = &["kind", "name", "namespace", "settled"];

    fn keys<'a>(
        cluster: &'a Cluster,
        after: Option<&WorkloadKey>,
    ) -> impl Iterator<Item = &'a WorkloadKey> {
        cluster
            .workloads
            .range::<_, WorkloadKey>(beyond(after))
            .map(|(key, _)| key)
    }

    fn get(cluster: &Cluster, key: &WorkloadKey) -> Option<Workload> {
        view::find_workload(cluster, key)
    }

    fn namespace<'a>(_: &'a Cluster, key: &'a WorkloadKey) -> Option<&'a Namespace> {
        Some(&key.namespace)
    }

    fn name(object: &Workload) -> String {
        object.manifest.key().to_string()
    }

    fn label<'a>(object: &'a Workload, key: &str) -> Option<&'a str> {
        object
            .manifest
            .labels
            .get(key)
            .map(|value| value.0.as_str())
    }

    fn field<'a>(object: &'a Workload, key: &str) -> Option<&'a str> {
        Some(match key {
            "kind" => object.manifest.kind.name(),
            "name" => object.manifest.name.as_str(),
            "namespace" => object.manifest.namespace.as_str(),
            "settled" if object.status.settled => "true",
            "settled" => "false",
            _ => return None,
        })
    }

    fn touched(commit: &Commit) -> BTreeSet<WorkloadKey> {
        let mut keys = BTreeSet::new();
        for change in &commit.changes {
            match About::of(change) {
                // What a schedule has made shows in its status.
                About::Workload(key) | About::Progress(key) => {
                    let records = sides(commit).map(|cluster| cluster.workloads.get(key));
                    keys.extend(records.into_iter().flatten().filter_map(|w| w.owner()));
                    keys.insert(key.clone());
                }
                About::Instance(id) => {
                    let records = sides(commit).map(|cluster| cluster.instances.get(id));
                    keys.extend(records.into_iter().flatten().map(|i| i.workload.clone()));
                }
                // Whether a node is lost shows in the status of what runs there.
                About::Node(name) => {
                    for cluster in sides(commit) {
                        keys.extend(cluster.instances_on(name).map(|i| i.workload.clone()));
                    }
                }
                About::Assignment(_) | About::Event(_) | About::Nothing => {}
            }
        }
        keys
    }
}

/// The instances.
#[derive(Debug)]
pub(super) struct Instances;

impl Collection for Instances {
    type Key = InstanceId;
    type Object = Instance;
    const FIELDS: &'static [&'static str] =
        &["name", "namespace", "workload", "node", "phase", "goal"];

    fn keys<'a>(
        cluster: &'a Cluster,
        after: Option<&InstanceId>,
    ) -> impl Iterator<Item = &'a InstanceId> {
        cluster
            .instances
            .range::<_, InstanceId>(beyond(after))
            .map(|(key, _)| key)
    }

    fn get(cluster: &Cluster, key: &InstanceId) -> Option<Instance> {
        cluster
            .instances
            .get(key)
            .map(|record| view::instance(cluster, record))
    }

    fn namespace<'a>(cluster: &'a Cluster, key: &'a InstanceId) -> Option<&'a Namespace> {
        cluster
            .instances
            .get(key)
            .map(|record| &record.workload.namespace)
    }

    fn name(object: &Instance) -> String {
        format!("{}/{}", object.namespace, object.name)
    }

    fn label<'a>(object: &'a Instance, key: &str) -> Option<&'a str> {
        object.labels.get(key).map(|value| value.0.as_str())
    }

    fn field<'a>(object: &'a Instance, key: &str) -> Option<&'a str> {
        match key {
            "name" => Some(object.name.as_str()),
            "namespace" => Some(object.namespace.as_str()),
            "workload" => Some(object.workload.as_str()),
            "node" => object.node.as_ref().map(NodeName::as_str),
            "phase" => Some(object.status.phase.name()),
            "goal" => Some(match object.goal {
                Goal::Prepare => "Prepare",
                Goal::Run => "Run",
                Goal::Stop => "Stop",
            }),
            _ => None,
        }
    }

    fn touched(commit: &Commit) -> BTreeSet<InstanceId> {
        let mut ids = BTreeSet::new();
        for change in &commit.changes {
            match About::of(change) {
                About::Instance(id) => {
                    ids.insert(id.clone());
                }
                // Its labels are the workload's.
                About::Workload(key) => {
                    for cluster in sides(commit) {
                        ids.extend(cluster.instances_of(key).map(|i| i.id.clone()));
                    }
                }
                About::Node(name) => {
                    for cluster in sides(commit) {
                        ids.extend(cluster.instances_on(name).map(|i| i.id.clone()));
                    }
                }
                About::Progress(_) | About::Assignment(_) | About::Event(_) | About::Nothing => {}
            }
        }
        ids
    }
}

/// The nodes.
#[derive(Debug)]
pub(super) struct Nodes;

impl Collection for Nodes {
    type Key = NodeName;
    type Object = Node;
    const FIELDS: &'static [&'static str] = &["name", "state", "scheduling"];

    fn keys<'a>(
        cluster: &'a Cluster,
        after: Option<&NodeName>,
    ) -> impl Iterator<Item = &'a NodeName> {
        cluster
            .nodes
            .range::<_, NodeName>(beyond(after))
            .map(|(key, _)| key)
    }

    fn get(cluster: &Cluster, key: &NodeName) -> Option<Node> {
        cluster
            .nodes
            .get(key)
            .map(|record| view::node(cluster, record))
    }

    fn namespace<'a>(_: &'a Cluster, _: &'a NodeName) -> Option<&'a Namespace> {
        None
    }

    fn name(object: &Node) -> String {
        object.name.to_string()
    }

    fn label<'a>(object: &'a Node, key: &str) -> Option<&'a str> {
        object.labels.get(key).map(String::as_str)
    }

    fn field<'a>(object: &'a Node, key: &str) -> Option<&'a str> {
        match key {
            "name" => Some(object.name.as_str()),
            "state" => Some(object.status.state.name()),
            "scheduling" => Some(object.scheduling.name()),
            _ => None,
        }
    }

    fn touched(commit: &Commit) -> BTreeSet<NodeName> {
        let mut names = BTreeSet::new();
        for change in &commit.changes {
            match About::of(change) {
                About::Node(name) | About::Assignment(name) => {
                    names.insert(name.clone());
                }
                // It uses some of the node's capacity, or did.
                About::Instance(id) => {
                    let records = sides(commit).map(|cluster| cluster.instances.get(id));
                    names.extend(records.into_iter().flatten().filter_map(|i| i.node.clone()));
                }
                About::Workload(_) | About::Progress(_) | About::Event(_) | About::Nothing => {}
            }
        }
        names
    }
}

/// The events.
#[derive(Debug)]
pub(super) struct Events;

impl Collection for Events {
    type Key = EventId;
    type Object = Event;
    const FIELDS: &'static [&'static str] = &[
        "kind",
        "name",
        "namespace",
        "workload",
        "severity",
        "reason",
    ];

    fn keys<'a>(
        cluster: &'a Cluster,
        after: Option<&EventId>,
    ) -> impl Iterator<Item = &'a EventId> {
        cluster
            .events
            .range::<_, EventId>(beyond(after))
            .map(|(key, _)| key)
    }

    fn get(cluster: &Cluster, key: &EventId) -> Option<Event> {
        cluster.events.get(key).map(|event| Event::clone(event))
    }

    fn namespace<'a>(cluster: &'a Cluster, key: &'a EventId) -> Option<&'a Namespace> {
        cluster
            .events
            .get(key)
            .and_then(|event| event.subject.namespace())
    }

    fn name(object: &Event) -> String {
        match object.subject.namespace() {
            Some(namespace) => format!("{namespace}/{}", object.id),
            None => object.id.to_string(),
        }
    }

    fn label<'a>(_: &'a Event, _: &str) -> Option<&'a str> {
        None
    }

    fn field<'a>(object: &'a Event, key: &str) -> Option<&'a str> {
        match (key, &object.subject) {
            ("kind", Subject::Cluster) => Some("Cluster"),
            ("kind", Subject::Workload { .. }) => Some("Workload"),
            ("kind", Subject::Instance { .. }) => Some("Instance"),
            ("kind", Subject::Node { .. }) => Some("Node"),
            ("name", Subject::Workload { name, .. }) => Some(name.as_str()),
            ("name", Subject::Instance { name, .. }) => Some(name.as_str()),
            ("name", Subject::Node { name }) => Some(name.as_str()),
            // So that one condition finds what happened to a workload and to its instances.
            ("workload", Subject::Workload { name: workload, .. }) => Some(workload.as_str()),
            ("workload", Subject::Instance { workload, .. }) => Some(workload.as_str()),
            ("namespace", subject) => subject.namespace().map(Namespace::as_str),
            ("severity", _) => Some(match object.severity {
                Severity::Normal => "Normal",
                Severity::Warning => "Warning",
            }),
            ("reason", _) => Some(&object.reason),
            _ => None,
        }
    }

    fn touched(commit: &Commit) -> BTreeSet<EventId> {
        let event = |change| match About::of(change) {
            About::Event(id) => Some(id),
            About::Workload(_)
            | About::Progress(_)
            | About::Instance(_)
            | About::Node(_)
            | About::Assignment(_)
            | About::Nothing => None,
        };
        commit.changes.iter().filter_map(event).collect()
    }
}
