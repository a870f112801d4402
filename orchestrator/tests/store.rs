//! The disk store as the server uses it: random writes, full disks, restores.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;
use windlass_api::ids::{Epoch, Version};
use windlass_orchestrator::store::{
    Batch, DiskStore, Error, Existing, ExportWhen, Guard, Key, Landed, Medium, Recovery, Store,
    SystemMedium, Task, Verifier, restore, salvage, verify, verify_export,
};

type Model = BTreeMap<Key, Vec<u8>>;

fn key(id: impl std::fmt::Display) -> Key {
    Key::new("t", id)
}

/// Writes `value` under `id`, on top of `newest`.
fn put(store: &dyn Store, newest: u64, id: u64, value: Vec<u8>) -> Result<Version, Error> {
    let mut batch = Batch::new(Version(newest + 1));
    batch.put(key(id), value);
    store.commit(batch, Guard::Version(Version(newest)))
}

fn content(store: &dyn Store) -> Model {
    store.load().unwrap().records.into_iter().collect()
}

#[derive(Debug, Clone)]
enum Action {
    Commit(Vec<(u8, Option<usize>)>),
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let size = prop_oneof![Just(0), 1..300usize, 8_000..9_000usize, Just(200_000)];
    let change = (0..12u8, prop::option::weighted(0.8, size));
    let action = prop_oneof![
        9 => prop::collection::vec(change, 0..8).prop_map(Action::Commit),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_store_is_a_map_that_survives_reopening(actions in actions()) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(dir.path(), None).unwrap();
        let mut model = Model::new();
        let mut newest = 0;
        for (n, action) in actions.into_iter().enumerate() {
            match action {
                Action::Reopen => {
                    drop(store);
                    store = DiskStore::open(dir.path(), None).unwrap();
                    prop_assert_eq!(&content(&store), &model);
                }
                Action::Commit(changes) => {
                    let mut batch = Batch::new(Version(newest + 1));
                    for (id, size) in changes {
                        if let Some(size) = size {
                            batch.put(key(id), vec![n as u8; size]);
                            model.insert(key(id), vec![n as u8; size]);
                        } else {
                            batch.delete(key(id));
                            model.remove(&key(id));
                        }
                    }
                    newest = store.commit(batch, Guard::Version(Version(newest))).unwrap().0;
                }
            }
        }
        prop_assert_eq!(&content(&store), &model);
        prop_assert_eq!(store.load().unwrap().version, Version(newest));
    }
}

/// A disk that says it has space, or that it has none, whatever is true.
struct Claims {
    space: AtomicBool,
}

impl Medium for Claims {
    fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(if self.space.load(Relaxed) {
            u64::MAX
        } else {
            0
        })
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        SystemMedium.sync_data(file)
    }
}

/// A file system of its own, as long as it lives.
struct Tmpfs {
    dir: tempfile::TempDir,
}

