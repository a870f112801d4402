//! The Docker engine as a [`Reach`].

use std::{os::fd::AsFd, sync::Arc};

use bollard::{
    exec::ResizeExecOptions,
    models::{ExecConfig, ExecInspectResponse},
    query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder},
};
use bytes::Bytes;
use futures_util::StreamExt;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use windlass_api::wire::{ExecOptions, FileInfo, FileKind, SignalName, TerminalSize};

use super::{
    Docker,
    engine::{CHANGE_WITHIN, Engine, READ_WITHIN},
};
use crate::{
    reach::{Archive, Consumption, ExecId, Reach, Running},
    runtime::{BoxStream, ContainerId, Error, ErrorKind, Owner, Result},
};

mod consumption;
mod hijack;

/// The keys with which Docker leaves a command's terminal: none that anybody presses. Without
/// these it would be Ctrl-P Ctrl-Q, and each Ctrl-P held back until the next key.
const DETACH_KEYS: &str = "ctrl-@,ctrl-^,ctrl-@,ctrl-^,ctrl-@,ctrl-^,ctrl-@,ctrl-^";
/// The bits of a mode as Docker tells it, which is that of the language Go.
const MODE_FOLDER: u32 = 1 << 31;
/// See [`MODE_FOLDER`]: a symbolic link.
const MODE_LINK: u32 = 1 << 27;
/// See [`MODE_FOLDER`]: anything that is no plain file.
const MODE_TYPE: u32 = MODE_FOLDER | MODE_LINK | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;

