//! The leases of PostgreSQL: the statements step by step, with other connections in both orders, and races.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::server::Server;
use super::{KEEP, at, mark, share};
use crate::domain::lease::{AcquiredLease, Acquisition, Beat, Fence, History, MoveReason};
use crate::domain::pause::Pause;
use crate::store::{LeaseConnection, Store};

/// The tenants of the conformance tests.
const TENANTS: [&str; 3] = ["acme", "north", "south"];
/// The lease of these tests: a statement may wait 2 s for a lock.
const LEASE: Duration = Duration::from_secs(10);

fn tenants() -> Vec<String> {
    TENANTS.map(str::to_owned).to_vec()
}

/// Acquires all tenants with epoch 1.
pub(super) async fn fence_of_all_tenants(store: &Store) -> Fence {
    let mut replica = Replica::new(store, "me").await;
    let beat = replica.beat().await;
    let acquired = replica.acquire(&beat, &TENANTS).await;
    assert_eq!(acquired.len(), TENANTS.len());
    replica.fence(&beat.history, 1)
}

/// A replica of a test.
struct Replica {
    name: &'static str,
    leases: LeaseConnection,
}

impl Replica {
    async fn new(store: &Store, name: &'static str) -> Self {
        Self::with_lease(store, name, LEASE).await
    }

    async fn with_lease(store: &Store, name: &'static str, lease: Duration) -> Self {
        let leases = store.lease_connection(name.into(), lease).unwrap();
        Self { name, leases }
    }

    async fn beat(&mut self) -> Beat {
        let address = format!("{}:1", self.name);
        self.leases.beat(&address, &tenants()).await.unwrap()
    }

    /// Acquires tenants as a beat showed them.
    async fn acquire(&mut self, beat: &Beat, tenants: &[&str]) -> Vec<AcquiredLease> {
        self.leases.acquire(&acquisition(beat, tenants)).await.unwrap()
    }

    fn fence(&self, history: &History, epoch: i64) -> Fence {
        Fence {
            owner: self.name.into(),
            epoch,
            history: history.clone(),
        }
    }
}

/// The acquisition of tenants with the same owner, as a beat showed them.
fn acquisition(beat: &Beat, tenants: &[&str]) -> Acquisition {
    let rows = beat.leases.iter().filter(|row| tenants.contains(&row.tenant.as_str()));
    let first = rows.clone().next().unwrap();
    Acquisition {
        owner: first.owner.clone().zip(first.beat),
        tenants: rows.map(|row| (row.tenant.clone(), row.epoch)).collect(),
        history: beat.history.clone(),
    }
}

/// The owner and the epoch of a tenant.
fn owner<'b>(beat: &'b Beat, tenant: &str) -> (Option<&'b str>, i64) {
    let row = beat.leases.iter().find(|row| row.tenant == tenant).unwrap();
    (row.owner.as_deref(), row.epoch)
}

/// A database of its own, with its store.
struct TestDatabase {
    server: &'static Server,
    name: String,
    store: Store,
}

impl TestDatabase {
    async fn new() -> Self {
        let server = Server::shared();
        let name = server.create_database();
        let store = Store::open(&server.url(&name)).await.unwrap();
        Self { server, name, store }
    }

    /// A replica that owns all tenants, its beat, and the store with its fence.
    async fn owned(&self, name: &'static str) -> (Replica, Beat, Store) {
        let mut replica = Replica::new(&self.store, name).await;
        let beat = replica.beat().await;
        assert_eq!(replica.acquire(&beat, &TENANTS).await.len(), TENANTS.len());
        let fenced = self.store.fenced(replica.fence(&beat.history, 1));
        (replica, beat, fenced)
    }

    /// Opens a transaction in another session and executes statements.
    async fn transaction(&self, statements: &str) -> OpenTransaction {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(&self.server.url(&self.name)).await.unwrap();
        let text = format!("BEGIN; {statements}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(text))
            .execute(&mut connection)
            .await
            .unwrap();
        OpenTransaction(connection)
    }

    /// Waits until a statement waits for a lock, or a task has ended.
    async fn blocked<T>(&self, task: &JoinHandle<T>) -> bool {
        loop {
            // The task needs this thread.
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.has_waiting_statement() {
                return true;
            }
            if task.is_finished() {
                return false;
            }
        }
    }

    /// Whether a statement waits for a lock.
    fn has_waiting_statement(&self) -> bool {
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'",
            self.name
        );
        self.server.sql(&self.name, &query).trim() != "0"
    }
}

