//! What is said about an instance, and about its containers together.

use std::collections::BTreeSet;

use super::{ENTRIES_MAX, Errors, NO_IMAGE, RESERVED_LABEL_PREFIX, container};
use crate::{
    duration::Span,
    ids::{ContainerName, VolumeName},
    resource::Manifest,
    spec::{ContainerSpec, InstanceSpec, Kind, RestartPolicy, WorkloadSpec},
};

/// The most containers of an instance, its init containers included: each is a process to watch,
/// and pods with more than a handful are mistakes.
pub const CONTAINERS_MAX: usize = 20;
/// The longest grace period.
const GRACE_MAX: Span = Span::from_secs(3_600);

pub(super) fn check(manifest: &Manifest, errors: &mut Errors) {
    let instance = manifest.spec.instance();
    containers(&instance, errors);
    volumes(&instance, errors);
    for (key, value) in instance.labels {
        errors.label("spec.labels", key, &value.0);
        if key.starts_with(RESERVED_LABEL_PREFIX) {
            errors.push(
                format!("spec.labels.{key}"),
                "labels that begin with `windlass.` are reserved",
            );
        }
    }
    restart(&manifest.spec, errors);
    errors.within(
        "spec.stopGracePeriod",
        instance.stop_grace_period,
        GRACE_MAX,
    );
    placement(&instance, errors);
    dependencies(manifest, errors);
}

fn containers(instance: &InstanceSpec<'_>, errors: &mut Errors) {
    if instance.containers.is_empty() {
        match instance.shorthand.container() {
            Some(only) => {
                container::check(&only, "spec", errors);
                container::ports([("spec".to_owned(), &only)], errors);
            }
            None => errors.missing("spec.image", NO_IMAGE),
        }
    } else {
        for field in instance.shorthand.present() {
            errors.push(
                format!("spec.{field}"),
                "belongs to one container: write it under `containers`, in the one that is meant",
            );
        }
        if instance.containers.iter().all(|c| c.sidecar) {
            errors.missing(
                "spec.containers",
                "at least one container must be no sidecar",
            );
        }
    }
    let mut names = BTreeSet::new();
    for (path, init) in listed("initContainers", instance.init_containers) {
        named(&mut names, init, &path, errors);
        container::check(init, &path, errors);
        container::check_init(init, &path, errors);
    }
    for (path, each) in listed("containers", instance.containers) {
        named(&mut names, each, &path, errors);
        container::check(each, &path, errors);
        if each.retries.is_some() {
            errors.push(
                format!("{path}.retries"),
                "of init containers only; what happens when this one ends, `restart` says",
            );
        }
    }
    container::ports(listed("containers", instance.containers), errors);
    let count = instance.init_containers.len() + instance.containers.len();
    if count > CONTAINERS_MAX {
        errors.push(
            "spec.containers",
            format!("at most {CONTAINERS_MAX} with the init containers, these are {count}"),
        );
    }
}

/// Containers with their paths.
fn listed<'a>(
    field: &'static str,
    containers: &'a [ContainerSpec],
) -> impl Iterator<Item = (String, &'a ContainerSpec)> {
    let containers = containers.iter().enumerate();
    containers.map(move |(i, container)| (format!("spec.{field}[{i}]"), container))
}

fn named<'a>(
    names: &mut BTreeSet<&'a ContainerName>,
    container: &'a ContainerSpec,
    path: &str,
    errors: &mut Errors,
) {
    if !names.insert(&container.name) {
        errors.push(
            format!("{path}.name"),
            format!("the container name `{}` is used twice", container.name),
        );
    }
}

fn volumes(instance: &InstanceSpec<'_>, errors: &mut Errors) {
    errors.entries("spec.volumes", instance.volumes.len());
    let mut names = BTreeSet::new();
    for (i, volume) in instance.volumes.iter().enumerate() {
        let path = format!("spec.volumes[{i}]");
        if !names.insert(&volume.name) {
            errors.push(
                format!("{path}.name"),
                format!("the volume name `{}` is used twice", volume.name),
            );
        }
        if volume.scratch.is_none() {
            errors.missing(path, "must have a type: write `scratch: {}`");
        }
    }
    let only = instance.shorthand.container();
    let only = only.iter().map(|only| ("spec".to_owned(), only));
    let all = only
        .chain(listed("initContainers", instance.init_containers))
        .chain(listed("containers", instance.containers));
    for (path, container) in all {
        mounts(&path, container, &names, errors);
    }
}

fn mounts(
    path: &str,
    container: &ContainerSpec,
    volumes: &BTreeSet<&VolumeName>,
    errors: &mut Errors,
) {
    let mut paths = BTreeSet::new();
    for (i, mount) in container.mounts.iter().enumerate().take(ENTRIES_MAX) {
        let path = format!("{path}.mounts[{i}]");
        if !volumes.contains(&mount.volume) {
            errors.missing(
                format!("{path}.volume"),
                format!("there is no volume `{}` under `volumes`", mount.volume),
            );
        }
        if !paths.insert(&mount.path) {
            errors.push(
                format!("{path}.path"),
                format!("`{}` is used twice", mount.path),
            );
        }
    }
}

fn restart(spec: &WorkloadSpec, errors: &mut Errors) {
    let restart = spec.instance().restart;
    match spec.kind() {
        Kind::Job | Kind::CronJob if restart == Some(RestartPolicy::Always) => errors.push(
            "spec.restart",
            "a job ends: `Never` makes a fresh instance after a failure, `OnFailure` starts the \
             same one again",
        ),
        Kind::Daemon if restart.is_some_and(|r| r != RestartPolicy::Always) => errors.push(
            "spec.restart",
            "a daemon is kept running; what is to end is a Job",
        ),
        Kind::Service | Kind::Daemon | Kind::Job | Kind::CronJob => {}
    }
}

fn placement(instance: &InstanceSpec<'_>, errors: &mut Errors) {
    let placement = instance.placement;
    if placement.max_per_node == Some(0) {
        errors.push(
            "spec.placement.maxPerNode",
            "at least 1; to run none, set `replicas: 0`",
        );
    }
    errors.entries("spec.placement.require", placement.require.len());
    errors.entries("spec.placement.tolerate", placement.tolerate.len());
    if placement.spread.len() > 4 {
        errors.push("spec.placement.spread", "at most 4 attributes");
    }
}

fn dependencies(manifest: &Manifest, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    let dependencies = manifest.spec.instance().depends_on;
    errors.entries("spec.dependsOn", dependencies.len());
    for (i, dependency) in dependencies.iter().enumerate() {
        let path = format!("spec.dependsOn[{i}].workload");
        if dependency.workload == manifest.name {
            errors.push(path, "a workload cannot wait for itself");
        } else if !names.insert(&dependency.workload) {
            errors.push(path, format!("`{}` is listed twice", dependency.workload));
        }
    }
}
