//! Copies of a SQLite store in use.

use std::io::Read;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{in_memory, mark, request, share, sqlite_of};
use crate::context::RequestId;
use crate::store::{BackupError, RequestMark, Store, StoreCopy};

/// How long request ids are kept.
const KEEP: Duration = Duration::from_secs(3600);

/// A store in a file.
async fn in_file(directory: &tempfile::TempDir) -> Store {
    open(directory, "store.db").await
}

async fn open(directory: &tempfile::TempDir, name: &str) -> Store {
    let url = format!("sqlite://{}/{name}", directory.path().display());
    Store::open(&url).await.unwrap()
}

fn read(mut copy: StoreCopy) -> Vec<u8> {
    let mut bytes = vec![];
    copy.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, copy.bytes);
    bytes
}

async fn begin(store: &Store, id: u128) {
    store.begin_request("acme", "crm", &mark(id), KEEP).await.unwrap();
}

/// Adds finished requests of one mebibyte each.
async fn fill(store: &Store, mebibytes: u128) {
    let result = format!("{{\"Done\":\"{}\"}}", "x".repeat(1 << 20));
    for number in 0..mebibytes {
        let filler = RequestId {
            id: Uuid::from_u128(1 << 100 | number),
            ..request(0)
        };
        store
            .begin_request("acme", "crm", &RequestMark::new(filler), KEEP)
            .await
            .unwrap();
        store.finish_request("acme", "crm", &filler, &result).await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_is_complete_and_has_nothing_later() {
    let directory = tempfile::tempdir().unwrap();
    let store = in_file(&directory).await;
    fill(&store, 8).await;
    begin(&store, 1).await;
    store.add_share("acme", &share(1, "sam", "l1"), None).await.unwrap();
    for round in 0..3_u128 {
        let (next, stop) = (1000 * (round + 1), tokio_util::sync::CancellationToken::new());
        let writing = TaskTracker::new().spawn({
            let (store, stop) = (store.clone(), stop.clone());
            async move {
                let mut written = 0;
                while !stop.is_cancelled() {
                    begin(&store, next + written).await;
                    written += 1;
                }
                written
            }
        });
        let copy = store.backup().await.unwrap();
        stop.cancel();
        let written = writing.await.unwrap();
        std::fs::write(directory.path().join("copy.db"), read(copy)).unwrap();
        // Opening it checks its integrity.
        let copied = open(&directory, "copy.db").await;
        assert_eq!(copied.find_damaged().await, Ok(vec![]));
        assert!(copied.share("acme", share(1, "sam", "l1").id).await.unwrap().is_some());
        assert!(
            copied
                .request("acme", "crm", &Uuid::from_u128(1), KEEP)
                .await
                .unwrap()
                .is_some()
        );
        // The requests of this round that it has are the first ones, without a gap.
        let mut has = vec![];
        for number in 0..written {
            let id = Uuid::from_u128(next + number);
            has.push(copied.request("acme", "crm", &id, KEEP).await.unwrap().is_some());
        }
        assert!(has.is_sorted_by(|earlier, later| earlier >= later), "{has:?}");
        copied.close().await;
        std::fs::remove_file(directory.path().join("copy.db")).unwrap();
    }
    // The log is written to the file again.
    assert_eq!(sqlite_of(&store).count("PRAGMA wal_autocheckpoint").await, 100);
    store.close().await;
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["store.db"]);
}

#[tokio::test]
async fn the_locks_of_the_store_survive_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let store = in_file(&directory).await;
    begin(&store, 1).await;
    drop(store.backup().await.unwrap());
    // The lock of SQLite, without that of leadgate.
    let file = directory.path().join("store.db");
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(file).unwrap());
    let is_locked = locks
        .lines()
        .any(|line| line.contains("POSIX") && line.contains(&format!(":{inode} ")));
    assert!(is_locked, "{locks}");
    store.close().await;
}

#[tokio::test]
async fn only_a_store_in_a_file_can_be_copied() {
    let error = in_memory().await.backup().await.unwrap_err();
    assert!(
        matches!(error, BackupError::NoFile(ref text) if text.contains("in memory")),
        "{error}"
    );
    let directory = tempfile::tempdir().unwrap();
    let store = in_file(&directory).await;
    std::fs::rename(directory.path().join("store.db"), directory.path().join("other.db")).unwrap();
    store.probe(false).await.unwrap_err();
    let error = store.backup().await.unwrap_err();
    assert!(matches!(error, BackupError::Failed(_)), "{error}");
}

#[tokio::test]
async fn the_end_of_the_store_interrupts_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let store = in_file(&directory).await;
    fill(&store, 16).await;
    let copying = TaskTracker::new().spawn({
        let store = store.clone();
        async move { store.backup().await }
    });
    tokio::task::yield_now().await;
    let started = Instant::now();
    store.close().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    // It may have ended before.
    if let Err(error) = copying.await.unwrap() {
        assert!(matches!(error, BackupError::Failed(_)), "{error}");
    }
}
