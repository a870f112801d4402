//! The probes of a container, and what it does before it stops.

use super::Errors;
use crate::{
    duration::Span,
    spec::{Check, ContainerSpec, ExecCheck, HttpCheck, PortRef, Probe},
};

/// The longest wait, interval or time limit of a probe.
const SPAN_MAX: Span = Span::from_secs(3_600);
/// The shortest interval of a probe: 200 containers on a node are then 2,000 checks a second.
const INTERVAL_MIN: Span = Span::from_millis(100);
/// The highest threshold.
const THRESHOLD_MAX: u32 = 1_000;

pub(super) fn check(container: &ContainerSpec, at: &str, errors: &mut Errors) {
    for (name, probe) in container.probes.each() {
        let at = format!("{at}.probes.{name}");
        one_probe(container, probe, &at, errors);
        if name != "readiness" && probe.success_threshold != 1 {
            errors.push(
                format!("{at}.successThreshold"),
                "always 1, but for a readiness probe",
            );
        }
    }
    let Some(pre_stop) = &container.pre_stop else {
        return;
    };
    let at = format!("{at}.preStop");
    let named = [
        pre_stop.exec.is_some(),
        pre_stop.http.is_some(),
        pre_stop.sleep.is_some(),
    ];
    let count = named.into_iter().filter(|named| *named).count();
    exactly_one(count, "`exec`, `http` and `sleep`", &at, errors);
    if let Some(exec) = &pre_stop.exec {
        command(exec, &format!("{at}.exec"), errors);
    }
    if let Some(http) = &pre_stop.http {
        request(container, http, &format!("{at}.http"), errors);
    }
    if let Some(sleep) = pre_stop.sleep {
        errors.within(&format!("{at}.sleep"), sleep, SPAN_MAX);
    }
}

fn one_probe(container: &ContainerSpec, probe: &Probe, at: &str, errors: &mut Errors) {
    let count = probe.checks().count();
    exactly_one(count, "`http`, `tcp`, `exec` and `grpc`", at, errors);
    for check in probe.checks() {
        match check {
            Check::Http(http) => request(container, http, &format!("{at}.http"), errors),
            Check::Tcp(tcp) => port(container, &tcp.port, &format!("{at}.tcp"), errors),
            Check::Exec(exec) => command(exec, &format!("{at}.exec"), errors),
            Check::Grpc(grpc) => port(container, &grpc.port, &format!("{at}.grpc"), errors),
        }
    }
    errors.within(&format!("{at}.delay"), probe.delay, SPAN_MAX);
    errors.within(&format!("{at}.interval"), probe.interval, SPAN_MAX);
    errors.within(&format!("{at}.timeout"), probe.timeout, SPAN_MAX);
    if probe.interval < INTERVAL_MIN {
        errors.push(format!("{at}.interval"), format!("at least {INTERVAL_MIN}"));
    }
    if probe.timeout == Span::default() {
        errors.push(format!("{at}.timeout"), "at least 1ms");
    }
    for (field, threshold) in [
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        let path = format!("{at}.{field}");
        errors.at_least_one(&path, threshold);
        errors.at_most(&path, threshold, THRESHOLD_MAX);
    }
}

fn exactly_one(count: usize, of: &str, at: &str, errors: &mut Errors) {
    match count {
        0 => errors.missing(at, format!("must have exactly one of {of}, and has none")),
        1 => {}
        more => errors.push(at, format!("must have exactly one of {of}, and has {more}")),
    }
}

fn command(exec: &ExecCheck, at: &str, errors: &mut Errors) {
    let path = format!("{at}.command");
    errors.entries(&path, exec.command.len());
    if exec.command.first().is_none_or(String::is_empty) {
        errors.push(path.as_str(), "must begin with the program to run");
    }
    for (i, word) in exec.command.iter().enumerate() {
        errors.no_nul(format!("{path}[{i}]"), word);
    }
}

fn request(container: &ContainerSpec, http: &HttpCheck, at: &str, errors: &mut Errors) {
    port(container, &http.port, at, errors);
    let fit = |c: char| c.is_ascii_graphic();
    if !http.path.starts_with('/') || !http.path.chars().all(fit) {
        errors.push(
            format!("{at}.path"),
            "must begin with `/`, with all but visible ASCII characters percent-encoded",
        );
    }
    errors.entries(&format!("{at}.headers"), http.headers.len());
    for (name, value) in &http.headers {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let well_formed = !name.is_empty() && name.bytes().all(token);
        if !well_formed || value.0.chars().any(char::is_control) {
            errors.push(
                format!("{at}.headers.{name}"),
                "is not a header of HTTP: its name has letters, digits and `-`, its value is one line",
            );
        }
    }
}

/// A port by its name has to be one of the container.
fn port(container: &ContainerSpec, port: &PortRef, at: &str, errors: &mut Errors) {
    let path = format!("{at}.port");
    match port {
        PortRef::Number(0) => errors.push(path, "a port is a number from 1 to 65535"),
        PortRef::Number(_) => {}
        PortRef::Name(name) => {
            let known = |named: &&crate::ids::PortName| *named == name;
            let names = container.ports.iter().filter_map(|p| p.name.as_ref());
            if names.filter(known).count() == 0 {
                errors.missing(
                    path,
                    format!("the container has no port of the name `{name}` in its `ports`"),
                );
            }
        }
    }
}
