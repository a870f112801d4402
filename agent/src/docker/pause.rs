//! The image of pause containers, made from this program.

use std::path::PathBuf;

use tokio::sync::Mutex;

use super::Docker;
use crate::runtime::Result;

/// The image's name. The version keeps agents of two versions on one engine from replacing each
/// other's; another build of the same version replaces it.
const IMAGE: &str = concat!("windlass-pause:", env!("CARGO_PKG_VERSION"));

/// What pause containers run.
#[derive(Debug)]
pub(super) struct Pause {
    executable: PathBuf,
    command: Vec<String>,
    /// Whether the image is known to be there.
    packed: Mutex<Packed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packed {
    No,
    Yes,
}

impl Default for Pause {
    fn default() -> Self {
        // The running program, also if its file was replaced by a newer build.
        Self::new("/proc/self/exe".into(), vec!["pause".to_owned()])
    }
}

impl Pause {
    pub(super) fn new(executable: PathBuf, command: Vec<String>) -> Self {
        Self {
            executable,
            command,
            packed: Mutex::new(Packed::No),
        }
    }

    /// The arguments with which the program does nothing until it is stopped.
    pub(super) fn command(&self) -> &[String] {
        &self.command
    }

    /// The image's name. Packs it if that was not done yet.
    pub(super) async fn image(&self, docker: &Docker) -> Result<&'static str> {
        // Agents of one process that pack at the same time would each leave one without a name.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
        let mut packed = self.packed.lock().await;
        if *packed == Packed::No {
            let _turn = ONE_AT_A_TIME.lock().await;
            docker.pack(&self.executable, IMAGE).await?;
            *packed = Packed::Yes;
        }
        Ok(IMAGE)
    }

    /// Somebody removed the image.
    pub(super) async fn forget(&self) {
        *self.packed.lock().await = Packed::No;
    }
}
