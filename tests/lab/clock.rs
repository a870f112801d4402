//! A clock of the wall that jumps. The kernel has one for all hosts, so `libfaketime` stands between a
//! program and it; how time passes (the monotonic clocks) is left alone, as when a real clock is set.

use std::{fs, path::PathBuf, process::Command};

/// Where Debian has what belongs to each kind of machine.
const LIBRARIES: &str = "/usr/lib";

/// The clock of a program.
#[derive(Debug)]
pub(crate) struct Clock {
    library: PathBuf,
    /// By how much it is wrong.
    file: PathBuf,
}

impl Clock {
    /// One that is right.
    pub(crate) fn new(file: PathBuf) -> Self {
        let library = library().expect("`libfaketime`");
        let clock = Self { library, file };
        clock.set("+0");
        clock
    }

    /// Sets it wrong by so much, like `+24h`, from now on.
    pub(crate) fn set(&self, by: &str) {
        // Replaced whole: a program reads it all the time.
        let new = self.file.with_extension("new");
        fs::write(&new, by).expect("a file");
        fs::rename(&new, &self.file).expect("a file");
    }

    /// Gives it to a program.
    pub(crate) fn give(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

fn library() -> Option<PathBuf> {
    let mut machines = fs::read_dir(LIBRARIES).ok()?.flatten();
    machines.find_map(|machine| {
        let library = machine.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    })
}
