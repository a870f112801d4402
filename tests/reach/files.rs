//! Files, copied to and from containers.

use std::{fs, io::Write, os::unix::fs::MetadataExt, process::Stdio};

use tar::{Builder, EntryType, Header};

use super::{cluster, windlass};

#[test]
fn files_are_copied_both_ways() {
    let cluster = cluster();
    let here = cluster.dir.path().join("site");
    fs::create_dir_all(here.join("deep")).unwrap();
    fs::write(here.join("deep/page"), vec![b'x'; 2_000_000]).unwrap();
    std::os::unix::fs::symlink("deep/page", here.join("link")).unwrap();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    cluster.ok(&["cp", &path(&here), "web:/"]);
    cluster.ok(&["cp", &path(&here), "web:/other"]);
    let back = cluster.dir.path().join("back");
    for from in ["web:/site", "web:/other"] {
        cluster.ok(&["cp", from, &path(&back)]);
        assert_eq!(fs::read(back.join("link")).unwrap().len(), 2_000_000);
        fs::remove_dir_all(&back).unwrap();
    }
    // One file: to a folder, and under another name.
    cluster.ok(&["cp", &path(&here.join("deep/page")), "web:/site"]);
    cluster.ok(&[
        "cp",
        "web:/site/page",
        &path(&cluster.dir.path().join("copy")),
    ]);
    assert!(cluster.dir.path().join("copy").is_file());
    for (args, code, says) in [
        (
            ["cp", "web:/nowhere", "./x"],
            5,
            "there is nothing at /nowhere",
        ),
        (
            ["cp", &path(&here), "web:/no/folder/here"],
            1,
            "there is no folder",
        ),
        (["cp", "a", "b"], 2, "neither of the two"),
        (["cp", "web:/a", "web:/b"], 2, "directly"),
    ] {
        let output = cluster.windlass(&args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    }
    let archive = cluster.windlass(&["cp", "web:/site", "-"]);
    assert!(archive.status.success(), "{archive:?}");
    let names = tar::Archive::new(&archive.stdout[..])
        .entries()
        .unwrap()
        .map(|entry| path(&entry.unwrap().path().unwrap()))
        .collect::<Vec<_>>();
    assert!(names.contains(&"site/deep/page".to_owned()), "{names:?}");
}

/// A folder of everything that a container's root can have in one, and a copy must not bring.
fn hostile() -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    let mut add = |name: &str, kind: EntryType, to: &str, text: &str| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_size(text.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        if kind == EntryType::Char {
            // That of /dev/null.
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    };
    add("hostile/", EntryType::Directory, "", "");
    add("hostile/deep/", EntryType::Directory, "", "");
    add("hostile/deep/file", EntryType::Regular, "", "good");
    add("hostile/hard", EntryType::Link, "hostile/deep/file", "");
    add("hostile/link", EntryType::Symlink, "deep/file", "");
    add("hostile/device", EntryType::Char, "", "");
    add("hostile/pipe\u{1b}[2J", EntryType::Fifo, "", "");
    add("hostile/root", EntryType::Symlink, "/", "");
    add("hostile/above", EntryType::Symlink, "../outside", "");
    add("hostile/deep/up", EntryType::Symlink, "..", "");
    add("hostile/deep/out", EntryType::Symlink, "up/../outside", "");
    archive.into_inner().unwrap()
}

#[test]
fn a_hostile_folder_of_a_container_writes_nothing_outside_its_copy() {
    let cluster = cluster();
    let mut feeding = windlass(&cluster, &["cp", "-", "web:/"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = feeding.stdin.take().unwrap();
    stdin.write_all(&hostile()).unwrap();
    drop(stdin);
    assert!(feeding.wait().unwrap().success());

    let dir = cluster.dir.path().join("here");
    let (copy, outside) = (dir.join("copy"), dir.join("outside"));
    fs::create_dir_all(&outside).unwrap();
    let copied = cluster.windlass(&["cp", "web:/hostile", copy.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&copied.stderr).into_owned();
    assert!(copied.status.success(), "{said}");
    for name in ["device", "pipe", "root", "above", "out"] {
        let left_out = |line: &str| line.contains("left out") && line.contains(name);
        assert!(said.lines().any(left_out), "{name}: {said}");
    }
    assert!(!said.contains('\u{1b}'), "{said:?}");
    let mut names: Vec<_> = fs::read_dir(&copy)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["deep", "hard", "link"]);
    for name in ["deep/file", "hard", "link"] {
        let found = fs::metadata(copy.join(name)).unwrap();
        assert_eq!(fs::read_to_string(copy.join(name)).unwrap(), "good");
        assert_eq!(found.mode() & 0o7000, 0, "it lends no rights");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

    // As they are, they are nothing to copy.
    let to = dir.join("device");
    let device = cluster.windlass(&["cp", "web:/hostile/device", to.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&device.stderr).into_owned();
    assert_eq!(device.status.code(), Some(1), "{said}");
    assert!(said.contains("neither a file nor a folder"), "{said}");
    assert!(!to.exists());
}
