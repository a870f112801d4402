use windlass_api::clock;

use super::*;
use crate::store::{Failure, Key, Landed, Leaves, MemoryStore};

fn batch(version: u64) -> (Batch, Guard) {
    let mut batch = Batch::new(Version(version));
    batch.put(Key::new("t", version), vec![1]);
    (batch, Guard::Version(Version(version - 1)))
}

async fn commit(committer: &Committer, version: u64) -> Result<Version> {
    let (batch, guard) = batch(version);
    committer.commit(batch, guard).await
}

#[tokio::test]
async fn calls_reach_the_store_and_shutdown_waits_for_them() {
    let store = MemoryStore::new();
    let committer = Committer::spawn(Box::new(store.clone())).unwrap();
    assert_eq!(commit(&committer, 1).await.unwrap(), Version(1));
    assert!(matches!(
        commit(&committer, 1).await,
        Err(Error::Fenced { .. })
    ));
    assert_eq!(committer.load().await.unwrap(), store.load().unwrap());
    committer
        .maintain(clock::now(), ExportWhen::Due)
        .await
        .unwrap();

    // Nobody waits for this one.
    store.script(Failure::Slow(std::time::Duration::from_millis(50)));
    let (unawaited, guard) = batch(2);
    let (answer, _) = oneshot::channel();
    let calls = committer.calls.as_ref().unwrap();
    calls
        .send(Call::Commit(unawaited, guard, answer))
        .await
        .unwrap();
    committer.shutdown().await.unwrap();
    assert_eq!(store.load().unwrap().version, Version(2));
}

#[tokio::test]
async fn a_panic_in_the_store_is_an_error_now_and_later() {
    let store = MemoryStore::new();
    let committer = Committer::spawn(Box::new(store.clone())).unwrap();
    store.script(Failure::Panic);
    for _ in 0..2 {
        let error = commit(&committer, 1).await.unwrap_err();
        assert!(error.is_fatal(), "{error}");
    }
    assert!(committer.shutdown().await.unwrap_err().is_fatal());
}

#[tokio::test]
async fn a_store_that_ran_full_is_recovered() {
    for (then, expected) in [(Leaves::Batch, 1), (Leaves::Nothing, 0)] {
        let store = MemoryStore::new();
        let committer = Committer::spawn(Box::new(store.clone())).unwrap();
        store.script(Failure::RunsFull { then });
        for _ in 0..2 {
            let error = commit(&committer, 1).await.unwrap_err();
            assert!(matches!(
                error,
                Error::NoSpace {
                    landed: Landed::Unknown,
                    ..
                }
            ));
        }
        assert!(matches!(
            committer.try_recover().await.unwrap(),
            Recovery::StillFull
        ));
        store.free_space();
        let Recovery::Ready(records) = committer.try_recover().await.unwrap() else {
            panic!("there is space");
        };
        assert_eq!(records.version, Version(expected));
        commit(&committer, expected + 1).await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_sync_is_final_and_lack_of_space_is_not() {
    let store = MemoryStore::new();
    let committer = Committer::spawn(Box::new(store.clone())).unwrap();
    store.script(Failure::NoSpace);
    store.script(Failure::Sync);
    let error = commit(&committer, 1).await.unwrap_err();
    assert!(matches!(
        error,
        Error::NoSpace {
            landed: Landed::No,
            ..
        }
    ));
    assert!(commit(&committer, 1).await.unwrap_err().is_fatal());
    assert!(commit(&committer, 1).await.unwrap_err().is_fatal());
    assert_eq!(store.load().unwrap().version, Version(0));
}
