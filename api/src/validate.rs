//! Whether a spec makes sense, beyond being well formed: every mistake at once, each with
//! the path of the field that is to blame.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    expression::Taint,
    resource::Manifest,
    spec::{Port, Resources, ServiceSpec, WorkloadSpec},
};

/// The most copies of one workload: ten per node on the largest cluster that is designed for.
pub const REPLICAS_MAX: u32 = 10_000;
/// The most resources in one call.
pub const RESOURCES_PER_CALL_MAX: usize = 500;
/// The most labels of a node: several times what large clusters put on theirs.
pub const NODE_LABELS_MAX: usize = 256;
/// The most taints of a node.
pub const NODE_TAINTS_MAX: usize = 64;
/// The longest key of a label, in bytes.
const LABEL_KEY_LEN_MAX: usize = 128;
/// The longest value of a label, in bytes.
const LABEL_VALUE_LEN_MAX: usize = 256;
/// The most entries of a list or map in a spec: a bound on what one field can cost.
const ENTRIES_MAX: usize = 1_000;
/// Docker refuses to start a container with less memory.
const MEMORY_LIMIT_MIN: u64 = 6 << 20;

/// The prefix of the labels that windlass puts on containers.
pub const RESERVED_LABEL_PREFIX: &str = "windlass.";

const SIGNALS: [&str; 31] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN",
    "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU",
];

/// A mistake in a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// The path of the field, like `spec.ports[1].host`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl FieldError {
    /// A mistake at a path.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Every mistake in a manifest; empty if there is none. Paths begin at the manifest's root.
#[must_use]
pub fn validate(manifest: &Manifest) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    for (key, value) in &manifest.labels {
        errors.label("labels", key, &value.0);
    }
    match &manifest.spec {
        WorkloadSpec::Service(spec) => service(spec, &mut errors),
    }
    errors.0
}

/// Whether a string can be the key of a label.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_label_key(key: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    let outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let well_formed =
        key.bytes().all(inner) && outer(key.bytes().next()) && outer(key.bytes().last());
    if well_formed && key.len() <= LABEL_KEY_LEN_MAX {
        return Ok(());
    }
    Err(format!(
        "`{}` is not the key of a label: use up to {LABEL_KEY_LEN_MAX} letters, digits, `-`, `_`, \
         `.` and `/`, and begin and end with a letter or digit",
        key.chars().take(LABEL_KEY_LEN_MAX).collect::<String>(),
    ))
}

/// Whether a string can be the value of a label.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_label_value(value: &str) -> Result<(), String> {
    if value.len() > LABEL_VALUE_LEN_MAX {
        return Err(format!(
            "a label's value has at most {LABEL_VALUE_LEN_MAX} bytes"
        ));
    }
    if value.chars().any(char::is_control) {
        return Err("a label's value must not contain control characters".to_owned());
    }
    Ok(())
}

/// Every mistake in what is said of a node; empty if there is none.
#[must_use]
pub fn validate_node(labels: &BTreeMap<String, String>, taints: &[Taint]) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    for (key, value) in labels {
        errors.label("labels", key, value);
    }
    if labels.len() > NODE_LABELS_MAX {
        let message = format!("at most {NODE_LABELS_MAX}, these are {}", labels.len());
        errors.push("labels", message);
    }
    let mut seen = BTreeSet::new();
    for (i, taint) in taints.iter().enumerate() {
        if !seen.insert(taint) {
            errors.push(format!("taints[{i}]"), format!("`{taint}` is there twice"));
        }
    }
    if taints.len() > NODE_TAINTS_MAX {
        let message = format!("at most {NODE_TAINTS_MAX}, these are {}", taints.len());
        errors.push("taints", message);
    }
    errors.0
}

struct Errors(Vec<FieldError>);

impl Errors {
    fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(path, message));
    }

    fn label(&mut self, path: &str, key: &str, value: &str) {
        for check in [check_label_key(key), check_label_value(value)] {
            if let Err(message) = check {
                self.push(format!("{path}.{key}"), message);
            }
        }
    }

    fn entries(&mut self, path: &str, len: usize) {
        if len > ENTRIES_MAX {
            self.push(
                path,
                format!("at most {ENTRIES_MAX} entries, these are {len}"),
            );
        }
    }

    fn no_nul(&mut self, path: String, text: &str) {
        if text.contains('\0') {
            self.push(path, "must not contain a NUL character");
        }
    }
}

