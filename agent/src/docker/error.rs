//! What an error of the engine means.

use std::{io, time::Duration};

use bollard::errors::Error as Bollard;

use crate::runtime::{Error, ErrorKind};

/// What engines and their runtimes say of a container that cannot start as it is described.
const INVALID: [&str; 8] = [
    "executable file not found",
    ": no such file or directory",
    ": permission denied",
    ": not a directory",
    "exec format error",
    "unable to find user",
    "no matching entries in",
    "no command specified",
];
/// What stands before the reason in the message of a container that cannot start.
const START_PREFIXES: [&str; 2] = [
    "starting container process caused: ",
    "unable to start container process: ",
];

/// Translates an engine's error; `doing` says what was tried, like `start the container`.
pub(super) fn translate(socket: &str, doing: &str, error: Bollard) -> Error {
    match error {
        Bollard::DockerResponseServerError {
            status_code,
            message,
        } => refused(doing, status_code, &message),
        Bollard::DockerStreamError { error } => refused(doing, 500, &error),
        Bollard::SocketNotFoundError(_) => unreachable(socket, "there is no such socket"),
        Bollard::RequestTimeoutError => silent(socket, doing, "in time"),
        error @ (Bollard::IOError { .. }
        | Bollard::HyperResponseError { .. }
        | Bollard::HyperLegacyError { .. }) => unreachable(socket, &root_cause(&error)),
        other => Error {
            kind: ErrorKind::Other,
            message: format!("cannot {doing}: {other}"),
        },
    }
}

/// A call that did not come back.
pub(super) fn timed_out(socket: &str, doing: &str, limit: Duration) -> Error {
    silent(socket, doing, &format!("within {} s", limit.as_secs()))
}

fn silent(socket: &str, doing: &str, when: &str) -> Error {
    Error {
        kind: ErrorKind::Unreachable,
        message: format!(
            "cannot {doing}: no answer {when} from docker at {socket}; look at docker's own log"
        ),
    }
}

/// The one line for an engine that cannot be reached: where, why, and what to do.
fn unreachable(socket: &str, why: &str) -> Error {
    let advice = if why.contains("permission denied") {
        "run as root, or as a member of the group `docker`"
    } else {
        "start docker, or set DOCKER_HOST to its socket"
    };
    Error {
        kind: ErrorKind::Unreachable,
        message: format!("cannot reach docker at {socket}: {why}; {advice}"),
    }
}

/// The innermost reason of an error, like `connection refused`.
fn root_cause(error: &Bollard) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) => "there is no such socket".to_owned(),
        Some(kind @ (io::ErrorKind::PermissionDenied | io::ErrorKind::ConnectionRefused)) => {
            kind.to_string()
        }
        _ => cause.to_string().to_lowercase(),
    }
}

/// An engine that answered, and said no.
pub(super) fn refused(doing: &str, status: u16, message: &str) -> Error {
    let kind = classify(status, message);
    let message = match kind {
        ErrorKind::PortTaken => match taken_port(message) {
            Some(port) => format!("port {port} of the node is taken by something else"),
            None => message.to_owned(),
        },
        ErrorKind::Invalid => essence(message).to_owned(),
        _ => message.trim().to_owned(),
    };
    Error {
        kind,
        message: format!("cannot {doing}: {message}"),
    }
}

fn classify(status: u16, message: &str) -> ErrorKind {
    let text = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["no space left on device"]) {
        ErrorKind::NoSpace
    } else if says(&["port is already allocated", "address already in use"]) {
        ErrorKind::PortTaken
    } else if status == 404 && says(&["no such image"]) {
        ErrorKind::ImageMissing
    } else if status == 404 && says(&["no such container"]) {
        ErrorKind::NoSuchContainer
    } else if status == 404 && (says(&["could not find the file"]) || text.is_empty()) {
        // The answer to a question for a file's state has no body.
        ErrorKind::NoSuchFile
    } else if status == 409 && says(&["is already in use by container"]) {
        ErrorKind::NameTaken
    } else if status == 409 && says(&["marked for removal", "is already in progress"]) {
        ErrorKind::BeingRemoved
    } else if status == 400 || says(&INVALID) {
        ErrorKind::Invalid
    } else {
        ErrorKind::Other
    }
}

