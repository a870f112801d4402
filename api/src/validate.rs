//! Whether a spec makes sense, beyond being well formed: every mistake at once, each with
//! the path of the field that is to blame.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Span,
    expression::Taint,
    resource::Manifest,
    spec::{CronJobSpec, JobSpec, ServiceSpec, UpdateOrder, UpdatePolicy, WorkloadSpec},
};

mod container;
mod instance;
mod probe;

pub use instance::CONTAINERS_MAX;

/// The most copies of one workload: ten per node on the largest cluster that is designed for.
pub const REPLICAS_MAX: u32 = 10_000;
/// The most finished jobs of a schedule that are kept.
const JOBS_KEPT_MAX: u32 = 100;
/// The most resources in one call.
pub const RESOURCES_PER_CALL_MAX: usize = 500;
/// The shortest deadline: what is asked for takes that long to begin.
const DEADLINE_MIN: Span = Span::from_secs(1);
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
/// What is said where no image is named.
pub const NO_IMAGE: &str = "there is no image: name the one to run, or list several `containers`";
/// The prefix of the labels that windlass puts on containers.
pub const RESERVED_LABEL_PREFIX: &str = "windlass.";

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
    check(manifest, Extent::Whole)
}

/// The mistakes in a manifest of which something is left out that could not be read: all but those
/// that could come of that.
#[must_use]
pub fn validate_part(manifest: &Manifest) -> Vec<FieldError> {
    check(manifest, Extent::Part)
}

fn check(manifest: &Manifest, extent: Extent) -> Vec<FieldError> {
    let mut errors = Errors::new(extent);
    for (key, value) in &manifest.labels {
        errors.label("labels", key, &value.0);
    }
    kind(&manifest.spec, &mut errors);
    instance::check(manifest, &mut errors);
    errors.errors
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
    let mut errors = Errors::new(Extent::Whole);
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
    errors.errors
}

/// Whether all that a user wrote is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    Part,
}

struct Errors {
    errors: Vec<FieldError>,
    extent: Extent,
}

impl Errors {
    fn new(extent: Extent) -> Self {
        let errors = Vec::new();
        Self { errors, extent }
    }

    fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError::new(path, message));
    }

    /// Something is not there that should be, which is known only if all is there.
    fn missing(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.extent == Extent::Whole {
            self.push(path, message);
        }
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

    fn at_most(&mut self, path: &str, number: u32, max: u32) {
        if number > max {
            self.push(path, format!("at most {max}, not {number}"));
        }
    }

    fn at_least_one(&mut self, path: &str, number: u32) {
        if number == 0 {
            self.push(path, "at least 1");
        }
    }

    fn within(&mut self, path: &str, span: Span, max: Span) {
        if span > max {
            self.push(path, format!("at most {max}"));
        }
    }

    /// A deadline that has passed when it begins leaves nothing to be done.
    fn not_at_once(&mut self, path: &str, deadline: Option<Span>) {
        if deadline.is_some_and(|deadline| deadline < DEADLINE_MIN) {
            self.push(path, format!("at least {DEADLINE_MIN}"));
        }
    }

    fn no_nul(&mut self, path: String, text: &str) {
        if text.contains('\0') {
            self.push(path, "must not contain a NUL character");
        }
    }
}

/// What is particular to a kind.
fn kind(spec: &WorkloadSpec, errors: &mut Errors) {
    match spec {
        WorkloadSpec::Service(spec) => {
            errors.at_most("spec.replicas", spec.replicas, REPLICAS_MAX);
            update(&spec.update, errors);
            disconnect(spec, errors);
            if spec.update.canary > spec.replicas {
                errors.push(
                    "spec.update.canary",
                    format!("at most the replicas, which are {}", spec.replicas),
                );
            }
        }
        WorkloadSpec::Daemon(spec) => {
            update(&spec.update, errors);
            daemon_update(&spec.update, errors);
        }
        WorkloadSpec::Job(JobSpec {
            completions,
            parallelism,
            active_deadline,
            ..
        })
        | WorkloadSpec::CronJob(CronJobSpec {
            completions,
            parallelism,
            active_deadline,
            ..
        }) => {
            errors.not_at_once("spec.activeDeadline", *active_deadline);
            for (path, number) in [
                ("spec.completions", *completions),
                ("spec.parallelism", *parallelism),
            ] {
                errors.at_least_one(path, number);
                errors.at_most(path, number, REPLICAS_MAX);
            }
        }
    }
    if let WorkloadSpec::CronJob(spec) = spec {
        errors.not_at_once("spec.startingDeadline", spec.starting_deadline);
        for (path, number) in [
            ("spec.history.completed", spec.history.completed),
            ("spec.history.failed", spec.history.failed),
        ] {
            errors.at_most(path, number, JOBS_KEPT_MAX);
        }
    }
}

