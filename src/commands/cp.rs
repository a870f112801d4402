//! `windlass cp`.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use futures_util::Stream;
use tokio::{sync::mpsc, task::spawn_blocking, time::Instant};
use tokio_util::io::ReaderStream;
use windlass_api::{
    client::FileBody,
    ids::{ContainerName, InstanceId},
    problem::Code,
    quantity::MemoryBytes,
    wire::FileKind,
};

use super::{Context, process, target::Target};
use crate::{
    cli::Named,
    error::{Exit, Failure},
    output::{self, quantity},
};

mod pack;
mod unpack;

/// How many pieces wait between the network and the disk: with pieces of about 64 KiB, 512 KiB.
const PIECES_MAX: usize = 8;
/// What a copy to an instance leaves that does not come to its end: Docker unpacks as it reads.
const IN_INSTANCE: &str =
    "some of it may be in the instance now, and one of its files only in part: copy it again";
/// How often the progress is shown: smooth for the eye, cheap for the terminal.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Copy files and folders to or from an instance
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass cp web:/etc/nginx ./nginx       a folder to this machine
  windlass cp index.html web-0-1:/srv/     a file to an instance
  windlass cp db:/data - | tar t           as a tar archive to standard output
  windlass cp - db:/data < data.tar        unpack an archive

The name of a workload stands for its first running instance. If the destination is a folder, the
copy is made in it, otherwise under its name. Modes and times are kept; what is copied to an
instance belongs to root there. A local path with a colon in it is written with ./ in front.")]
pub(crate) struct Cp {
    /// The container. Default: the main one
    #[arg(short, long, value_name = "NAME")]
    container: Option<ContainerName>,
    /// What to copy: a local path, INSTANCE:PATH, or - for an archive from standard input
    from: Place,
    /// Where to: a local path, INSTANCE:PATH, or - for an archive to standard output
    to: Place,
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Standard input or output.
    Pipe,
    /// A path on this machine.
    Here(PathBuf),
    /// A path in an instance.
    There(Named<InstanceId>, String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if s == "-" {
            return Ok(Self::Pipe);
        }
        if s.is_empty() {
            return Err("a path is missing".to_owned());
        }
        let there = match s.split_once(':') {
            Some((name, path)) if !s.starts_with(['.', '/']) => {
                name.parse().ok().map(|name| (name, path))
            }
            _ => None,
        };
        match there {
            Some((_, "")) => Err(format!("`{s}` has no path after the colon")),
            Some((name, path)) => Ok(Self::There(
                name,
                format!("/{}", path.trim_start_matches('/')),
            )),
            None => Ok(Self::Here(PathBuf::from(s))),
        }
    }
}

/// A path in a container.
struct Remote<'a> {
    context: &'a Context,
    target: Target,
    container: Option<ContainerName>,
    path: String,
}

impl Cp {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self {
            container,
            from,
            to,
        } = self;
        let remote = async |name, path| {
            let target = Target::find(context, name).await?;
            Ok::<_, Failure>(Remote {
                context,
                target,
                container,
                path,
            })
        };
        match (from, to) {
            (Place::There(name, path), Place::Here(to)) => {
                download(&remote(&name, path).await?, &to).await
            }
            (Place::There(name, path), Place::Pipe) => print(&remote(&name, path).await?).await,
            (Place::Here(from), Place::There(name, path)) => {
                let to = remote(&name, path).await?;
                until_interrupted(Box::pin(upload(&from, to))).await
            }
            (Place::Pipe, Place::There(name, path)) => {
                let to = remote(&name, path).await?;
                let input = ReaderStream::new(tokio::io::stdin());
                until_interrupted(Box::pin(send(&to, input))).await
            }
            (Place::There(..), Place::There(..)) => Err(Failure::new(
                Exit::Usage,
                "nothing is copied from one instance to another directly",
            )
            .hint("pass it through: windlass cp FROM:/path - | windlass cp - TO:/folder")),
            (Place::Here(_) | Place::Pipe, Place::Here(_) | Place::Pipe) => Err(Failure::new(
                Exit::Usage,
                "neither of the two is in an instance",
            )
            .hint("write a path in an instance like web-0-1:/path")),
        }
    }
}

