//! The one place that says what a container is made from, as the engine takes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    PortBinding, PortMap, RestartPolicy, RestartPolicyNameEnum,
};
use windlass_api::{
    spec::{Port, Probes, Resources},
    wire::AssignedInstance,
};

use super::names;
use crate::runtime::Owner;

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

/// What the engine is told to make for an instance.
pub(super) fn payload(
    owner: &Owner,
    instance: &AssignedInstance,
    network: &str,
) -> ContainerCreateBody {
    let container = instance
        .template
        .main()
        .expect("a template has a container");
    ContainerCreateBody {
        hostname: Some(instance.id.to_string()),
        user: container.user.as_ref().map(|user| user.0.clone()),
        env: Some(environment(owner, instance)),
        cmd: container.args.clone(),
        entrypoint: container.command.clone(),
        image: Some(container.image.to_string()),
        working_dir: container.working_dir.clone(),
        exposed_ports: Some(exposed_ports(&container.ports)),
        labels: Some(names::labels(owner, instance).into_iter().collect()),
        healthcheck: healthcheck(&container.probes),
        stop_signal: container.stop_signal.clone(),
        stop_timeout: i64::try_from(instance.template.stop_grace_period.as_secs_ceil()).ok(),
        host_config: Some(host_config(&container.ports, &container.resources, network)),
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
fn environment(owner: &Owner, instance: &AssignedInstance) -> Vec<String> {
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
    let user = &instance
        .template
        .main()
        .expect("a template has a container")
        .env;
    env.extend(
        user.iter()
            .map(|(key, value)| (key.as_str(), value.0.clone())),
    );
    env.into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

fn port_key(port: &Port) -> String {
    format!("{}/{}", port.container, port.protocol)
}

/// Each port once, though it may lead to several ports of the node.
fn exposed_ports(ports: &[Port]) -> Vec<String> {
    let keys: BTreeSet<String> = ports.iter().map(port_key).collect();
    keys.into_iter().collect()
}

fn host_config(ports: &[Port], resources: &Resources, network: &str) -> HostConfig {
    let memory_limit = resources.limits.memory.map(|m| signed(m.0));
    let strings = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect());
    HostConfig {
        network_mode: Some(network.to_owned()),
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
