//! The PostgreSQL backend of the store. Several processes use one database. Each operation is one transaction, which is sent in
//! one message. Writes are conditional on the lease of their tenant. Only this module uses PostgreSQL.

mod connection;
mod copy;
mod damaged;
mod lease;
mod migrations;
mod pool;
mod report;
mod settings;
mod share;
mod statement;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::OwnedMutexGuard;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::damage::{DamagedRows, from_json, to_json};
use super::meter::StoreMeter;
use super::{
    BeginResult, DamagedRow, FenceSource, RequestMark, StoreError, StoreOptions, StoredRequest, UnfinishedRequest,
    record,
};
use crate::clock;
use crate::context::RequestId;
use crate::domain::lease::{Fence, ReplicaName};
use crate::domain::usage::{HeldSlots, QuotaUsage};
use crate::telemetry::metrics::StorePool;
use connection::{Failure, StatementResult, TransactionLimits};
pub use lease::LeaseConnection;
use pool::Pool;
use settings::ConnectSettings;
use statement::{HistoryExpression, StatementBuilder, Value, values};

/// The limits of an operation of the store. The server ends a statement before the connection would be closed.
const LIMITS: TransactionLimits = TransactionLimits {
    timeout: Duration::from_secs(10),
    server: Duration::from_secs(8),
};

/// How long the record of a mutation is kept whose id a replica has chosen. A replica repeats it before its deadline.
const KEEP_INTERNAL: Duration = Duration::from_secs(3600);

/// The caller of operations that the gateway itself starts.
const HOUSEKEEPING: &str = "leadgate";

/// Returns the number of rows of `l` and of `w`: whether the fence let the statement write, and what it wrote.
macro_rules! counted {
    ($statement:literal) => {
        counted!($statement, "")
    };
    ($statement:literal, $more:literal) => {
        concat!(
            $statement,
            " SELECT (SELECT count(*) FROM l), (SELECT count(*) FROM w)",
            $more
        )
    };
}

/// A PostgreSQL store.
#[derive(Clone, Debug)]
pub struct Postgres {
    pool: Pool,
    history: HistoryExpression,
    /// The lease on which all writes are conditional. `None`: only tenants without an owner can be written.
    fence: Option<FenceSource>,
    damaged: DamagedRows,
    tasks: TaskTracker,
    /// The locks of the request ids in progress, so that the operations of a request are executed in their order.
    locks: Arc<Mutex<HashMap<RequestKey, Weak<RequestLock>>>>,
    meter: StoreMeter,
}

/// A tenant and a request id.
type RequestKey = (String, Uuid);
type RequestLock = tokio::sync::Mutex<()>;

