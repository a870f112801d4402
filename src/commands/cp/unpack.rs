//! A tar archive from a container, which is not to be trusted: what it holds is written below one
//! path and nowhere else. Links are made last, so that nothing is written through one of them, and
//! nothing is written through one that was there before.

use std::{
    collections::BTreeSet,
    fs::{self, File, Permissions},
    io::{self, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tar::{Archive, Entry, EntryType};
use tokio::sync::mpsc;

use crate::pieces::Pieces;

/// How many folders and links are remembered until the end. More than a container's file system
/// has; some hundred MB for an archive that wants to harm.
const REMEMBERED_MAX: usize = 1_000_000;
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
    let mut archive = Archive::new(archive);
    let broken = |error: io::Error| Error(format!("the archive broke off: {error}"));
    for entry in archive.entries().map_err(broken)? {
        unpacking.take(&mut entry.map_err(broken)?)?;
    }
    unpacking.finish()
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
                if !is_folder(&path) {
                    fs::create_dir(&path).map_err(failed)?;
                }
                self.folders.push((path, mode, modified));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                write(entry, &path, mode, modified).map_err(failed)?;
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

    /// Where something belongs, all folders above it made, and none of them a link.
    fn path(&self, inside: &Path) -> Result<PathBuf, Error> {
        let mut path = self.root.to_owned();
        for part in inside {
            // The root itself may be reached through a link: a person chose it.
            let is_link = path != self.root
                && fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
            if is_link {
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

    fn finish(self) -> Result<Vec<String>, Error> {
        for (path, to) in &self.links {
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

fn refused(why: &dyn std::fmt::Display) -> Error {
    let why = crate::output::printable(&why.to_string());
    Error(format!("the archive is refused: {why}"))
}

fn target<R: Read>(entry: &Entry<'_, R>) -> Result<PathBuf, Error> {
    let name = entry.link_name().map_err(|error| refused(&error))?;
    name.map(std::borrow::Cow::into_owned)
        .ok_or_else(|| refused(&"a link leads nowhere"))
}

fn is_folder(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_dir())
}

/// Removes a file or link that is in the way; of a link, not what it leads to.
fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn write(mut from: impl Read, path: &Path, mode: u32, modified: u64) -> io::Result<()> {
    clear(path)?;
    let mut file = File::create_new(path)?;
    io::copy(&mut from, &mut file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.set_modified(time(modified))
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
