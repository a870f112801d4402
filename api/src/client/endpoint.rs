//! Where a server is, and how it is spoken to.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc};

use http::{HeaderValue, Uri, uri::Authority};
use rustls::ClientConfig;

use super::Error;
use crate::DEFAULT_ADDRESS;

/// The address of a server, as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `http://HOST:PORT`, or `HOST` with or without a port: not encrypted.
    Http(Authority),
    /// `https://HOST:PORT`: encrypted.
    Https(Authority),
    /// `unix:PATH`: the socket of a server on this machine.
    Unix(PathBuf),
}

/// A server, and how it is spoken to.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// Over the network, not encrypted.
    Http(Authority),
    /// Over the network, encrypted.
    Https {
        /// Where it is. Whoever is there must have the certificate of a server of the cluster, which
        /// does not name addresses.
        authority: Authority,
        /// Whom to believe.
        config: Arc<ClientConfig>,
        /// What to show. Absent: one is a stranger.
        token: Option<Bearer>,
    },
    /// Over a socket on this machine.
    Unix(PathBuf),
}

/// A token, as it is shown to a server. It is redacted in logs.
#[derive(Debug, Clone)]
pub struct Bearer(HeaderValue);

/// A string is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token has letters, digits and dashes only")]
pub struct BearerError;

impl Bearer {
    /// Takes a token.
    ///
    /// # Errors
    /// It has characters that no token has.
    pub fn new(token: &str) -> Result<Self, BearerError> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| BearerError)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// The value of the `authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl Endpoint {
    /// A server that does not encrypt, at this address.
    ///
    /// # Panics
    /// Never: such an address is one in URLs, too.
    #[must_use]
    pub fn http(address: SocketAddr) -> Self {
        let authority = address.to_string().parse();
        Self::Http(authority.expect("it is `HOST:PORT`"))
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> Address {
        match self {
            Self::Http(authority) => Address::Http(authority.clone()),
            Self::Https { authority, .. } => Address::Https(authority.clone()),
            Self::Unix(path) => Address::Unix(path.clone()),
        }
    }

    /// What the paths of requests are appended to.
    pub(super) fn base(&self) -> Uri {
        let (scheme, authority) = match self {
            Self::Http(authority) => ("http", authority.as_str()),
            Self::Https { authority, .. } => ("https", authority.as_str()),
            // Nobody is looked up by it. It is what the server is called on its own machine.
            Self::Unix(_) => ("http", "localhost"),
        };
        let base = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query("/");
        base.build().expect("scheme and authority are valid")
    }

    pub(super) fn token(&self) -> Option<&Bearer> {
        match self {
            Self::Https { token, .. } => token.as_ref(),
            Self::Http(_) | Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::Https(authority) => write!(f, "https://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        parse(s).map_err(|why| Error::Address {
            address: s.to_owned(),
            why,
        })
    }
}

fn parse(address: &str) -> Result<Address, String> {
    if let Some(path) = address.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.starts_with('/') {
            Ok(Address::Unix(PathBuf::from(path)))
        } else {
            Err("the path of its socket does not begin with `/`".to_owned())
        };
    }
    let uri = parse_url(address)?;
    let Some(authority) = uri.authority().cloned() else {
        return Err("it names no host".to_owned());
    };
    match uri.scheme_str() {
        Some("http") => Ok(Address::Http(authority)),
        Some("https") => Ok(Address::Https(authority)),
        _ => Err("only http://, https:// and unix: are spoken".to_owned()),
    }
}

/// An address with a scheme is a URL; one without is a host, on the usual port unless it names one.
fn parse_url(address: &str) -> Result<Uri, String> {
    let parse = |text: String| {
        text.parse::<Uri>()
            .map_err(|e: http::uri::InvalidUri| e.to_string())
    };
    let is_url = address.contains("://");
    let mut uri = if is_url {
        parse(address.to_owned())?
    } else {
        parse(format!("http://{address}"))?
    };
    let host = uri.host().unwrap_or_default().to_owned();
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err("it names a user".to_owned());
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err("it has a path".to_owned());
    }
    if uri.port_u16().is_none() {
        // Whatever follows the host is no port then.
        if uri
            .authority()
            .is_some_and(|a| !a.as_str().ends_with(&host))
        {
            return Err("the port is not a number up to 65535".to_owned());
        }
        if !is_url {
            let (_, port) = DEFAULT_ADDRESS.rsplit_once(':').unwrap_or_default();
            uri = parse(format!("http://{address}:{port}"))?;
        }
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_scheme_are_understood() {
        for (text, understood) in [
            ("127.0.0.1:7400", "http://127.0.0.1:7400"),
            ("http://127.0.0.1:7400", "http://127.0.0.1:7400"),
            ("http://site.local/", "http://site.local"),
            ("[::1]:7400", "http://[::1]:7400"),
            ("site", "http://site:7400"),
            ("[::1]", "http://[::1]:7400"),
            ("site:80", "http://site:80"),
            ("http://site", "http://site"),
            ("https://a:1", "https://a:1"),
            ("https://site/", "https://site"),
            ("unix:/run/windlass.sock", "unix:/run/windlass.sock"),
            ("unix:///run/windlass.sock", "unix:/run/windlass.sock"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), understood);
            assert_eq!(understood.parse::<Address>().unwrap(), address);
        }
        for bad in [
            "",
            "http://",
            "https://",
            "http://a/path",
            "a b",
            "http://a?x=1",
            "ftp://a",
            "a:99999",
            "a:",
            "http://a:-1",
            "https://user@a:1",
            "unix:",
            "unix:windlass.sock",
        ] {
            bad.parse::<Address>().unwrap_err();
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Bearer::new("wla_hunter2").unwrap();
        assert!(!format!("{token:?}").contains("hunter2"));
        assert_eq!(token.header().to_str().unwrap(), "Bearer wla_hunter2");
        assert!(Bearer::new("wla_\n").is_err());
    }
}
