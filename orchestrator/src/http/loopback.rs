//! Who may speak to the server: only this machine, as long as there are no certificates.
//!
//! The listener is bound to a loopback address. That alone does not keep web pages out: a browser
//! on this machine carries a page's requests to any address, and a name that an attacker owns can
//! be pointed at 127.0.0.1 (DNS rebinding). So the name that the client believes it speaks to
//! (`Host`) and the page that makes it speak (`Origin`) have to be of this machine, too. Through an
//! SSH tunnel or a port-forward both are, since the client then speaks to `localhost`.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, Uri, header, uri::Authority};
use windlass_api::problem::Code;

use crate::{error::Error, trust::Encryption};

/// An address that a server must not listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "refused to listen on {address}: there are no certificates yet, so whoever reaches the API \
     commands every node; listen on 127.0.0.1:{port}, and reach it from other machines through a \
     tunnel, like `ssh -L {port}:127.0.0.1:{port} THIS-MACHINE`, or give the cluster certificates: \
     `windlass server init`",
    port = address.port()
)]
pub struct ListenError {
    /// The address.
    address: SocketAddr,
}

/// Whether a server may listen on `address`: on loopback addresses only, unless it encrypts.
///
/// # Errors
/// Says why not, and what to do instead.
pub fn check_listen(address: SocketAddr, encryption: Encryption) -> Result<(), ListenError> {
    if encryption == Encryption::Tls || address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ListenError { address })
    }
}

/// Whether a request was meant for this machine, by something on this machine.
pub(super) fn check(headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
    let host = single(headers, &header::HOST)?;
    // A request to a proxy names the host in its first line, too.
    let hosts: Vec<&str> = host
        .into_iter()
        .chain(uri.authority().map(Authority::as_str))
        .collect();
    if hosts.is_empty() {
        return Err(Error::malformed("the request has no host header"));
    }
    if let Some(host) = hosts.iter().find(|host| !is_loopback(host)) {
        let detail = format!(
            "the request is for host `{}`, and this server is reached as localhost or 127.0.0.1 \
             only: use one of these names, through a tunnel if you are on another machine",
            host.escape_default()
        );
        return Err(Error::new(Code::Forbidden, detail));
    }
    let Some(origin) = single(headers, &header::ORIGIN)? else {
        return Ok(());
    };
    let page = origin
        .split_once("://")
        .map_or(origin, |(_, authority)| authority);
    if is_loopback(page) {
        return Ok(());
    }
    let detail = format!(
        "the request comes from a web page of `{}`, and only pages of this machine may use the API",
        origin.escape_default()
    );
    Err(Error::new(Code::Forbidden, detail))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if values.next().is_none() => Ok(Some(text)),
        _ => Err(Error::malformed(format!(
            "the {name} header has to be one readable value"
        ))),
    }
}

/// Whether `HOST` or `HOST:PORT` names this machine.
fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    // `user@localhost` is no name of a host.
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        for good in [
            "127.0.0.1:7400",
            "127.8.9.1:1",
            "[::1]:7400",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(
                check_listen(good.parse().unwrap(), Encryption::None),
                Ok(()),
                "{good}"
            );
        }
        for bad in [
            "0.0.0.0:7400",
            "[::]:7400",
            "192.168.1.10:7400",
            "[fe80::1]:7400",
        ] {
            let address = bad.parse().unwrap();
            assert_eq!(check_listen(address, Encryption::Tls), Ok(()));
            let error = check_listen(address, Encryption::None)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(bad) && error.contains("ssh -L 7400:127.0.0.1:7400"),
                "{error}"
            );
        }
    }

    #[test]
    fn names_of_this_machine_are_known() {
        for good in [
            "localhost",
            "localhost:7400",
            "LOCALHOST.",
            "127.0.0.1:80",
            "[::1]:7400",
        ] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "localhost.example.com",
            "example.com:127.0.0.1",
            "user@localhost",
            "null",
            "127.0.0.1.example.com",
            "10.0.0.1",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn foreign_hosts_and_pages_are_kept_out() {
        let check = |host: Option<&str>, origin: Option<&str>, uri: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            check(&headers, &uri.parse().unwrap()).map_err(|e| e.problem().code)
        };
        let here = Some("localhost:7400");
        assert_eq!(check(here, None, "/"), Ok(()));
        assert_eq!(check(here, Some("http://127.0.0.1:3000"), "/"), Ok(()));
        assert_eq!(check(None, None, "http://127.0.0.1:7400/v1/server"), Ok(()));
        assert_eq!(check(None, None, "/"), Err(Code::Malformed));
        assert_eq!(check(Some("evil.example"), None, "/"), Err(Code::Forbidden));
        assert_eq!(
            check(here, None, "http://evil.example/"),
            Err(Code::Forbidden)
        );
        assert_eq!(
            check(here, Some("https://evil.example"), "/"),
            Err(Code::Forbidden)
        );
        assert_eq!(check(here, Some("null"), "/"), Err(Code::Forbidden));
    }
}
