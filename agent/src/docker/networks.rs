//! The networks of ours: one bridge for each namespace with instances on the node.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bollard::{
    models::NetworkCreateRequest,
    query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder},
};
use tokio::sync::OnceCell;
use windlass_api::ids::Namespace;

use super::{
    engine::{CHANGE_WITHIN, Engine, READ_WITHIN},
    error, names,
};
use crate::runtime::{Error, ErrorKind, Owner, Result};

/// The networks that are known to exist.
///
/// Each has a cell that is filled when it is known to exist, so that only one call at a time
/// makes it: Docker would make a second one of the same name.
#[derive(Debug, Default)]
pub(super) struct Networks {
    cells: Mutex<BTreeMap<String, Arc<OnceCell<()>>>>,
}

impl Networks {
    /// Makes the network of a namespace unless it exists, and returns its name.
    pub(super) async fn ensure(
        &self,
        engine: &Engine,
        owner: &Owner,
        namespace: &Namespace,
    ) -> Result<String> {
        let name = names::network(owner, namespace);
        let cell = Arc::clone(self.cells().entry(name.clone()).or_default());
        let made = cell.get_or_try_init(|| Box::pin(make(engine, owner, namespace, &name)));
        // Each that waits for the same cell waits only as long as this.
        engine
            .limit(&format!("make network {name}"), CHANGE_WITHIN, made)
            .await?;
        Ok(name)
    }

    /// Forgets a network that somebody removed behind our back.
    pub(super) fn forget(&self, name: &str) {
        self.cells().remove(name);
    }

    /// Removes the networks of an agent whose namespace is not to be kept and that no container
    /// uses. Those that come into use meanwhile stay.
    pub(super) async fn prune(
        &self,
        engine: &Engine,
        owner: &Owner,
        keep: &BTreeSet<Namespace>,
    ) -> Result<()> {
        let kept: BTreeSet<String> = keep.iter().map(|n| names::network(owner, n)).collect();
        let mut candidates = networks_of(engine, owner).await?;
        candidates.retain(|network| !kept.contains(&network.name));
        if candidates.is_empty() {
            return Ok(());
        }
        let used = used_of(engine, &candidates).await?;
        for network in candidates.iter().filter(|n| !used.contains(&n.name)) {
            self.forget(&network.name);
            let doing = format!("remove network {}", network.name);
            let remove = engine.client().await?.remove_network(&network.id);
            match engine.call(&doing, CHANGE_WITHIN, remove).await {
                Err(error) if !error::is_network_gone_or_used(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn cells(&self) -> MutexGuard<'_, BTreeMap<String, Arc<OnceCell<()>>>> {
        // Nothing panics while it is held, and at worst a network is looked for once more.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn make(engine: &Engine, owner: &Owner, namespace: &Namespace, name: &str) -> Result<()> {
    let labels = names::network_labels(owner, namespace);
    let is_ours = |found: &HashMap<String, String>| {
        labels
            .iter()
            .all(|(key, value)| found.get(key) == Some(value))
    };
    match labels_of(engine, name).await? {
        Some(found) if is_ours(&found) => Ok(()),
        Some(_) => Err(Error {
            kind: ErrorKind::NameTaken,
            message: format!(
                "the network name {name} is taken by a network that is not ours: remove it"
            ),
        }),
        None => {
            let request = NetworkCreateRequest {
                name: name.to_owned(),
                driver: Some("bridge".to_owned()),
                labels: Some(labels.into_iter().collect()),
                ..NetworkCreateRequest::default()
            };
            let create = Box::pin(engine.client().await?.create_network(request));
            let doing = format!("create network {name}");
            engine.call(&doing, CHANGE_WITHIN, create).await.map(drop)
        }
    }
}

/// The labels of the network of that name. `None` if there is no such network.
async fn labels_of(engine: &Engine, name: &str) -> Result<Option<HashMap<String, String>>> {
    // The filter lets every name pass that contains this one.
    let filter = HashMap::from([("name", vec![name])]);
    let options = ListNetworksOptionsBuilder::default()
        .filters(&filter)
        .build();
    let list = engine.client().await?.list_networks(Some(options));
    let networks = engine.call("list networks", READ_WITHIN, list).await?;
    let network = networks
        .into_iter()
        .find(|n| n.name.as_deref() == Some(name));
    Ok(network.map(|network| network.labels.unwrap_or_default()))
}

/// A network of ours.
struct Network {
    id: String,
    name: String,
}

/// An agent's networks.
async fn networks_of(engine: &Engine, owner: &Owner) -> Result<Vec<Network>> {
    let options = ListNetworksOptionsBuilder::default()
        .filters(&names::owner_filter(owner))
        .build();
    let list = engine.client().await?.list_networks(Some(options));
    let networks = engine.call("list networks", READ_WITHIN, list).await?;
    let with_name = networks.into_iter().map(|n| {
        Some(Network {
            id: n.id?,
            name: n.name?,
        })
    });
    Ok(with_name.flatten().collect())
}

/// The names of those networks that a container is attached to, in any state: Docker itself would
/// remove one whose containers are all stopped, and they could not start any more.
async fn used_of(engine: &Engine, networks: &[Network]) -> Result<BTreeSet<String>> {
    let names = networks.iter().map(|n| n.name.clone()).collect();
    let filter = HashMap::from([("network", names)]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filter)
        .build();
    let list = engine.client().await?.list_containers(Some(options));
    let containers = engine.call("list containers", READ_WITHIN, list).await?;
    let settings = containers
        .into_iter()
        .filter_map(|c| c.network_settings?.networks);
    Ok(settings.flat_map(HashMap::into_keys).collect())
}