fn update(policy: &UpdatePolicy, errors: &mut Errors) {
    errors.at_least_one("spec.update.parallelism", policy.parallelism);
    let stop_first = policy.order == Some(UpdateOrder::StopFirst);
    let start_first = policy.order == Some(UpdateOrder::StartFirst);
    // What is not said follows the order, which the server chooses where it is not said either.
    let no_surge = policy.max_surge.map_or(stop_first, |max| max == 0);
    let none_unavailable = policy.max_unavailable.map_or(start_first, |max| max == 0);
    if no_surge && none_unavailable {
        errors.push(
            if policy.max_unavailable.is_some() {
                "spec.update.maxUnavailable"
            } else {
                "spec.update.maxSurge"
            },
            "with neither surge nor unavailable instances nothing could be replaced",
        );
    }
    errors.within(
        "spec.update.minReady",
        policy.min_ready,
        Span::from_secs(3_600),
    );
    if policy.progress_deadline <= policy.min_ready {
        errors.push(
            "spec.update.progressDeadline",
            format!(
                "is {}, and has to be longer than minReady, which is {}",
                policy.progress_deadline, policy.min_ready
            ),
        );
    }
}

/// What is exclusive never runs twice, not even for an update; and what is not replaced, or stops by
/// itself, is not waited for.
fn disconnect(spec: &ServiceSpec, errors: &mut Errors) {
    let policy = &spec.disconnect;
    errors.not_at_once("spec.disconnect.stopAfter", policy.stop_after);
    if !policy.replace && !policy.lost_after.is_zero() {
        errors.push(
            "spec.disconnect.lostAfter",
            "with `replace: false` nothing is replaced, however long it is lost",
        );
    }
    if !spec.exclusive {
        return;
    }
    let never_twice = "an exclusive service never runs twice, so it is updated `stopFirst`";
    if spec.update.order == Some(UpdateOrder::StartFirst) {
        errors.push("spec.update.order", never_twice);
    }
    if spec.update.max_surge.is_some_and(|surge| surge > 0) {
        errors.push("spec.update.maxSurge", never_twice);
    }
    if spec.update.max_unavailable == Some(0) && spec.update.order.is_none() {
        errors.push(
            "spec.update.maxUnavailable",
            format!("at least 1: {never_twice}"),
        );
    }
    if spec.update.canary > 0 {
        errors.push("spec.update.canary", never_twice);
    }
}

/// A node has one instance of a daemon: there is no room for a second one beside it.
fn daemon_update(policy: &UpdatePolicy, errors: &mut Errors) {
    if policy.order == Some(UpdateOrder::StartFirst) {
        errors.push(
            "spec.update.order",
            "a daemon has one instance on a node, so it is updated `stopFirst`",
        );
    }
    if policy.max_surge.is_some_and(|surge| surge > 0) {
        errors.push(
            "spec.update.maxSurge",
            "a daemon has one instance on a node",
        );
    }
    // With an order, it has been told already.
    if policy.max_unavailable == Some(0) && policy.order.is_none() && policy.max_surge.is_none() {
        errors.push(
            "spec.update.maxUnavailable",
            "at least 1: a daemon is updated `stopFirst`",
        );
    }
    if policy.canary > 0 {
        errors.push("spec.update.canary", "a daemon has no canaries");
    }
}

#[cfg(test)]
mod tests;
