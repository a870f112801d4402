//! A tar archive from a container, which is not to be trusted: what it holds is written below one
//! path and nowhere else. Links are made last, so that nothing is written through one of them, and
//! nothing is written through one that was there before.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs::{self, File, Permissions},
    io::{self, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tar::{Archive, Entry, EntryType};
use tempfile::Builder;
use tokio::sync::mpsc;

use crate::pieces::Pieces;

/// How many folders and links are remembered until the end. More than a container's file system
/// has; some hundred MB for an archive that wants to harm.
const REMEMBERED_MAX: usize = 1_000_000;
/// The most that may describe an entry, in bytes, all of which is in memory at once: two paths of
/// 4 KiB each and a few extended attributes of 64 KiB.
const HEAD_BYTES_MAX: u64 = 512 << 10;
/// How the name of a file begins that is not whole yet.
const DRAFT: &str = ".windlass-";
/// What is kept of a mode: not the bits that lend a program the rights of its owner.
const MODE_MASK: u32 = 0o777;

/// Why an archive was not unpacked, or not all of it.
#[derive(Debug)]
pub(super) struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Unpacks an archive: what it begins with becomes `root`. Blocks. Tells what was left out.
pub(super) fn unpack(
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    root: &Path,
) -> Result<Vec<String>, Error> {
    unpack_from(Pieces::new(pieces), root)
}

fn unpack_from(archive: impl Read, root: &Path) -> Result<Vec<String>, Error> {
    let mut unpacking = Unpacking {
        root,
        folders: Vec::new(),
        links: Vec::new(),
        left_out: Vec::new(),
    };
    let budget = Cell::new(0);
    let mut archive = Archive::new(Budgeted {
        from: archive,
        budget: &budget,
    });
    let mut entries = archive.entries().map_err(broken)?;
    loop {
        budget.set(HEAD_BYTES_MAX);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(broken)?;
        budget.set(u64::MAX);
        unpacking.take(&mut entry)?;
        // What was not wanted of it would be read with the next head.
        io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
    }
    unpacking.finish()
}

fn broken(error: io::Error) -> Error {
    Error(format!("the archive cannot be read: {error}"))
}

/// Of which no more can be read than what is left of a budget.
struct Budgeted<'a, R> {
    from: R,
    budget: &'a Cell<u64>,
}

impl<R: Read> Read for Budgeted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.get();
        if left == 0 {
            let limit = HEAD_BYTES_MAX >> 10;
            let why = format!("more than {limit} KiB describe one entry");
            return Err(io::Error::other(why));
        }
        let len = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.from.read(&mut buffer[..len])?;
        let rest = left - u64::try_from(read).unwrap_or(left);
        self.budget.set(rest);
        Ok(read)
    }
}

struct Unpacking<'a> {
    root: &'a Path,
    /// Folders, whose mode and time are set when nothing is written to them any more.
    folders: Vec<(PathBuf, u32, u64)>,
    /// Links and where they lead.
    links: Vec<(PathBuf, PathBuf)>,
    left_out: Vec<String>,
}

