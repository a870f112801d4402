//! The one place that says what a container is made from, as the engine takes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount, MountType, MountVolumeOptions, PortBinding, PortMap, RestartPolicy,
    RestartPolicyNameEnum,
};
use windlass_api::{
    image::ImageRef,
    spec::{ContainerSpec, Kind, Port, Probes, Resources},
    wire::AssignedInstance,
};

use super::names;
use crate::runtime::{Owner, Part};

/// The capabilities that a container keeps. All others are dropped, of Docker's own defaults
/// `AUDIT_WRITE`, `FSETID`, `MKNOD`, `NET_RAW`, `SETFCAP`, `SETPCAP` and `SYS_CHROOT`.
const CAPABILITIES: [&str; 7] = [
    // Images that begin as root prepare their data directory and then change to their user, as
    // those of nginx, redis and postgres do: these five.
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "SETGID",
    "SETUID",
    // A program as root that supervises others with other users has to be able to end them.
    "KILL",
    // Web servers listen on 80 and 443 inside their container.
    "NET_BIND_SERVICE",
];

/// The most processes and threads in a container: a fork bomb ends here and not on the node.
const PIDS_MAX: i64 = 512;
/// As a pause container, a program with one or two threads.
const PAUSE_PIDS_MAX: i64 = 16;
/// Nobody, by number: it need not be in the image.
const PAUSE_USER: &str = "65534:65534";
/// The most that a container's log takes on the node's disk: 3 files of 10 MB.
const LOG_FILE_SIZE: &str = "10m";
/// See [`LOG_FILE_SIZE`].
const LOG_FILES: &str = "3";
/// The kernel's accounting period for CPU limits, in microseconds: its default, and Docker's.
const CPU_PERIOD_US: i64 = 100_000;
/// The least CPU time in a period that the kernel takes, in microseconds.
const CPU_QUOTA_MIN_US: i64 = 1_000;
/// Docker refuses to set less memory aside.
const MEMORY_RESERVATION_MIN: i64 = 6 << 20;