impl Reach for Docker {
    async fn prepare(&self, id: &ContainerId, options: &ExecOptions) -> Result<ExecId> {
        let kind = options.terminal_kind.as_ref();
        let config = ExecConfig {
            attach_stdin: Some(options.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(options.terminal.is_some()),
            env: kind.map(|kind| vec![format!("TERM={kind}")]),
            cmd: Some(options.command.clone()),
            detach_keys: Some(DETACH_KEYS.to_owned()),
            ..ExecConfig::default()
        };
        let create = self.engine.client().await?.create_exec(&id.0, config);
        let create = self
            .engine
            .call("prepare the command", CHANGE_WITHIN, create);
        Ok(ExecId(create.await?.id))
    }

    async fn begin(&self, exec: &ExecId, options: &ExecOptions) -> Result<Running> {
        let running = hijack::start(&self.engine, exec, options).await?;
        if let Some(size) = options.terminal {
            // A command that has ended already needs no size.
            let resized = self.resize(exec, size).await;
            if let Err(error) = resized {
                tracing::debug!(reason = %error, "a terminal kept its size");
            }
        }
        Ok(running)
    }

    async fn resize(&self, exec: &ExecId, size: TerminalSize) -> Result<()> {
        let options = ResizeExecOptions {
            height: size.rows,
            width: size.columns,
        };
        let resize = self.engine.client().await?.resize_exec(&exec.0, options);
        self.engine
            .call("resize the terminal", READ_WITHIN, resize)
            .await
    }

    async fn signal(&self, exec: &ExecId, signal: SignalName) -> Result<()> {
        let found = inspect(&self.engine, exec).await?;
        let (Some(true), Some(pid), Some(container)) =
            (found.running, found.pid, found.container_id)
        else {
            return Ok(());
        };
        send(pid, &container, signal)
    }

    async fn exit_code(&self, exec: &ExecId) -> Result<Option<i64>> {
        let found = inspect(&self.engine, exec).await?;
        match (found.running, found.exit_code) {
            (Some(true), _) => Ok(None),
            (_, Some(code)) => Ok(Some(code)),
            (_, None) => Err(Error {
                kind: ErrorKind::Other,
                message: "docker does not tell how the command ended".to_owned(),
            }),
        }
    }

    async fn file_info(&self, id: &ContainerId, path: &str) -> Result<Option<(FileInfo, String)>> {
        let mut path = path.to_owned();
        let mut info = None;
        // Docker follows a link to its end; one that leads nowhere is what it is.
        for _ in 0..2 {
            let Some((found, target)) = file_info(&self.engine, id, &path).await? else {
                break;
            };
            info = Some((found, path));
            match target {
                Some(target) => path = target,
                None => break,
            }
        }
        Ok(info)
    }

    async fn read_files(&self, id: &ContainerId, path: &str) -> Result<BoxStream<Bytes>> {
        let options = DownloadFromContainerOptionsBuilder::default()
            .path(path)
            .build();
        let client = self.engine.streaming_client().await?;
        let archive = client.download_from_container(&id.0, Some(options));
        let engine = Arc::clone(&self.engine);
        Ok(Box::pin(archive.map(move |bytes| {
            bytes.map_err(|error| engine.translate("read the files", error))
        })))
    }

    async fn write_files(&self, id: &ContainerId, path: &str, archive: Archive) -> Result<()> {
        let options = UploadToContainerOptionsBuilder::default()
            .path(path)
            .no_overwrite_dir_non_dir("true")
            .build();
        let body = bollard::body_try_stream(archive);
        let client = self.engine.client().await?;
        let upload = client.upload_to_container(&id.0, Some(options), body);
        upload
            .await
            .map_err(|error| self.engine.translate("write the files", error))
    }

    async fn consumption(&self, owner: &Owner) -> Result<Vec<Consumption>> {
        consumption::read(&self.engine, owner).await
    }
}

async fn inspect(engine: &Engine, exec: &ExecId) -> Result<ExecInspectResponse> {
    let inspect = engine.client().await?.inspect_exec(&exec.0);
    engine
        .call("ask what became of the command", READ_WITHIN, inspect)
        .await
}

/// What is at a path, and where a link leads.
async fn file_info(
    engine: &Engine,
    id: &ContainerId,
    path: &str,
) -> Result<Option<(FileInfo, Option<String>)>> {
    // The same parameter as for reading, under another name.
    let options = bollard::query_parameters::ContainerArchiveInfoOptionsBuilder::default()
        .path(path)
        .build();
    let client = engine.client().await?;
    let info = client.get_container_archive_info(&id.0, Some(options));
    let doing = format!("look for {path}");
    let found = match engine.call(&doing, READ_WITHIN, info).await {
        Ok(found) => found,
        // A HEAD request has no body, so that 404 means either; the container was there just now.
        Err(error) if error.kind == ErrorKind::NoSuchFile => return Ok(None),
        Err(error) => return Err(error),
    };
    let kind = match found.file_mode {
        mode if mode & MODE_FOLDER != 0 => FileKind::Folder,
        mode if mode & MODE_TYPE == 0 => FileKind::File,
        _ => FileKind::Other,
    };
    let is_link = found.file_mode & MODE_LINK != 0 && !found.link_target.is_empty();
    let target = is_link.then_some(found.link_target);
    let info = FileInfo {
        name: found.name,
        kind,
        size: u64::try_from(found.size).unwrap_or_default(),
    };
    Ok(Some((info, target)))
}

/// Sends a signal to a process of a container. Docker has no call for that, so it only works for
/// an agent that sees the processes of its machine, and may signal them.
fn send(pid: i64, container: &str, signal: SignalName) -> Result<()> {
    let failed = |why: &dyn std::fmt::Display| Error {
        kind: ErrorKind::Other,
        message: format!(
            "the command was not sent the signal: {why}; docker cannot do it, and the agent only \
             where it runs as root beside the containers"
        ),
    };
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = number.ok_or_else(|| failed(&"docker does not tell its process"))?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    // From here on the process cannot become another one under the same number; whether it is that
    // of the container, only its control group tells.
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()))
        .map_err(|error| failed(&error))?;
    if !groups.contains(container) {
        return Err(failed(&"its process is not to be seen from here"));
    }
    let signal = match signal {
        SignalName::Hup => Signal::HUP,
        SignalName::Int => Signal::INT,
        SignalName::Quit => Signal::QUIT,
        SignalName::Term => Signal::TERM,
    };
    match pidfd_send_signal(process.as_fd(), signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}
