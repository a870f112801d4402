//! The volumes of instances: empty directories that their containers share.

use std::{collections::BTreeSet, sync::Arc};

use bollard::{
    body_full,
    models::{Volume, VolumeCreateRequest},
    query_parameters::{
        ListVolumesOptionsBuilder, RemoveVolumeOptions, UploadToContainerOptionsBuilder,
    },
};
use tar::{Builder, EntryType, Header};
use windlass_api::{
    ids::{InstanceId, Namespace, VolumeName},
    spec::{ContainerSpec, Mount},
    wire::AssignedInstance,
};

use super::{
    engine::{CHANGE_WITHIN, Engine, READ_WITHIN},
    names,
};
use crate::runtime::{ContainerId, Error, ErrorKind, Owner, Result};

/// The permissions of a volume's directory: containers may run as any user.
const OPEN_TO_ALL: u32 = 0o1777;

/// Makes the volumes that a container mounts, unless they are there.
pub(super) async fn ensure(
    engine: &Engine,
    owner: &Owner,
    instance: &AssignedInstance,
    container: &ContainerSpec,
) -> Result<()> {
    let namespace = &instance.workload.namespace;
    let labels = names::volume_labels(owner, namespace, &instance.id);
    for mount in &container.mounts {
        let name = names::volume(owner, namespace, &instance.id, &mount.volume);
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(labels.clone().into_iter().collect()),
            ..VolumeCreateRequest::default()
        };
        let create = Box::pin(engine.client().await?.create_volume(request));
        let doing = format!("create volume {name}");
        let found = engine.call(&doing, CHANGE_WITHIN, create).await?;
        // The engine is content with one of that name, whosever it is.
        let is_ours = |(key, value)| found.labels.get(key) == Some(value);
        if !labels.iter().all(is_ours) {
            return Err(Error {
                kind: ErrorKind::NameTaken,
                message: format!(
                    "the volume name {name} is taken by a volume that is not ours: remove it"
                ),
            });
        }
    }
    Ok(())
}

/// Lets every user write to the volumes that a new container mounts. Docker makes them for root.
pub(super) async fn open_to_all(engine: &Engine, id: &ContainerId, mounts: &[Mount]) -> Result<()> {
    let writable: Vec<&Mount> = mounts.iter().filter(|mount| !mount.read_only).collect();
    if writable.is_empty() {
        return Ok(());
    }
    let archive = directories(&writable).map_err(|error| Error {
        kind: ErrorKind::Other,
        message: format!("cannot describe the container's volumes: {error}"),
    })?;
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let client = engine.client().await?;
    let upload = client.upload_to_container(&id.0, Some(options), body_full(archive.into()));
    engine
        .call("open the container's volumes", CHANGE_WITHIN, upload)
        .await
}

/// An archive of the directories that are mounted, without anything in them.
fn directories(mounts: &[&Mount]) -> std::io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for mount in mounts {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(OPEN_TO_ALL);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let path = mount.path.trim_matches('/');
        archive.append_data(&mut header, format!("{path}/"), std::io::empty())?;
    }
    archive.into_inner()
}

/// Removes volumes of an instance. Content with those that are not there.
pub(super) async fn remove(
    engine: &Engine,
    owner: &Owner,
    (namespace, instance): (&Namespace, &InstanceId),
    volumes: &[VolumeName],
) -> Result<()> {
    for volume in volumes {
        remove_one(engine, &names::volume(owner, namespace, instance, volume)).await?;
    }
    Ok(())
}

/// Removes the volumes of an agent whose instance is not to be kept. Those that a container uses
/// stay.
pub(super) async fn prune(
    engine: &Arc<Engine>,
    owner: &Owner,
    keep: &BTreeSet<InstanceId>,
) -> Result<()> {
    let options = ListVolumesOptionsBuilder::default()
        .filters(&names::owner_filter(owner))
        .build();
    let list = engine.client().await?.list_volumes(Some(options));
    let volumes = engine.call("list volumes", READ_WITHIN, list).await?;
    for volume in volumes.volumes.unwrap_or_default() {
        if is_orphan(owner, &volume, keep) {
            tracing::info!(
                volume = volume.name,
                "removing a volume whose instance is gone"
            );
            remove_one(engine, &volume.name).await?;
        }
    }
    Ok(())
}

/// Whether a volume is ours, by labels and name, and its instance is not to be kept.
fn is_orphan(owner: &Owner, volume: &Volume, keep: &BTreeSet<InstanceId>) -> bool {
    let label = |key| volume.labels.get(key);
    let namespace = label(names::NAMESPACE).and_then(|text| text.parse::<Namespace>().ok());
    let instance = label(names::INSTANCE).and_then(|text| text.parse::<InstanceId>().ok());
    let (Some(namespace), Some(instance)) = (namespace, instance) else {
        return false;
    };
    let prefix = names::only_container(owner, &namespace, &instance);
    let named = volume.name.strip_prefix(&prefix);
    named.is_some_and(|rest| rest.starts_with('.')) && !keep.contains(&instance)
}

async fn remove_one(engine: &Engine, name: &str) -> Result<()> {
    let remove = engine
        .client()
        .await?
        .remove_volume(name, None::<RemoveVolumeOptions>);
    let doing = format!("remove volume {name}");
    match engine.call(&doing, CHANGE_WITHIN, remove).await {
        Err(error) if error.message.contains("no such volume") => Ok(()),
        // Whoever removes that container comes by again.
        Err(error) if error.message.contains("volume is in use") => {
            tracing::debug!(name, "a volume is still in use");
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use uuid::Uuid;
    use windlass_api::ids::ClusterId;

    use super::*;

    fn volume(name: &str, labels: &[(&str, &str)]) -> Volume {
        let labels: HashMap<String, String> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Volume {
            name: name.to_owned(),
            labels,
            ..Volume::default()
        }
    }

    #[test]
    fn only_volumes_of_ours_whose_instance_is_gone_are_orphans() {
        let owner = Owner {
            cluster: ClusterId(Uuid::nil()),
            node: "n1".parse().unwrap(),
        };
        let labels = [
            ("windlass.namespace", "shop"),
            ("windlass.instance", "web-0-1"),
        ];
        let ours = volume("windlass.00000000.shop.web-0-1.data", &labels);
        let keep = BTreeSet::from(["web-0-1".parse().unwrap()]);
        assert!(is_orphan(&owner, &ours, &BTreeSet::new()));
        assert!(!is_orphan(&owner, &ours, &keep));
        let other_name = volume("data", &labels);
        assert!(!is_orphan(&owner, &other_name, &BTreeSet::new()));
        let no_labels = volume("windlass.00000000.shop.web-0-1.data", &labels[..1]);
        assert!(!is_orphan(&owner, &no_labels, &BTreeSet::new()));
    }

    #[test]
    fn every_mounted_directory_is_opened() {
        let mount = |path: &str| Mount {
            volume: "data".parse().unwrap(),
            path: path.to_owned(),
            read_only: false,
        };
        let (a, b) = (mount("/a/b"), mount("/c/"));
        let bytes = directories(&[&a, &b]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let read: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, entry.header().mode().unwrap())
            })
            .collect();
        assert_eq!(
            read,
            [("a/b/".to_owned(), 0o1777), ("c/".to_owned(), 0o1777)]
        );
    }
}