impl Unpacking<'_> {
    fn take<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), Error> {
        let name = entry.path().map_err(|error| refused(&error))?.into_owned();
        let inside = inside(&name)?;
        let path = self.path(&inside)?;
        let header = entry.header();
        let mode = header.mode().unwrap_or(0o644) & MODE_MASK;
        let modified = header.mtime().unwrap_or_default();
        let failed = |error: io::Error| Error(format!("cannot write {}: {error}", path.display()));
        match header.entry_type() {
            EntryType::Directory => {
                if !self.is_folder(&path) {
                    fs::create_dir(&path).map_err(failed)?;
                }
                self.folders.push((path, mode, modified));
            }
            EntryType::Regular | EntryType::Continuous => {
                write(entry, &path, mode, modified).map_err(failed)?;
            }
            // No engine sends one, and a few bytes of it can stand for any number of zeros.
            EntryType::GNUSparse => {
                return Err(refused(&format!("`{}` is a sparse file", name.display())));
            }
            EntryType::Symlink => {
                let to = target(entry)?;
                if stays_inside(&inside, &to) {
                    self.links.push((path, to));
                } else {
                    let (path, to) = (path.display(), to.display());
                    self.leave_out(format!("left out {path}: it links to {to}, outside of it"));
                }
            }
            EntryType::Link => {
                let to = self::inside(&target(entry)?)?;
                let to = self.path(&to)?;
                if !fs::symlink_metadata(&to).is_ok_and(|found| found.is_file()) {
                    return Err(Error(format!(
                        "{} is a link to a file that is not in the archive",
                        name.display()
                    )));
                }
                clear(&path)
                    .and_then(|()| fs::hard_link(&to, &path))
                    .map_err(failed)?;
            }
            _ => {
                let path = path.display();
                self.leave_out(format!("left out {path}: it is a device or a pipe"));
            }
        }
        if self.folders.len() + self.links.len() + self.left_out.len() > REMEMBERED_MAX {
            return Err(Error(format!(
                "the archive has more than {REMEMBERED_MAX} folders and links"
            )));
        }
        Ok(())
    }

    fn leave_out(&mut self, why: String) {
        self.left_out.push(crate::output::printable(&why));
    }

    /// Whether a folder is there. The root may be a link to one: a person chose it.
    fn is_folder(&self, path: &Path) -> bool {
        let found = if path == self.root {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        };
        found.is_ok_and(|found| found.is_dir())
    }

    /// Where something belongs, all folders above it made, and none of them a link.
    fn path(&self, inside: &Path) -> Result<PathBuf, Error> {
        let mut path = self.root.to_owned();
        for part in inside {
            if path != self.root && is_link(&path) {
                return Err(Error(format!(
                    "{} is a link, and nothing is written through links: remove it first",
                    path.display()
                )));
            }
            if !path.exists() {
                fs::create_dir(&path)
                    .map_err(|error| Error(format!("cannot make {}: {error}", path.display())))?;
            }
            path.push(part);
        }
        Ok(path)
    }

    fn finish(mut self) -> Result<Vec<String>, Error> {
        let links = std::mem::take(&mut self.links);
        let names: BTreeSet<&Path> = links.iter().map(|(path, _)| path.as_path()).collect();
        for (path, to) in &links {
            if turns_behind_a_link(path, to, &names) {
                let (path, to) = (path.display(), to.display());
                self.leave_out(format!(
                    "left out {path}: it links to {to}, and where that is another link decides"
                ));
                continue;
            }
            clear(path)
                .and_then(|()| symlink(to, path))
                .map_err(|error| Error(format!("cannot write {}: {error}", path.display())))?;
        }
        // The folders of folders last: to make something in one changes its time.
        for (path, mode, modified) in self.folders.iter().rev() {
            let set = File::open(path).and_then(|folder| {
                folder.set_modified(time(*modified))?;
                folder.set_permissions(Permissions::from_mode(*mode))
            });
            set.map_err(|error| Error(format!("cannot finish {}: {error}", path.display())))?;
        }
        let said: BTreeSet<String> = self.left_out.into_iter().collect();
        Ok(said.into_iter().collect())
    }
}

/// The path of an entry below what the archive begins with.
fn inside(name: &Path) -> Result<PathBuf, Error> {
    let mut parts = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(refused(&format!("`{}` leads out of it", name.display())));
            }
        }
    }
    Ok(parts.into_iter().skip(1).collect())
}

/// Whether a link at `inside` leads to something that is copied, too.
fn stays_inside(inside: &Path, to: &Path) -> bool {
    // A link that is all that is copied leads wherever it leads.
    let mut depth = inside.components().count().saturating_sub(1);
    for component in to.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// Whether a link at `path` to `to` goes back up from behind another link. Where it leads then
/// depends on where that one does, which its words do not tell.
fn turns_behind_a_link(path: &Path, to: &Path, links: &BTreeSet<&Path>) -> bool {
    let mut at = path.parent().unwrap_or(path).to_owned();
    let mut behind_link = false;
    for component in to.components() {
        match component {
            Component::ParentDir if behind_link => return true,
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(part) => {
                at.push(part);
                behind_link |= links.contains(at.as_path()) || is_link(&at);
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    false
}

fn refused(why: &dyn std::fmt::Display) -> Error {
    let why = crate::output::printable(&why.to_string());
    Error(format!("the archive is refused: {why}"))
}

fn target<R: Read>(entry: &Entry<'_, R>) -> Result<PathBuf, Error> {
    let name = entry.link_name().map_err(|error| refused(&error))?;
    name.map(std::borrow::Cow::into_owned)
        .ok_or_else(|| refused(&"a link leads nowhere"))
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// Removes a file or link that is in the way; of a link, not what it leads to.
fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Writes a file. It gets its name when all of it is there; until then the name is what it was.
fn write<R: Read>(
    entry: &mut Entry<'_, R>,
    path: &Path,
    mode: u32,
    modified: u64,
) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let mut draft = Builder::new().prefix(DRAFT).tempfile_in(folder)?;
    let written = io::copy(entry, &mut draft)?;
    if written < entry.size() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let file = draft.as_file();
    file.set_permissions(Permissions::from_mode(mode))?;
    file.set_modified(time(modified))?;
    draft.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
