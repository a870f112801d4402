//! A link that takes its time. Not every kernel can delay packets, so a relay on the host stands in
//! for one: what comes is passed on a while later, in both directions, as much as comes.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use crate::harness::namespace::Namespace;

use super::network::{PORT, SERVER, nft};

/// How many pieces of up to 16 KiB are on their way in one direction; more wait with the sender.
const PIECES_MAX: usize = 1_024;

/// Delays what a host and the server send to each other from now on, for as long as the lab exists.
/// Connections that are open are not affected: end them, by restarting the agent.
pub(crate) fn delay(host: &Namespace, by: Duration) {
    nft(host, "flush chain ip lab leaving\n");
    host.inside(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).expect("a free port");
        // It stays in this network, as do the threads that it starts.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || serve(client, by));
            }
        });
    });
}

fn serve(client: TcpStream, by: Duration) {
    // The way there takes as long as that of the first packet.
    thread::sleep(by);
    let server = SocketAddr::new(SERVER.parse().expect("an address"), PORT);
    let Ok(server) = TcpStream::connect_timeout(&server, Duration::from_secs(10)) else {
        return;
    };
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    thread::spawn(move || direction(from_client, to_server, by));
    direction(server, client, by);
}

/// Passes on one direction.
fn direction(from: TcpStream, to: TcpStream, by: Duration) {
    let (pieces, arriving) = sync_channel(PIECES_MAX);
    thread::spawn(move || arrive(&arriving, to));
    depart(from, &pieces, by);
}

fn depart(mut from: TcpStream, pieces: &SyncSender<(Instant, Vec<u8>)>, by: Duration) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).unwrap_or_default();
        let piece = buffer[..read].to_vec();
        // The end is as late as everything else.
        if pieces.send((Instant::now() + by, piece)).is_err() || read == 0 {
            return;
        }
    }
}

fn arrive(arriving: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (at, piece) in arriving {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if piece.is_empty() || to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