impl Tmpfs {
    /// `None` if this user may not mount.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path());
        let output = mount.output().expect("there is a mount command");
        if output.status.success() {
            return Some(Self { dir });
        }
        let message = String::from_utf8_lossy(&output.stderr).to_lowercase();
        let refused = ["permission denied", "superuser", "not permitted"];
        assert!(refused.iter().any(|why| message.contains(why)), "{message}");
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.dir.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// The check before each write, which needs no full disk.
#[test]
fn a_nearly_full_disk_refuses_writes_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let medium = Arc::new(Claims { space: true.into() });
    let store = DiskStore::open_on(dir.path(), None, medium.clone()).unwrap();
    put(&store, 0, 1, vec![1]).unwrap();
    medium.space.store(false, Relaxed);
    for _ in 0..2 {
        let error = put(&store, 1, 1, vec![2]).unwrap_err();
        assert!(
            matches!(
                error,
                Error::NoSpace {
                    landed: Landed::No,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(content(&store), Model::from([(key(1), vec![1])]));
        assert!(matches!(store.try_recover().unwrap(), Recovery::StillFull));
    }
    medium.space.store(true, Relaxed);
    put(&store, 1, 1, vec![2]).unwrap();
}

/// The disk is really full, since the check before each write is made to say that it is not.
/// Where this user may not mount, only the check is tested, by the test above.
#[test]
fn a_full_disk_loses_nothing_and_recovers() {
    let Some(tmpfs) = Tmpfs::mount("24m") else {
        eprintln!("mounting is not permitted: the disk was not really filled");
        return;
    };
    let data = tmpfs.dir.path().join("data");
    let ballast = tmpfs.dir.path().join("ballast");
    let medium = Arc::new(Claims { space: true.into() });
    let store = DiskStore::open_on(&data, None, medium).unwrap();
    let mut newest = 0;
    for round in 0..5 {
        let taken = fill(&ballast, tmpfs.dir.path());
        // Fill what the store still had, until nothing goes.
        let mut acknowledged = content(&store);
        let error = loop {
            let value = vec![newest as u8; 100_000];
            match put(&store, newest, newest % 3, value.clone()) {
                Ok(version) => {
                    acknowledged.insert(key(newest % 3), value);
                    newest = version.0;
                }
                Err(error) => break error,
            }
        };
        assert!(
            matches!(
                error,
                Error::NoSpace {
                    landed: Landed::Unknown,
                    ..
                }
            ),
            "{error}"
        );
        let again = put(&store, newest, 0, vec![]).unwrap_err();
        assert!(
            matches!(
                again,
                Error::NoSpace {
                    landed: Landed::Unknown,
                    ..
                }
            ),
            "{again}"
        );
        let still_full = store.try_recover().unwrap();
        assert!(
            matches!(still_full, Recovery::StillFull),
            "round {round}, {taken} bytes"
        );

        let idle = store
            .maintain(Timestamp::UNIX_EPOCH, ExportWhen::Now)
            .unwrap();
        assert!(matches!(idle.export, Task::NotDue), "{idle:?}");

        fs::remove_file(&ballast).unwrap();
        let records = recovered(&store);
        let mut unacknowledged = acknowledged.clone();
        unacknowledged.insert(key(newest % 3), vec![newest as u8; 100_000]);
        let found: Model = records.records.into_iter().collect();
        match records.version.0 - newest {
            0 => assert_eq!(found, acknowledged),
            1 => assert_eq!(found, unacknowledged),
            more => panic!("{more} versions too many"),
        }
        newest = put(&store, records.version.0, 0, vec![9]).unwrap().0;
    }
    drop(store);
    assert_eq!(verify(&data).unwrap().position.version, Version(newest));
}

/// Writes a file until the disk is full.
fn fill(path: &Path, disk: &Path) -> u64 {
    let available = SystemMedium.available_bytes(disk).unwrap();
    fs::write(path, vec![0; usize::try_from(available).unwrap()]).unwrap();
    available
}

fn recovered(store: &DiskStore) -> windlass_orchestrator::store::Records {
    for _ in 0..100 {
        match store.try_recover().unwrap() {
            Recovery::Ready(records) => return records,
            // The engine's threads let go of the file.
            Recovery::StillFull => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("the store does not recover");
}

/// A directory with a closed store at version 3, and an export of version 2.
fn exported_store() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), None).unwrap();
    put(&store, 0, 1, vec![0xff; 100_000]).unwrap();
    put(&store, 1, 2, b"two".to_vec()).unwrap();
    let made = store
        .maintain(Timestamp::UNIX_EPOCH, ExportWhen::Now)
        .unwrap();
    let Task::Done(export) = made.export else {
        panic!("{made:?}");
    };
    put(&store, 2, 3, b"three".to_vec()).unwrap();
    (dir, export)
}

#[test]
fn a_restore_begins_a_new_epoch_and_keeps_the_old_store() {
    let (dir, export) = exported_store();
    let refused = restore(&export, dir.path(), Existing::Refuse, None).unwrap_err();
    assert!(matches!(refused, Error::Usable { .. }));
    assert!(
        refused.to_string().contains("version 3 of epoch 1"),
        "{refused}"
    );
    assert_eq!(verify(dir.path()).unwrap().records, 3);

    for epoch in 2..4 {
        let restored = restore(&export, dir.path(), Existing::MoveAside, None).unwrap();
        assert_eq!(restored.position.epoch, Epoch(epoch));
        assert_eq!(verify(dir.path()).unwrap(), restored);
    }
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        ["exports", "hwm", "store", "store.lock", "store.replaced-2"]
    );

    let store = DiskStore::open(dir.path(), None).unwrap();
    let expected = Model::from([(key(1), vec![0xff; 100_000]), (key(2), b"two".to_vec())]);
    assert_eq!(content(&store), expected);
    assert_eq!(store.load().unwrap().epoch, Epoch(3));
    put(&store, 2, 4, vec![4]).unwrap();
    // Its exports count as newer than those of the old epoch.
    let made = store
        .maintain(Timestamp::UNIX_EPOCH, ExportWhen::Now)
        .unwrap();
    assert!(matches!(made.export, Task::Done(path) if path.ends_with("state-3-3.windlass-export")));
}

#[test]
fn a_damaged_store_is_restored_with_the_command_that_it_names() {
    let (dir, export) = exported_store();
    fs::write(dir.path().join("store/db"), b"gone").unwrap();
    let error = DiskStore::open(dir.path(), None).map(|_| ()).unwrap_err();
    let (Error::Corrupt { remedy, .. } | Error::TailMissing { remedy, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(
        remedy.newest_export.as_ref().map(|(_, path)| path),
        Some(&export)
    );
    restore(&export, dir.path(), Existing::Refuse, None).unwrap();
    let store = DiskStore::open(dir.path(), None).unwrap();
    assert_eq!(store.load().unwrap().version, Version(2));
}

#[test]
fn a_store_that_vanished_beside_its_exports_is_no_new_one() {
    let (dir, export) = exported_store();
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    fs::remove_file(dir.path().join("hwm")).unwrap();
    let error = DiskStore::open(dir.path(), None).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("backup restore"), "{error}");
    restore(&export, dir.path(), Existing::Refuse, None).unwrap();
    DiskStore::open(dir.path(), None).unwrap();
}

#[test]
fn what_is_newer_than_the_newest_export_can_be_salvaged() {
    let (dir, export) = exported_store();
    let store = DiskStore::open(dir.path(), None).unwrap();
    let newest = store.load().unwrap().version;
    let mut batch = Batch::new(newest.next());
    batch.put(Key::new("node", "late"), b"late".to_vec());
    store.commit(batch, Guard::Version(newest)).unwrap();
    let whole = store.load().unwrap();
    drop(store);
    // It is newer than the export. Without its mark nobody can tell whether something is missing.
    fs::remove_file(dir.path().join("hwm")).unwrap();
    let error = DiskStore::open(dir.path(), None).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("backup salvage"), "{error}");
    let (salvaged, summary) = salvage(dir.path(), None).unwrap();
    assert_ne!(salvaged, export);
    assert_eq!(summary, whole.summary());
    restore(&salvaged, dir.path(), Existing::MoveAside, None).unwrap();
    let store = DiskStore::open(dir.path(), None).unwrap();
    assert_eq!(store.load().unwrap().records, whole.records);
}

#[test]
fn a_restore_of_a_cut_export_changes_nothing() {
    let (dir, export) = exported_store();
    let whole = fs::read(&export).unwrap();
    let cut = dir.path().join("cut");
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(verify_export(&cut), Err(Error::BadExport { .. })));
    let refused = restore(&cut, dir.path(), Existing::MoveAside, None).unwrap_err();
    assert!(matches!(refused, Error::BadExport { .. }), "{refused}");
    assert_eq!(verify(dir.path()).unwrap().position.version, Version(3));
}