impl Postgres {
    /// Connects, and migrates the database to the current schema.
    pub(super) async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let store = Self::connect(options).await?;
        let open_error = |failure: Failure| StoreError::new("cannot be migrated", &failure);
        migrations::migrate(&store.pool).await.map_err(open_error)?;
        Ok(store)
    }

    /// Connects without a migration.
    async fn connect(options: &StoreOptions) -> Result<Self, StoreError> {
        let open_error = |reason: &dyn std::fmt::Display| StoreError::new("cannot be opened", reason);
        let settings = ConnectSettings::new(options);
        let pool = Pool::new(settings.map_err(|reason| open_error(&reason))?);
        let mut store = Self {
            pool,
            history: HistoryExpression::Timeline,
            fence: None,
            damaged: DamagedRows::default(),
            tasks: TaskTracker::new(),
            locks: Arc::default(),
            meter: StoreMeter::default(),
        };
        let query = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')
                     AND has_function_privilege('pg_walfile_name(pg_lsn)', 'EXECUTE')
                     AND has_function_privilege('pg_current_wal_lsn()', 'EXECUTE')";
        let results = store.transaction(HOUSEKEEPING, Ok(query.to_owned()), true).await;
        let results = results.map_err(|failure| open_error(&failure))?;
        if !first::<bool>(&results, 0).unwrap_or(false) {
            store.history = HistoryExpression::StartTime;
        }
        Ok(store)
    }

    /// Checks a URL without a connection.
    pub(super) fn check_options(options: &StoreOptions) -> Result<(), StoreError> {
        let checked = ConnectSettings::new(options);
        checked
            .map(drop)
            .map_err(|reason| StoreError::new("cannot be opened", &reason))
    }

    pub(super) fn fenced(&self, fence: FenceSource) -> Self {
        Self {
            fence: Some(fence),
            ..self.clone()
        }
    }

    pub(super) fn meter(&self) -> &StoreMeter {
        &self.meter
    }

    /// The state of the connections.
    pub(super) fn pool_state(&self) -> StorePool {
        self.pool.state()
    }

    /// The fence of a write now.
    fn fence(&self) -> Option<Arc<Fence>> {
        self.fence.as_ref()?.fence()
    }

    /// Checks that the server accepts writes. With `by_writing`, also commits a transaction that is written to its log.
    pub(super) async fn probe(&self, by_writing: bool) -> Result<(), StoreError> {
        let statement = if by_writing {
            "SELECT pg_current_xact_id()"
        } else {
            "SELECT 1"
        };
        let done = self.transaction(HOUSEKEEPING, Ok(statement.to_owned()), true).await;
        done.map(drop).map_err(|failure| failure.writing())
    }

    pub(super) async fn request(
        &self,
        tenant: &str,
        caller: &str,
        id: &Uuid,
        keep: Duration,
    ) -> Result<Option<StoredRequest>, StoreError> {
        let statement = self.statement(
            "SELECT fingerprint, $NOW - begun, answer, owner, epoch FROM request
             WHERE tenant = $1 AND id = $2 AND begun >= $NOW - $3",
            values![tenant, &id.to_string(), milliseconds(keep)],
        );
        // Before the query: a time that is too early is safe, since the mutation is looked up from then on.
        let now = clock::now();
        let results = self
            .transaction(caller, statement, true)
            .await
            .map_err(|failure| failure.reading())?;
        let Some(row) = first_row(&results) else {
            return Ok(None);
        };
        let fingerprint: Vec<u8> = row.try_get(0).map_err(column_error)?;
        if fingerprint.len() != 32 {
            let row = DamagedRow::new("request", tenant, &id.to_string(), "the fingerprint is unreadable");
            self.damaged.note(&row);
            return Err(StoreError::reading("holds a damaged row", &row));
        }
        let owner: Option<String> = row.try_get(3).map_err(column_error)?;
        Ok(Some(StoredRequest {
            fingerprint,
            started: before(now, row.try_get(1).map_err(column_error)?),
            result: row.try_get(2).map_err(column_error)?,
            is_of_other_epoch: !self.is_own_mark(owner.as_deref(), row.try_get(4).map_err(column_error)?),
        }))
    }

    pub(super) async fn begin_request(
        &self,
        tenant: &str,
        caller: &str,
        mark: &RequestMark,
        keep: Duration,
    ) -> Result<BeginResult, StoreError> {
        let RequestMark {
            request,
            attempt,
            keys,
            received_ago,
        } = mark;
        let (owner, epoch) = self.mark();
        let owner = owner.as_deref();
        let statement = self.statement(
            counted!(
                "WITH FENCE($1),
                 k AS MATERIALIZED (SELECT FROM request WHERE tenant = $1 AND id = $2 AND begun >= $NOW - $8),
                 h AS MATERIALIZED (SELECT FROM history WHERE id = $HERE AND first_seen <= clock_timestamp() - $9),
                 w AS (
                     INSERT INTO request AS r (tenant, id, fingerprint, begun, owner, epoch, attempt, keys, internal)
                     SELECT l.tenant, $2, $3, $NOW, $4, $5, $6, $7, $11 FROM l
                     WHERE $10 OR EXISTS (SELECT FROM k) OR EXISTS (SELECT FROM h)
                     ON CONFLICT (tenant, id) DO UPDATE
                     SET fingerprint = excluded.fingerprint, begun = excluded.begun, answer = NULL, owner = excluded.owner,
                         epoch = excluded.epoch, attempt = excluded.attempt, keys = excluded.keys
                     WHERE r.begun < $NOW - $8
                        OR r.answer IS NULL AND r.fingerprint = excluded.fingerprint AND r.owner = excluded.owner
                           AND r.epoch = excluded.epoch AND r.attempt < excluded.attempt
                     RETURNING 1)",
                ", EXISTS (SELECT FROM k)"
            ),
            values![
                tenant,
                &request.id.to_string(),
                &request.fingerprint[..],
                owner,
                epoch,
                *attempt,
                &keys[..],
                milliseconds(keep),
                *received_ago,
                received_ago.is_zero(),
                request.is_internal
            ],
        );
        let results = self.in_order(tenant, caller, request, statement).await?;
        fence_held(&results)?;
        Ok(match (first::<i64>(&results, 1)?, first::<bool>(&results, 2)?) {
            (0, false) if !received_ago.is_zero() => BeginResult::HistoryIsYounger,
            (0, _) => BeginResult::Exists,
            _ => BeginResult::Started,
        })
    }

    /// Needs no lease if the mark is from this epoch. The result of another epoch's mark needs the lease.
    pub(super) async fn finish_request(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        result: &str,
    ) -> Result<(), StoreError> {
        let (owner, epoch) = self.mark();
        let owner = owner.as_deref();
        let statement = self.statement(
            "WITH FENCE($1)
             INSERT INTO request AS r (tenant, id, fingerprint, begun, answer, owner, epoch, attempt, internal)
             VALUES ($1, $2, $3, $NOW, $4, $5, $6, 0, $7)
             ON CONFLICT (tenant, id) DO UPDATE SET answer = excluded.answer
             WHERE r.answer IS NULL AND r.fingerprint = excluded.fingerprint
               AND (r.owner IS NOT DISTINCT FROM excluded.owner AND r.epoch = excluded.epoch OR EXISTS (SELECT FROM l))",
            values![
                tenant,
                &request.id.to_string(),
                &request.fingerprint[..],
                result,
                owner,
                epoch,
                request.is_internal
            ],
        );
        self.in_order(tenant, caller, request, statement).await.map(drop)
    }

    /// Needs no lease, since only a mark of this epoch is deleted.
    pub(super) async fn delete_request(
        &self,
        tenant: &str,
        caller: &str,
        mark: &RequestMark,
    ) -> Result<(), StoreError> {
        let RequestMark { request, attempt, .. } = mark;
        let (owner, epoch) = self.mark();
        let owner = owner.as_deref();
        let statement = self.statement(
            "DELETE FROM request WHERE tenant = $1 AND id = $2 AND fingerprint = $3 AND owner IS NOT DISTINCT FROM $4
             AND epoch = $5 AND attempt = $6 AND answer IS NULL",
            values![
                tenant,
                &request.id.to_string(),
                &request.fingerprint[..],
                owner,
                epoch,
                *attempt
            ],
        );
        self.in_order(tenant, caller, request, statement).await.map(drop)
    }

    pub(super) async fn release_keys(&self, tenant: &str, id: Option<Uuid>) -> Result<(), StoreError> {
        let (owner, epoch) = self.mark();
        let owner = owner.as_deref();
        let statement = match id {
            Some(id) => self.statement(
                "UPDATE request SET keys = NULL WHERE tenant = $1 AND id = $2 AND owner IS NOT DISTINCT FROM $3 AND epoch = $4
                 AND answer IS NULL",
                values![tenant, &id.to_string(), owner, epoch],
            ),
            None => self.statement(
                "WITH FENCE($1)
                 UPDATE request r SET keys = NULL FROM l WHERE r.tenant = $1 AND r.answer IS NULL AND r.keys IS NOT NULL
                 AND (r.owner IS DISTINCT FROM $2 OR r.epoch <> $3)",
                values![tenant, owner, epoch],
            ),
        };
        self.write(HOUSEKEEPING, statement).await.map(drop)
    }

    pub(super) async fn is_history_younger(&self, age: Duration) -> Result<bool, StoreError> {
        let statement = self.statement(
            "SELECT NOT EXISTS (SELECT FROM history WHERE id = $HERE AND first_seen <= clock_timestamp() - $1)",
            values![age],
        );
        let rows = self.read(statement).await?;
        let row = rows.first().map(|row| row.try_get(0).map_err(column_error));
        row.unwrap_or(Ok(true))
    }

    pub(super) async fn unfinished_requests(&self, tenant: &str) -> Result<Vec<UnfinishedRequest>, StoreError> {
        let statement = self.statement(
            "SELECT id, owner, epoch, coalesce(keys, '{}') FROM request WHERE tenant = $1 AND answer IS NULL ORDER BY id",
            values![tenant],
        );
        let rows = self.read(statement).await?;
        let read = |row: &PgRow| -> Result<Option<UnfinishedRequest>, sqlx::Error> {
            let id: String = row.try_get(0)?;
            let owner: Option<String> = row.try_get(1)?;
            let is_own = self.is_own_mark(owner.as_deref(), row.try_get(2)?);
            let Ok(id) = Uuid::try_parse(&id) else {
                let damaged = DamagedRow::new("request", tenant, &id, "the id is unreadable");
                self.damaged.note(&damaged);
                return Ok(None);
            };
            Ok(Some(UnfinishedRequest {
                id,
                is_of_other_epoch: !is_own,
                keys: row.try_get(3)?,
            }))
        };
        rows.iter()
            .filter_map(|row| read(row).map_err(column_error).transpose())
            .collect()
    }

    pub(super) async fn delete_old_requests(&self, keep: Duration) -> Result<u64, StoreError> {
        // The tenants that this store may write. Without a fence, a tenant of a record may have no lease.
        let leases = match self.fence() {
            Some(fence) => self.statement(
                "SELECT tenant FROM tenant_lease WHERE owner = $1 AND epoch = $2 AND $HERE = $3 ORDER BY tenant FOR SHARE",
                values![&*fence.owner, fence.epoch, &*fence.history],
            ),
            None => Ok("SELECT tenant FROM (SELECT tenant, owner FROM tenant_lease ORDER BY tenant FOR SHARE) free \
                        WHERE owner IS NULL
                        UNION SELECT tenant FROM request WHERE tenant NOT IN (SELECT tenant FROM tenant_lease)"
                .to_owned()),
        };
        let statement = leases.and_then(|leases| {
            let delete = self.statement(
                "d AS (DELETE FROM request USING l WHERE request.tenant = l.tenant
                        AND (begun < $NOW - $1 OR internal AND begun < $NOW - $2) RETURNING 1)
                 SELECT count(*) FROM d",
                values![milliseconds(keep), milliseconds(KEEP_INTERNAL)],
            )?;
            Ok(format!("WITH l AS MATERIALIZED ({leases}), {delete}"))
        });
        let results = self.write(HOUSEKEEPING, statement).await?;
        first::<i64>(&results, 0).map(i64::unsigned_abs)
    }

    pub(super) async fn quota_usage(&self, tenant: &str) -> Result<Option<QuotaUsage>, StoreError> {
        let statement = self.statement(
            "SELECT day, calls, last_grant, slots FROM spent WHERE tenant = $1",
            values![tenant],
        );
        let rows = self.read(statement).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        // As after a crash: all slots of the window may be used.
        let mut last_grant = at(row.try_get(2).map_err(column_error)?);
        let slots: Option<String> = row.try_get(3).map_err(column_error)?;
        let slots = slots.and_then(|text| {
            let slots = from_json::<record::usage::HeldSlotsRecord>(&text);
            slots.map(HeldSlots::from).ok().or_else(|| {
                let damaged = DamagedRow::new("spent", tenant, tenant, "a column is unreadable");
                self.damaged.note(&damaged);
                last_grant = Timestamp::MAX;
                None
            })
        });
        Ok(Some(QuotaUsage {
            day: row.try_get(0).map_err(column_error)?,
            calls: row.try_get::<i64, _>(1).map_err(column_error)?.unsigned_abs(),
            last_grant,
            slots,
        }))
    }

    pub(super) async fn save_quota_usage(&self, tenant: &str, usage: &QuotaUsage) -> Result<(), StoreError> {
        let slots = usage.slots.clone().map(record::usage::HeldSlotsRecord::from);
        let slots = slots.as_ref().map(to_json).transpose();
        let slots = slots.map_err(|error| StoreError::new("cannot be written", &format!("the held slots: {error}")))?;
        let statement = self.statement(
            counted!(
                "WITH FENCE($1), w AS (
                     INSERT INTO spent (tenant, day, calls, last_grant, slots) SELECT l.tenant, $2, $3, $4, $5 FROM l
                     ON CONFLICT (tenant) DO UPDATE SET day = excluded.day, calls = excluded.calls,
                         last_grant = excluded.last_grant, slots = excluded.slots
                     RETURNING 1)"
            ),
            values![
                tenant,
                &usage.day,
                i64::try_from(usage.calls).unwrap_or(i64::MAX),
                usage.last_grant.as_millisecond(),
                slots.as_deref()
            ],
        );
        fence_held(&self.write(HOUSEKEEPING, statement).await?)
    }

    pub(super) async fn quota_state(&self, tenant: &str) -> Result<Option<String>, StoreError> {
        let statement = self.statement("SELECT state FROM quota_state WHERE tenant = $1", values![tenant]);
        let rows = self.read(statement).await?;
        rows.first().map(|row| row.try_get(0).map_err(column_error)).transpose()
    }

    pub(super) async fn save_quota_state(&self, tenant: &str, state: &str) -> Result<(), StoreError> {
        let statement = self.statement(
            counted!(
                "WITH FENCE($1), w AS (
                     INSERT INTO quota_state (tenant, state) SELECT l.tenant, $2 FROM l
                     ON CONFLICT (tenant) DO UPDATE SET state = excluded.state
                     RETURNING 1)"
            ),
            values![tenant, state],
        );
        fence_held(&self.write(HOUSEKEEPING, statement).await?)
    }

    pub(super) async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.pool.close().await;
    }

    /// The owner and the epoch of the marks that this store writes.
    fn mark(&self) -> (Option<ReplicaName>, i64) {
        match self.fence() {
            Some(fence) => (Some(fence.owner.clone()), fence.epoch),
            None => (None, 0),
        }
    }

    /// Whether a mark was written under the lease of this store. A store without a lease has written only marks without an owner.
    fn is_own_mark(&self, owner: Option<&str>, epoch: i64) -> bool {
        let (own, own_epoch) = self.mark();
        (owner, epoch) == (own.as_deref(), own_epoch)
    }

    /// Builds a statement, see [`StatementBuilder::build`].
    fn statement(&self, template: &str, values: &[Value<'_>]) -> Result<String, Failure> {
        let fence = self.fence();
        let builder = StatementBuilder {
            history: self.history,
            fence: fence.as_deref(),
        };
        let built = builder.build(template, values);
        built.map_err(|reason| Failure::Rejected(reason.to_owned()))
    }

    /// Executes a statement that reads, and returns its rows.
    async fn read(&self, statement: Result<String, Failure>) -> Result<Vec<PgRow>, StoreError> {
        let results = self.transaction(HOUSEKEEPING, statement, true).await;
        let mut results = results.map_err(|failure| failure.reading())?;
        Ok(results
            .first_mut()
            .map(|result| std::mem::take(&mut result.rows))
            .unwrap_or_default())
    }

    /// Executes a statement that writes.
    async fn write(
        &self,
        caller: &str,
        statement: Result<String, Failure>,
    ) -> Result<Vec<StatementResult>, StoreError> {
        let done = self.transaction(caller, statement, false).await;
        done.map_err(|failure| failure.writing())
    }

    /// Executes a statement about a request after all earlier statements about it, also if their waiters were dropped.
    async fn in_order(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        statement: Result<String, Failure>,
    ) -> Result<Vec<StatementResult>, StoreError> {
        let statement = statement.map_err(|failure| failure.writing())?;
        let lock = self.lock(tenant, request.id);
        // Without a wait if there is no earlier statement, so that the order is that of the calls of this function.
        let guard = match lock.clone().try_lock_owned() {
            Ok(guard) => guard,
            Err(_) => lock.lock_owned().await,
        };
        let done = self.spawn(caller, statement, false, Some(guard)).await;
        done.map_err(|failure| failure.writing())
    }

    fn lock(&self, tenant: &str, id: Uuid) -> Arc<RequestLock> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.to_owned(), id);
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        // Unused locks are removed, so the map has about as many entries as operations in progress.
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(RequestLock::new(()));
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }

    /// Executes a statement in its own transaction. If the server is gone, a transaction that only reads is repeated once.
    async fn transaction(
        &self,
        caller: &str,
        statement: Result<String, Failure>,
        is_read: bool,
    ) -> Result<Vec<StatementResult>, Failure> {
        self.spawn(caller, statement?, is_read, None).await
    }

    /// Executes a transaction in its own task, so that it ends even if the waiter is dropped.
    async fn spawn(
        &self,
        caller: &str,
        statement: String,
        is_read: bool,
        guard: Option<OwnedMutexGuard<()>>,
    ) -> Result<Vec<StatementResult>, Failure> {
        let (pool, caller) = (self.pool.clone(), caller.to_owned());
        let task = self.tasks.spawn(async move {
            let _guard = guard;
            let done = execute(&pool, &caller, &statement).await;
            match done {
                Err(Failure::Gone(_)) if is_read => execute(&pool, &caller, &statement).await,
                done => done,
            }
        });
        task.await
            .unwrap_or_else(|_| Err(Failure::Rejected("the operation was interrupted".to_owned())))
    }
}

