use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use tempfile::TempDir;

use super::*;
use crate::store::{Key, RESERVE_BYTES};

mod space;

const PLENTY: u64 = 1 << 40;

/// A disk that fails on demand.
struct Scripted {
    available_bytes: AtomicU64,
    syncs_fail: AtomicBool,
}

impl Scripted {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            available_bytes: AtomicU64::new(PLENTY),
            syncs_fail: AtomicBool::new(false),
        })
    }
}

impl Medium for Scripted {
    fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.available_bytes.load(Relaxed))
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        if self.syncs_fail.load(Relaxed) {
            return Err(io::Error::other("injected"));
        }
        file.sync_data()
    }
}

fn key(id: &str) -> Key {
    Key::new("t", id)
}

/// A batch on top of `newest`.
fn batch(newest: u64, changes: &[(&str, Option<Vec<u8>>)]) -> (Batch, Guard) {
    let mut batch = Batch::new(Version(newest + 1));
    for (id, value) in changes {
        match value {
            Some(value) => batch.put(key(id), value.clone()),
            None => batch.delete(key(id)),
        }
    }
    (batch, Guard::Version(Version(newest)))
}

fn commit(store: &DiskStore, newest: u64, changes: &[(&str, Option<Vec<u8>>)]) -> Result<Version> {
    let (batch, guard) = batch(newest, changes);
    store.commit(batch, guard)
}

fn open(dir: &TempDir) -> Result<DiskStore> {
    DiskStore::open(dir.path(), None)
}

/// An error of opening. (`DiskStore` cannot be printed, as `unwrap_err` would have it.)
fn open_error(dir: &TempDir) -> Error {
    match open(dir) {
        Ok(_) => panic!("the store opens"),
        Err(error) => error,
    }
}

/// A directory with a closed store of three versions.
fn closed_store() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    for version in 0..3 {
        commit(
            &store,
            version,
            &[("a", Some(vec![1; 300])), ("b", Some(vec![2]))],
        )
        .unwrap();
    }
    dir
}

fn files_in(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn values_of_every_size_are_read_back_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 8191, 8192, 8193, 1 << 20, 0, 70_000, 5];
    for (newest, size) in (0..).zip(sizes) {
        let store = open(&dir).unwrap();
        let value = vec![size as u8; size];
        commit(&store, newest, &[("big", Some(value.clone()))]).unwrap();
        assert_eq!(
            store.load().unwrap().records,
            [(key("big"), value)],
            "{size}"
        );
    }
    let store = open(&dir).unwrap();
    let newest = sizes.len() as u64;
    commit(&store, newest, &[("big", None), ("never there", None)]).unwrap();
    assert_eq!(store.load().unwrap().records, []);
    let state = store.lock();
    let mut left = Vec::new();
    let scanned = store.serving(&state).unwrap().scan(|key, _| {
        left.push(key.to_vec());
        Ok(())
    });
    scanned.unwrap();
    assert_eq!(left, [Head::key()], "only the head is left");
}

#[test]
fn no_page_leaves_the_synced_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    for newest in 0..256 {
        // 1 to 64 KB, and now and then the longest keys and 1 MB.
        let size = if newest % 64 == 0 {
            1 << 20
        } else {
            (newest as usize % 64 + 1) << 10
        };
        let id = format!(
            "{:0>1$}",
            newest % 97,
            if newest % 2 == 0 { 3 } else { 1000 }
        );
        commit(&store, newest, &[(&id, Some(vec![newest as u8; size]))]).unwrap();
    }
    assert_eq!(
        files_in(&dir.path().join("store/blobs")),
        [] as [PathBuf; 0]
    );
}

#[test]
fn a_stale_or_invalid_batch_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    commit(&store, 0, &[("a", Some(vec![1]))]).unwrap();
    let stale = commit(&store, 0, &[("a", Some(vec![2]))]).unwrap_err();
    assert!(matches!(
        stale,
        Error::Fenced {
            expected: Version(0),
            newest: Version(1)
        }
    ));
    let (backwards, _) = batch(0, &[]);
    let backwards = store
        .commit(backwards, Guard::Version(Version(1)))
        .unwrap_err();
    assert!(matches!(backwards, Error::InvalidBatch { .. }));
    for (id, size) in [
        ("x".repeat(1025), 0),
        ("x".into(), Batch::VALUE_BYTES_MAX + 1),
    ] {
        let refused = commit(&store, 1, &[(&id, Some(vec![0; size]))]).unwrap_err();
        assert!(matches!(refused, Error::InvalidBatch { .. }));
    }
    assert_eq!(store.load().unwrap().records, [(key("a"), vec![1])]);
    assert_eq!(commit(&store, 1, &[]).unwrap(), Version(2));
}

