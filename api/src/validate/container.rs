//! A container by itself, and the ports of those that share a network.

use std::collections::BTreeSet;

use super::{Errors, probe};
use crate::spec::{ContainerSpec, Resources};

/// Docker refuses to start a container with less memory.
const MEMORY_LIMIT_MIN: u64 = 6 << 20;

const SIGNALS: [&str; 31] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN",
    "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU",
];

/// Checks a container that stands at the path `at`.
pub(super) fn check(container: &ContainerSpec, at: &str, errors: &mut Errors) {
    command(container, at, errors);
    environment(container, at, errors);
    errors.entries(&format!("{at}.ports"), container.ports.len());
    resources(&container.resources, at, errors);
    if let Some(signal) = &container.stop_signal {
        stop_signal(signal, at, errors);
    }
    errors.entries(&format!("{at}.mounts"), container.mounts.len());
    for (i, mount) in container.mounts.iter().enumerate() {
        let path = format!("{at}.mounts[{i}].path");
        let parts = || mount.path.split('/');
        if !mount.path.starts_with('/') || parts().any(|part| part == "..") {
            let message = format!("`{}` is not an absolute path", mount.path);
            errors.push(path, message);
        } else if parts().all(str::is_empty) {
            errors.push(path, "a volume cannot take the place of the whole image");
        } else {
            errors.no_nul(path, &mount.path);
        }
    }
    probe::check(container, at, errors);
}

/// What does not make sense in an init container, which runs to its end before there is anything
/// to serve.
pub(super) fn check_init(container: &ContainerSpec, at: &str, errors: &mut Errors) {
    let misplaced = [
        ("ports", !container.ports.is_empty()),
        ("probes", !container.probes.is_empty()),
        ("preStop", container.pre_stop.is_some()),
        ("sidecar", container.sidecar),
    ];
    for (field, _) in misplaced.into_iter().filter(|(_, present)| *present) {
        errors.push(
            format!("{at}.{field}"),
            "an init container cannot have this: it runs to its end before the others start",
        );
    }
}

fn command(spec: &ContainerSpec, at: &str, errors: &mut Errors) {
    for (path, words) in [("command", &spec.command), ("args", &spec.args)] {
        let Some(words) = words else { continue };
        let path = format!("{at}.{path}");
        errors.entries(&path, words.len());
        for (i, word) in words.iter().enumerate() {
            errors.no_nul(format!("{path}[{i}]"), word);
        }
    }
    if spec
        .command
        .as_ref()
        .is_some_and(|c| c.first().is_none_or(String::is_empty))
    {
        errors.push(
            format!("{at}.command"),
            "must begin with the program to run",
        );
    }
    if let Some(dir) = &spec.working_dir {
        errors.no_nul(format!("{at}.workingDir"), dir);
        if !dir.starts_with('/') {
            errors.push(
                format!("{at}.workingDir"),
                format!("`{dir}` is not an absolute path"),
            );
        }
    }
    if let Some(user) = &spec.user {
        let part = |p: &str| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        if user.0.len() > 128 || user.0.splitn(2, ':').any(|p| !part(p)) {
            errors.push(
                format!("{at}.user"),
                format!("`{user}` is not a user: write `name`, `id` or `user:group`"),
            );
        }
    }
}

fn environment(spec: &ContainerSpec, at: &str, errors: &mut Errors) {
    errors.entries(&format!("{at}.env"), spec.env.len());
    for (key, value) in &spec.env {
        let path = format!("{at}.env.{key}");
        if key.is_empty() || key.contains(['=', '\0']) || key.contains(char::is_whitespace) {
            errors.push(
                path.clone(),
                "a variable's name must not be empty or contain `=` or white space",
            );
        }
        errors.no_nul(path, &value.0);
    }
}

/// The ports of containers that share one network, each container with its path.
pub(super) fn ports<'a>(
    sharing: impl IntoIterator<Item = (String, &'a ContainerSpec)>,
    errors: &mut Errors,
) {
    let mut names = BTreeSet::new();
    let mut containers = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    let sharing = sharing.into_iter().flat_map(|(path, container)| {
        let ports = container.ports.iter().enumerate();
        ports.map(move |(i, port)| (format!("{path}.ports[{i}]"), port))
    });
    for (path, port) in sharing {
        if port.container == 0 {
            errors.push(
                format!("{path}.container"),
                "a port is a number from 1 to 65535",
            );
        }
        if port.host == Some(0) {
            errors.push(format!("{path}.host"), "a port is a number from 1 to 65535");
        }
        if let Some(name) = &port.name
            && !names.insert(name)
        {
            errors.push(
                format!("{path}.name"),
                format!("the port name `{name}` is used twice"),
            );
        }
        // One container port may be published on several host ports, but not repeated as it is.
        if !containers.insert((port.container, port.protocol, port.host)) {
            errors.push(
                format!("{path}.container"),
                format!("port {}/{} is used twice", port.container, port.protocol),
            );
        } else if let Some(host) = port.host
            && !hosts.insert((host, port.protocol))
        {
            errors.push(
                format!("{path}.host"),
                format!("host port {host}/{} is used twice", port.protocol),
            );
        }
    }
}

fn resources(resources: &Resources, at: &str, errors: &mut Errors) {
    let limits = &resources.limits;
    if let (Some(cpu), Some(limit)) = (resources.cpu, limits.cpu)
        && cpu > limit
    {
        errors.push(
            format!("{at}.resources.cpu"),
            format!("{cpu} is more than the limit of {limit}"),
        );
    }
    if let (Some(memory), Some(limit)) = (resources.memory, limits.memory)
        && memory > limit
    {
        errors.push(
            format!("{at}.resources.memory"),
            format!("{memory} is more than the limit of {limit}"),
        );
    }
    if limits.cpu.is_some_and(|c| c.0 < 10) {
        errors.push(
            format!("{at}.resources.limits.cpu"),
            "at least 10m, or the container would hardly run",
        );
    }
    if limits.memory.is_some_and(|m| m.0 < MEMORY_LIMIT_MIN) {
        errors.push(
            format!("{at}.resources.limits.memory"),
            "at least 6Mi, the least that Docker accepts",
        );
    }
}

fn stop_signal(signal: &str, at: &str, errors: &mut Errors) {
    let name = signal.strip_prefix("SIG").unwrap_or(signal);
    let number = signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
    if !number && !SIGNALS.contains(&name) {
        let message = format!(
            "`{}` is not a signal: write one like `SIGQUIT`",
            signal.chars().take(40).collect::<String>()
        );
        errors.push(format!("{at}.stopSignal"), message);
    }
}