/// Does some of it, and says what that leaves in an instance if it does not come to its end.
async fn until_interrupted(
    copying: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let interrupted = process::asked_to_stop()?;
    tokio::select! {
        copied = copying => copied,
        () = interrupted => Err(incomplete(interruption(), IN_INSTANCE)),
    }
}

fn interruption() -> Failure {
    Failure::new(Exit::Failed, "it was interrupted")
}

/// The same failure, which leaves something.
fn incomplete(failure: Failure, what: &str) -> Failure {
    failure.notes(vec![what.to_owned()])
}

/// Copies from an instance to a local path.
async fn download(from: &Remote<'_>, to: &Path) -> Result<(), Failure> {
    let (info, body) = from.read().await?;
    let name = match Path::new(&from.path).file_name() {
        Some(name) => name.to_owned(),
        None => {
            let detail = "the whole file system of a container is not copied";
            return Err(Failure::new(Exit::Usage, detail)
                .hint("copy its folders one by one, or take all of it as an archive: -"));
        }
    };
    let to = if to.is_dir() {
        to.join(name)
    } else {
        to.to_owned()
    };
    match info.kind {
        FileKind::Other => {
            let detail = format!("{} is neither a file nor a folder", from.path);
            return Err(Failure::new(Exit::Failed, detail));
        }
        FileKind::Folder if to.exists() && !to.is_dir() => {
            let detail = format!("{} is a file, and a folder would replace it", to.display());
            return Err(Failure::new(Exit::Failed, detail));
        }
        FileKind::Folder | FileKind::File => {}
    }
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let path = to.clone();
    let unpacking = spawn_blocking(move || unpack::unpack(pieces, &path));
    let interrupted = process::asked_to_stop()?;
    // What is dropped is not used any more; what was received is unpacked.
    let received = tokio::select! {
        received = receive(body, &sender) => received,
        () = interrupted => Err(interruption()),
    };
    if let Err(failure) = &received {
        // Said, so that half an archive is not taken for a whole one.
        let broken = io::Error::other(failure.detail().to_owned());
        let _gone = sender.send(Err(broken)).await;
    }
    drop(sender);
    let unpacked = unpacking.await.map_err(panicked)?;
    let whole = received.and(unpacked.map_err(|e| Failure::new(Exit::Failed, e.to_string())));
    let left_out = match (whole, info.kind) {
        (Ok(left_out), _) => left_out,
        // A file that is not whole does not get its name.
        (Err(failure), FileKind::File) => return Err(failure),
        (Err(failure), _) => {
            let what = format!("some of it is in {}: copy it again", to.display());
            return Err(incomplete(failure, &what));
        }
    };
    for what in left_out {
        output::say(&what);
    }
    Ok(())
}

/// Passes on an archive to whoever unpacks it.
async fn receive(mut body: FileBody, to: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Failure> {
    let mut progress = Progress::begin();
    while let Some(bytes) = body.next().await? {
        progress.add(bytes.len());
        if to.send(Ok(bytes)).await.is_err() {
            // The other side says why.
            break;
        }
    }
    Ok(())
}

/// Copies an archive to standard output.
async fn print(from: &Remote<'_>) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return Err(
            Failure::new(Exit::Usage, "an archive is not for a terminal")
                .hint("pass it on, as in `windlass cp web:/etc - | tar t`"),
        );
    }
    let (_, mut body) = from.read().await?;
    let mut out = io::stdout().lock();
    loop {
        match body.next().await {
            Ok(Some(bytes)) => out.write_all(&bytes)?,
            Ok(None) => return Ok(out.flush()?),
            Err(error) => {
                let what = "what was written is not the whole archive";
                return Err(incomplete(error.into(), what));
            }
        }
    }
}

/// Copies from a local path to an instance.
async fn upload(from: &Path, mut to: Remote<'_>) -> Result<(), Failure> {
    let cannot = |error: io::Error| {
        let detail = format!("cannot read {}: {error}", from.display());
        Failure::new(Exit::Failed, detail)
    };
    let what = match std::fs::metadata(from).map_err(cannot)?.is_dir() {
        true => FileKind::Folder,
        false => FileKind::File,
    };
    let whole = from.canonicalize().map_err(cannot)?;
    let own = from.file_name().or(whole.file_name());
    let own = own.ok_or_else(|| {
        let detail = "the whole file system of this machine is not copied";
        Failure::new(Exit::Usage, detail)
    })?;
    let name = to.destination(own.as_ref(), what).await?;
    let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
    let packing = spawn_blocking(move || pack::pack(&whole, &name, sender));
    let archive = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context));
    let sent = send(&to, archive).await;
    match packing.await.map_err(panicked)? {
        // The other side ended first, and says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => sent,
        Err(error) => Err(Failure::new(Exit::Failed, error.to_string())),
        Ok(()) => sent,
    }
}