fn service(spec: &ServiceSpec, errors: &mut Errors) {
    if spec.replicas > REPLICAS_MAX {
        errors.push(
            "spec.replicas",
            format!("at most {REPLICAS_MAX}, not {}", spec.replicas),
        );
    }
    command(spec, errors);
    environment(spec, errors);
    for (key, value) in &spec.labels {
        errors.label("spec.labels", key, &value.0);
        if key.starts_with(RESERVED_LABEL_PREFIX) {
            errors.push(
                format!("spec.labels.{key}"),
                "labels that begin with `windlass.` are reserved",
            );
        }
    }
    ports(&spec.ports, errors);
    resources(&spec.resources, errors);
    if let Some(signal) = &spec.stop_signal {
        stop_signal(signal, errors);
    }
    if spec.stop_grace_period.as_millis() > 3_600_000 {
        errors.push("spec.stopGracePeriod", "at most 1h");
    }
    if spec.placement.max_per_node == Some(0) {
        errors.push(
            "spec.placement.maxPerNode",
            "at least 1; to run none, set `replicas: 0`",
        );
    }
    errors.entries("spec.placement.require", spec.placement.require.len());
    errors.entries("spec.placement.tolerate", spec.placement.tolerate.len());
    if spec.placement.spread.len() > 4 {
        errors.push("spec.placement.spread", "at most 4 attributes");
    }
}

fn command(spec: &ServiceSpec, errors: &mut Errors) {
    for (path, words) in [("spec.command", &spec.command), ("spec.args", &spec.args)] {
        let Some(words) = words else { continue };
        errors.entries(path, words.len());
        for (i, word) in words.iter().enumerate() {
            errors.no_nul(format!("{path}[{i}]"), word);
        }
    }
    if spec
        .command
        .as_ref()
        .is_some_and(|c| c.first().is_none_or(String::is_empty))
    {
        errors.push("spec.command", "must begin with the program to run");
    }
    if let Some(dir) = &spec.working_dir {
        errors.no_nul("spec.workingDir".to_owned(), dir);
        if !dir.starts_with('/') {
            errors.push(
                "spec.workingDir",
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
                "spec.user",
                format!("`{user}` is not a user: write `name`, `id` or `user:group`"),
            );
        }
    }
}

fn environment(spec: &ServiceSpec, errors: &mut Errors) {
    errors.entries("spec.env", spec.env.len());
    for (key, value) in &spec.env {
        let path = format!("spec.env.{key}");
        if key.is_empty() || key.contains(['=', '\0']) || key.contains(char::is_whitespace) {
            errors.push(
                path.clone(),
                "a variable's name must not be empty or contain `=` or white space",
            );
        }
        errors.no_nul(path, &value.0);
    }
}

fn ports(ports: &[Port], errors: &mut Errors) {
    errors.entries("spec.ports", ports.len());
    let mut names = BTreeSet::new();
    let mut containers = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
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

fn resources(resources: &Resources, errors: &mut Errors) {
    let limits = &resources.limits;
    if let (Some(cpu), Some(limit)) = (resources.cpu, limits.cpu)
        && cpu > limit
    {
        errors.push(
            "spec.resources.cpu",
            format!("{cpu} is more than the limit of {limit}"),
        );
    }
    if let (Some(memory), Some(limit)) = (resources.memory, limits.memory)
        && memory > limit
    {
        errors.push(
            "spec.resources.memory",
            format!("{memory} is more than the limit of {limit}"),
        );
    }
    if limits.cpu.is_some_and(|c| c.0 < 10) {
        errors.push(
            "spec.resources.limits.cpu",
            "at least 10m, or the container would hardly run",
        );
    }
    if limits.memory.is_some_and(|m| m.0 < MEMORY_LIMIT_MIN) {
        errors.push(
            "spec.resources.limits.memory",
            "at least 6Mi, the least that Docker accepts",
        );
    }
}

fn stop_signal(signal: &str, errors: &mut Errors) {
    let name = signal.strip_prefix("SIG").unwrap_or(signal);
    let number = signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
    if !number && !SIGNALS.contains(&name) {
        let message = format!(
            "`{}` is not a signal: write one like `SIGQUIT`",
            signal.chars().take(40).collect::<String>()
        );
        errors.push("spec.stopSignal", message);
    }
}
