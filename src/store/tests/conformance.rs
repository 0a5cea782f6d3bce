//! The conformance tests: each test runs on every backend with an empty store. A new backend needs a function of [`TestStore`] that
//! returns an empty store, one line with `test_backend!`, and one with `test_restarts!` if its data outlives the process. The tests
//! cover requests, quota usage and shares. Damaged rows, the checks of the store and concurrent operations are not covered: each
//! backend needs tests of its own for these.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tempfile::TempDir;
use uuid::Uuid;

use super::lease::fence_of_all_tenants;
use super::server::Server;
use super::{KEEP, at, ids, mark, request, share, slots, usage};
use crate::clock;
use crate::domain::lead::LeadKey;
use crate::domain::lease::Fence;
use crate::domain::pause::{Pause, Pauses};
use crate::domain::share::{Share, ShareFilter, ShareStage, ShareState};
use crate::store::{AddShareResult, BeginResult, Store, StoredRequest};
use crate::telemetry::metrics::Metrics;

const MINUTE: Duration = Duration::from_secs(60);

/// An empty store of a backend.
struct TestStore {
    store: Store,
    url: String,
    /// The fence of the writes.
    fence: Option<Fence>,
    /// The directory of the file. It is deleted at the end of the test.
    _directory: Option<TempDir>,
}

impl TestStore {
    async fn sqlite_in_memory() -> Self {
        Self::open("sqlite::memory:".to_owned(), None).await
    }

    async fn sqlite_in_file() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db", directory.path().display());
        Self::open(url, Some(directory)).await
    }

    /// A PostgreSQL store of a process that owns all tenants.
    async fn postgres() -> Self {
        let server = Server::shared();
        Self::fenced(server.url(&server.create_database())).await
    }

    /// A PostgreSQL store without a lease.
    async fn postgres_without_lease() -> Self {
        let server = Server::shared();
        Self::open(server.url(&server.create_database()), None).await
    }

    async fn pgbouncer() -> Self {
        let server = Server::shared_with_bouncer();
        Self::fenced(server.bouncer_url(&server.create_database())).await
    }

    async fn fenced(url: String) -> Self {
        let test = Self::open(url, None).await;
        let fence = fence_of_all_tenants(&test.store).await;
        Self {
            store: test.store.fenced(fence.clone()),
            fence: Some(fence),
            ..test
        }
    }

    async fn open(url: String, directory: Option<TempDir>) -> Self {
        Self {
            store: Store::open(&url).await.unwrap(),
            url,
            fence: None,
            _directory: directory,
        }
    }

    /// Closes the store and opens it again.
    async fn restart(&mut self) {
        self.store.close().await;
        let store = Store::open(&self.url).await.unwrap();
        self.store = match &self.fence {
            Some(fence) => store.fenced(fence.clone()),
            None => store,
        };
    }
}

