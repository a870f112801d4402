//! Locks on files. One can outlive its owner for a moment: the engine's threads let go of its
//! file after it was closed, and a child process has the locks of its parent until it has begun
//! its own program.

use std::{fs::File, io, thread, time::Duration};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// How often a lock is tried, [`PAUSE`] apart: for a second, which is ample for the cases above and
/// short enough for a person who has started a second server.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Whether somebody else has locked `file`. If not, it is locked now.
pub(super) fn is_held(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Repeats `attempt` while it fails for a lock that `is_held`, as long as that may pass.
pub(super) fn patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if is_held(&error) => thread::sleep(PAUSE),
            result => return result,
        }
    }
    attempt()
}
