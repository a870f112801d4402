//! A socket between agents and Docker that can be made to hang or to refuse, so that an outage
//! can be had without stopping the machine's engine.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

/// What the socket does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// It passes everything on.
    Open = 0,
    /// It passes nothing on, and closes nothing: the engine hangs.
    Hang = 1,
    /// It closes every connection: the engine is stopped.
    Refuse = 2,
}

/// The socket.
pub(crate) struct Proxy {
    path: PathBuf,
    mode: Arc<AtomicU8>,
}

impl Proxy {
    pub(crate) fn start(dir: &Path) -> Self {
        let path = dir.join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let mode = Arc::new(AtomicU8::new(Mode::Open as u8));
        let current = Arc::clone(&mode);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let current = Arc::clone(&current);
                thread::spawn(move || serve(client, &current));
            }
        });
        Self { path, mode }
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }
}

fn serve(client: UnixStream, mode: &Arc<AtomicU8>) {
    if mode.load(Ordering::SeqCst) == Mode::Refuse as u8 {
        return;
    }
    let Ok(engine) = UnixStream::connect("/var/run/docker.sock") else {
        return;
    };
    let (Ok(from), Ok(to)) = (client.try_clone(), engine.try_clone()) else {
        return;
    };
    let up = Arc::clone(mode);
    thread::spawn(move || pump(from, to, &up));
    pump(engine, client, mode);
}

/// Copies one direction, as the mode allows.
fn pump(mut from: UnixStream, mut to: UnixStream, mode: &AtomicU8) {
    let mut buffer = [0; 16 << 10];
    let _ = from.set_read_timeout(Some(Duration::from_millis(100)));
    loop {
        let mode = mode.load(Ordering::SeqCst);
        if mode == Mode::Refuse as u8 {
            break;
        }
        if mode == Mode::Hang as u8 {
            thread::sleep(Duration::from_millis(50));
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                if to.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