/// Runs all conformance tests on the stores that `$open` returns.
macro_rules! test_backend {
    ($backend:ident, $open:path) => {
        mod $backend {
            use super::TestStore;

            test_backend! { $open:
                an_id_without_a_request_has_no_record
                a_started_request_has_no_result
                a_second_request_with_the_same_id_is_not_started
                a_finished_request_has_its_result
                a_request_id_belongs_to_one_tenant
                a_deleted_request_can_be_started_again
                an_old_request_is_not_returned
                an_old_request_is_replaced
                old_requests_of_all_tenants_are_deleted
                an_account_without_usage_returns_none
                the_last_saved_quota_usage_is_returned
                a_new_share_is_returned_by_its_id
                an_unknown_share_is_not_found
                a_share_belongs_to_one_tenant
                a_second_share_of_the_same_user_and_lead_is_a_conflict
                an_additional_share_is_no_conflict
                a_share_with_another_user_is_no_conflict
                a_new_share_counts_the_leads_of_its_user
                a_share_above_the_limit_is_not_added
                an_additional_share_of_a_counted_lead_is_within_the_limit
                shares_are_listed_newest_first
                shares_are_filtered_by_user_in_any_case
                shares_are_filtered_by_lead_in_any_case
                shares_are_filtered_by_user_and_lead
                shares_are_filtered_by_age
                shares_are_filtered_by_state
                shares_are_filtered_by_expiry
                a_share_is_found_by_its_request_id
                a_later_share_can_use_the_same_request_id
                a_share_is_found_by_the_id_of_its_lead_in_any_case
                a_share_is_found_by_the_number_of_its_lead
                shares_are_counted_by_state
                usage_counts_leads_and_not_shares
                an_ended_share_does_not_count_as_usage
                a_saved_share_replaces_the_stored_share
                the_history_has_the_changes_that_were_saved_for_it
                shares_in_progress_are_returned_oldest_first
                a_share_is_due_to_expire_at_its_end
                an_expired_share_is_not_due_to_expire
                a_share_that_ended_is_deleted_after_its_time
                a_share_is_deleted_with_its_history
                ended_shares_of_other_tenants_are_not_deleted
                an_account_is_paused_until_it_is_resumed
                a_second_pause_changes_only_the_reason
                operations_are_measured_by_result
            }
        }
    };
    ($open:path: $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let test = $open().await;
                super::$test(&test.store).await;
            }
        )*
    };
}

/// Runs the tests with a restart on the stores that `$open` returns.
macro_rules! test_restarts {
    ($backend:ident, $open:path) => {
        mod $backend {
            use super::TestStore;

            test_restarts! { $open:
                the_result_of_a_request_survives_a_restart
                the_quota_usage_survives_a_restart
                a_share_and_its_history_survive_a_restart
                a_pause_survives_a_restart
            }
        }
    };
    ($open:path: $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                super::$test($open().await).await;
            }
        )*
    };
}

test_backend!(sqlite_in_memory, TestStore::sqlite_in_memory);
test_backend!(sqlite_in_file, TestStore::sqlite_in_file);
test_restarts!(sqlite_in_file_after_restart, TestStore::sqlite_in_file);
test_backend!(postgres, TestStore::postgres);
test_backend!(postgres_without_lease, TestStore::postgres_without_lease);
test_backend!(pgbouncer, TestStore::pgbouncer);
test_restarts!(postgres_after_restart, TestStore::postgres);
test_restarts!(pgbouncer_after_restart, TestStore::pgbouncer);

// Requests.

async fn begin(store: &Store, id: u128) -> BeginResult {
    store.begin_request("acme", "crm", &mark(id), KEEP).await.unwrap()
}

/// Makes all records older.
async fn age(store: &Store, by: Duration) {
    let update = format!("UPDATE request SET begun = begun - {}", by.as_millis());
    match store {
        Store::Sqlite(sqlite) => sqlite.execute(&update).await,
        Store::Postgres(postgres) => {
            let query = format!("WITH u AS ({update} RETURNING 1) SELECT count(*) FROM u");
            assert!(postgres.count(&query).await > 0);
        }
    }
}

async fn finish(store: &Store, id: u128, result: &str) {
    store.finish_request("acme", "crm", &request(id), result).await.unwrap();
}

/// The record of a request that was started just now.
async fn stored(store: &Store, id: u128) -> Option<StoredRequest> {
    stored_with_age(store, id, Duration::ZERO).await
}

/// Checks the age of a record to 10 s. The result has no time.
async fn stored_with_age(store: &Store, id: u128, age: Duration) -> Option<StoredRequest> {
    let found = store
        .request("acme", "crm", &Uuid::from_u128(id), KEEP)
        .await
        .unwrap()?;
    let difference = clock::now().duration_since(found.started + age).abs();
    assert!(difference < SignedDuration::from_secs(10), "{difference}");
    Some(StoredRequest {
        started: at(0),
        ..found
    })
}

