//! Makes single checks.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::net::{TcpSocket, TcpStream};
use windlass_api::spec::{self, HttpCheck, Port, PortRef, Probe};

use self::http::Get;
use super::{life::Outcome, shortened};

mod exec;
mod grpc;
mod http;

pub(super) use exec::{Command, Ending};

/// How much of a path or a command is repeated to people, in characters.
const NAME_CHARS_MAX: usize = 60;

/// What is checked, made from a probe once and used many times.
#[derive(Debug, Clone)]
pub(super) enum Check {
    /// Over the container's network.
    Network(Arc<Dial>),
    /// In the container, by the engine.
    Exec(Arc<Command>),
    /// Nothing can be, and why. The server accepts no such probe, so this is one of another
    /// version.
    Impossible(Arc<str>),
}

/// A check over the container's network.
#[derive(Debug)]
pub(super) struct Dial {
    port: u16,
    ask: Ask,
}

#[derive(Debug)]
enum Ask {
    /// Whether somebody listens.
    Tcp,
    /// See [`spec::HttpCheck`].
    Http(Box<Get>),
    /// The service to ask for; see [`spec::GrpcCheck`].
    Grpc(String),
}

impl Check {
    /// The check that a probe makes of a container with these ports.
    pub(super) fn new(probe: &Probe, ports: &[Port]) -> Self {
        Self::try_new(probe, ports).unwrap_or_else(|why| Self::Impossible(why.into()))
    }

    fn try_new(probe: &Probe, ports: &[Port]) -> Result<Self, String> {
        let check = probe.checks().next();
        let dial = match check.ok_or("it says nothing to check")? {
            spec::Check::Exec(exec) => return Ok(Self::Exec(Arc::new(Command::new(exec)))),
            spec::Check::Tcp(tcp) => Dial {
                port: number(&tcp.port, ports)?,
                ask: Ask::Tcp,
            },
            spec::Check::Http(http) => Dial::http(http, ports)?,
            spec::Check::Grpc(grpc) => Dial {
                port: number(&grpc.port, ports)?,
                ask: Ask::Grpc(grpc.service.clone().unwrap_or_default()),
            },
        };
        Ok(Self::Network(Arc::new(dial)))
    }
}

impl Dial {
    fn http(check: &HttpCheck, ports: &[Port]) -> Result<Self, String> {
        Ok(Self {
            port: number(&check.port, ports)?,
            ask: Ask::Http(Box::new(Get::new(check)?)),
        })
    }

    /// Makes the check of the container at `address`. Without a time limit. Cancel-safe: what it
    /// opened is closed.
    pub(super) async fn make(&self, address: Option<IpAddr>) -> Outcome {
        match self.ask(address).await {
            Ok(()) => Outcome::Passed,
            Err(saw) => Outcome::Failed(saw),
        }
    }

    /// Says what was seen unless it is well.
    async fn ask(&self, address: Option<IpAddr>) -> Result<(), String> {
        let address = address.ok_or_else(|| format!("{self}: the container has no address"))?;
        let address = SocketAddr::new(address, self.port);
        let stream = connect(address).await;
        let stream = stream.map_err(|error| format!("{self}: {}", words(&error)))?;
        let seen = match &self.ask {
            Ask::Tcp => Ok(()),
            Ask::Http(get) => get.ask(stream, address).await,
            Ask::Grpc(service) => grpc::ask(stream, address, service).await,
        };
        seen.map_err(|saw| format!("{self} {saw}"))
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ask {
            Ask::Tcp => write!(f, "tcp :{}", self.port),
            Ask::Http(get) => write!(f, "GET :{}{get}", self.port),
            Ask::Grpc(service) if service.is_empty() => write!(f, "grpc :{}", self.port),
            Ask::Grpc(service) => {
                let service = shortened(service, NAME_CHARS_MAX);
                write!(f, "grpc :{} {service}", self.port)
            }
        }
    }
}

/// Makes one request like that of a probe to a container at `address`, whose port is given by its
/// number, and says what was seen unless it is well. Without a time limit. Cancel-safe: what it
/// opened is closed.
pub(crate) async fn get(check: &HttpCheck, address: Option<IpAddr>) -> Result<(), String> {
    Dial::http(check, &[])?.ask(address).await
}

/// The number of a port.
fn number(port: &PortRef, ports: &[Port]) -> Result<u16, String> {
    match port {
        PortRef::Number(number) => Ok(*number),
        PortRef::Name(name) => ports
            .iter()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container)
            .ok_or_else(|| format!("the container has no port `{name}`")),
    }
}

/// Connects. The connection ends with a reset: one that is closed in order keeps its local port
/// for another minute, of which thousands would pile up.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_zero_linger()?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// An error in few words: what the kernel says, without its number.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to the container".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
