//! PostgreSQL: marks of other epochs, servers that stop and move, migrations, damaged rows, the copy of a SQLite store, and errors.

use std::task::Poll;
use std::time::Duration;

use uuid::Uuid;

use super::lease::fence_of_all_tenants;
use super::server::Server;
use super::{KEEP, at, ids, mark, request, share, slots, usage};
use crate::domain::lease::Fence;
use crate::domain::pause::Pause;
use crate::domain::share::{Share, ShareFilter, ShareStage};
use crate::error::ErrorKind;
use crate::store::{AddShareResult, BeginResult, CopiedRows, Postgres, RequestMark, Store, StoreOptions};

/// An empty store in a database of its own, with the fence of the owner of all tenants.
struct Owned {
    server: &'static Server,
    database: String,
    store: Store,
    fence: Fence,
}

impl Owned {
    async fn new() -> Self {
        let server = Server::shared();
        let database = server.create_database();
        let store = Store::open(&server.url(&database)).await.unwrap();
        let fence = fence_of_all_tenants(&store).await;
        Self {
            server,
            database,
            store: store.fenced(fence.clone()),
            fence,
        }
    }

    /// Moves all tenants to another replica with epoch 2, and returns its store.
    fn moved(&self) -> Store {
        self.server
            .sql(&self.database, "UPDATE tenant_lease SET owner = 'other', epoch = 2");
        self.store.fenced(Fence {
            owner: "other".into(),
            epoch: 2,
            ..self.fence.clone()
        })
    }

    fn sql(&self, statements: &str) -> String {
        self.server.sql(&self.database, statements).trim().to_owned()
    }
}

pub(super) fn backend(store: &Store) -> &Postgres {
    match store {
        Store::Postgres(postgres) => postgres,
        Store::Sqlite(_) => panic!("not a PostgreSQL store"),
    }
}

async fn begin(store: &Store, mark: &RequestMark) -> BeginResult {
    store.begin_request("acme", "crm", mark, KEEP).await.unwrap()
}

async fn finish(store: &Store, result: &str) {
    store.finish_request("acme", "crm", &request(1), result).await.unwrap();
}

/// The result of request 1, and whether it is of another epoch.
async fn stored(store: &Store) -> Option<(Option<String>, bool)> {
    let found = store.request("acme", "crm", &Uuid::from_u128(1), KEEP).await.unwrap();
    found.map(|found| (found.result, found.is_of_other_epoch))
}

// Marks of requests.

#[tokio::test]
async fn a_mark_of_the_same_epoch_is_replaced_only_by_a_higher_attempt() {
    let owned = Owned::new().await;
    let attempt = |attempt| RequestMark { attempt, ..mark(1) };
    assert_eq!(begin(&owned.store, &attempt(2)).await, BeginResult::Started);
    assert_eq!(begin(&owned.store, &attempt(1)).await, BeginResult::Exists);
    assert_eq!(begin(&owned.store, &attempt(2)).await, BeginResult::Exists);
    assert_eq!(begin(&owned.store, &attempt(3)).await, BeginResult::Started);
    let other_message = RequestMark {
        request: crate::context::RequestId {
            fingerprint: [9; 32],
            ..request(1)
        },
        ..attempt(4)
    };
    assert_eq!(begin(&owned.store, &other_message).await, BeginResult::Exists);
    // An earlier attempt does not withdraw a later one.
    owned.store.delete_request("acme", "crm", &attempt(2)).await.unwrap();
    assert!(stored(&owned.store).await.is_some());
    owned.store.delete_request("acme", "crm", &attempt(3)).await.unwrap();
    assert_eq!(stored(&owned.store).await, None);
}

#[tokio::test]
async fn a_mutation_that_is_older_than_the_history_and_unknown_is_not_started() {
    let owned = Owned::new().await;
    owned.sql("UPDATE history SET first_seen = clock_timestamp() - interval '60 seconds'");
    let received = |id, seconds| RequestMark {
        received_ago: Duration::from_secs(seconds),
        ..mark(id)
    };
    assert_eq!(
        begin(&owned.store, &received(1, 600)).await,
        BeginResult::HistoryIsYounger
    );
    assert_eq!(stored(&owned.store).await, None);
    assert_eq!(begin(&owned.store, &received(1, 1)).await, BeginResult::Started);
    assert_eq!(begin(&owned.store, &received(1, 600)).await, BeginResult::Exists);
    assert_eq!(begin(&owned.store, &received(2, 0)).await, BeginResult::Started);
}