fn record(result: Option<&str>) -> Option<StoredRequest> {
    Some(StoredRequest {
        fingerprint: vec![7; 32],
        started: at(0),
        result: result.map(str::to_owned),
        is_of_other_epoch: false,
    })
}

async fn an_id_without_a_request_has_no_record(store: &Store) {
    assert_eq!(stored(store, 1).await, None);
}

async fn a_started_request_has_no_result(store: &Store) {
    assert_eq!(begin(store, 1).await, BeginResult::Started);
    assert_eq!(stored(store, 1).await, record(None));
}

async fn a_second_request_with_the_same_id_is_not_started(store: &Store) {
    begin(store, 1).await;
    assert_eq!(begin(store, 1).await, BeginResult::Exists);
    assert_eq!(stored(store, 1).await, record(None));
}

async fn a_finished_request_has_its_result(store: &Store) {
    begin(store, 1).await;
    finish(store, 1, "{}").await;
    assert_eq!(stored(store, 1).await, record(Some("{}")));
}

async fn a_request_id_belongs_to_one_tenant(store: &Store) {
    begin(store, 1).await;
    let other = store.begin_request("south", "crm", &mark(1), KEEP).await;
    assert_eq!(other, Ok(BeginResult::Started));
}

async fn a_deleted_request_can_be_started_again(store: &Store) {
    begin(store, 1).await;
    store.delete_request("acme", "crm", &mark(1)).await.unwrap();
    assert_eq!(stored(store, 1).await, None);
    assert_eq!(begin(store, 1).await, BeginResult::Started);
}

async fn an_old_request_is_not_returned(store: &Store) {
    begin(store, 1).await;
    age(store, KEEP - MINUTE).await;
    assert_eq!(stored_with_age(store, 1, KEEP - MINUTE).await, record(None));
    age(store, MINUTE * 2).await;
    assert_eq!(stored(store, 1).await, None);
}

async fn an_old_request_is_replaced(store: &Store) {
    begin(store, 1).await;
    finish(store, 1, "{}").await;
    age(store, KEEP + MINUTE).await;
    assert_eq!(begin(store, 1).await, BeginResult::Started);
    assert_eq!(begin(store, 1).await, BeginResult::Exists);
    assert_eq!(stored(store, 1).await, record(None));
}

async fn old_requests_of_all_tenants_are_deleted(store: &Store) {
    for tenant in ["north", "south"] {
        let old = store.begin_request(tenant, "crm", &mark(1), KEEP).await;
        assert_eq!(old, Ok(BeginResult::Started));
    }
    age(store, KEEP + MINUTE).await;
    begin(store, 1).await;
    assert_eq!(store.delete_old_requests(KEEP).await, Ok(2));
    assert_eq!(stored(store, 1).await, record(None));
}

// Quota usage.

async fn an_account_without_usage_returns_none(store: &Store) {
    assert_eq!(store.quota_usage("acme").await, Ok(None));
}

async fn the_last_saved_quota_usage_is_returned(store: &Store) {
    for usage in [usage(None), usage(Some(slots())), usage(None)] {
        store.save_quota_usage("acme", &usage).await.unwrap();
        assert_eq!(store.quota_usage("acme").await, Ok(Some(usage)));
    }
}

// Shares.

async fn add(store: &Store, share: &Share) -> AddShareResult {
    store.add_share("acme", share, None).await.unwrap()
}

fn added(used: u32) -> AddShareResult {
    AddShareResult::Added { used }
}

fn additional(share: Share) -> Share {
    Share {
        additional: true,
        ..share
    }
}

/// A share in a stage. It ends at second 500.
fn in_stage(share: Share, stage: ShareStage, changed: i64) -> Share {
    Share {
        stage,
        expires: Some(at(500)),
        changed: at(changed),
        ..share
    }
}

fn of_user(user: &str) -> ShareFilter {
    ShareFilter {
        user_id: Some(user.to_owned()),
        ..ShareFilter::default()
    }
}