#[test]
fn directories_are_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("data");
    drop(DiskStore::open(&inner, None).unwrap());
    for path in [inner.clone(), inner.join("store"), inner.join("exports")] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", path.display());
    }
}

#[test]
fn a_second_server_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let error = open_error(&dir);
    assert!(matches!(error, Error::Locked { .. }));
    assert!(
        error
            .to_string()
            .contains("in use by another windlass server"),
        "{error}"
    );
    let error = crate::store::verify(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(store);
    open(&dir).unwrap();
}

#[test]
fn a_changed_record_is_found() {
    for (what, change) in [
        ("a value", 0usize),
        ("a removed record", 1),
        ("an added record", 2),
    ] {
        let dir = closed_store();
        let engine = Engine::open(&dir.path().join("store")).unwrap();
        let raw_key = record::chunk_key(&key("a"), 0);
        let mut value = engine.get(&raw_key).unwrap().unwrap().to_vec();
        let write = match change {
            0 => {
                value[200] ^= 4;
                (raw_key, Some(value))
            }
            1 => (raw_key, None),
            _ => record::encode(&key("c"), b"new").1.remove(0).into_write(),
        };
        engine.apply([write]).unwrap();
        drop(engine);
        let error = open_error(&dir);
        assert!(matches!(error, Error::Corrupt { .. }), "{what}: {error}");
    }
}

trait IntoWrite {
    fn into_write(self) -> (RawKey, Option<RawValue>);
}

impl IntoWrite for (RawKey, RawValue) {
    fn into_write(self) -> (RawKey, Option<RawValue>) {
        (self.0, Some(self.1))
    }
}

#[test]
fn a_newer_format_is_not_taken_for_damage() {
    let dir = closed_store();
    let engine = Engine::open(&dir.path().join("store")).unwrap();
    let raw_key = record::chunk_key(&key("a"), 0);
    let mut value = engine.get(&raw_key).unwrap().unwrap().to_vec();
    value[0] = record::FORMAT + 1;
    engine.apply([(raw_key, Some(value))]).unwrap();
    drop(engine);
    assert!(matches!(
        open_error(&dir),
        Error::UnknownFormat {
            found: 2,
            known: 1,
            ..
        }
    ));
}

#[test]
fn an_unreadable_snapshot_is_done_without() {
    for damage in [0, 10] {
        let dir = closed_store();
        // It is written when a store is opened again.
        drop(open(&dir).unwrap());
        let snapshot = files_in(&dir.path().join("store"))
            .into_iter()
            .find(|path| {
                path.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with("snap.")
            })
            .expect("there is a snapshot");
        File::options()
            .write(true)
            .open(&snapshot)
            .unwrap()
            .set_len(damage)
            .unwrap();
        let store = open(&dir).unwrap();
        assert_eq!(store.load().unwrap().version, Version(3));
        commit(&store, 3, &[("c", Some(vec![3]))]).unwrap();
        drop(store);
        assert_eq!(open(&dir).unwrap().load().unwrap().records.len(), 3);
    }
}

#[test]
fn a_changed_bit_in_the_settings_of_the_engine_is_repaired() {
    let dir = closed_store();
    let settings = dir.path().join("store/conf");
    let whole = fs::read(&settings).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&settings, &changed).unwrap();
        let store = open(&dir).unwrap_or_else(|error| panic!("byte {at}: {error}"));
        assert_eq!(store.load().unwrap().version, Version(3), "byte {at}");
    }
    // What is whole and says something else is not ours to change.
    let text = String::from_utf8_lossy(&whole[..whole.len() - 4]).replace("0.34", "0.35");
    let mut newer = text.into_bytes();
    newer.extend(0xe108_a72d_u32.to_le_bytes());
    fs::write(&settings, &newer).unwrap();
    let error = open_error(&dir);
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(fs::read(&settings).unwrap(), newer);
}

