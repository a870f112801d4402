//! How containers and networks of ours are named and labelled: always the same way for the same
//! thing, so that an agent that forgot everything finds what it made.

use std::collections::{BTreeMap, HashMap};

use windlass_api::{
    ids::{InstanceId, Namespace},
    wire::AssignedInstance,
};

use crate::runtime::Owner;

/// The cluster that a container or network belongs to.
pub(super) const CLUSTER: &str = "windlass.cluster";
/// The node that it belongs to.
pub(super) const NODE: &str = "windlass.node";
/// The namespace that it belongs to.
pub(super) const NAMESPACE: &str = "windlass.namespace";
/// The workload that a container belongs to.
pub(super) const WORKLOAD: &str = "windlass.workload";
/// The slot that a container fills.
pub(super) const SLOT: &str = "windlass.slot";
/// The instance that a container belongs to.
pub(super) const INSTANCE: &str = "windlass.instance";
/// The revision that a container was made from.
pub(super) const REVISION: &str = "windlass.revision";
/// How long a container may take to stop. It is a label, since Docker's list does not tell.
pub(super) const STOP_GRACE: &str = "windlass.stop-grace";

/// The name of an instance's container. Names of ours have no dots, so it reads back.
pub(super) fn container(owner: &Owner, namespace: &Namespace, instance: &InstanceId) -> String {
    format!("windlass.{}.{namespace}.{instance}", owner.cluster.short())
}

/// The name of the network that the instances of a namespace share on a node.
pub(super) fn network(owner: &Owner, namespace: &Namespace) -> String {
    format!(
        "windlass.{}.{}.{namespace}",
        owner.cluster.short(),
        owner.node
    )
}

/// The labels of an instance's container: the user's, and above them ours.
pub(super) fn labels(owner: &Owner, instance: &AssignedInstance) -> BTreeMap<String, String> {
    let user = &instance.template.labels;
    let user = user
        .iter()
        .map(|(key, value)| (key.clone(), value.0.clone()));
    let ours = [
        (NAMESPACE, instance.workload.namespace.to_string()),
        (WORKLOAD, instance.workload.name.to_string()),
        (SLOT, instance.slot.to_string()),
        (INSTANCE, instance.id.to_string()),
        (REVISION, instance.revision.to_string()),
        (STOP_GRACE, instance.template.stop_grace_period.to_string()),
    ];
    let ours = ours.map(|(key, value)| (key.to_owned(), value));
    user.chain(owner_labels(owner)).chain(ours).collect()
}

/// The labels of everything that belongs to an agent.
pub(super) fn owner_labels(owner: &Owner) -> BTreeMap<String, String> {
    BTreeMap::from([
        (CLUSTER.to_owned(), owner.cluster.to_string()),
        (NODE.to_owned(), owner.node.to_string()),
    ])
}

/// The labels of the network of a namespace.
pub(super) fn network_labels(owner: &Owner, namespace: &Namespace) -> BTreeMap<String, String> {
    let mut labels = owner_labels(owner);
    labels.insert(NAMESPACE.to_owned(), namespace.to_string());
    labels
}

/// Whose a container is, from its labels.
pub(super) fn owner_and_namespace(labels: &HashMap<String, String>) -> Option<(Owner, Namespace)> {
    let owner = Owner {
        cluster: labels.get(CLUSTER)?.parse().ok()?,
        node: labels.get(NODE)?.parse().ok()?,
    };
    Some((owner, labels.get(NAMESPACE)?.parse().ok()?))
}

/// The filter that selects what belongs to an agent.
pub(super) fn owner_filter(owner: &Owner) -> HashMap<String, Vec<String>> {
    let labels = owner_labels(owner)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"));
    HashMap::from([("label".to_owned(), labels.collect())])
}