/// The host port of `Bind for 0.0.0.0:8080 failed` or `listen tcp4 0.0.0.0:8080: bind: ...`.
fn taken_port(message: &str) -> Option<u16> {
    let (_, address) = message
        .split_once("Bind for ")
        .or_else(|| message.split_once("listen "))?;
    let (address, _) = address
        .split_once(" failed")
        .or_else(|| address.split_once(": bind"))?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// The reason in a runtime's message, which wraps it several times.
fn essence(message: &str) -> &str {
    let reason = START_PREFIXES
        .iter()
        .find_map(|prefix| message.split_once(prefix));
    let reason = reason.map_or(message, |(_, reason)| reason).trim();
    reason.strip_suffix(": unknown").unwrap_or(reason)
}

/// The network of ours that an engine misses when it starts a container.
pub(super) fn missing_network(error: &Error) -> Option<String> {
    let (_, rest) = error.message.split_once("network ")?;
    rest.split_once(" not found")
        .map(|(name, _)| name.to_owned())
}

/// Whether a network was not removed because it is gone already, or a container uses it.
pub(super) fn is_network_gone_or_used(error: &Error) -> bool {
    missing_network(error).is_some() || error.message.contains("has active endpoints")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_engine_are_classified() {
        for (status, message, kind) in [
            (
                500,
                "Bind for 0.0.0.0:80 failed: port is already allocated",
                ErrorKind::PortTaken,
            ),
            (
                500,
                "listen tcp4 0.0.0.0:80: bind: address already in use",
                ErrorKind::PortTaken,
            ),
            (404, "No such image: nginx:9", ErrorKind::ImageMissing),
            (404, "No such container: abc", ErrorKind::NoSuchContainer),
            (
                409,
                "removal of container a is already in progress",
                ErrorKind::BeingRemoved,
            ),
            (
                409,
                "Conflict. The container name \"/x\" is already in use by container \"y\".",
                ErrorKind::NameTaken,
            ),
            (
                409,
                "You cannot remove a running container a.",
                ErrorKind::Other,
            ),
            (
                400,
                "exec: \"x\": executable file not found in $PATH",
                ErrorKind::Invalid,
            ),
            (
                500,
                "exec: \"/etc\": permission denied: unknown",
                ErrorKind::Invalid,
            ),
            (
                400,
                "unable to find user x: no matching entries in passwd file",
                ErrorKind::Invalid,
            ),
            (
                500,
                "write /var/lib/docker/tmp: no space left on device",
                ErrorKind::NoSpace,
            ),
            (404, "network x not found", ErrorKind::Other),
            (
                404,
                "Could not find the file /x in container a",
                ErrorKind::NoSuchFile,
            ),
            (404, "", ErrorKind::NoSuchFile),
            (500, "something else", ErrorKind::Other),
        ] {
            assert_eq!(classify(status, message), kind, "{message}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let message = "driver failed programming external connectivity on endpoint a (b): \
                       Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address \
                       already in use";
        assert_eq!(taken_port(message), Some(8080));
        assert_eq!(
            taken_port("Bind for :::443 failed: port is already allocated"),
            Some(443)
        );
        assert_eq!(
            refused("start the container", 500, message).message,
            "cannot start the container: port 8080 of the node is taken by something else"
        );
    }

    #[test]
    fn the_reason_of_a_failed_start_is_not_buried() {
        let message = "failed to create shim task: OCI runtime create failed: runc create failed: \
                       unable to start container process: exec: \"x\": executable file not found \
                       in $PATH: unknown";
        assert_eq!(
            essence(message),
            "exec: \"x\": executable file not found in $PATH"
        );
        assert_eq!(essence("no command specified"), "no command specified");
    }

    #[test]
    fn a_missing_network_is_recognised() {
        let error = refused(
            "start the container",
            404,
            "network windlass.a.n1.shop not found",
        );
        assert_eq!(
            missing_network(&error).as_deref(),
            Some("windlass.a.n1.shop")
        );
        let other = refused("start the container", 500, "something else");
        assert_eq!(missing_network(&other), None);
    }

    #[test]
    fn a_refused_connection_names_the_socket_and_the_remedy() {
        let io = |kind: io::ErrorKind| Bollard::IOError { err: kind.into() };
        let denied = translate("/s", "list containers", io(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.kind, ErrorKind::Unreachable);
        assert_eq!(
            denied.message,
            "cannot reach docker at /s: permission denied; run as root, or as a member of the \
             group `docker`"
        );
        let refused = translate(
            "/s",
            "list containers",
            io(io::ErrorKind::ConnectionRefused),
        );
        assert!(
            refused
                .message
                .ends_with("connection refused; start docker, or set DOCKER_HOST to its socket")
        );
    }
}
