use std::os::unix::fs::MetadataExt;

use tar::{Builder, Header};
use tempfile::TempDir;

use super::*;

/// An archive of entries as bytes: a name, a type, and where a link leads or what a file holds.
fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o4750);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        let data = match kind {
            EntryType::Symlink | EntryType::Link => {
                let field = &mut header.as_old_mut().linkname;
                field[..content.len()].copy_from_slice(content.as_bytes());
                ""
            }
            _ => content,
        };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

const FOLDER: EntryType = EntryType::Directory;
const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

fn unpacked(entries: &[(&str, EntryType, &str)]) -> (TempDir, Result<Vec<String>, Error>) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    let result = unpack_from(&archive(entries)[..], &dir.path().join("copy"));
    (dir, result)
}

#[test]
fn a_folder_is_unpacked_with_modes_times_and_links() {
    let (dir, result) = unpacked(&[
        ("etc/", FOLDER, ""),
        ("etc/deep/", FOLDER, ""),
        ("etc/deep/file", FILE, "hello"),
        ("etc/link", LINK, "deep/../deep/file"),
        ("etc/same", HARD, "etc/deep/file"),
    ]);
    assert_eq!(result.unwrap(), Vec::<String>::new());
    let copy = dir.path().join("copy");
    assert_eq!(fs::read_to_string(copy.join("link")).unwrap(), "hello");
    assert_eq!(fs::read_to_string(copy.join("same")).unwrap(), "hello");
    for path in ["", "deep", "deep/file"] {
        let found = fs::metadata(copy.join(path)).unwrap();
        assert_eq!(
            (found.mode() & 0o7777, found.mtime()),
            (0o750, 1_000_000_000)
        );
    }
}

#[test]
fn a_file_becomes_what_was_asked_for() {
    let (dir, result) = unpacked(&[("hosts", FILE, "x")]);
    result.unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("copy")).unwrap(), "x");
}

#[test]
fn nothing_is_written_outside() {
    for entries in [
        &[("a/../../outside/evil", FILE, "x")][..],
        &[("/outside/evil", FILE, "x")],
        &[("a/", FOLDER, ""), ("a/../outside/evil", FOLDER, "")],
        // A hard link to a file outside, and one through a link.
        &[("a/", FOLDER, ""), ("a/x", HARD, "../outside/secret")],
        &[("a/", FOLDER, ""), ("a/x", HARD, "/etc/passwd")],
    ] {
        let (dir, result) = unpacked(entries);
        assert!(result.is_err(), "{entries:?}");
        let outside = fs::read_dir(dir.path().join("outside")).unwrap();
        assert_eq!(outside.count(), 0, "{entries:?}");
    }
}

#[test]
fn nothing_is_written_through_a_link_of_the_archive() {
    let (dir, result) = unpacked(&[
        ("a/", FOLDER, ""),
        ("a/door", LINK, "../outside"),
        ("a/door/evil", FILE, "x"),
    ]);
    let left_out = result.unwrap();
    assert!(left_out[0].contains("links to ../outside"), "{left_out:?}");
    let outside = fs::read_dir(dir.path().join("outside")).unwrap();
    assert_eq!(outside.count(), 0);
    assert!(dir.path().join("copy/door/evil").is_file());
}

#[test]
fn nothing_is_written_through_a_link_that_was_there() {
    let dir = TempDir::new().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    symlink(&outside, copy.join("door")).unwrap();
    symlink(outside.join("file"), copy.join("file")).unwrap();
    let entries = archive(&[("a/door/evil", FILE, "x")]);
    let error = unpack_from(&entries[..], &copy).unwrap_err();
    assert!(error.to_string().contains("through links"), "{error}");
    // A file takes the place of a link; it is not written to where that leads.
    unpack_from(&archive(&[("a/file", FILE, "x")])[..], &copy).unwrap();
    assert!(fs::symlink_metadata(copy.join("file")).unwrap().is_file());
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn an_archive_that_breaks_off_is_an_error() {
    let mut bytes = archive(&[("a", FILE, &"x".repeat(2_000))]);
    bytes.truncate(1_200);
    let dir = TempDir::new().unwrap();
    assert!(unpack_from(&bytes[..], &dir.path().join("copy")).is_err());
}

#[test]
fn what_is_packed_can_be_unpacked() {
    let dir = TempDir::new().unwrap();
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("deep")).unwrap();
    fs::write(from.join("deep/file"), vec![7; 200_000]).unwrap();
    symlink("deep/file", from.join("link")).unwrap();
    let (sender, pieces) = mpsc::channel(2);
    let packing = {
        let from = from.clone();
        std::thread::spawn(move || super::super::pack::pack(&from, Path::new("name"), sender))
    };
    let copy = dir.path().join("copy");
    unpack(pieces, &copy).unwrap();
    packing.join().unwrap().unwrap();
    assert_eq!(fs::read(copy.join("deep/file")).unwrap().len(), 200_000);
    assert_eq!(
        fs::read_link(copy.join("link")).unwrap(),
        Path::new("deep/file")
    );
    let modified = |path: PathBuf| fs::metadata(path).unwrap().mtime();
    assert_eq!(modified(copy.join("deep")), modified(from.join("deep")));
}