#[test]
fn a_restore_goes_into_an_empty_directory_but_not_under_a_server() {
    let (dir, export) = exported_store();
    let empty = tempfile::tempdir().unwrap();
    let restored = restore(&export, empty.path(), Existing::Refuse, None).unwrap();
    assert_eq!(restored.position.epoch, Epoch(2));
    let _server = DiskStore::open(empty.path(), None).unwrap();
    let refused = restore(&export, empty.path(), Existing::MoveAside, None).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    drop(dir);
}

fn shell(script: &str, limit: Duration) -> Verifier {
    Verifier {
        program: "/bin/sh".into(),
        args: ["-c", script].map(Into::into).into(),
        limit,
    }
}

#[test]
fn a_check_that_dies_or_hangs_keeps_the_store_closed() {
    let (dir, _) = exported_store();
    for (script, limit, expected) in [
        (
            "echo first >&2; echo it is broken >&2; exit 1",
            60_000,
            "it is broken",
        ),
        ("kill -ABRT $$", 60_000, "signal: 6"),
        ("exec sleep 60", 100, "took longer than 100ms"),
    ] {
        let verifier = shell(script, Duration::from_millis(limit));
        let opened = DiskStore::open(dir.path(), Some(&verifier)).map(|_| ());
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{script}: {error}");
        assert!(error.to_string().contains(expected), "{script}: {error}");
    }
    let talkative = "head -c 1000000 /dev/zero >&2";
    let verifier = shell(talkative, Duration::from_secs(60));
    DiskStore::open(dir.path(), Some(&verifier)).unwrap();
}
