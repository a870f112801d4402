//! `windlass port-forward`.

use std::{io::Write, net::Ipv4Addr, str::FromStr};

use clap::Args;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use windlass_api::{client::Client, ids::InstanceId, socket};

use super::{Context, process, target::Target};
use crate::{
    cli::Named,
    error::{Exit, Failure},
    output,
};

/// The most connections at a time, of all ports: what a few browsers open, and half of what the
/// server has for everybody.
const CONNECTIONS_MAX: usize = 64;

/// Make ports of an instance reachable on this machine
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass port-forward web 8080:80     http://127.0.0.1:8080 is port 80 of web
  windlass port-forward web-0-1 0:5432  at a port that is free, which is printed

The name of a workload stands for its first running instance. Only this machine reaches the ports.
The program has to listen on all addresses of its container, not only on 127.0.0.1.")]
pub(crate) struct PortForward {
    /// The instance, or a workload
    name: Named<InstanceId>,
    /// Ports as `[LOCAL:]REMOTE`; the local one is the same unless it is named, and any if it is 0
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<Ports>,
}

/// A port of this machine and one of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let port = |text: &str| {
            text.parse::<u16>()
                .map_err(|_| format!("`{text}` is not a port: it is a number up to 65535"))
        };
        let (local, remote) = match s.split_once(':') {
            Some((local, remote)) => (port(local)?, port(remote)?),
            None => (port(s)?, port(s)?),
        };
        if remote == 0 {
            return Err("the port of the instance cannot be 0".to_owned());
        }
        Ok(Self { local, remote })
    }
}

impl PortForward {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let asked = process::asked_to_stop()?;
        let target = Target::find(context, &self.name).await?;
        let mut doors = JoinSet::new();
        for ports in self.ports {
            let listener = listen(ports).await?;
            let address = listener.local_addr()?;
            writeln!(
                output::stdout(),
                "forwarding {address} to port {} of {}",
                ports.remote,
                target.id
            )?;
            doors.spawn(serve(
                listener,
                context.client.clone(),
                target.clone(),
                ports.remote,
            ));
        }
        // Cancel-safe, both.
        tokio::select! {
            () = asked => Ok(()),
            Some(ended) = doors.join_next() => match ended {
                Ok(error) => Err(Failure::new(
                    Exit::Failed,
                    format!("cannot accept connections any more: {error}"),
                )),
                Err(error) => Err(Failure::new(Exit::Failed, error.to_string())),
            },
        }
    }
}

async fn listen(ports: Ports) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.local)).await;
    bound.map_err(|error| {
        let Ports { local, remote } = ports;
        let detail = format!("cannot listen on port {local} of this machine: {error}");
        Failure::new(Exit::Failed, detail).hint(format!(
            "name another port, like {}:{remote}, or let one be chosen: 0:{remote}",
            if local < 1024 {
                8000 + local
            } else {
                local.saturating_add(1)
            }
        ))
    })
}

/// Forwards what comes, until no more can be accepted.
async fn serve(listener: TcpListener, client: Client, target: Target, port: u16) -> std::io::Error {
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe, both.
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(forward(stream, client.clone(), target.clone(), port));
                }
                Err(error) => return error,
            },
            Some(ended) = connections.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => output::say(&format!("port {port}: {reason}")),
                Err(error) => output::say(&format!("port {port}: {error}")),
            },
        }
    }
}

async fn forward(
    stream: TcpStream,
    client: Client,
    target: Target,
    port: u16,
) -> Result<(), String> {
    // What somebody waits for is not held back. Without it, it is only slower.
    let _slower = stream.set_nodelay(true);
    let opened = client.forward(&target.namespace, &target.id, port).await;
    let socket = opened.map_err(|error| error.to_string())?;
    let tunnel = socket::tunnel(stream, socket::split(socket)).await;
    tunnel.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_the_same_unless_both_are_named() {
        let ports = |local, remote| Ok(Ports { local, remote });
        assert_eq!("80".parse(), ports(80, 80));
        assert_eq!("8080:80".parse(), ports(8080, 80));
        assert_eq!("0:80".parse(), ports(0, 80));
        for bad in ["", ":", "80:", ":80", "0", "1:0", "http", "99999", "1:2:3"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
    }
}
