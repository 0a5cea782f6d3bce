//! Files of SQLite stores: locks, deleted files, and files that cannot be opened.

use super::{KEEP, ids, mark, share};
use crate::domain::share::ShareFilter;
use crate::error::ErrorKind;
use crate::store::{BeginResult, Store};

#[tokio::test]
async fn a_file_can_be_opened_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/store.db", directory.path().display());
    let first = Store::open(&url).await.unwrap();
    let error = Store::open(&url).await.unwrap_err();
    assert!(error.is_in_use(), "{error}");
    first.close().await;
    Store::open(&url).await.unwrap();
}

#[tokio::test]
async fn after_its_file_is_renamed_a_store_rejects_mutations_and_cannot_be_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let url = format!("sqlite://{}", file.display());
    let store = Store::open(&url).await.unwrap();
    store.add_share("acme", &share(1, "sam", "l1"), None).await.unwrap();
    assert_eq!(store.probe(true).await, Ok(()));
    let aside = directory.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    let error = store.probe(true).await.unwrap_err();
    assert!(error.to_string().contains("was deleted or renamed"), "{error}");
    for error in [
        store.begin_request("acme", "crm", &mark(1), KEEP).await.unwrap_err(),
        store.add_share("acme", &share(2, "sam", "l2"), None).await.unwrap_err(),
        store
            .save_share("acme", &share(1, "sam", "l1"), true)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
        assert!(error.to_string().contains("was deleted or renamed"), "{error}");
    }
    assert_eq!(ids(&store, ShareFilter::default()).await, [1]);
    assert!(Store::open(&url).await.unwrap_err().is_in_use());
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(store.probe(true).await, Ok(()));
    assert_eq!(
        store.begin_request("acme", "crm", &mark(1), KEEP).await,
        Ok(BeginResult::Started)
    );
}

#[tokio::test]
async fn an_error_of_a_file_that_is_no_store_has_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("not.db");
    std::fs::write(&file, "this is no database, but as long as one".repeat(100)).unwrap();
    for url in [
        format!("sqlite://{}", file.display()),
        format!("sqlite://{}", directory.path().display()),
        format!("sqlite://{}/nowhere/x.db", directory.path().display()),
        "mysql://x".to_owned(),
    ] {
        let error = Store::open(&url).await.unwrap_err();
        assert!(error.to_string().starts_with("the store "), "{error}");
        let path = url.strip_prefix("sqlite://").unwrap_or_default();
        let is_named = error.to_string().contains(path.trim_end_matches("/x.db"));
        assert!(is_named, "{url}: {error}");
    }
    // The file is unchanged.
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .starts_with("this is no database")
    );
}

#[tokio::test]
async fn an_error_of_a_damaged_file_has_the_path_and_the_file_is_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let url = format!("sqlite://{}", file.display());
    let store = Store::open(&url).await.unwrap();
    for id in 0..500 {
        store.begin_request("acme", "crm", &mark(id), KEEP).await.unwrap();
    }
    store.close().await;
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[8192..end].fill(0xa5);
    std::fs::write(&file, &bytes).unwrap();
    let error = Store::open(&url).await.unwrap_err();
    let (text, path) = (error.to_string(), file.display().to_string());
    assert!(text.starts_with("the store ") && text.contains(&path), "{text}");
    assert_eq!(std::fs::read(&file).unwrap().len(), bytes.len());
}