#[tokio::test]
async fn a_finished_request_is_not_replaced_or_withdrawn() {
    let owned = Owned::new().await;
    begin(&owned.store, &mark(1)).await;
    finish(&owned.store, "{\"Done\":1}").await;
    let higher = RequestMark { attempt: 9, ..mark(1) };
    assert_eq!(begin(&owned.store, &higher).await, BeginResult::Exists);
    owned.store.delete_request("acme", "crm", &mark(1)).await.unwrap();
    assert_eq!(
        stored(&owned.store).await,
        Some((Some("{\"Done\":1}".to_owned()), false))
    );
}

#[tokio::test]
async fn the_result_and_the_withdrawal_of_an_own_mark_need_no_lease() {
    let owned = Owned::new().await;
    begin(&owned.store, &mark(1)).await;
    begin(&owned.store, &mark(2)).await;
    let other = owned.moved();
    assert_eq!(stored(&other).await, Some((None, true)));
    owned.store.delete_request("acme", "crm", &mark(2)).await.unwrap();
    finish(&owned.store, "{\"Done\":1}").await;
    assert_eq!(stored(&other).await, Some((Some("{\"Done\":1}".to_owned()), true)));
    assert_eq!(other.unfinished_requests("acme").await, Ok(vec![]));
}

#[tokio::test]
async fn the_new_owner_finishes_a_mark_of_another_epoch_and_a_late_result_changes_nothing() {
    let owned = Owned::new().await;
    begin(&owned.store, &mark(1)).await;
    let other = owned.moved();
    finish(&other, "{\"Done\":2}").await;
    finish(&owned.store, "{\"Done\":1}").await;
    owned.store.delete_request("acme", "crm", &mark(1)).await.unwrap();
    assert_eq!(stored(&other).await, Some((Some("{\"Done\":2}".to_owned()), true)));
}

#[tokio::test]
async fn the_new_owner_does_not_withdraw_a_mark_of_another_epoch() {
    let owned = Owned::new().await;
    begin(&owned.store, &mark(1)).await;
    let other = owned.moved();
    other.delete_request("acme", "crm", &mark(1)).await.unwrap();
    assert_eq!(
        begin(&other, &RequestMark { attempt: 5, ..mark(1) }).await,
        BeginResult::Exists
    );
    assert_eq!(stored(&other).await, Some((None, true)));
    // Without the lease, a result does not replace the mark of another epoch.
    let third = owned.store.fenced(Fence {
        epoch: 3,
        ..owned.fence.clone()
    });
    finish(&third, "{\"Done\":3}").await;
    assert_eq!(stored(&other).await, Some((None, true)));
}

#[tokio::test]
async fn a_result_is_inserted_if_its_mark_is_missing() {
    let owned = Owned::new().await;
    begin(&owned.store, &mark(1)).await;
    owned.sql("DELETE FROM request");
    let other = owned.moved();
    finish(&owned.store, "{\"Done\":1}").await;
    assert_eq!(stored(&other).await, Some((Some("{\"Done\":1}".to_owned()), true)));
}

#[tokio::test]
async fn unfinished_requests_have_their_keys() {
    let owned = Owned::new().await;
    let with_keys = RequestMark {
        keys: vec![-7, 9],
        ..mark(1)
    };
    begin(&owned.store, &with_keys).await;
    begin(&owned.store, &mark(2)).await;
    let found = owned.moved().unfinished_requests("acme").await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|request| (request.id.as_u128(), request.is_of_other_epoch, request.keys.clone()))
        .collect();
    assert_eq!(found, [(1, true, vec![-7, 9]), (2, true, vec![])]);
    assert!(!owned.store.unfinished_requests("acme").await.unwrap()[0].is_of_other_epoch);
}

#[tokio::test]
async fn a_withdrawal_follows_a_dropped_begin() {
    let owned = Owned::new().await;
    for _ in 0..10 {
        // Dropped after its first poll, as when a caller cancels.
        let mark = mark(1);
        let mut begin = Box::pin(owned.store.begin_request("acme", "crm", &mark, KEEP));
        let is_pending = std::future::poll_fn(|context| Poll::Ready(begin.as_mut().poll(context).is_pending())).await;
        assert!(is_pending);
        drop(begin);
        owned.store.delete_request("acme", "crm", &mark).await.unwrap();
        assert_eq!(stored(&owned.store).await, None);
    }
}

