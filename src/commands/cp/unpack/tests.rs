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

/// Found in review: its mode and time were given to what the link leads to.
#[test]
fn a_folder_does_not_take_a_link_that_was_there_for_itself() {
    let dir = TempDir::new().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    symlink(&outside, copy.join("door")).unwrap();
    let before = fs::metadata(&outside).unwrap();
    let entries = archive(&[("a/", FOLDER, ""), ("a/door/", FOLDER, "")]);
    let error = unpack_from(&entries[..], &copy).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    let after = fs::metadata(&outside).unwrap();
    assert_eq!(
        (after.mode(), after.mtime()),
        (before.mode(), before.mtime())
    );
    // What a person named may be a link.
    symlink(&outside, dir.path().join("chosen")).unwrap();
    let entries = archive(&[("a/", FOLDER, ""), ("a/file", FILE, "x")]);
    unpack_from(&entries[..], &dir.path().join("chosen")).unwrap();
    assert!(outside.join("file").is_file());
}

/// Found in review: each of the two stays inside by its own words, and one through the other is
/// the folder above.
#[test]
fn links_do_not_lead_out_through_one_another() {
    for entries in [
        &[
            ("a/b/c/up", LINK, "../.."),
            ("a/b/c/out", LINK, "up/../outside"),
        ][..],
        &[
            ("a/b/c/out", LINK, "up/x/../../outside"),
            ("a/b/c/up", LINK, "../.."),
        ],
    ] {
        let (dir, result) = unpacked(entries);
        let left_out = result.unwrap();
        assert!(left_out[0].contains("out: it links to up/"), "{left_out:?}");
        let copy = dir.path().join("copy/b/c");
        assert!(fs::symlink_metadata(copy.join("out")).is_err());
        assert!(fs::symlink_metadata(copy.join("up")).is_ok());
    }
    // Also through one that an earlier copy has left.
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("copy");
    let first = archive(&[("a/b/c/up", LINK, "../..")]);
    assert!(unpack_from(&first[..], &copy).unwrap().is_empty());
    let second = archive(&[("a/b/c/out", LINK, "up/../outside")]);
    assert_eq!(unpack_from(&second[..], &copy).unwrap().len(), 1);
    // A link to a link is none of that.
    let third = archive(&[("a/b/c/same", LINK, "../c/up")]);
    assert!(unpack_from(&third[..], &copy).unwrap().is_empty());
}

#[test]
fn devices_and_pipes_are_left_out_and_said() {
    let (dir, result) = unpacked(&[
        ("a/", FOLDER, ""),
        ("a/null", EntryType::Char, ""),
        ("a/disk", EntryType::Block, "with data, which none has"),
        ("a/pipe\u{1b}[2J", EntryType::Fifo, ""),
        ("a/file", FILE, "x"),
    ]);
    let left_out = result.unwrap();
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    let says = |line: &String| line.contains("device or a pipe") && !line.contains('\u{1b}');
    assert!(left_out.iter().all(says), "{left_out:?}");
    let copied = fs::read_dir(dir.path().join("copy")).unwrap();
    let names: Vec<_> = copied.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
}

/// A few bytes of archive stand for eight gigabytes.
#[test]
fn a_sparse_file_is_refused() {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_path("bomb").unwrap();
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    let size = format!("{:011o}\0", 0o77_777_777_777_u64);
    gnu.realsize.copy_from_slice(size.as_bytes());
    gnu.sparse[0].offset.copy_from_slice(size.as_bytes());
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&header, io::empty()).unwrap();
    let dir = TempDir::new().unwrap();
    let bytes = builder.into_inner().unwrap();
    let error = unpack_from(&bytes[..], &dir.path().join("copy")).unwrap_err();
    assert!(error.to_string().contains("is a sparse file"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// An archive whose only entry says that it is so large.
fn claiming(size: u64, kind: EntryType) -> impl Read {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path("claim").unwrap();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    io::Cursor::new(header.as_bytes().to_vec())
}

/// Found in review: a part of it stood under the name of the file.
#[test]
fn a_file_that_breaks_off_leaves_what_was_there() {
    for size in [1 << 20, 1 << 40, u64::MAX - 4_096, u64::MAX] {
        let dir = TempDir::new().unwrap();
        let copy = dir.path().join("copy");
        fs::write(&copy, "as before").unwrap();
        let some = io::repeat(7).take(100_000);
        let error = unpack_from(claiming(size, FILE).chain(some), &copy).unwrap_err();
        assert!(!error.to_string().is_empty());
        assert_eq!(fs::read_to_string(&copy).unwrap(), "as before");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{size}");
    }
}

/// Found in review: names were read into memory to their end, however long they said they are.
#[test]
fn an_endless_name_is_refused() {
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ] {
        let endless = claiming(1 << 50, kind).chain(io::repeat(b'x'));
        let dir = TempDir::new().unwrap();
        let error = unpack_from(endless, &dir.path().join("copy")).unwrap_err();
        assert!(error.to_string().contains("describe one entry"), "{error}");
    }
}

#[test]
fn an_archive_that_breaks_off_is_an_error() {
    let whole = archive(&[
        ("a/", FOLDER, ""),
        ("a/first", FILE, "x"),
        ("a/second", FILE, &"y".repeat(2_000)),
    ]);
    // In the first head, between the files, and within the second one.
    for length in [100, 600, 1_700, 2_100, 4_000] {
        let dir = TempDir::new().unwrap();
        let copy = dir.path().join("copy");
        // That it broke off is said, not only seen.
        let archive = (&whole[..length]).chain(Failing);
        assert!(unpack_from(archive, &copy).is_err(), "{length}");
        assert!(!copy.join("second").exists(), "{length}");
    }
}

/// A connection that broke.
struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the agent is gone"))
    }
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