/// Sends an archive to be unpacked.
async fn send(
    to: &Remote<'_>,
    archive: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
) -> Result<(), Failure> {
    let mut progress = Progress::begin();
    let counted = futures_util::StreamExt::inspect(archive, move |piece| {
        if let Ok(bytes) = piece {
            progress.add(bytes.len());
        }
    });
    let Remote {
        context,
        target,
        container,
        path,
    } = to;
    let written = context.client.write_files(
        &target.namespace,
        &target.id,
        container.as_ref(),
        path,
        counted,
    );
    let written = Box::pin(written).await;
    written.map_err(|error| incomplete(error.into(), IN_INSTANCE))
}

impl Remote<'_> {
    async fn read(&self) -> Result<(windlass_api::wire::FileInfo, FileBody), Failure> {
        let read = self.context.client.read_files(
            &self.target.namespace,
            &self.target.id,
            self.container.as_ref(),
            &self.path,
        );
        Ok(Box::pin(read).await?)
    }

    /// The name that a copy gets: in the folder that this is, or in place of what it is; this
    /// becomes the folder of it.
    async fn destination(&mut self, own: &Path, what: FileKind) -> Result<PathBuf, Failure> {
        let info = self.context.client.file_info(
            &self.target.namespace,
            &self.target.id,
            self.container.as_ref(),
            &self.path,
        );
        let kind = match Box::pin(info).await {
            Ok(info) => Some(info.kind),
            Err(error) if error.code() == Some(Code::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        let path = Path::new(&self.path);
        match (kind, path.parent(), path.file_name()) {
            (Some(FileKind::Folder), _, _) => Ok(own.to_owned()),
            (None, Some(parent), Some(name)) if !self.path.ends_with('/') => {
                let name = PathBuf::from(name);
                self.path = parent.display().to_string();
                Ok(name)
            }
            (Some(FileKind::File), Some(parent), Some(name)) if what != FileKind::Folder => {
                let name = PathBuf::from(name);
                self.path = parent.display().to_string();
                Ok(name)
            }
            (Some(_), ..) => {
                let detail = format!("{} is in the way: it is no folder", self.path);
                Err(Failure::new(Exit::Failed, detail))
            }
            (None, ..) => {
                let detail = format!("there is no folder {}", self.path);
                Err(Failure::new(Exit::NotFound, detail))
            }
        }
    }
}

fn panicked(error: tokio::task::JoinError) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

/// How much was copied, for a person in front of a terminal.
struct Progress {
    bytes: u64,
    shown: Option<Instant>,
}

impl Progress {
    fn begin() -> Self {
        Self {
            bytes: 0,
            shown: io::stderr().is_terminal().then(Instant::now),
        }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += u64::try_from(bytes).unwrap_or_default();
        if self
            .shown
            .is_some_and(|shown| shown.elapsed() >= SHOW_EVERY)
        {
            self.shown = Some(Instant::now());
            // Whoever closed standard error does not want to be told.
            let amount = quantity::bytes(MemoryBytes(self.bytes));
            let _closed = write!(io::stderr(), "\r{amount}B copied\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _closed = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_before_a_colon_is_that_of_an_instance() {
        let there = |name: &str, path: &str| Ok(Place::There(name.parse().unwrap(), path.into()));
        let here = |path: &str| Ok(Place::Here(path.into()));
        assert_eq!("web:/etc".parse(), there("web", "/etc"));
        assert_eq!(
            "shop/web-0-1:etc/x".parse(),
            there("shop/web-0-1", "/etc/x")
        );
        assert_eq!("-".parse(), Ok(Place::Pipe));
        assert_eq!("./web:/etc".parse(), here("./web:/etc"));
        assert_eq!("/a:b".parse(), here("/a:b"));
        assert_eq!("Some Thing:x".parse(), here("Some Thing:x"));
        assert!("web:".parse::<Place>().is_err());
        assert!("".parse::<Place>().is_err());
    }
}