/// The network of a container.
#[derive(Debug, Clone, Copy)]
pub(super) enum Network<'a> {
    /// It has one of its own, in the bridge of this name.
    Own(&'a str),
    /// It is in that of the container of this name, which publishes the ports, too.
    Shared(&'a str),
}

/// What the engine is told to make for a container of an instance; `image` is what to run in
/// place of what the template says.
pub(super) fn payload(
    owner: &Owner,
    instance: &AssignedInstance,
    container: &ContainerSpec,
    image: Option<&ImageRef>,
    network: Network<'_>,
) -> ContainerCreateBody {
    let part = Part::Named(container.name.clone());
    let published: &[Port] = match network {
        Network::Own(_) => &container.ports,
        Network::Shared(_) => &[],
    };
    let mounts = mounts(owner, instance, container);
    ContainerCreateBody {
        user: container.user.as_ref().map(|user| user.0.clone()),
        env: Some(environment(owner, instance, container)),
        cmd: container.args.clone(),
        entrypoint: container.command.clone(),
        image: Some(image.unwrap_or(&container.image).to_string()),
        working_dir: container.working_dir.clone(),
        healthcheck: healthcheck(&container.probes),
        stop_signal: container.stop_signal.clone(),
        host_config: Some(HostConfig {
            mounts: (!mounts.is_empty()).then_some(mounts),
            ..host_config(published, &container.resources, network)
        }),
        ..common(owner, instance, &part, published, network)
    }
}

/// What the engine is told to make to hold the network that the containers of an instance share.
/// It runs `command` of our own image, and may do nothing at all.
pub(super) fn pause(
    owner: &Owner,
    instance: &AssignedInstance,
    (image, command): (&str, &[String]),
    network: &str,
) -> ContainerCreateBody {
    let ports: Vec<Port> = instance.template.ports().cloned().collect();
    let network = Network::Own(network);
    let resources = Resources::default();
    ContainerCreateBody {
        user: Some(PAUSE_USER.to_owned()),
        cmd: Some(command.to_vec()),
        image: Some(image.to_owned()),
        host_config: Some(HostConfig {
            cap_add: None,
            readonly_rootfs: Some(true),
            pids_limit: Some(PAUSE_PIDS_MAX),
            ..host_config(&ports, &resources, network)
        }),
        ..common(owner, instance, &Part::Pause, &ports, network)
    }
}

/// What all containers of an instance have in common.
fn common(
    owner: &Owner,
    instance: &AssignedInstance,
    part: &Part,
    published: &[Port],
    network: Network<'_>,
) -> ContainerCreateBody {
    // The engine refuses both where the network is another container's.
    let (hostname, exposed_ports) = match network {
        Network::Own(_) => (
            Some(instance.id.to_string()),
            Some(exposed_ports(published)),
        ),
        Network::Shared(_) => (None, None),
    };
    ContainerCreateBody {
        hostname,
        exposed_ports,
        labels: Some(names::labels(owner, instance, part).into_iter().collect()),
        stop_timeout: i64::try_from(instance.template.stop_grace_period.as_secs_ceil()).ok(),
        ..ContainerCreateBody::default()
    }
}

/// Switches the image's own health check off where the manifest has probes: the engine would run
/// it for nothing.
fn healthcheck(probes: &Probes) -> Option<HealthConfig> {
    (!probes.is_empty()).then(|| HealthConfig {
        test: Some(vec!["NONE".to_owned()]),
        ..HealthConfig::default()
    })
}

/// The user's variables, and below them what tells a program who it is.
fn environment(
    owner: &Owner,
    instance: &AssignedInstance,
    container: &ContainerSpec,
) -> Vec<String> {
    let mut env = BTreeMap::from([
        (
            "WINDLASS_NAMESPACE",
            instance.workload.namespace.to_string(),
        ),
        ("WINDLASS_WORKLOAD", instance.workload.name.to_string()),
        ("WINDLASS_INSTANCE", instance.id.to_string()),
        ("WINDLASS_SLOT", instance.slot.to_string()),
        ("WINDLASS_NODE", owner.node.to_string()),
        ("WINDLASS_REVISION", instance.revision.to_string()),
    ]);
    match instance.template.kind {
        Kind::Job | Kind::CronJob => {
            env.insert("WINDLASS_INDEX", instance.slot.to_string());
        }
        Kind::Service | Kind::Daemon => {}
    }
    let user = container.env.iter();
    env.extend(user.map(|(key, value)| (key.as_str(), value.0.clone())));
    env.into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

/// Where the volumes of an instance appear in a container.
fn mounts(owner: &Owner, instance: &AssignedInstance, container: &ContainerSpec) -> Vec<Mount> {
    let namespace = &instance.workload.namespace;
    let mounts = container.mounts.iter();
    let mounts = mounts.map(|mount| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(names::volume(owner, namespace, &instance.id, &mount.volume)),
        target: Some(mount.path.clone()),
        read_only: Some(mount.read_only),
        volume_options: Some(MountVolumeOptions {
            // It begins empty, whatever the image has in that place.
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    });
    mounts.collect()
}

fn port_key(port: &Port) -> String {
    format!("{}/{}", port.container, port.protocol)
}

/// Each port once, though it may lead to several ports of the node.
fn exposed_ports(ports: &[Port]) -> Vec<String> {
    let keys: BTreeSet<String> = ports.iter().map(port_key).collect();
    keys.into_iter().collect()
}

fn host_config(ports: &[Port], resources: &Resources, network: Network<'_>) -> HostConfig {
    let memory_limit = resources.limits.memory.map(|m| signed(m.0));
    let strings = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect());
    HostConfig {
        network_mode: Some(match network {
            Network::Own(bridge) => bridge.to_owned(),
            Network::Shared(pause) => format!("container:{pause}"),
        }),
        port_bindings: Some(port_bindings(ports)),
        // The agent restarts; see `crate::plan`.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        cpu_shares: resources.cpu.map(|cpu| cpu_shares(cpu.0)),
        // Not `NanoCpus`: Docker refuses to start a container that may use more cores than the
        // machine has, while such a quota simply limits nothing.
        cpu_period: resources.limits.cpu.map(|_| CPU_PERIOD_US),
        cpu_quota: resources.limits.cpu.map(|cpu| cpu_quota(cpu.0)),
        memory: memory_limit,
        // The same as the memory: no swap, so that a limit is a limit.
        memory_swap: memory_limit,
        memory_reservation: resources.memory.map(|m| memory_reservation(m.0)),
        pids_limit: Some(PIDS_MAX),
        // The agent reaps nothing: an image that needs an init brings it.
        init: Some(false),
        privileged: Some(false),
        // Said so that no default of the engine's can share the machine's namespaces.
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ipc_mode: Some("private".to_owned()),
        cap_drop: strings(&["ALL"]),
        cap_add: strings(&CAPABILITIES),
        security_opt: strings(&["no-new-privileges"]),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), LOG_FILE_SIZE.to_owned()),
                ("max-file".to_owned(), LOG_FILES.to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

fn port_bindings(ports: &[Port]) -> PortMap {
    let mut bindings: PortMap = HashMap::new();
    for port in ports {
        let Some(host) = port.host else { continue };
        let binding = PortBinding {
            host_ip: None,
            host_port: Some(host.to_string()),
        };
        bindings
            .entry(port_key(port))
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    bindings
}

/// The kernel's relative weight for a request: 1,024 for a core, as Docker and Kubernetes have
/// it, within what the kernel takes.
fn cpu_shares(millis: u64) -> i64 {
    signed(millis * 1024 / 1000).clamp(2, 262_144)
}

/// The CPU time in a period for a limit, in microseconds.
fn cpu_quota(millis: u64) -> i64 {
    signed(millis * 100).max(CPU_QUOTA_MIN_US)
}

/// The memory that the kernel leaves to a container when memory is short, in bytes.
fn memory_reservation(bytes: u64) -> i64 {
    signed(bytes).max(MEMORY_RESERVATION_MIN)
}

/// An amount as Docker takes it.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
