//! Disks that are full, and space that is given back.

use super::*;
use crate::store::Position;

#[test]
fn writes_stop_before_the_reserve_is_used_and_go_on_after() {
    let dir = tempfile::tempdir().unwrap();
    let medium = Scripted::new();
    let store = DiskStore::open_on(dir.path(), None, medium.clone()).unwrap();
    commit(&store, 0, &[("a", Some(vec![1]))]).unwrap();
    medium.available_bytes.store(RESERVE_BYTES + 1, Relaxed);
    let full = commit(&store, 1, &[("a", Some(vec![2]))]).unwrap_err();
    assert!(
        matches!(
            full,
            Error::NoSpace {
                landed: Landed::No,
                ..
            }
        ),
        "{full}"
    );
    let maintained = store
        .maintain(Timestamp::UNIX_EPOCH, ExportWhen::Now)
        .unwrap();
    assert!(matches!(
        maintained.export,
        Task::Failed(Error::NoSpace { .. })
    ));
    assert_eq!(store.load().unwrap().records, [(key("a"), vec![1])]);
    medium.available_bytes.store(PLENTY, Relaxed);
    assert_eq!(
        commit(&store, 1, &[("a", Some(vec![2]))]).unwrap(),
        Version(2)
    );
}

#[test]
fn a_full_disk_keeps_the_store_closed_and_whole() {
    let dir = closed_store();
    let medium = Scripted::new();
    medium.available_bytes.store(0, Relaxed);
    let error = DiskStore::open_on(dir.path(), None, medium)
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert_eq!(open(&dir).unwrap().load().unwrap().version, Version(3));
}

#[test]
fn a_store_that_is_mostly_garbage_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let ids: Vec<_> = (0..70).map(|n| format!("{n:02}")).collect();
    for (newest, id) in (0..).zip(&ids) {
        commit(&store, newest, &[(id, Some(vec![7; 1 << 20]))]).unwrap();
    }
    // The engine never gives back what a removed value took.
    let removed: Vec<_> = ids[3..].iter().map(|id| (id.as_str(), None)).collect();
    commit(&store, 70, &removed).unwrap();
    let before = store.load().unwrap();
    let made = store
        .maintain(Timestamp::UNIX_EPOCH, ExportWhen::Due)
        .unwrap();
    let Task::Done(freed) = made.rewrite else {
        panic!("{made:?}");
    };
    assert!(freed > 60 << 20, "{freed}");
    assert_eq!(store.load().unwrap(), before);
    commit(&store, 71, &[("new", Some(vec![1]))]).unwrap();
    assert!(!dir.path().join("store.new").exists());
    drop(store);
    let records = open(&dir).unwrap().load().unwrap().records;
    assert_eq!(
        records.iter().map(|(key, _)| &key.id).collect::<Vec<_>>(),
        ["00", "01", "02", "new"]
    );
}

#[test]
fn a_new_store_takes_no_more_space_than_was_made_sure_of() {
    for size in [200, 2_000] {
        let dir = tempfile::tempdir().unwrap();
        let dir = DataDir::create(dir.path()).unwrap();
        let count = 6_000_000 / (size + 20);
        let record = |n| (key(&format!("{n:08}")), vec![7; size]);
        let records = Records {
            records: (0..count).map(record).collect(),
            ..Records::none(Position::START)
        };
        rewrite::build(&dir, &records, records.position(), &SystemMedium).unwrap();
        let bytes = fs::metadata(dir.new_store().join("db")).unwrap().len();
        let sure_of = records.bytes() * rewrite::SPACE_RATIO;
        assert!(bytes <= sure_of, "{size}: {bytes} of {sure_of}");
    }
}

#[test]
fn a_store_that_could_not_be_written_anew_for_lack_of_space_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let medium = Scripted::new();
    let store = DiskStore::open_on(dir.path(), None, medium.clone()).unwrap();
    let ids: Vec<_> = (0..70).map(|n| format!("{n:02}")).collect();
    for (newest, id) in (0..).zip(&ids) {
        commit(&store, newest, &[(id, Some(vec![7; 1 << 20]))]).unwrap();
    }
    let removed: Vec<_> = ids[1..].iter().map(|id| (id.as_str(), None)).collect();
    commit(&store, 70, &removed).unwrap();
    let record_bytes = store.load().unwrap().bytes();
    // Enough for the export, although not for a copy of the whole file.
    medium
        .available_bytes
        .store(RESERVE_BYTES + 3 * record_bytes, Relaxed);
    let made = store.maintain(Timestamp::UNIX_EPOCH, ExportWhen::Now);
    let made = made.unwrap();
    assert!(matches!(made.export, Task::Done(_)), "{made:?}");
    assert!(
        matches!(made.rewrite, Task::Failed(Error::NoSpace { .. })),
        "{made:?}"
    );
    assert!(!dir.path().join("store.new").exists());
    // It is made up for as soon as there is space for the records, not for the file.
    medium
        .available_bytes
        .store(RESERVE_BYTES + 8 * record_bytes, Relaxed);
    let made = store.maintain(Timestamp::UNIX_EPOCH, ExportWhen::Now);
    assert!(matches!(made.unwrap().rewrite, Task::Done(_)));
    commit(&store, 71, &[("a", Some(vec![8]))]).unwrap();
}
