//! Damaged rows: they are found, counted and moved away, and all other rows stay readable.

use uuid::Uuid;

use super::{KEEP, at, ids, in_memory, mark, request, share, slots, sqlite_of, usage};
use crate::domain::lead::LeadKey;
use crate::domain::share::{Share, ShareFilter, ShareStage};
use crate::error::ErrorKind;
use crate::store::{BeginResult, Store};

/// Statements that damage rows of shares.
const DAMAGES: [&str; 10] = [
    "UPDATE share SET document = 'nonsense'",
    "UPDATE share SET document = json_set(document, '$.what.Lead.context', json('{\"Number\":null}'))",
    "UPDATE share SET document = x'ff00'",
    "UPDATE share SET document = CAST(x'7bff' AS TEXT)",
    "UPDATE share SET document = ''",
    "UPDATE share SET document = json_set(document, '$.id', 'x')",
    "UPDATE share SET document = document || document",
    "UPDATE share SET kind = 2",
    "UPDATE share SET unsettled = 'no'",
    "UPDATE share SET changed = x'00'",
];

#[tokio::test]
async fn a_damaged_share_is_counted_and_all_other_shares_are_readable() {
    for damage in DAMAGES {
        let store = in_memory().await;
        let request_id = |id| Some(Uuid::from_u128(id));
        for id in 1..=5 {
            let share = Share {
                stage: if id == 5 {
                    ShareStage::ShareInProgress
                } else {
                    ShareStage::Active
                },
                expires: Some(at(100)),
                additional: true,
                request_id: request_id(70 + id),
                ..share(id, "sam", "l1")
            };
            store.add_share("acme", &share, None).await.unwrap();
        }
        let sqlite = sqlite_of(&store);
        let rows = "WHERE id IN ('00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000002')";
        sqlite.execute(&format!("{damage} {rows}")).await;

        let all = |limit| ShareFilter {
            limit,
            ..ShareFilter::default()
        };
        assert_eq!(ids(&store, all(10)).await, [5, 3, 1], "{damage}");
        // Damaged rows do not make a page shorter.
        let two = store.shares("acme", &all(2)).await.unwrap();
        assert_eq!(two.len(), 2, "{damage}");
        let three = store.shares("acme", &all(3)).await.unwrap();
        assert_eq!(three.len(), 3, "{damage}");
        let unsettled = store.shares_in_progress("acme").await.unwrap();
        assert_eq!(unsettled.len(), 1, "{damage}");
        let mut ended = store.shares_due_to_expire("acme", at(200)).await.unwrap();
        ended.sort_unstable();
        assert_eq!(ended, [1, 3].map(Uuid::from_u128), "{damage}");
        let of_lead = store.share_of_lead("acme", &LeadKey::Id("l1".into())).await.unwrap();
        assert!(of_lead.is_some(), "{damage}");
        let new = Share {
            additional: true,
            ..share(9, "sam", "l1")
        };
        assert!(store.add_share("acme", &new, None).await.is_ok(), "{damage}");
        store.delete_ended_shares("acme", at(1)).await.unwrap();
        let error = store.share("acme", Uuid::from_u128(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreUnreadable, "{damage}");
        assert_eq!(store.damaged_rows(), 2, "{damage}");

        let found = store.find_damaged().await.unwrap();
        assert_eq!((found.len(), store.damaged_rows()), (2, 2), "{damage}: {found:?}");
        // The two shares and their changes.
        assert_eq!(store.move_damaged(&found, at(300)).await, Ok(4), "{damage}");
        assert_eq!(store.find_damaged().await, Ok(vec![]), "{damage}");
        assert_eq!(store.damaged_rows(), 0);
        assert_eq!(store.share("acme", Uuid::from_u128(2)).await, Ok(None));
        assert_eq!(ids(&store, all(10)).await, [9, 5, 3, 1], "{damage}");
        assert_eq!(
            sqlite
                .count("SELECT COUNT(*) FROM damaged WHERE source = 'share'")
                .await,
            2
        );
    }
}

#[tokio::test]
async fn damaged_rows_of_every_table_are_found_and_moved() {
    for (damage, table) in [
        ("UPDATE request SET answer = 'nonsense'", "request"),
        ("UPDATE request SET answer = '{}'", "request"),
        ("UPDATE request SET answer = x'00'", "request"),
        ("UPDATE request SET fingerprint = 'short'", "request"),
        ("UPDATE request SET begun = 'then'", "request"),
        ("UPDATE request SET id = x'07'", "request"),
        ("UPDATE spent SET calls = 'many'", "spent"),
        ("UPDATE spent SET last_grant = 'then'", "spent"),
        ("UPDATE spent SET slots = 'nonsense'", "spent"),
        ("UPDATE spent SET slots = x'00'", "spent"),
        ("UPDATE share_change SET state = 77", "share_change"),
        ("UPDATE share_change SET at = 'then'", "share_change"),
        ("UPDATE share SET id = CAST(x'ff' AS TEXT)", "share"),
        ("UPDATE share SET id = x'ff'", "share"),
        ("UPDATE share SET tenant = x'ff'", "share"),
    ] {
        let store = in_memory().await;
        store.begin_request("acme", "crm", &mark(1), KEEP).await.unwrap();
        store.add_share("acme", &share(1, "sam", "l1"), None).await.unwrap();
        store.save_quota_usage("acme", &usage(Some(slots()))).await.unwrap();
        assert_eq!(store.find_damaged().await, Ok(vec![]));
        let sqlite = sqlite_of(&store);
        sqlite.execute(damage).await;
        // All other operations succeed.
        assert!(store.quota_usage("acme").await.is_ok(), "{damage}");
        assert!(store.delete_old_requests(KEEP).await.is_ok(), "{damage}");
        assert!(
            store.share_history("acme", Uuid::from_u128(1)).await.is_ok(),
            "{damage}"
        );
        assert!(
            store
                .shares(
                    "acme",
                    &ShareFilter {
                        limit: 9,
                        ..ShareFilter::default()
                    }
                )
                .await
                .is_ok()
        );

        let found = store.find_damaged().await.unwrap();
        assert_eq!(found.len(), 1, "{damage}: {found:?}");
        assert!(found[0].to_string().contains(table), "{damage}: {found:?}");
        assert!(store.move_damaged(&found, at(300)).await.unwrap() >= 1, "{damage}");
        assert_eq!(store.find_damaged().await, Ok(vec![]), "{damage}");
        assert_eq!(
            sqlite.count(&format!("SELECT COUNT(*) FROM {table}")).await,
            0,
            "{damage}"
        );
    }
}

#[tokio::test]
async fn a_damaged_result_is_unknown_and_a_damaged_fingerprint_is_an_error() {
    let store = in_memory().await;
    let sqlite = sqlite_of(&store);
    store.begin_request("acme", "crm", &mark(1), KEEP).await.unwrap();
    store.finish_request("acme", "crm", &request(1), "{}").await.unwrap();
    sqlite.execute("UPDATE request SET answer = x'ff'").await;
    let known = |id| {
        let id = Uuid::from_u128(id);
        let store = store.clone();
        async move { store.request("acme", "crm", &id, KEEP).await }
    };
    let found = known(1).await.unwrap().unwrap();
    assert_eq!(found.result, None);
    sqlite.execute("UPDATE request SET fingerprint = 7").await;
    let error = known(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnreadable);
    assert_eq!(store.damaged_rows(), 1);
    assert_eq!(known(2).await, Ok(None));
    assert_eq!(
        store.begin_request("acme", "crm", &mark(2), KEEP).await,
        Ok(BeginResult::Started)
    );
}

#[tokio::test]
async fn a_store_with_damaged_rows_can_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/store.db", directory.path().display());
    let store = Store::open(&url).await.unwrap();
    store.add_share("acme", &share(1, "sam", "l1"), None).await.unwrap();
    let sqlite = sqlite_of(&store);
    // A value that the integrity check of SQLite reports.
    sqlite.execute("PRAGMA writable_schema = ON").await;
    sqlite
        .execute("UPDATE sqlite_schema SET sql = replace(sql, 'document   TEXT', 'document') WHERE name = 'share'")
        .await;
    store.close().await;
    let store = Store::open(&url).await.unwrap();
    let sqlite = sqlite_of(&store);
    sqlite.execute("UPDATE share SET document = 5").await;
    sqlite.execute("PRAGMA writable_schema = ON").await;
    sqlite
        .execute("UPDATE sqlite_schema SET sql = replace(sql, 'document', 'document TEXT') WHERE name = 'share'")
        .await;
    store.close().await;
    let store = Store::open(&url).await.unwrap();
    assert_eq!(store.find_damaged().await.unwrap().len(), 1);
}
