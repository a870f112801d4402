//! Checks a store in a process of its own, before the server opens it: on a damaged file the
//! engine can panic in a thread of its own, abort or never return.

use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{Error, Result, Summary, SystemMedium, data_dir::DataDir, opening};

/// The store cannot be used, for a reason that whoever opens it will find again in safety.
const EXIT_UNUSABLE: u8 = 3;

/// How much of the child's messages is kept. One line of it is shown.
const STDERR_BYTES_MAX: u64 = 64 << 10;

/// The program that checks a store: it is given the data directory as its last argument and calls
/// [`verify_process`].
#[derive(Debug, Clone)]
pub struct Verifier {
    /// The program.
    pub program: PathBuf,
    /// Its arguments before the directory.
    pub args: Vec<OsString>,
    /// How long it may take. A store of 1 GB is read in seconds, also from a slow disk.
    pub limit: Duration,
}

impl Verifier {
    /// A generous limit.
    pub const LIMIT: Duration = Duration::from_secs(120);

    /// Runs the program.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it finds the store damaged, dies or takes too long.
    pub(super) fn check(&self, dir: &DataDir) -> Result<()> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .arg(dir.root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io("run", &self.program))?;
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, receiver) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("store-verify".to_owned())
            .spawn(move || sender.send(read_messages(stderr)))
            .map_err(Error::io("watch", &self.program))?;
        // It closes its stderr when it ends.
        let messages = receiver.recv_timeout(self.limit);
        if messages.is_err() {
            child.kill().map_err(Error::io("stop", &self.program))?;
        }
        let status = child.wait().map_err(Error::io("wait for", &self.program))?;
        let Ok(messages) = messages else {
            let what = format!("checking it took longer than {:?}", self.limit);
            return Err(dir.corrupt(what));
        };
        if status.success() || status.code() == Some(EXIT_UNUSABLE.into()) {
            return Ok(());
        }
        let reason = messages.lines().rfind(|line| !line.trim().is_empty());
        Err(dir.corrupt(reason.map_or_else(|| status.to_string(), str::to_owned)))
    }
}

fn read_messages(mut stderr: impl Read) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is not shown; how the child ended counts.
    let kept = stderr
        .by_ref()
        .take(STDERR_BYTES_MAX)
        .read_to_end(&mut bytes);
    let drained = kept.and_then(|_| std::io::copy(&mut stderr, &mut std::io::sink()));
    if let Err(error) = drained {
        tracing::warn!(%error, "the messages of the store's check were cut off");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Opens the store in `data_dir`, reads all of it and closes it again.
///
/// # Errors
/// Whatever keeps a server from using the store, [`Error::Locked`] if one does.
pub fn verify(data_dir: &Path) -> Result<Summary> {
    let dir = DataDir::new(data_dir);
    if !dir.has_store() {
        let missing = std::io::ErrorKind::NotFound.into();
        return Err(Error::io("find a store in", data_dir)(missing));
    }
    let opened = opening::open(&dir, &SystemMedium)?;
    let empty = Summary::default();
    Ok(opened.found.map_or(empty, |(_, records)| records.summary()))
}

/// What the program of a [`Verifier`] does and how it ends.
#[must_use]
pub fn verify_process(data_dir: &Path) -> ExitCode {
    match verify(data_dir) {
        Ok(_) => ExitCode::SUCCESS,
        Err(Error::Corrupt { what, .. }) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}