fn of_lead(lead: &str) -> ShareFilter {
    ShareFilter {
        entity_id: Some(lead.to_owned()),
        ..ShareFilter::default()
    }
}

/// Adds shares 1 to 4: two of lead l1 with sam, one of l1 with sita, one of l2 with sam. Share 1 is active.
async fn add_four(store: &Store) {
    add(store, &share(1, "Sam", "L1")).await;
    add(store, &additional(share(2, "sam", "l1"))).await;
    add(store, &share(3, "sita", "l1")).await;
    add(store, &share(4, "sam", "l2")).await;
    let active = in_stage(share(1, "Sam", "L1"), ShareStage::Active, 20);
    store.save_share("acme", &active, true).await.unwrap();
}

async fn a_new_share_is_returned_by_its_id(store: &Store) {
    let new = share(1, "Sam", "L1");
    assert_eq!(add(store, &new).await, added(1));
    assert_eq!(store.share("acme", new.id).await, Ok(Some(new)));
}

async fn an_unknown_share_is_not_found(store: &Store) {
    assert_eq!(store.share("acme", Uuid::from_u128(9)).await, Ok(None));
}

async fn a_share_belongs_to_one_tenant(store: &Store) {
    let new = share(1, "sam", "l1");
    add(store, &new).await;
    assert_eq!(store.share("south", new.id).await, Ok(None));
    assert_eq!(store.add_share("south", &new, None).await, Ok(added(1)));
}

async fn a_second_share_of_the_same_user_and_lead_is_a_conflict(store: &Store) {
    let first = share(1, "Sam", "L1");
    add(store, &first).await;
    let second = add(store, &share(2, "sam", "l1")).await;
    assert_eq!(second, AddShareResult::Conflict(first.id));
    assert_eq!(ids(store, ShareFilter::default()).await, [1]);
}

async fn an_additional_share_is_no_conflict(store: &Store) {
    add(store, &share(1, "sam", "l1")).await;
    assert_eq!(add(store, &additional(share(2, "sam", "l1"))).await, added(1));
}

async fn a_share_with_another_user_is_no_conflict(store: &Store) {
    add(store, &share(1, "sam", "l1")).await;
    assert_eq!(add(store, &share(2, "sita", "l1")).await, added(1));
}

async fn a_new_share_counts_the_leads_of_its_user(store: &Store) {
    add(store, &share(1, "Sam", "l1")).await;
    assert_eq!(add(store, &share(2, "sam", "l2")).await, added(2));
}

async fn a_share_above_the_limit_is_not_added(store: &Store) {
    for (id, lead) in [(1, "l1"), (2, "l2")] {
        add(store, &share(id, "sam", lead)).await;
    }
    let third = share(3, "sam", "l3");
    let limited = store.add_share("acme", &third, Some(2)).await;
    assert_eq!(limited, Ok(AddShareResult::LimitReached));
    assert_eq!(store.share("acme", third.id).await, Ok(None));
}

async fn an_additional_share_of_a_counted_lead_is_within_the_limit(store: &Store) {
    add(store, &share(1, "sam", "l1")).await;
    let again = additional(share(2, "sam", "l1"));
    assert_eq!(store.add_share("acme", &again, Some(1)).await, Ok(added(1)));
}

async fn shares_are_listed_newest_first(store: &Store) {
    add_four(store).await;
    assert_eq!(ids(store, ShareFilter::default()).await, [4, 3, 2, 1]);
}

async fn shares_are_filtered_by_user_in_any_case(store: &Store) {
    add_four(store).await;
    assert_eq!(ids(store, of_user("SAM")).await, [4, 2, 1]);
}

async fn shares_are_filtered_by_lead_in_any_case(store: &Store) {
    add_four(store).await;
    for lead in ["l1", "L1"] {
        assert_eq!(ids(store, of_lead(lead)).await, [3, 2, 1]);
    }
}