#[tokio::test]
async fn a_null_character_is_an_error_and_not_sent() {
    let owned = Owned::new().await;
    let error = owned.store.save_quota_state("acme", "a\0b").await.unwrap_err();
    assert!(error.to_string().contains("U+0000"), "{error}");
}

// Shares.

fn in_stage(stage: ShareStage) -> Share {
    Share {
        stage,
        changed: at(5),
        ..share(1, "sam", "l1")
    }
}

#[tokio::test]
async fn only_the_result_of_a_step_that_was_sent_needs_no_lease() {
    let owned = Owned::new().await;
    owned
        .store
        .add_share("acme", &share(1, "sam", "l1"), None)
        .await
        .unwrap();
    let requesting = in_stage(ShareStage::RequestingShare);
    owned.store.save_share("acme", &requesting, true).await.unwrap();
    let other = owned.moved();
    // A request of a caller is no result.
    let revoke = Share {
        revoke_requested: true,
        ..requesting
    };
    assert!(
        owned
            .store
            .save_share("acme", &revoke, true)
            .await
            .unwrap_err()
            .is_not_owner()
    );
    let accepted = in_stage(ShareStage::ShareInProgress);
    owned.store.save_share("acme", &accepted, true).await.unwrap();
    assert_eq!(other.share("acme", accepted.id).await, Ok(Some(accepted.clone())));
    assert_eq!(other.share_history("acme", accepted.id).await.unwrap().len(), 3);
    // The step has its result, and the next one needs the lease.
    let next = in_stage(ShareStage::RequestingRevoke);
    assert!(
        owned
            .store
            .save_share("acme", &next, true)
            .await
            .unwrap_err()
            .is_not_owner()
    );
    assert!(
        owned
            .store
            .save_share("acme", &accepted, false)
            .await
            .unwrap_err()
            .is_not_owner()
    );
}

#[tokio::test]
async fn a_late_result_of_a_step_does_not_replace_the_state_of_the_new_owner() {
    let owned = Owned::new().await;
    owned
        .store
        .add_share("acme", &share(1, "sam", "l1"), None)
        .await
        .unwrap();
    let requesting = in_stage(ShareStage::RequestingShare);
    owned.store.save_share("acme", &requesting, true).await.unwrap();
    let other = owned.moved();
    let uncertain = in_stage(ShareStage::Uncertain);
    other.save_share("acme", &uncertain, true).await.unwrap();
    let late = owned
        .store
        .save_share("acme", &in_stage(ShareStage::ShareInProgress), true)
        .await;
    assert!(late.unwrap_err().is_not_owner());
    assert_eq!(other.share("acme", uncertain.id).await, Ok(Some(uncertain)));
}

#[tokio::test]
async fn concurrent_shares_of_one_user_and_lead_conflict() {
    let owned = Owned::new().await;
    let shares: Vec<Share> = (1..=8).map(|id| share(id, "sam", "l1")).collect();
    let mut adding = tokio::task::JoinSet::new();
    for share in shares {
        let store = owned.store.clone();
        adding.spawn(async move { store.add_share("acme", &share, None).await.unwrap() });
    }
    let results = adding.join_all().await;
    let added = results
        .iter()
        .filter(|result| matches!(result, AddShareResult::Added { .. }));
    assert_eq!(added.count(), 1, "{results:?}");
    assert_eq!(ids(&owned.store, ShareFilter::default()).await.len(), 1);
}

#[tokio::test]
async fn filters_of_shares_use_an_index() {
    let owned = Owned::new().await;
    // The server reads small tables as a whole.
    owned.sql(
        "INSERT INTO share (tenant, id, user_id, kind, entity_id, state, unsettled, changed, document, epoch)
         SELECT 'acme', lpad(n::text, 36, '0'), 'user' || n % 500, 1, 'lead' || n % 900, 4, false, 1, '{}', 0
         FROM generate_series(1, 20000) n; ANALYZE share",
    );
    for (user, lead, index) in [
        (Some("user7"), None, "share_of_user"),
        (None, Some("lead7"), "share_of_entity"),
        (None, None, "share_pkey"),
    ] {
        let filter = ShareFilter {
            user_id: user.map(str::to_owned),
            entity_id: lead.map(str::to_owned),
            limit: 10,
            ..ShareFilter::default()
        };
        let plan = owned.store.share_plan("acme", &filter).await.unwrap();
        assert!(plan.iter().any(|step| step.contains(index)), "{plan:?}");
    }
}

