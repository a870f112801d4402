//! How containers and networks of ours are named and labelled: always the same way for the same
//! thing, so that an agent that forgot everything finds what it made.

use std::collections::{BTreeMap, HashMap};

use windlass_api::{
    ids::{InstanceId, Namespace, VolumeName},
    spec::PortRef,
    template::InstanceTemplate,
    wire::AssignedInstance,
};

use crate::runtime::{Owner, Part, StopRank, shares_network};

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
/// Which of the containers of its instance one is.
pub(super) const CONTAINER: &str = "windlass.container";
/// When a container is stopped in comparison with the others; absent: first.
pub(super) const STOP_RANK: &str = "windlass.stop-rank";
/// What is done before a container is stopped. The manifest may be gone by then.
pub(super) const PRE_STOP: &str = "windlass.pre-stop";
/// The volumes of a container's instance, with commas in between; absent: none.
pub(super) const VOLUMES: &str = "windlass.volumes";

/// The name of the only container of an instance. Names of ours have no dots, so it reads back.
pub(super) fn only_container(
    owner: &Owner,
    namespace: &Namespace,
    instance: &InstanceId,
) -> String {
    format!("windlass.{}.{namespace}.{instance}", owner.cluster.short())
}

/// The name of one of several containers of an instance.
pub(super) fn one_of_several(
    owner: &Owner,
    namespace: &Namespace,
    instance: &InstanceId,
    part: &Part,
) -> String {
    format!("{}.{part}", only_container(owner, namespace, instance))
}

/// The name of a container of an instance.
pub(super) fn container(owner: &Owner, instance: &AssignedInstance, part: &Part) -> String {
    let (namespace, id) = (&instance.workload.namespace, &instance.id);
    if shares_network(&instance.template) {
        one_of_several(owner, namespace, id, part)
    } else {
        only_container(owner, namespace, id)
    }
}

/// The name of a volume of an instance.
pub(super) fn volume(
    owner: &Owner,
    namespace: &Namespace,
    instance: &InstanceId,
    volume: &VolumeName,
) -> String {
    // Like a container's: volumes and containers do not share names in Docker.
    format!("{}.{volume}", only_container(owner, namespace, instance))
}

/// The labels of the volumes of an instance.
pub(super) fn volume_labels(
    owner: &Owner,
    namespace: &Namespace,
    instance: &InstanceId,
) -> BTreeMap<String, String> {
    let mut labels = network_labels(owner, namespace);
    labels.insert(INSTANCE.to_owned(), instance.to_string());
    labels
}

/// The name of the network that the instances of a namespace share on a node.
pub(super) fn network(owner: &Owner, namespace: &Namespace) -> String {
    format!(
        "windlass.{}.{}.{namespace}",
        owner.cluster.short(),
        owner.node
    )
}

/// The labels of a container of an instance: the user's, and above them ours.
pub(super) fn labels(
    owner: &Owner,
    instance: &AssignedInstance,
    part: &Part,
) -> BTreeMap<String, String> {
    let template = &instance.template;
    let user = &template.labels;
    let user = user
        .iter()
        .map(|(key, value)| (key.clone(), value.0.clone()));
    let ours = [
        (NAMESPACE, instance.workload.namespace.to_string()),
        (WORKLOAD, instance.workload.name.to_string()),
        (SLOT, instance.slot.to_string()),
        (INSTANCE, instance.id.to_string()),
        (REVISION, instance.revision.to_string()),
        (STOP_GRACE, template.stop_grace_period.to_string()),
        (CONTAINER, part.to_string()),
    ];
    let rank = part.stop_rank(template);
    let rank = (rank != StopRank::FIRST).then(|| (STOP_RANK, rank.0.to_string()));
    let pre_stop = pre_stop(template, part).map(|pre_stop| (PRE_STOP, pre_stop));
    let volumes = template.volumes.iter().map(|volume| volume.name.as_str());
    let volumes = volumes.collect::<Vec<_>>().join(",");
    let volumes = (!volumes.is_empty()).then_some((VOLUMES, volumes));
    let ours = ours.into_iter().chain(rank).chain(pre_stop).chain(volumes);
    let ours = ours.map(|(key, value)| (key.to_owned(), value));
    user.chain(owner_labels(owner)).chain(ours).collect()
}

/// What is done before a container is stopped, as JSON, with the port by its number: the names
/// are in the manifest.
fn pre_stop(template: &InstanceTemplate, part: &Part) -> Option<String> {
    let Part::Named(name) = part else { return None };
    let container = template.container(name)?;
    let mut pre_stop = container.pre_stop.clone()?;
    if let Some(http) = &mut pre_stop.http
        && let PortRef::Name(name) = &http.port
    {
        let mut ports = container.ports.iter();
        let port = ports.find(|port| port.name.as_ref() == Some(name))?;
        http.port = PortRef::Number(port.container);
    }
    Some(serde_json::to_string(&pre_stop).expect("what was read from JSON can be written as it"))
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