async fn shares_are_filtered_by_user_and_lead(store: &Store) {
    add_four(store).await;
    let both = ShareFilter {
        user_id: Some("sam".to_owned()),
        ..of_lead("l1")
    };
    assert_eq!(ids(store, both).await, [2, 1]);
}

async fn shares_are_filtered_by_age(store: &Store) {
    add_four(store).await;
    let older = ShareFilter {
        older_than: Some(Uuid::from_u128(3)),
        ..ShareFilter::default()
    };
    assert_eq!(ids(store, older).await, [2, 1]);
}

async fn shares_are_filtered_by_state(store: &Store) {
    add_four(store).await;
    let in_states = |states: &[ShareState]| ShareFilter {
        states: states.to_vec(),
        ..ShareFilter::default()
    };
    assert_eq!(ids(store, in_states(&[ShareState::Active])).await, [1]);
    let several = in_states(&[ShareState::Submitted, ShareState::Failed]);
    assert_eq!(ids(store, several).await, [4, 3, 2]);
}

async fn shares_are_filtered_by_expiry(store: &Store) {
    add_four(store).await;
    for (time, expected) in [(500, &[][..]), (501, &[1])] {
        let expiring = ShareFilter {
            expire_before: Some(at(time)),
            ..ShareFilter::default()
        };
        assert_eq!(ids(store, expiring).await, expected);
    }
}

fn with_request_id(share: Share) -> Share {
    Share {
        request_id: Some(Uuid::from_u128(77)),
        ..share
    }
}

async fn a_share_is_found_by_its_request_id(store: &Store) {
    let new = with_request_id(share(1, "sam", "l1"));
    add(store, &new).await;
    let found = async |tenant| store.share_of_request(tenant, Uuid::from_u128(77)).await;
    assert_eq!(found("acme").await, Ok(Some(new.id)));
    assert_eq!(found("south").await, Ok(None));
}

async fn a_later_share_can_use_the_same_request_id(store: &Store) {
    add(store, &with_request_id(share(1, "sam", "l1"))).await;
    let later = with_request_id(share(2, "sita", "l1"));
    assert_eq!(add(store, &later).await, added(1));
    let found = store.share_of_request("acme", Uuid::from_u128(77)).await;
    assert_eq!(found, Ok(Some(later.id)));
}

async fn a_share_is_found_by_the_id_of_its_lead_in_any_case(store: &Store) {
    add_four(store).await;
    for id in ["l2", "L2"] {
        let found = store.share_of_lead("acme", &LeadKey::Id(id.to_owned())).await.unwrap();
        assert_eq!(found.map(|share| share.id.as_u128()), Some(4), "{id}");
    }
}

async fn a_share_is_found_by_the_number_of_its_lead(store: &Store) {
    add_four(store).await;
    let number = "4".to_owned();
    let found = store
        .share_of_lead("acme", &LeadKey::Number(number.clone()))
        .await
        .unwrap();
    assert_eq!(found.map(|share| share.id.as_u128()), Some(4));
    assert_eq!(store.share_of_lead("acme", &LeadKey::Id(number)).await, Ok(None));
}

async fn usage_counts_leads_and_not_shares(store: &Store) {
    add_four(store).await;
    assert_eq!(store.share_usage("acme", "Sam").await, Ok(2));
}

async fn shares_are_counted_by_state(store: &Store) {
    add_four(store).await;
    store.add_share("south", &share(5, "sam", "l9"), None).await.unwrap();
    let counts = store.count_shares("acme").await.unwrap();
    assert_eq!(counts, [(ShareState::Submitted, 3), (ShareState::Active, 1)].into());
    assert_eq!(store.count_shares("nobody").await, Ok([].into()));
}