// Damaged rows.

#[tokio::test]
async fn damaged_rows_are_found_and_moved_while_no_replica_owns_the_tenant() {
    for (damage, table) in [
        ("UPDATE request SET answer = 'nonsense'", "request"),
        ("UPDATE request SET answer = '{}'", "request"),
        ("UPDATE request SET fingerprint = '\\x00'", "request"),
        ("UPDATE spent SET slots = 'nonsense'", "spent"),
        ("UPDATE share_change SET state = 77", "share_change"),
        ("UPDATE share SET document = 'non''sense'", "share"),
        ("UPDATE share SET kind = 2", "share"),
        ("UPDATE share SET state = 77", "share"),
    ] {
        let owned = Owned::new().await;
        begin(&owned.store, &mark(1)).await;
        owned
            .store
            .add_share("acme", &share(1, "sam", "l1"), None)
            .await
            .unwrap();
        owned
            .store
            .save_quota_usage("acme", &usage(Some(slots())))
            .await
            .unwrap();
        assert_eq!(owned.store.find_damaged().await, Ok(vec![]));
        owned.sql(damage);
        assert!(owned.store.quota_usage("acme").await.is_ok(), "{damage}");
        assert_eq!(owned.store.shares("acme", &ShareFilter::default()).await, Ok(vec![]));
        let found = owned.store.find_damaged().await.unwrap();
        assert_eq!((found.len(), owned.store.damaged_rows()), (1, 1), "{damage}: {found:?}");
        assert!(found[0].to_string().contains(table), "{damage}: {found:?}");
        let repair = owned.moved();
        let unowned = Store::open(&owned.server.url(&owned.database)).await.unwrap();
        assert!(unowned.move_damaged(&found, at(300)).await.unwrap_err().is_not_owner());
        drop(repair);
        owned.sql("UPDATE tenant_lease SET owner = NULL");
        assert!(unowned.move_damaged(&found, at(300)).await.unwrap() >= 1, "{damage}");
        assert_eq!(unowned.find_damaged().await, Ok(vec![]), "{damage}");
        // The content can be inserted again.
        let content = owned.sql(&format!("SELECT content FROM damaged WHERE source = '{table}'"));
        owned.sql(&format!("INSERT INTO {table} VALUES ({content})"));
        assert_eq!(unowned.find_damaged().await.unwrap().len(), 1, "{damage}");
    }
}

#[tokio::test]
async fn a_damaged_fingerprint_is_an_error() {
    let owned = Owned::new().await;
    begin(&owned.store, &mark(1)).await;
    owned.sql("UPDATE request SET fingerprint = '\\x00'");
    let error = owned
        .store
        .request("acme", "crm", &Uuid::from_u128(1), KEEP)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnreadable);
    assert_eq!(owned.store.damaged_rows(), 1);
}

// Migrations.

/// What a migration of the next release may do.
const NEXT_MIGRATION: &str = "
    CREATE TABLE extra (tenant text PRIMARY KEY);
    ALTER TABLE request ADD COLUMN extra text; CREATE INDEX request_extra ON request (tenant, extra);
    ALTER TABLE spent ADD COLUMN extra bigint NOT NULL DEFAULT 7;
    ALTER TABLE quota_state ADD COLUMN extra text;
    ALTER TABLE share ADD COLUMN extra boolean NOT NULL DEFAULT false;
    ALTER TABLE share_change ADD COLUMN extra text;
    ALTER TABLE damaged ADD COLUMN extra text;
    ALTER TABLE history ADD COLUMN extra text;
    ALTER TABLE replica ADD COLUMN extra text NOT NULL DEFAULT 'x';
    ALTER TABLE tenant_lease ADD COLUMN extra timestamptz;
    ALTER TABLE tenant_pause ADD COLUMN extra text;
    INSERT INTO leadgate_schema (version, works_with, applied)
        SELECT max(version) + 1, max(version), clock_timestamp() FROM leadgate_schema";