struct OpenTransaction(sqlx::PgConnection);

impl OpenTransaction {
    async fn commit(mut self) {
        sqlx::raw_sql("COMMIT").execute(&mut self.0).await.unwrap();
    }
}

/// Whether a write is rejected by the fence.
fn is_rejected<T: std::fmt::Debug>(result: Result<T, crate::store::StoreError>) -> bool {
    match result {
        Ok(_) => false,
        Err(error) => {
            assert!(error.is_not_owner(), "{error}");
            true
        }
    }
}

#[tokio::test]
async fn a_beat_reads_the_pauses_that_other_replicas_have_written() {
    let database = TestDatabase::new().await;
    let (mut replica, beat, _fenced) = database.owned("a").await;
    assert!(beat.pauses.is_empty());
    let pause = Pause::new(at(7), "x").unwrap();
    // Without a lease, and for a tenant without a row.
    for tenant in ["acme", "new"] {
        database.store.pause(tenant, &pause).await.unwrap();
    }
    let expected = ["acme", "new"].map(|tenant| (tenant.to_owned(), pause.clone()));
    assert_eq!(replica.beat().await.pauses, expected.into());
    database.store.resume("acme").await.unwrap();
    assert_eq!(replica.beat().await.pauses, [("new".to_owned(), pause)].into());
}

#[tokio::test]
async fn a_free_tenant_is_acquired_and_owned() {
    let database = TestDatabase::new().await;
    let mut replica = Replica::new(&database.store, "a").await;
    let before = replica.beat().await;
    assert_eq!(owner(&before, "acme"), (None, 0));
    let acquired = replica.acquire(&before, &["acme", "south"]).await;
    let found: Vec<_> = acquired
        .iter()
        .map(|lease| {
            (
                &*lease.tenant,
                lease.epoch,
                lease.handover.as_deref(),
                lease.moved.reason,
            )
        })
        .collect();
    let expected = ["acme", "south"].map(|tenant| (tenant, 1, None, MoveReason::Free));
    assert_eq!(found, expected);
    let after = replica.beat().await;
    assert_eq!(
        (owner(&after, "acme"), owner(&after, "north")),
        ((Some("a"), 1), (None, 0))
    );
    let replicas: Vec<_> = after
        .replicas
        .iter()
        .map(|row| (row.address.as_str(), row.beat))
        .collect();
    assert_eq!(replicas, [("a:1", 2)]);
    assert_eq!(after.replicas[0].tenants, tenants());

    let status = database.store.cluster_status().await.unwrap().unwrap();
    let lease = &status.leases[0];
    assert_eq!((lease.owner.as_deref(), lease.epoch), (Some("a"), 1));
    assert_eq!(lease.last_move_reason.as_deref(), Some("free"));
    assert_eq!(lease.owned_since, Some(acquired[0].moved.at));
    assert!(status.replicas[0].last_beat < Duration::from_secs(60));
}

#[tokio::test]
async fn a_history_that_was_first_seen_in_the_future_is_first_seen_now() {
    let database = TestDatabase::new().await;
    let mut a = Replica::new(&database.store, "a").await;
    a.beat().await;
    let later = "UPDATE history SET first_seen = clock_timestamp() + interval '1 hour'";
    database.server.sql(&database.name, later);
    let first = a.beat().await.history_age;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = a.beat().await.history_age;
    assert!(
        first < second && second < Duration::from_secs(60),
        "{first:?} {second:?}"
    );
}

#[tokio::test]
async fn a_beat_without_leases_has_the_history() {
    let database = TestDatabase::new().await;
    let mut leases = database.store.lease_connection("a".into(), LEASE).unwrap();
    let beat = leases.beat("a:1", &[]).await.unwrap();
    assert!(beat.leases.is_empty() && !beat.history.is_empty());
    assert_eq!(beat.replicas[0].lease, LEASE);
    // There is no grace while no lease has been acquired.
    assert!(beat.history_age > Duration::from_secs(1_000_000));
}

