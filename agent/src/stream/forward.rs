//! A connection to a port of an instance.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};

/// How long an instance may take to accept a connection: it is on the same machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Connects to a port of an instance.
pub(super) async fn connect(address: IpAddr, port: u16) -> Result<TcpStream, String> {
    let address = SocketAddr::new(address, port);
    let connected = timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(format!(
                "nothing in the instance listens on port {port}, or only on its own loopback"
            ));
        }
        Ok(Err(error)) => return Err(format!("no connection to {address}: {error}")),
        Err(_) => {
            let limit = CONNECT_WITHIN.as_secs();
            return Err(format!("no connection to {address} within {limit} s"));
        }
    };
    // What somebody waits for is not held back. Without it, it is only slower.
    let _slower = stream.set_nodelay(true);
    Ok(stream)
}