#[tokio::test]
async fn replicas_of_this_release_continue_after_the_migration_of_the_next_release() {
    let owned = Owned::new().await;
    let url = owned.server.url(&owned.database);
    let mut leases = owned
        .store
        .lease_connection("other".into(), Duration::from_secs(10))
        .unwrap();
    leases.beat("x:1", &[]).await.unwrap();
    begin(&owned.store, &mark(1)).await;
    owned
        .store
        .add_share("acme", &share(1, "sam", "l1"), None)
        .await
        .unwrap();

    owned.sql(NEXT_MIGRATION);
    // A replica that was open, and one that starts now.
    for (number, store) in [
        owned.store.clone(),
        Store::open(&url).await.unwrap().fenced(owned.fence.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        let (id, result) = (2 + number as u128, "{\"Done\":1}");
        assert_eq!(begin(&store, &mark(id)).await, BeginResult::Started);
        store.finish_request("acme", "crm", &request(id), result).await.unwrap();
        store
            .add_share("acme", &share(id, "sam", &format!("l{id}")), None)
            .await
            .unwrap();
        store
            .save_share("acme", &in_stage(ShareStage::RequestingShare), true)
            .await
            .unwrap();
        store.save_quota_usage("acme", &usage(Some(slots()))).await.unwrap();
        store.save_quota_state("acme", "{}").await.unwrap();
        assert_eq!(ids(&store, ShareFilter::default()).await.len(), 2 + number);
        assert_eq!(store.find_damaged().await, Ok(vec![]));
        store.delete_old_requests(KEEP).await.unwrap();
        store.cluster_status().await.unwrap();
    }
    let beat = leases.beat("x:1", &["new".to_owned()]).await.unwrap();
    for (tenant, epoch) in [("acme", 1), ("new", 0)] {
        let row = beat.leases.iter().find(|row| row.tenant == tenant).unwrap();
        assert_eq!(row.epoch, epoch, "{tenant}");
    }
    let report = Store::report(&StoreOptions::new(&url)).await.unwrap();
    assert_eq!((report.schema_version, report.current_schema_version), (2, 1));

    owned.sql(
        "INSERT INTO leadgate_schema (version, works_with, applied)
         SELECT max(version) + 1, max(version), clock_timestamp() FROM leadgate_schema",
    );
    let error = Store::open(&url).await.unwrap_err().to_string();
    assert!(
        error.contains("schema version 3, which needs a release with schema version 2 or newer"),
        "{error}"
    );
}

#[tokio::test]
async fn an_existing_schema_needs_no_right_to_create_tables() {
    let owned = Owned::new().await;
    let role = format!("user_of_{}", owned.database);
    owned.sql(&format!(
        "CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM public;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    ));
    let url = |database: &str| owned.server.url(database).replace("leadgate@", &format!("{role}@"));
    let store = Store::open(&url(&owned.database)).await.unwrap();
    store
        .fenced(owned.fence.clone())
        .save_quota_state("acme", "{}")
        .await
        .unwrap();
    let report = Store::report(&StoreOptions::new(&url(&owned.database))).await.unwrap();
    // The shared server has fsync = off.
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    owned.sql(&format!("REVOKE DELETE ON share FROM {role}"));
    let report = Store::report(&StoreOptions::new(&url(&owned.database))).await.unwrap();
    assert!(
        report.warnings[1].contains("GRANT SELECT, INSERT, UPDATE, DELETE ON share"),
        "{:?}",
        report.warnings
    );

    let empty = owned.server.create_database();
    owned.server.sql(&empty, "REVOKE CREATE ON SCHEMA public FROM public");
    let error = Store::open(&url(&empty)).await.unwrap_err().to_string();
    assert!(error.contains("GRANT CREATE, USAGE ON SCHEMA"), "{error}");
}

#[tokio::test]
async fn a_role_that_may_not_read_the_timeline_gets_a_history_from_the_start_time() {
    let owned = Owned::new().await;
    let role = format!("limited_{}", owned.database);
    owned.sql(&format!(
        "CREATE ROLE {role} LOGIN; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    ));
    let url = owned
        .server
        .url(&owned.database)
        .replace("leadgate@", &format!("{role}@"));
    let store = Store::open(&url).await.unwrap();
    let beat = store
        .lease_connection("x".into(), Duration::from_secs(10))
        .unwrap()
        .beat("x:1", &[])
        .await;
    let history = beat.unwrap().history;
    assert!(
        history.starts_with("127.0.0.1/") && history != owned.fence.history,
        "{history}"
    );
    let fenced = store.fenced(Fence {
        history,
        ..owned.fence.clone()
    });
    fenced.save_quota_state("acme", "{}").await.unwrap();
    let report = Store::report(&StoreOptions::new(&url)).await.unwrap();
    assert!(report.warnings.iter().any(|text| text.contains("counts as a failover")));
}

// The report.

#[tokio::test]
async fn a_report_changes_nothing_and_warns_of_fsync() {
    let server = Server::shared();
    let database = server.create_database();
    let report = Store::report(&StoreOptions::new(&server.url(&database))).await.unwrap();
    assert_eq!((report.schema_version, report.current_schema_version), (0, 1));
    assert!(report.version.starts_with("1"), "{}", report.version);
    assert!(report.warnings[0].contains("fsync = off"), "{:?}", report.warnings);
    assert_eq!(
        server
            .sql(&database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            .trim(),
        "0"
    );
}

// The copy of a SQLite store.

#[tokio::test]
async fn a_sqlite_store_is_copied_into_an_empty_database() {
    let source = super::in_memory().await;
    for id in 1..=1200 {
        begin(&source, &mark(id)).await;
    }
    source
        .finish_request("acme", "crm", &request(3), "{\"Done\":1}")
        .await
        .unwrap();
    let new = Share {
        request_id: Some(Uuid::from_u128(77)),
        expires: Some(at(9)),
        ..share(1, "Sam", "it's")
    };
    source.add_share("acme", &new, None).await.unwrap();
    let requesting = Share {
        stage: ShareStage::RequestingShare,
        changed: at(5),
        ..new.clone()
    };
    source.save_share("acme", &requesting, true).await.unwrap();
    source.save_quota_usage("acme", &usage(Some(slots()))).await.unwrap();
    super::sqlite_of(&source)
        .execute(
            "INSERT INTO damaged (at, source, tenant, id, reason, content) VALUES (1, 'share', x'ff', 'a', 'r', 'c')",
        )
        .await;

    let pause = Pause::new(at(3), "x").unwrap();
    source.pause("acme", &pause).await.unwrap();

    let server = Server::shared();
    let database = server.create_database();
    let target = Store::open(&server.url(&database)).await.unwrap();
    let mut steps = 0;
    let copied = source.copy_to(&target, |_| steps += 1).await.unwrap();
    let expected = CopiedRows {
        requests: 1200,
        shares: 1,
        others: 5,
    };
    assert_eq!((copied, steps), (expected, 8));
    assert_eq!(target.pauses().await, Ok([("acme".to_owned(), pause)].into()));
    for id in [1, 3, 1200] {
        let id = Uuid::from_u128(id);
        let (before, after) = (
            source.request("acme", "crm", &id, KEEP).await.unwrap(),
            target.request("acme", "crm", &id, KEEP).await.unwrap(),
        );
        let (before, after) = (before.unwrap(), after.unwrap());
        let difference = before.started.duration_since(after.started).abs();
        assert!(difference < jiff::SignedDuration::from_secs(10), "{difference}");
        assert_eq!((before.fingerprint, before.result), (after.fingerprint, after.result));
    }
    assert_eq!(target.share("acme", new.id).await, source.share("acme", new.id).await);
    assert_eq!(
        target.share_of_request("acme", Uuid::from_u128(77)).await,
        Ok(Some(new.id))
    );
    assert_eq!(
        target.share_history("acme", new.id).await,
        source.share_history("acme", new.id).await
    );
    assert_eq!(target.quota_usage("acme").await, Ok(Some(usage(Some(slots())))));
    assert_eq!(
        server.sql(&database, "SELECT source, reason FROM damaged").trim(),
        "share|r"
    );
    assert_eq!(target.find_damaged().await, Ok(vec![]));

    // The first owner treats unfinished requests as those of another epoch.
    let owner = target.fenced(fence_of_all_tenants(&target).await);
    let unfinished = owner.unfinished_requests("acme").await.unwrap();
    assert!(unfinished.len() == 1199 && unfinished.iter().all(|request| request.is_of_other_epoch));

    let again = source.copy_to(&target, |_| {}).await.unwrap_err().to_string();
    assert!(again.contains("already has rows"), "{again}");
    let used = server.create_database();
    let used = Store::open(&server.url(&used)).await.unwrap();
    fence_of_all_tenants(&used).await;
    let error = source.copy_to(&used, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("replicas have used the database"), "{error}");
}

#[tokio::test]
async fn a_copy_that_fails_changes_nothing() {
    let source = super::in_memory().await;
    begin(&source, &mark(1)).await;
    source.add_share("acme", &share(1, "sam\0", "l1"), None).await.unwrap();
    let server = Server::shared();
    let database = server.create_database();
    let target = Store::open(&server.url(&database)).await.unwrap();
    assert!(source.copy_to(&target, |_| {}).await.is_err());
    assert_eq!(server.sql(&database, "SELECT count(*) FROM request").trim(), "0");
}

// Servers that stop, move, or refuse the connection.

/// Waits until a read succeeds.
async fn connected(store: &Store) {
    let read = async {
        while store.quota_usage("acme").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.unwrap();
}

#[tokio::test]
async fn a_restarted_server_is_used_again_and_has_the_same_history() {
    let server = Server::start("");
    let url = server.url("postgres");
    let store = Store::open(&url).await.unwrap();
    let fence = fence_of_all_tenants(&store).await;
    let fenced = store.fenced(fence.clone());
    fenced.save_quota_state("acme", "1").await.unwrap();
    let mut leases = store.lease_connection("me".into(), Duration::from_secs(10)).unwrap();
    leases.beat("x:1", &[]).await.unwrap();
    server.stop();
    let error = fenced.save_quota_state("acme", "2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    // The first error closed the connections to the server.
    let error = fenced.save_quota_state("acme", "2").await.unwrap_err();
    assert!(error.to_string().contains("check that PostgreSQL runs"), "{error}");
    assert!(leases.beat("x:1", &[]).await.is_err());
    server.restart();
    connected(&store).await;
    fenced.save_quota_state("acme", "3").await.unwrap();
    assert_eq!(leases.beat("x:1", &[]).await.unwrap().history, fence.history);
}

#[tokio::test]
async fn an_idle_connection_that_the_server_closed_is_replaced_before_a_write() {
    let owned = Owned::new().await;
    owned.store.save_quota_state("acme", "1").await.unwrap();
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_ne!(owned.sql(others), "0");
    // A connection that was used less than a second ago is not checked.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    owned.store.save_quota_state("acme", "2").await.unwrap();
}

#[tokio::test]
async fn after_a_failover_the_new_primary_is_used_and_its_history_is_another_one() {
    let primary = Server::start("");
    let standby = primary.standby();
    let url = format!(
        "postgres://leadgate@127.0.0.1:{},127.0.0.1:{}/postgres",
        standby.port, primary.port
    );
    // The first host is a standby, so the second one is used.
    let store = Store::open(&url).await.unwrap();
    let fence = fence_of_all_tenants(&store).await;
    let fenced = store.fenced(fence.clone());
    fenced.save_quota_state("acme", "1").await.unwrap();
    while standby
        .sql(
            "postgres",
            "SELECT count(*) FROM pg_tables WHERE tablename = 'quota_state'",
        )
        .trim()
        != "1"
        || standby.sql("postgres", "SELECT count(*) FROM quota_state").trim() != "1"
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    primary.stop();
    standby.promote();
    connected(&store).await;
    assert!(fenced.save_quota_state("acme", "2").await.unwrap_err().is_not_owner());
    let mut leases = store.lease_connection("me".into(), Duration::from_secs(10)).unwrap();
    let beat = leases.beat("x:1", &[]).await.unwrap();
    assert_ne!(beat.history, fence.history);
    assert!(beat.history_age < Duration::from_secs(60));
    let row = beat.leases.iter().find(|row| row.tenant == "acme").unwrap();
    assert_eq!((row.owner.as_deref(), row.epoch), (Some("me"), 1));
}

#[tokio::test]
async fn a_server_that_became_read_only_counts_as_gone() {
    let first = Server::start("");
    let second = Server::start("");
    let url = format!(
        "postgres://leadgate@127.0.0.1:{},127.0.0.1:{}/postgres",
        first.port, second.port
    );
    let store = Store::open(&url).await.unwrap();
    // The second host has a store, too.
    Store::open(&second.url("postgres")).await.unwrap();
    store.save_quota_state("acme", "1").await.unwrap();
    let mut leases = store.lease_connection("me".into(), Duration::from_secs(10)).unwrap();
    leases.beat("x:1", &[]).await.unwrap();
    first.sql("postgres", "ALTER SYSTEM SET default_transaction_read_only = on");
    first.sql("postgres", "SELECT pg_reload_conf()");
    while first.sql("postgres", "SHOW default_transaction_read_only").trim() != "on" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The open connections learn of the setting a moment later. A read is repeated with the next host.
    while store.quota_state("acme").await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.save_quota_state("acme", "2").await.unwrap();
    assert_eq!(second.sql("postgres", "SELECT state FROM quota_state").trim(), "2");
    assert!(leases.beat("x:1", &[]).await.is_err());
    leases.beat("x:1", &[]).await.unwrap();
}

#[tokio::test]
async fn errors_of_a_connection_say_what_to_do_and_have_no_password() {
    let server = Server::shared();
    let database = server.create_database();
    server.sql(&database, "CREATE ROLE with_password LOGIN PASSWORD 'right'");
    let open = async |url: String, password: Option<&str>| {
        let options = StoreOptions {
            password: password.map(Into::into),
            connect_timeout: Duration::from_millis(300),
            ..StoreOptions::new(&url)
        };
        assert!(!format!("{options:?} {options}").contains("wrong"));
        Store::open_with(&options)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let with_password = |credentials: &str| server.url(&database).replace("leadgate@", credentials);
    for (url, password, text) in [
        (
            with_password("with_password:wrong@"),
            None,
            "check the user, store.password and pg_hba.conf",
        ),
        (
            with_password("with_password@"),
            Some("wrong"),
            "check the user, store.password and pg_hba.conf",
        ),
        (with_password("nobody@"), None, "set store.password or PGPASSWORD"),
        (
            server.url("missing"),
            None,
            "CREATE DATABASE \"missing\" OWNER \"leadgate\"",
        ),
        (
            "postgres://leadgate@127.0.0.1:1/x".to_owned(),
            None,
            "the connection was refused",
        ),
        ("postgres://leadgate@no.invalid/x".to_owned(), None, "no.invalid:5432"),
        (
            format!(
                "{}&sslmode=require",
                server.url(&database).replace("?sslmode=disable", "?")
            ),
            None,
            "TLS",
        ),
        (
            "postgres://leadgate@127.0.0.1:1,/x".to_owned(),
            None,
            "a host is invalid",
        ),
    ] {
        let error = open(url, password).await.unwrap_err();
        assert!(error.contains(text) && !error.contains("wrong"), "{error}");
    }
    // A server that accepts connections and never responds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://leadgate@{}/x", silent.local_addr().unwrap());
    let error = open(url, None).await.unwrap_err();
    assert!(error.contains("no response within 300ms"), "{error}");
    server.sql(&database, "GRANT CREATE, USAGE ON SCHEMA public TO with_password");
    open(with_password("with_password@"), Some("right")).await.unwrap();
    open(with_password("with_password:right@"), None).await.unwrap();
}

#[tokio::test]
async fn callers_that_wait_for_a_connection_are_served_in_rotation() {
    let server = Server::shared();
    let database = server.create_database();
    let options = StoreOptions {
        max_connections: 1,
        ..StoreOptions::new(&server.url(&database))
    };
    let store = Store::open_with(&options).await.unwrap();
    let order = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (store, order) = (store.clone(), order.clone());
        // The last operation is the only one of another caller.
        let caller = if number == 39 { "other" } else { "flood" };
        waiting.spawn(async move {
            let done = store.begin_request("acme", caller, &mark(number), KEEP).await;
            order.lock().unwrap().push(caller);
            done.unwrap()
        });
        tokio::task::yield_now().await;
    }
    waiting.join_all().await;
    let order = order.lock().unwrap();
    let position = order.iter().position(|caller| *caller == "other").unwrap();
    assert!(position < 5, "{order:?}");
}

#[tokio::test]
async fn a_closed_store_has_no_connections() {
    let owned = Owned::new().await;
    owned.store.save_quota_state("acme", "1").await.unwrap();
    assert_eq!(backend(&owned.store).count("SELECT count(*) FROM quota_state").await, 1);
    owned.store.close().await;
    assert!(owned.store.quota_state("acme").await.is_err());
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while owned.sql(open) != "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