#[tokio::test]
async fn an_owner_that_has_not_changed_loses_its_leases() {
    let database = TestDatabase::new().await;
    let (_, _, store) = database.owned("a").await;
    let mut b = Replica::new(&database.store, "b").await;
    let beat = b.beat().await;
    let acquired = b.acquire(&beat, &TENANTS).await;
    assert!(acquired.len() == 3 && acquired[0].moved.reason == MoveReason::Takeover);
    assert_eq!(owner(&b.beat().await, "acme"), (Some("b"), 2));
    assert!(is_rejected(store.save_quota_state("acme", "{}").await));
}

#[tokio::test]
async fn a_beat_of_the_owner_prevents_the_takeover() {
    let database = TestDatabase::new().await;
    let (mut a, ..) = database.owned("a").await;
    let mut b = Replica::new(&database.store, "b").await;
    let seen = b.beat().await;
    a.beat().await;
    assert_eq!(b.acquire(&seen, &TENANTS).await, []);
    assert_eq!(owner(&a.beat().await, "acme"), (Some("a"), 1));
}

#[tokio::test]
async fn a_takeover_waits_for_an_uncommitted_beat_and_sees_it() {
    let database = TestDatabase::new().await;
    database.owned("a").await;
    let mut b = Replica::new(&database.store, "b").await;
    let seen = b.beat().await;
    let beat = database
        .transaction("UPDATE replica SET beat = beat + 1 WHERE name = 'a'")
        .await;
    let takeover = TaskTracker::new().spawn(async move { b.acquire(&seen, &TENANTS).await });
    assert!(database.blocked(&takeover).await);
    beat.commit().await;
    assert_eq!(takeover.await.unwrap(), []);
}

#[tokio::test]
async fn a_beat_waits_for_an_uncommitted_takeover_and_sees_it() {
    let database = TestDatabase::new().await;
    let (mut a, ..) = database.owned("a").await;
    let takeover = database
        .transaction(
            "SELECT FROM replica WHERE name = 'a' FOR SHARE;
             UPDATE tenant_lease SET owner = 'b', epoch = epoch + 1 WHERE tenant = 'acme'",
        )
        .await;
    let beat = TaskTracker::new().spawn(async move { a.beat().await });
    assert!(database.blocked(&beat).await);
    takeover.commit().await;
    let beat = beat.await.unwrap();
    assert_eq!(
        (owner(&beat, "acme"), owner(&beat, "north")),
        ((Some("b"), 2), (Some("a"), 1))
    );
}

