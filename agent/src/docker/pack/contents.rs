//! What a packed image has to hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{PROGRAM, elf};

/// The users that images are expected to have.
const PASSWD: &str = "root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n";
/// Their groups.
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// The entries of an image, by their absolute paths.
#[derive(Debug)]
pub(super) struct Contents(pub(super) BTreeMap<PathBuf, Entry>);

/// An entry of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A copy of a file, which can be executed.
    Copy(PathBuf),
    /// A symbolic link.
    Link(PathBuf),
    /// A file with this text.
    Text(&'static str),
    /// A directory with these permissions.
    Directory(u32),
}

impl Contents {
    /// What an executable needs that has the shared objects of this process.
    pub(super) fn of(executable: &Path) -> io::Result<Self> {
        let mut entries = BTreeMap::from([
            (PathBuf::from(PROGRAM), Entry::Copy(executable.to_owned())),
            (PathBuf::from("/etc/passwd"), Entry::Text(PASSWD)),
            (PathBuf::from("/etc/group"), Entry::Text(GROUP)),
        ]);
        if let Some(loader) = elf::interpreter(&mut File::open(executable)?)? {
            for object in mapped_objects(&fs::read_to_string("/proc/self/maps")?)? {
                entries.extend(links_to(&object)?);
                entries.insert(object.clone(), Entry::Copy(object));
            }
            // The kernel asks for it by this path, which may lead through links.
            entries.insert(loader.clone(), Entry::Copy(loader));
        }
        // Docker would make missing ones for root alone.
        let directories: BTreeSet<PathBuf> = entries
            .keys()
            .flat_map(|path| path.ancestors().skip(1))
            .map(Path::to_owned)
            .collect();
        entries.extend(
            directories
                .into_iter()
                .map(|path| (path, Entry::Directory(0o755))),
        );
        entries.insert("/tmp".into(), Entry::Directory(0o1777));
        entries.remove(Path::new("/"));
        Ok(Self(entries))
    }
}

/// The shared objects in the text of `/proc/self/maps`.
fn mapped_objects(maps: &str) -> io::Result<Vec<PathBuf>> {
    let own = env::current_exe()?;
    let mut objects = Vec::new();
    for line in maps.lines() {
        // address permissions offset device inode path
        let is_code = line
            .split_whitespace()
            .nth(1)
            .is_some_and(|p| p.contains('x'));
        let Some(path) = line.find('/').map(|at| Path::new(&line[at..])) else {
            continue;
        };
        if !is_code || path == own {
            continue;
        }
        if path.to_string_lossy().ends_with(" (deleted)") {
            let message = format!("{} was replaced; start this program again", path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        objects.push(path.to_owned());
    }
    objects.sort();
    objects.dedup();
    Ok(objects)
}

/// The links beside an object that lead to it: programs name `libx.so.1`, which may be a link to
/// the `libx.so.1.2.3` that is mapped.
fn links_to(object: &Path) -> io::Result<Vec<(PathBuf, Entry)>> {
    let (Some(directory), Some(name)) = (object.parent(), object.file_name()) else {
        return Ok(Vec::new());
    };
    let mut links = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() && fs::read_link(entry.path())? == Path::new(name) {
            links.push((entry.path(), Entry::Link(name.into())));
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_comes_with_its_loader_and_objects() {
        let contents = Contents::of(Path::new("/proc/self/exe")).unwrap().0;
        let copies = contents
            .values()
            .filter(|e| matches!(e, Entry::Copy(_)))
            .count();
        assert!(copies >= 3, "program, loader and libc: {contents:?}");
        let has = |part: &str| contents.keys().any(|p| p.to_string_lossy().contains(part));
        assert!(
            has("/libc.") && has("/ld-") && has("/windlass"),
            "{contents:?}"
        );
        assert!(
            !has("/proc"),
            "the program is there under one name: {contents:?}"
        );
        for path in contents.keys() {
            let parent = path.parent().unwrap();
            let there = matches!(contents.get(parent), Some(Entry::Directory(_)));
            assert!(
                there || parent == Path::new("/"),
                "{path:?} has no directory"
            );
        }
    }

    #[test]
    fn objects_are_what_is_executed() {
        let maps = "\
7f00-7f01 r--p 00000000 fe:00 1 /usr/lib/locale/C.utf8/LC_TIME
7f01-7f02 r-xp 00000000 fe:00 2 /usr/lib/x/libc.so.6
7f02-7f03 r--p 00000000 fe:00 2 /usr/lib/x/libc.so.6
7f03-7f04 r-xp 00000000 00:00 0 [vdso]
7f04-7f05 rw-p 00000000 00:00 0
";
        assert_eq!(
            mapped_objects(maps).unwrap(),
            [PathBuf::from("/usr/lib/x/libc.so.6")]
        );
        let replaced = "7f01-7f02 r-xp 00000000 fe:00 2 /usr/lib/x/libc.so.6 (deleted)";
        assert!(
            mapped_objects(replaced)
                .unwrap_err()
                .to_string()
                .contains("was replaced")
        );
    }

    #[test]
    fn links_to_an_object_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let object = dir.path().join("libx.so.1.2");
        fs::write(&object, "").unwrap();
        std::os::unix::fs::symlink("libx.so.1.2", dir.path().join("libx.so.1")).unwrap();
        std::os::unix::fs::symlink("other", dir.path().join("liby.so.1")).unwrap();
        let link = (
            dir.path().join("libx.so.1"),
            Entry::Link("libx.so.1.2".into()),
        );
        assert_eq!(links_to(&object).unwrap(), [link]);
    }
}
