//! Terminals that programs are started in.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::harness::PATIENCE;

/// A terminal that a program is in front of, and what came out of it.
pub(crate) struct Terminal {
    master: OwnedFd,
    pub(crate) seen: Arc<Mutex<String>>,
}

impl Terminal {
    pub(crate) fn open(rows: u16, columns: u16) -> (Self, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = name.into_string().unwrap();
        let slave = File::options().read(true).write(true).open(path).unwrap();
        let terminal = Self {
            master,
            seen: Arc::default(),
        };
        terminal.resize(rows, columns);
        let mut reader = File::from(terminal.master.try_clone().unwrap());
        let seen = Arc::clone(&terminal.seen);
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]);
                seen.lock().unwrap().push_str(&text);
            }
        });
        (terminal, slave)
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(self.master.as_fd(), size).unwrap();
    }

    pub(crate) fn until(&self, text: &str) {
        let began = Instant::now();
        loop {
            let seen = self.seen.lock().unwrap().clone();
            if seen.contains(text) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "no {text} in {seen:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn press(&self, keys: &[u8]) {
        rustix::io::write(&self.master, keys).unwrap();
    }
}