async fn operations_are_measured_by_result(store: &Store) {
    let metrics = Arc::new(Metrics::default());
    store.set_metrics(metrics.clone());
    add_four(store).await;
    store.close().await;
    store.share("acme", Uuid::from_u128(1)).await.unwrap_err();
    let text = metrics.text(std::iter::empty());
    let count = |operation: &str, results: &[&str]| -> u64 {
        let prefix = |result| {
            format!("leadgate_store_operation_duration_seconds_count{{operation=\"{operation}\",result=\"{result}\"}} ")
        };
        let found = results.iter().filter_map(|result| {
            let prefix = prefix(result);
            text.lines().find_map(|line| line.strip_prefix(&*prefix))
        });
        found.map(|value| value.parse::<u64>().unwrap()).sum()
    };
    assert_eq!(
        (count("add_share", &["ok"]), count("save_share", &["ok"])),
        (4, 1),
        "{text}"
    );
    assert_eq!(
        (count("share", &["ok"]), count("share", &["failed", "unreadable"])),
        (0, 1),
        "{text}"
    );
    assert_eq!(
        store.pool().map(|pool| (pool.used, pool.waiting)),
        store.keeps_attempts().then_some((0, 0))
    );
}

async fn an_ended_share_does_not_count_as_usage(store: &Store) {
    add_four(store).await;
    let ended = in_stage(share(4, "sam", "l2"), ShareStage::Expired, 500);
    store.save_share("acme", &ended, true).await.unwrap();
    assert_eq!(store.share_usage("acme", "sam").await, Ok(1));
}

async fn a_saved_share_replaces_the_stored_share(store: &Store) {
    let new = share(1, "sam", "l1");
    add(store, &new).await;
    let active = in_stage(new, ShareStage::Active, 20);
    store.save_share("acme", &active, true).await.unwrap();
    assert_eq!(store.share("acme", active.id).await, Ok(Some(active)));
}

async fn history(store: &Store, id: u128) -> Vec<(ShareState, i64)> {
    let changes = store.share_history("acme", Uuid::from_u128(id)).await.unwrap();
    let changes = changes.iter().map(|change| (change.state, change.at.as_second()));
    changes.collect()
}

async fn the_history_has_the_changes_that_were_saved_for_it(store: &Store) {
    let new = share(1, "sam", "l1");
    add(store, &new).await;
    let active = in_stage(new, ShareStage::Active, 20);
    store.save_share("acme", &active, true).await.unwrap();
    store.save_share("acme", &active, false).await.unwrap();
    let expected = [(ShareState::Submitted, 1), (ShareState::Active, 20)];
    assert_eq!(history(store, 1).await, expected);
}

async fn shares_in_progress_are_returned_oldest_first(store: &Store) {
    add_four(store).await;
    let found = store.shares_in_progress("acme").await.unwrap();
    let found: Vec<_> = found.iter().map(|share| share.id.as_u128()).collect();
    assert_eq!(found, [2, 3, 4]);
}

async fn a_share_is_due_to_expire_at_its_end(store: &Store) {
    add_four(store).await;
    assert_eq!(store.shares_due_to_expire("acme", at(499)).await, Ok(vec![]));
    let due = store.shares_due_to_expire("acme", at(500)).await;
    assert_eq!(due, Ok(vec![Uuid::from_u128(1)]));
    assert_eq!(store.next_expiry("acme").await, Ok(Some(at(500))));
    assert_eq!(store.next_expiry("north").await, Ok(None));
}

/// Adds a share that expired at second 500.
async fn add_expired(store: &Store, tenant: &str) -> Uuid {
    let new = share(1, "sam", "l1");
    store.add_share(tenant, &new, None).await.unwrap();
    let expired = in_stage(new, ShareStage::Expired, 500);
    store.save_share(tenant, &expired, true).await.unwrap();
    expired.id
}

async fn an_expired_share_is_not_due_to_expire(store: &Store) {
    add_expired(store, "acme").await;
    assert_eq!(store.shares_due_to_expire("acme", at(600)).await, Ok(vec![]));
    assert_eq!(store.next_expiry("acme").await, Ok(None));
}

