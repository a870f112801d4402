//! `windlass backup`.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Subcommand;
use tokio::{sync::mpsc, task::spawn_blocking};
use windlass_api::client::FileBody;
use windlass_orchestrator::store::{
    Existing, Summary, copy_export, restore, salvage, verify_export,
};

use super::{Context, process, server, with_server};
use crate::{
    cli::Global,
    error::{Exit, Failure},
    output,
    pieces::Pieces,
};

/// How many pieces of at most 64 KiB wait for whoever checks and writes them.
const PIECES_MAX: usize = 8;

/// Make, check and restore backups of the server's state
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A running server exports its state by itself, too: at start and every hour, into `exports` in its
data directory, the newest five. They are backups like any other, but on the same disk.")]
pub(crate) enum Backup {
    /// Make a backup of a running server
    #[command(after_help = "\
It is the state at one moment, and is checked while it arrives. The file is there when it is whole;
one that was there before is replaced then. With `-` it goes to standard output, and only the exit
code tells that it is whole.")]
    Create {
        /// Where to write it, or `-`
        file: PathBuf,
    },
    /// Check that a backup is whole
    Verify {
        /// The backup
        file: PathBuf,
    },
    /// Make what is left of a store that no server opens a backup, to be restored
    Salvage {
        /// The server's data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Make the state in a backup that of a server, which must not run
    #[command(after_help = "\
Containers are not touched by it: agents go on with what they have until the restore is accepted with
`windlass cluster accept-restore`.")]
    Restore {
        /// The backup
        file: PathBuf,
        /// The server's data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Replace a store that is usable; it is kept aside
        #[arg(long)]
        replace: bool,
    },
}

impl Backup {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Create { file } if file == Path::new("-") => {
                with_server(global, async |to| print(&to).await)
            }
            Self::Create { file } => with_server(global, async |to| create(&to, &file).await),
            Self::Verify { file } => {
                let summary = verify_export(&file).map_err(|error| process::failure(&error))?;
                say(&format!("{} is whole", file.display()), &summary)
            }
            Self::Salvage { data_dir } => {
                let verifier = server::verifier()?;
                let (file, summary) = salvage(&data_dir, Some(&verifier))
                    .map_err(|error| process::failure(&error))?;
                say(&format!("salvaged to {}", file.display()), &summary)
            }
            Self::Restore {
                file,
                data_dir,
                replace,
            } => {
                let existing = if replace {
                    Existing::MoveAside
                } else {
                    Existing::Refuse
                };
                restore_to(&file, &data_dir, existing)
            }
        }
    }
}

fn restore_to(file: &Path, data_dir: &Path, existing: Existing) -> Result<(), Failure> {
    let verifier = server::verifier()?;
    let summary = restore(file, data_dir, existing, Some(&verifier))
        .map_err(|error| process::failure(&error))?;
    let (file, dir) = (file.display(), data_dir.display());
    say(&format!("restored {file} to {dir}"), &summary)?;
    output::say(
        "start the server, and look at `windlass cluster status`: agents remove nothing before \
         `windlass cluster accept-restore`",
    );
    Ok(())
}

async fn print(context: &Context) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return Err(
            Failure::new(Exit::Usage, "a backup is not for a terminal").hint("name a file for it")
        );
    }
    let body = context.client.backup().await?;
    let summary = check(body, PathBuf::from("the backup"), |pieces, name| {
        let mut out = io::stdout().lock();
        let copied = copy_export(pieces, name, &mut out);
        let summary = copied.map_err(|error| process::failure(&error))?;
        out.flush()?;
        Ok(summary)
    })
    .await?;
    output::say(&sentence("the backup is whole", &summary));
    Ok(())
}

async fn create(context: &Context, file: &Path) -> Result<(), Failure> {
    let body = context.client.backup().await?;
    let summary = check(body, file.to_owned(), write_file).await?;
    say(&format!("{} is whole", file.display()), &summary)
}

/// Lets `write` write a backup that arrives to where the path says, or to nowhere.
async fn check(
    body: FileBody,
    path: PathBuf,
    write: impl FnOnce(Pieces, &Path) -> Result<Summary, Failure> + Send + 'static,
) -> Result<Summary, Failure> {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let writing = spawn_blocking(move || write(Pieces::new(pieces), &path));
    let received = receive(body, &sender).await;
    drop(sender);
    let written = writing.await.map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("writing the backup broke off: {error}"),
        )
    })?;
    // Without its end it was not taken for whole; why the end is missing says more.
    received.and(written)
}

async fn receive(mut body: FileBody, to: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Failure> {
    while let Some(bytes) = body.next().await? {
        if to.send(Ok(bytes)).await.is_err() {
            // The other side says why.
            break;
        }
    }
    Ok(())
}

/// Writes a backup to `path`, which is there when it is whole and durable.
fn write_file(pieces: Pieces, path: &Path) -> Result<Summary, Failure> {
    let cannot = |error: io::Error| {
        Failure::new(
            Exit::Failed,
            format!("cannot write {}: {error}", path.display()),
        )
    };
    let name = path.file_name().ok_or_else(|| {
        let detail = format!("{} names no file", path.display());
        Failure::new(Exit::Usage, detail)
    })?;
    let mut unfinished = name.to_owned();
    unfinished.push(format!(".unfinished-{}", std::process::id()));
    let unfinished = path.with_file_name(unfinished);
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(cannot)?;
    let written = write_to(file, pieces, path).and_then(|summary| {
        fs::rename(&unfinished, path).map_err(cannot)?;
        Ok(summary)
    });
    if written.is_err() {
        fs::remove_file(&unfinished).map_err(cannot)?;
        return written;
    }
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let parent = File::open(parent.unwrap_or(Path::new("."))).map_err(cannot)?;
    parent.sync_all().map_err(cannot)?;
    written
}

fn write_to(file: File, pieces: Pieces, path: &Path) -> Result<Summary, Failure> {
    let mut out = BufWriter::new(file);
    let copied = copy_export(pieces, path, &mut out);
    let summary = copied.map_err(|error| process::failure(&error))?;
    let synced = out.flush().and_then(|()| out.get_ref().sync_all());
    synced.map_err(|error| {
        let detail = format!("cannot write {}: {error}", path.display());
        Failure::new(Exit::Failed, detail)
    })?;
    Ok(summary)
}

fn say(done: &str, summary: &Summary) -> Result<(), Failure> {
    writeln!(output::stdout(), "{}", sentence(done, summary)).map_err(Failure::from)
}

fn sentence(done: &str, summary: &Summary) -> String {
    let Summary { position, records } = summary;
    format!("{done}: {records} records, {position}")
}
