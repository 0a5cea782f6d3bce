//! The queries of SQLite, and the quota usage that older versions have stored.

use jiff::Timestamp;
use uuid::Uuid;

use super::{in_memory, slots, sqlite_of, usage};
use crate::domain::share::{ShareFilter, ShareState};

#[tokio::test]
async fn every_filter_of_shares_uses_an_index() {
    let store = in_memory().await;
    for (user, lead, index) in [
        (Some("sam"), None, "share_of_user (tenant=? AND user_id=? AND id<?)"),
        (None, Some("l1"), "share_of_entity (tenant=? AND entity_id=? AND id<?)"),
        (
            Some("sam"),
            Some("l1"),
            "share_of_entity (tenant=? AND entity_id=? AND id<?)",
        ),
        (None, None, "PRIMARY KEY (tenant=? AND id<?)"),
    ] {
        let filter = ShareFilter {
            user_id: user.map(str::to_owned),
            entity_id: lead.map(str::to_owned),
            older_than: Some(Uuid::from_u128(9)),
            states: vec![ShareState::Active],
            limit: 10,
            ..ShareFilter::default()
        };
        let plan = store.share_plan("acme", &filter).await.unwrap();
        assert!(plan.iter().any(|step| step.ends_with(index)), "{plan:?}");
        // Shares that are not returned are not read.
        let is_covered = user.is_none() || plan.iter().any(|step| step.contains("COVERING INDEX"));
        assert!(is_covered || lead.is_some(), "{plan:?}");
    }
}

#[tokio::test]
async fn usage_from_an_older_version_has_no_slots() {
    let store = in_memory().await;
    let sqlite = sqlite_of(&store);
    sqlite
        .execute("INSERT INTO spent (tenant, day, calls, last_grant) VALUES ('acme', '2026-07-31', 7, 300)")
        .await;
    let usage = store.quota_usage("acme").await.unwrap().unwrap();
    let last_grant = Timestamp::from_millisecond(300).unwrap();
    assert_eq!((usage.calls, usage.last_grant, usage.slots), (7, last_grant, None));
}

#[tokio::test]
async fn unreadable_slots_are_read_as_a_window_without_free_slots() {
    let store = in_memory().await;
    store.save_quota_usage("acme", &usage(Some(slots()))).await.unwrap();
    let sqlite = sqlite_of(&store);
    for damage in ["'nonsense'", "'{}'", "x'00'", "7"] {
        sqlite.execute(&format!("UPDATE spent SET slots = {damage}")).await;
        let usage = store.quota_usage("acme").await.unwrap().unwrap();
        assert_eq!((usage.last_grant, usage.slots), (Timestamp::MAX, None), "{damage}");
    }
}