async fn a_share_that_ended_is_deleted_after_its_time(store: &Store) {
    let id = add_expired(store, "acme").await;
    assert_eq!(store.delete_ended_shares("acme", at(500)).await, Ok(0));
    assert_eq!(store.delete_ended_shares("acme", at(501)).await, Ok(1));
    assert_eq!(store.share("acme", id).await, Ok(None));
}

async fn a_share_is_deleted_with_its_history(store: &Store) {
    let id = add_expired(store, "acme").await;
    store.delete_ended_shares("acme", at(501)).await.unwrap();
    assert_eq!(store.share_history("acme", id).await, Ok(vec![]));
}

async fn ended_shares_of_other_tenants_are_not_deleted(store: &Store) {
    let id = add_expired(store, "acme").await;
    assert_eq!(store.delete_ended_shares("south", at(501)).await, Ok(0));
    assert!(store.share("acme", id).await.unwrap().is_some());
}

// Pauses.

fn pause(second: i64, reason: &str) -> Pause {
    Pause::new(at(second), reason).unwrap()
}

async fn an_account_is_paused_until_it_is_resumed(store: &Store) {
    assert_eq!(store.pauses().await, Ok(Pauses::new()));
    assert_eq!(
        store.pause("acme", &pause(7, "it's late")).await,
        Ok(pause(7, "it's late"))
    );
    store.pause("south", &pause(8, "")).await.unwrap();
    let both = [("acme", pause(7, "it's late")), ("south", pause(8, ""))];
    let both = both.map(|(tenant, pause)| (tenant.to_owned(), pause));
    assert_eq!(store.pauses().await, Ok(both.clone().into()));
    assert_eq!(store.resume("acme").await, Ok(true));
    assert_eq!(store.resume("acme").await, Ok(false));
    assert_eq!(store.pauses().await, Ok([both[1].clone()].into()));
}

async fn a_second_pause_changes_only_the_reason(store: &Store) {
    store.pause("acme", &pause(7, "one")).await.unwrap();
    assert_eq!(store.pause("acme", &pause(9, "two")).await, Ok(pause(7, "two")));
    assert_eq!(store.pauses().await, Ok([("acme".to_owned(), pause(7, "two"))].into()));
    // Without a reason, the former one stays.
    assert_eq!(store.pause("acme", &pause(11, "")).await, Ok(pause(7, "two")));
    assert_eq!(store.pauses().await, Ok([("acme".to_owned(), pause(7, "two"))].into()));
}

// Restarts.

async fn a_pause_survives_a_restart(mut test: TestStore) {
    test.store.pause("acme", &pause(7, "x")).await.unwrap();
    test.restart().await;
    assert_eq!(
        test.store.pauses().await,
        Ok([("acme".to_owned(), pause(7, "x"))].into())
    );
}

async fn the_result_of_a_request_survives_a_restart(mut test: TestStore) {
    begin(&test.store, 1).await;
    finish(&test.store, 1, "{}").await;
    test.restart().await;
    assert_eq!(stored(&test.store, 1).await, record(Some("{}")));
}

async fn the_quota_usage_survives_a_restart(mut test: TestStore) {
    let usage = usage(Some(slots()));
    test.store.save_quota_usage("acme", &usage).await.unwrap();
    test.restart().await;
    assert_eq!(test.store.quota_usage("acme").await, Ok(Some(usage)));
}

async fn a_share_and_its_history_survive_a_restart(mut test: TestStore) {
    let new = share(1, "sam", "l1");
    add(&test.store, &new).await;
    let active = in_stage(new, ShareStage::Active, 20);
    test.store.save_share("acme", &active, true).await.unwrap();
    test.restart().await;
    assert_eq!(test.store.share("acme", active.id).await, Ok(Some(active)));
    assert_eq!(history(&test.store, 1).await.len(), 2);
}