/// Executes a transaction on a connection of the pool.
async fn execute(pool: &Pool, caller: &str, statement: &str) -> Result<Vec<StatementResult>, Failure> {
    let mut pooled = pool.get(caller, LIMITS.timeout).await?;
    let done = pooled.connection.execute(LIMITS, statement).await;
    pooled.put_back(&done);
    done
}

/// Returns the first row of the first statement.
fn first_row(results: &[StatementResult]) -> Option<&PgRow> {
    results.first()?.rows.first()
}

/// Returns a column of the first row.
fn first<'r, T>(results: &'r [StatementResult], column: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let row = first_row(results).ok_or_else(|| StoreError::reading("cannot be read", &"a row is missing"))?;
    row.try_get(column).map_err(column_error)
}

/// Fails if a statement with a fence wrote nothing because of the fence.
fn fence_held(results: &[StatementResult]) -> Result<(), StoreError> {
    match first::<i64>(results, 0)? {
        0 => Err(StoreError::not_owner()),
        _ => Ok(()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of a closure for map_err")]
fn column_error(error: sqlx::Error) -> StoreError {
    StoreError::reading("cannot be read", &error)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the time that many milliseconds before `now`. An age that is out of range becomes zero.
fn before(now: Timestamp, milliseconds: i64) -> Timestamp {
    let age = jiff::SignedDuration::from_millis(milliseconds);
    now.checked_sub(age).unwrap_or(now)
}

/// Converts a stored time. A time out of range becomes the maximum.
fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
impl Postgres {
    /// Returns the number that a query selects.
    pub(super) async fn count(&self, query: &str) -> i64 {
        let results = self
            .transaction(HOUSEKEEPING, Ok(query.to_owned()), true)
            .await
            .unwrap();
        first(&results, 0).unwrap()
    }
}
