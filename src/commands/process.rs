//! What the long-running commands share: a runtime, an end on signals, and where state is kept.

use std::{error::Error, net::SocketAddr, path::PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use windlass_orchestrator::trust::Encryption;

use super::block_on;
use crate::{
    error::{Exit, Failure},
    xdg,
};

/// How many threads serve requests and drive Docker. More would cost memory; the work is waiting.
const THREADS: usize = 2;

/// Runs `process` until it ends by itself or, on SIGINT, SIGTERM or SIGHUP, because its token is
/// cancelled.
pub(crate) fn run(
    process: impl AsyncFnOnce(CancellationToken) -> Result<(), Failure>,
) -> Result<(), Failure> {
    abort_on_store_panic();
    raise_file_limit();
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(THREADS);
    block_on(builder, async {
        let shutdown = CancellationToken::new();
        let asked = asked_to_stop()?;
        let stop = shutdown.clone();
        let watcher = tokio::spawn(async move {
            asked.await;
            stop.cancel();
        });
        let result = process(shutdown).await;
        watcher.abort();
        result
    })
}

/// Ends the process if one of sled's own threads panics. Sled swallows that, and every later flush
/// would wait for ever; a server that ended is restarted, one that hangs is not.
fn abort_on_store_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let thread = std::thread::current();
        if thread
            .name()
            .is_some_and(|name| name.starts_with("sled-io"))
        {
            std::process::abort();
        }
    }));
}

/// Lets this process have as many files open as it may: a server holds a socket for each agent and
/// each watch, and the usual soft limit of 1,024 is less than it accepts.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// Ends when this process is asked to stop.
pub(crate) fn asked_to_stop() -> Result<impl Future<Output = ()> + Send, Failure> {
    let listen = |kind| {
        signal(kind)
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot wait for signals: {e}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    // The terminal was closed. Under `nohup` that is to be ignored, and stays so.
    let mut hang_up = if ignores_hang_up() {
        None
    } else {
        Some(listen(SignalKind::hangup())?)
    };
    let hung_up = async move {
        match &mut hang_up {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    };
    Ok(async move {
        // Cancel-safe, all of them.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = hung_up => {}
        }
    })
}

/// Whether this process was started with SIGHUP ignored.
fn ignores_hang_up() -> bool {
    // Without `/proc` it is taken for what it usually is.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The first bit is that of signal 1, which is SIGHUP.
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// A listener at `address`, which must be one that only this machine reaches, unless the server
/// encrypts.
pub(crate) async fn listen(
    address: SocketAddr,
    encryption: Encryption,
) -> Result<TcpListener, Failure> {
    windlass_orchestrator::check_listen(address, encryption)
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    TcpListener::bind(address).await.map_err(|error| {
        let failure = Failure::new(Exit::Failed, format!("cannot listen on {address}: {error}"));
        if error.kind() == std::io::ErrorKind::AddrInUse {
            return failure
                .hint("another server may be running: name another address with --listen");
        }
        failure
    })
}

/// Where this machine's `what` keeps its state unless told otherwise: in the system's directory
/// for root, in the user's otherwise.
pub(crate) fn default_data_dir(what: &str) -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/windlass").join(what));
    }
    xdg::directory("XDG_STATE_HOME", ".local/state")
        .map(|state| state.join("windlass").join(what))
        .ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no home directory to keep state in")
                .hint("name a directory with --data-dir")
        })
}

/// A failure that tells an error with all its causes.
pub(crate) fn failure(error: &dyn Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some errors repeat their source.
        let source = error.to_string();
        if !text.ends_with(&source) {
            text = format!("{text}: {source}");
        }
        cause = error.source();
    }
    Failure::new(Exit::Failed, text)
}