#[test]
fn a_lost_store_or_mark_is_not_taken_for_a_new_server() {
    let dir = closed_store();
    let exports = dir.path().join("exports");
    exports::write(&exports, &Records::none(super::super::Position::START)).unwrap();
    fs::rename(dir.path().join("hwm"), dir.path().join("kept")).unwrap();
    let error = open_error(&dir);
    let command = format!(
        "windlass backup restore {0}/exports/state-1-0.windlass-export --data-dir {0}",
        dir.path().display()
    );
    assert!(matches!(error, Error::MarkMissing { .. }));
    assert!(error.to_string().ends_with(&command), "{error}");

    fs::rename(dir.path().join("kept"), dir.path().join("hwm")).unwrap();
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    for _ in 0..2 {
        let error = open_error(&dir);
        assert!(matches!(error, Error::TailMissing { .. }));
        assert!(error.to_string().ends_with(&command), "{error}");
    }
}

#[test]
fn one_bad_slot_of_the_mark_is_survived_and_two_are_not() {
    let damage = |dir: &TempDir, offset| {
        let mark = File::options()
            .write(true)
            .open(dir.path().join("hwm"))
            .unwrap();
        mark.write_all_at(&[0xff; 64], offset).unwrap();
    };
    for offset in [0, 4096] {
        let dir = closed_store();
        damage(&dir, offset);
        assert_eq!(open(&dir).unwrap().load().unwrap().version, Version(3));
    }
    let dir = closed_store();
    damage(&dir, 0);
    damage(&dir, 4096);
    let error = open_error(&dir);
    assert!(matches!(error, Error::Corrupt { .. }));
    assert!(error.to_string().contains("high-water mark"), "{error}");
}

#[test]
fn an_older_copy_of_the_store_is_refused() {
    let dir = closed_store();
    let copy = tempfile::tempdir().unwrap();
    for file in files_in(&dir.path().join("store"))
        .iter()
        .filter(|path| path.is_file())
    {
        fs::copy(file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    let store = open(&dir).unwrap();
    commit(&store, 3, &[("a", Some(vec![9]))]).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    fs::rename(copy.path(), dir.path().join("store")).unwrap();
    let error = open_error(&dir);
    assert!(matches!(error, Error::TailMissing { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("ends at version 3 of epoch 1, but version 4"),
        "{error}"
    );
}

#[test]
fn after_a_failed_sync_nothing_is_promised() {
    let dir = tempfile::tempdir().unwrap();
    let medium = Scripted::new();
    let store = DiskStore::open_on(dir.path(), None, medium.clone()).unwrap();
    commit(&store, 0, &[("a", Some(vec![1]))]).unwrap();
    medium.syncs_fail.store(true, Relaxed);
    let failed = commit(&store, 1, &[("a", Some(vec![2]))]).unwrap_err();
    assert!(failed.is_fatal());
    medium.syncs_fail.store(false, Relaxed);
    let again = commit(&store, 1, &[("a", Some(vec![2]))]).unwrap_err();
    assert_eq!(again.to_string(), failed.to_string());
    for error in [store.load().unwrap_err(), store.try_recover().unwrap_err()] {
        assert_eq!(error.to_string(), failed.to_string());
    }
}

#[test]
fn an_export_is_made_at_start_and_restores_the_state() {
    let dir = closed_store();
    let store = open(&dir).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let made = store.maintain(now, ExportWhen::Due).unwrap();
    let Task::Done(path) = made.export else {
        panic!("{made:?}");
    };
    assert_eq!(path, dir.path().join("exports/state-1-3.windlass-export"));
    let again = store.maintain(now, ExportWhen::Due).unwrap();
    assert!(matches!(again.export, Task::NotDue));
    let mut text = Vec::new();
    let summary = store.export(&mut text).unwrap();
    assert_eq!(text, fs::read(&path).unwrap());
    assert_eq!(summary, export::verify_export(&path).unwrap());
    assert_eq!(export::read(&path).unwrap(), store.load().unwrap());
}