#[tokio::test]
async fn a_takeover_waits_for_a_write_of_the_owner() {
    let database = TestDatabase::new().await;
    database.owned("a").await;
    let mut b = Replica::new(&database.store, "b").await;
    let seen = b.beat().await;
    let write = database
        .transaction("SELECT FROM tenant_lease WHERE tenant = 'north' FOR SHARE")
        .await;
    let takeover = TaskTracker::new().spawn(async move { b.acquire(&seen, &TENANTS).await });
    assert!(database.blocked(&takeover).await);
    write.commit().await;
    assert_eq!(takeover.await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_write_waits_for_an_uncommitted_takeover_and_is_rejected() {
    let database = TestDatabase::new().await;
    let (_, _, store) = database.owned("a").await;
    let takeover = database
        .transaction("UPDATE tenant_lease SET owner = 'b', epoch = epoch + 1 WHERE tenant = 'acme'")
        .await;
    let write = TaskTracker::new().spawn({
        let store = store.clone();
        async move { store.begin_request("acme", "crm", &mark(1), KEEP).await }
    });
    assert!(database.blocked(&write).await);
    takeover.commit().await;
    assert!(is_rejected(write.await.unwrap()));
    assert_eq!(store.unfinished_requests("acme").await.unwrap(), []);
}

#[tokio::test]
async fn every_write_needs_the_lease_of_its_tenant() {
    let database = TestDatabase::new().await;
    let (a, beat, owned) = database.owned("a").await;
    let fences = [
        Fence {
            owner: "b".into(),
            ..a.fence(&beat.history, 1)
        },
        a.fence(&beat.history, 2),
        a.fence(&"1/00000001".into(), 1),
    ];
    let others = fences.map(|fence| database.store.fenced(fence));
    let new = share(1, "sam", "l1");
    for store in others.into_iter().chain([database.store.clone()]) {
        assert!(is_rejected(store.begin_request("acme", "crm", &mark(1), KEEP).await));
        assert!(is_rejected(store.add_share("acme", &new, None).await));
        assert!(is_rejected(store.save_share("acme", &new, true).await));
        assert!(is_rejected(store.delete_ended_shares("acme", at(1)).await));
        assert!(is_rejected(store.save_quota_usage("acme", &super::usage(None)).await));
        assert!(is_rejected(store.save_quota_state("acme", "{}").await));
        assert_eq!(store.delete_old_requests(KEEP).await, Ok(0));
        assert_eq!(store.share("acme", new.id).await, Ok(None));
    }
    owned.begin_request("acme", "crm", &mark(1), KEEP).await.unwrap();
    owned.add_share("acme", &new, None).await.unwrap();
    owned.save_share("acme", &new, true).await.unwrap();
    owned.save_quota_usage("acme", &super::usage(None)).await.unwrap();
    owned.save_quota_state("acme", "{}").await.unwrap();
    assert_eq!(owned.quota_state("acme").await.unwrap().as_deref(), Some("{}"));
    assert_eq!(owned.delete_ended_shares("acme", at(1)).await, Ok(0));
    // Tenants without an owner may be written without a lease.
    database
        .store
        .save_quota_usage("free", &super::usage(None))
        .await
        .unwrap();
    let older = "UPDATE request SET begun = begun - 2 * 24 * 3600 * 1000";
    database.server.sql(&database.name, older);
    assert_eq!(owned.delete_old_requests(KEEP).await, Ok(1));
}

#[tokio::test]
async fn one_of_two_concurrent_challengers_gets_the_lease() {
    let database = TestDatabase::new().await;
    database.owned("a").await;
    let mut b = Replica::new(&database.store, "b").await;
    let mut c = Replica::new(&database.store, "c").await;
    let (seen_by_b, seen_by_c) = (b.beat().await, c.beat().await);
    let (by_b, by_c) = tokio::join!(b.acquire(&seen_by_b, &TENANTS), c.acquire(&seen_by_c, &TENANTS));
    assert_eq!(by_b.len() + by_c.len(), 3);
    assert!(by_b.is_empty() || by_c.is_empty());
    assert_eq!(owner(&b.beat().await, "acme").1, 2);
}

#[tokio::test]
async fn three_replicas_start_at_once_in_an_empty_database() {
    for _ in 0..5 {
        let server = Server::shared();
        let url = server.url(&server.create_database());
        let start = async |name: &'static str| {
            let store = Store::open(&url).await.unwrap();
            let mut replica = Replica::new(&store, name).await;
            let beat = replica.beat().await;
            // Another replica may have acquired all of them already.
            if owner(&beat, "acme").0.is_some() {
                return 0;
            }
            replica.acquire(&beat, &TENANTS).await.len()
        };
        let counts = tokio::join!(start("a"), start("b"), start("c"));
        assert_eq!(counts.0 + counts.1 + counts.2, 3, "{counts:?}");
    }
}

#[tokio::test]
async fn an_owner_without_a_row_is_watched_and_replaced() {
    let database = TestDatabase::new().await;
    database.owned("a").await;
    database.server.sql(&database.name, "DELETE FROM replica");
    let mut b = Replica::new(&database.store, "b").await;
    let seen = b.beat().await;
    let row = seen.leases.iter().find(|row| row.tenant == "acme").unwrap();
    assert_eq!(row.beat, Some(0));
    assert_eq!(b.acquire(&seen, &TENANTS).await.len(), 3);
}

#[tokio::test]
async fn a_lease_is_freed_only_by_its_owner_in_its_epoch_and_history() {
    let database = TestDatabase::new().await;
    let (mut a, beat, _) = database.owned("a").await;
    let mut b = Replica::new(&database.store, "b").await;
    let history = &beat.history;
    assert_eq!(b.leases.reset("acme", 1, history).await, Ok(false));
    assert_eq!(a.leases.reset("acme", 2, history).await, Ok(false));
    assert_eq!(a.leases.reset("acme", 1, &"1/00000001".into()).await, Ok(false));
    assert_eq!(owner(&a.beat().await, "acme"), (Some("a"), 1));
    assert_eq!(a.leases.reset("acme", 1, history).await, Ok(true));
    assert_eq!(a.leases.reset("acme", 1, history).await, Ok(false));
    let seen = b.beat().await;
    assert_eq!(owner(&seen, "acme"), (None, 1));
    let acquired = b.acquire(&seen, &["acme"]).await;
    assert_eq!((acquired[0].epoch, acquired[0].handover.as_deref()), (2, None));
}

#[tokio::test]
async fn a_handover_is_passed_on_once_and_only_in_its_history() {
    let database = TestDatabase::new().await;
    let (mut a, beat, _) = database.owned("a").await;
    let mut b = Replica::new(&database.store, "b").await;
    for tenant in ["acme", "north"] {
        let state = r#"{"slots":[1]}"#;
        let freed = a
            .leases
            .hand_over(tenant, 1, &beat.history, state, MoveReason::Balance)
            .await;
        assert_eq!(freed, Ok(true));
    }
    let status = database.store.cluster_status().await.unwrap().unwrap();
    assert_eq!(status.leases[0].last_move_reason.as_deref(), Some("balance"));
    database.server.sql(
        &database.name,
        "UPDATE tenant_lease SET handover_history = '1/00000001' WHERE tenant = 'north'",
    );
    let seen = b.beat().await;
    let acquired = b.acquire(&seen, &["acme", "north"]).await;
    let handovers: Vec<_> = acquired.iter().map(|lease| lease.handover.as_deref()).collect();
    assert_eq!(handovers, [Some(r#"{"slots":[1]}"#), None]);
    // The reason of the handover is the reason of the move.
    let reasons: Vec<_> = acquired.iter().map(|lease| lease.moved.reason).collect();
    assert_eq!(reasons, [MoveReason::Balance, MoveReason::Free]);
    // The state is used once.
    b.leases.reset("acme", 2, &seen.history).await.unwrap();
    let seen = a.beat().await;
    let acquired = a.acquire(&seen, &["acme"]).await;
    assert_eq!(
        (&acquired[0].handover, acquired[0].moved.reason),
        (&None, MoveReason::Free)
    );
}

#[tokio::test]
async fn nothing_is_acquired_in_a_young_history_or_in_another_one() {
    let database = TestDatabase::new().await;
    let (_, beat, _) = database.owned("a").await;
    let mut b = Replica::new(&database.store, "b").await;
    let seen = b.beat().await;
    let other = Acquisition {
        history: "1/00000001".into(),
        ..acquisition(&seen, &TENANTS)
    };
    assert_eq!(b.leases.acquire(&other).await, Ok(vec![]));
    let set_age = |age: &str| {
        let update = format!("UPDATE history SET first_seen = clock_timestamp() - interval '{age}'");
        database.server.sql(&database.name, &update);
    };
    set_age("8 seconds");
    assert!(b.beat().await.history_age < LEASE);
    assert_eq!(b.acquire(&seen, &TENANTS).await, []);
    set_age("11 seconds");
    assert_eq!(b.acquire(&seen, &TENANTS).await.len(), 3);
    assert_eq!(b.beat().await.history, beat.history);
}

#[tokio::test]
async fn a_new_history_has_an_age_once_a_lease_was_acquired() {
    let database = TestDatabase::new().await;
    let (mut a, ..) = database.owned("a").await;
    database.server.sql(&database.name, "DELETE FROM history");
    assert!(a.beat().await.history_age < LEASE);
}

#[tokio::test]
async fn replicas_without_leases_and_beats_are_deleted_after_a_day() {
    let database = TestDatabase::new().await;
    let (mut a, ..) = database.owned("a").await;
    Replica::new(&database.store, "b").await.beat().await;
    Replica::new(&database.store, "c").await.beat().await;
    let age = "UPDATE replica SET changed = changed - interval '25 hours' WHERE name IN ('a', 'b')";
    database.server.sql(&database.name, age);
    assert_eq!(a.leases.delete_old_replicas().await, Ok(1));
    let beat = a.beat().await;
    let names: Vec<_> = beat.replicas.iter().map(|row| &*row.name).collect();
    assert_eq!(names, ["a", "c"]);
}

#[tokio::test]
async fn leases_work_through_pgbouncer() {
    let server = Server::shared_with_bouncer();
    let name = server.create_database();
    let store = Store::open(&server.bouncer_url(&name)).await.unwrap();
    let mut a = Replica::new(&store, "a").await;
    let beat = a.beat().await;
    assert_eq!(a.acquire(&beat, &TENANTS).await.len(), 3);
    let mut b = Replica::new(&store, "b").await;
    let seen = b.beat().await;
    a.beat().await;
    assert_eq!(b.acquire(&seen, &TENANTS).await, []);
    let fenced = store.fenced(a.fence(&beat.history, 1));
    fenced.save_quota_state("acme", "{}").await.unwrap();
    assert_eq!(
        a.leases
            .hand_over("acme", 1, &beat.history, "{}", MoveReason::Shutdown)
            .await,
        Ok(true)
    );
    assert!(is_rejected(fenced.save_quota_state("acme", "{}").await));
    // Directly and through PgBouncer, the history is the same.
    let direct = Store::open(&server.url(&name)).await.unwrap();
    assert_eq!(Replica::new(&direct, "c").await.beat().await.history, beat.history);
}

#[tokio::test]
async fn a_statement_that_waits_longer_than_a_fifth_of_the_lease_is_given_up() {
    let database = TestDatabase::new().await;
    let mut a = Replica::with_lease(&database.store, "a", Duration::from_secs(1)).await;
    a.beat().await;
    let lock = database.transaction("UPDATE replica SET beat = beat + 10").await;
    assert!(a.leases.beat("a:1", &[]).await.is_err());
    // The server ends the statement a moment before or after the replica gives up.
    while database.has_waiting_statement() {}
    lock.commit().await;
    // The beat that was given up has no effect.
    assert_eq!(a.beat().await.replicas[0].beat, 12);
}

/// Three replicas take the lease from each other, and each one writes as long as it is not rejected. A trigger writes down the epochs
/// in the order in which the writes were committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_of_an_old_epoch_follows_one_of_a_new_epoch() {
    let database = TestDatabase::new().await;
    database.server.sql(
        &database.name,
        "CREATE TABLE written (number bigserial, epoch bigint);
         CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO written (epoch) VALUES (NEW.state::bigint); RETURN NEW; END $$;
         CREATE TRIGGER write_down AFTER INSERT OR UPDATE ON quota_state FOR EACH ROW EXECUTE FUNCTION write_down();",
    );
    let is_over = Arc::new(AtomicBool::new(false));
    let run = |name: &'static str| {
        let (store, is_over) = (database.store.clone(), is_over.clone());
        TaskTracker::new().spawn(async move {
            let mut replica = Replica::new(&store, name).await;
            let (mut acquired, mut rejected) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                let beat = replica.beat().await;
                let leases = replica.acquire(&beat, &["acme"]).await;
                let Some(lease) = leases.first() else {
                    continue;
                };
                acquired += 1;
                let fenced = store.fenced(replica.fence(&beat.history, lease.epoch));
                while !is_over.load(Ordering::Relaxed) {
                    match fenced.save_quota_state("acme", &lease.epoch.to_string()).await {
                        Err(error) if error.is_not_owner() => {
                            rejected += 1;
                            break;
                        }
                        written => written.unwrap(),
                    }
                }
            }
            (acquired, rejected)
        })
    };
    let replicas = [run("a"), run("b"), run("c")];
    // Enough takeovers, however fast the machine is.
    let count = "SELECT coalesce(max(epoch), 0) FROM tenant_lease";
    while database
        .server
        .sql(&database.name, count)
        .trim()
        .parse::<i64>()
        .unwrap()
        < 40
    {
        assert!(!replicas.iter().any(JoinHandle::is_finished));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut total = (0, 0);
    for replica in replicas {
        let (acquired, rejected) = replica.await.unwrap();
        total = (total.0 + acquired, total.1 + rejected);
    }
    assert!(total.0 >= 40 && total.1 >= 20, "{total:?}");
    let order = "SELECT count(*) FROM (SELECT epoch, lag(epoch) OVER (ORDER BY number) AS before FROM written) w
                 WHERE epoch < before";
    assert_eq!(database.server.sql(&database.name, order).trim(), "0");
}
