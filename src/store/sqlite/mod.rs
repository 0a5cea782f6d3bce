//! The SQLite backend of the store. One process uses the file at a time. Only this module uses SQLite.

mod backup;
mod commit;
mod copy;
mod damaged;
mod migrations;
mod share;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqlitePool,
    SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use uuid::Uuid;

use super::damage::{DamagedRows, from_json, to_json};
use super::meter::StoreMeter;
use super::{BeginResult, DamagedRow, RequestMark, StoreError, StoredRequest, file, record};
use crate::context::RequestId;
use crate::domain::pause::{Pause, Pauses};
use crate::domain::usage::{HeldSlots, QuotaUsage};
use backup::Backups;
use commit::CommitQueue;
pub(super) use copy::{CopiedTable, CopiedValue};

/// How long an operation waits for another process that uses the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// After this number of pages in the write-ahead log, SQLite writes them to the file.
const AUTOCHECKPOINT: &str = "100";

/// The caller of operations that the gateway itself starts.
const HOUSEKEEPING: &str = "leadgate";

/// The future of an operation on the connection.
type OperationFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// A SQLite store in a file or in memory.
#[derive(Clone, Debug)]
pub struct Sqlite {
    /// Has one connection, so that writes wait in the gateway and not for locks of the file.
    pool: SqlitePool,
    commits: CommitQueue,
    damaged: DamagedRows,
    /// The file and its lock; `None` in memory.
    file: Option<(Arc<file::OpenFile>, file::FileLock)>,
    backups: Backups,
    meter: StoreMeter,
}

impl Sqlite {
    pub(super) async fn open(url: &str) -> Result<Self, StoreError> {
        let path = path_of(url)?;
        if let Some(path) = &path {
            file::check(path).map_err(|reason| StoreError::new("cannot be opened", &reason))?;
        }
        let lock = match &path {
            Some(path) => {
                match file::FileLock::lock(path).map_err(|reason| StoreError::new("cannot be opened", &reason))? {
                    Some(lock) => Some(lock),
                    None => return Err(in_use_error(Some(path))),
                }
            }
            None => None,
        };
        if let Some(path) = &path {
            file::create_private(path).map_err(|reason| StoreError::new("cannot be opened", &reason))?;
        }
        let opened = Self::connect(url, path.as_deref(), lock.clone()).await;
        if let (Err(_), Some(lock)) = (&opened, &lock) {
            lock.release();
        }
        opened
    }

    async fn connect(url: &str, path: Option<&Path>, lock: Option<file::FileLock>) -> Result<Self, StoreError> {
        let open_error = |error| open_error(error, path);
        let options = options(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Acknowledged writes must survive a power failure.
            .synchronous(SqliteSynchronous::Full)
            // Two gateways with one file would each use the whole quota.
            .locking_mode(SqliteLockingMode::Exclusive)
            // Limits the size of the write-ahead log, so that it does not fill a small disk.
            .pragma("wal_autocheckpoint", AUTOCHECKPOINT)
            .pragma("journal_size_limit", "1048576")
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            // A database in memory exists only as long as its connection.
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(BUSY_TIMEOUT * 5)
            .connect_with(options)
            .await
            .map_err(open_error)?;
        let open = |path| {
            file::OpenFile::new(path)
                .map_err(|error| StoreError::new("cannot be opened", &with_path(Some(path), &error)))
        };
        let file = path.map(open).transpose()?.map(Arc::new).zip(lock);
        let store = Self {
            commits: CommitQueue::new(pool.clone()),
            pool,
            damaged: DamagedRows::default(),
            file,
            backups: Backups::default(),
            meter: StoreMeter::default(),
        };
        store.check(path).await.map_err(open_error)??;
        migrations::migrator()
            .run(&store.pool)
            .await
            .map_err(|error| StoreError::new("cannot be migrated", &with_path(path, &error)))?;
        Ok(store)
    }

    pub(super) fn meter(&self) -> &StoreMeter {
        &self.meter
    }

    /// Checks that the file is the one that was opened and that its directory has free space. With `by_writing`, also writes a
    /// transaction.
    pub(super) async fn probe(&self, by_writing: bool) -> Result<(), StoreError> {
        let Some((file, _)) = &self.file else {
            return Ok(());
        };
        let (checked, named) = (file.clone(), file.path().display());
        let checked = tokio::task::spawn_blocking(move || checked.check()).await;
        checked
            .map_err(|error| error.to_string())
            .and_then(|checked| checked)
            .map_err(|reason| StoreError::new("cannot be written", &reason))?;
        if by_writing {
            // A number in the header of the file that nothing else uses.
            let written = sqlx::query("PRAGMA user_version = 1").execute(&self.pool).await;
            written.map_err(|error| StoreError::new("cannot be written", &format!("{named}: {}", reason(&error))))?;
        }
        Ok(())
    }

    /// Fails if the path no longer names the opened file. Written data would be lost at the end of the process.
    fn check_writable(&self) -> Result<(), StoreError> {
        match self.file.as_ref().and_then(|(file, _)| file.file_error()) {
            Some(reason) => Err(StoreError::new("cannot be written", &reason)),
            None => Ok(()),
        }
    }

    /// Checks the integrity of the file.
    async fn check(&self, path: Option<&Path>) -> Result<Result<(), StoreError>, sqlx::Error> {
        let rows = sqlx::query("PRAGMA quick_check").fetch_all(&self.pool).await?;
        let messages = rows.iter().map(|row| row.try_get::<String, _>(0).unwrap_or_default());
        // A value of the wrong type makes only its row unreadable, see `damaged`.
        let mut problems = messages
            .filter(|message| message != "ok" && !message.contains(" value in ") && !message.starts_with("CHECK "));
        Ok(match problems.next() {
            None => Ok(()),
            Some(problem) => Err(StoreError::new("is damaged", &with_path(path, &problem))),
        })
    }

    pub(super) async fn request(
        &self,
        tenant: &str,
        caller: &str,
        id: &Uuid,
        oldest: Timestamp,
    ) -> Result<Option<StoredRequest>, StoreError> {
        self.check_writable()?;
        let (store, tenant, id) = (self.clone(), tenant.to_owned(), id.to_string());
        self.commits
            .execute(caller, move |connection| {
                Box::pin(read_request(
                    connection,
                    store.clone(),
                    tenant.clone(),
                    id.clone(),
                    oldest,
                ))
            })
            .await?
    }

    pub(super) async fn begin_request(
        &self,
        tenant: &str,
        caller: &str,
        mark: &RequestMark,
        now: Timestamp,
        oldest: Timestamp,
    ) -> Result<BeginResult, StoreError> {
        self.check_writable()?;
        let (tenant, request) = (tenant.to_owned(), mark.request);
        self.commits
            .execute(caller, move |connection| {
                let query = sqlx::query(
                    "INSERT INTO request (tenant, id, fingerprint, begun) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (tenant, id) DO UPDATE SET fingerprint = ?3, begun = ?4, answer = NULL WHERE begun < ?5",
                )
                .bind(tenant.clone())
                .bind(request.id.to_string())
                .bind(request.fingerprint.to_vec())
                .bind(now.as_millisecond())
                .bind(oldest.as_millisecond());
                Box::pin(async move {
                    let inserted = query.execute(connection).await.map_err(write_error)?;
                    Ok(match inserted.rows_affected() {
                        0 => BeginResult::Exists,
                        _ => BeginResult::Started,
                    })
                })
            })
            .await
    }

    pub(super) async fn finish_request(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        result: &str,
    ) -> Result<(), StoreError> {
        let (tenant, request, result) = (tenant.to_owned(), *request, result.to_owned());
        let query = move || {
            let query =
                sqlx::query("UPDATE request SET answer = ?4 WHERE tenant = ?1 AND id = ?2 AND fingerprint = ?3");
            bind_request(query, &tenant, &request).bind(result.clone())
        };
        self.execute_in_group(caller, query).await
    }

    pub(super) async fn delete_request(
        &self,
        tenant: &str,
        caller: &str,
        mark: &RequestMark,
    ) -> Result<(), StoreError> {
        let (tenant, request) = (tenant.to_owned(), mark.request);
        let query = move || {
            let query = sqlx::query("DELETE FROM request WHERE tenant = ?1 AND id = ?2 AND fingerprint = ?3");
            bind_request(query, &tenant, &request)
        };
        self.execute_in_group(caller, query).await
    }

    /// Executes one statement as part of a group commit.
    async fn execute_in_group<F>(&self, caller: &str, query: F) -> Result<(), StoreError>
    where
        F: Fn() -> Query<'static, sqlx::Sqlite, SqliteArguments> + Send + 'static,
    {
        self.commits
            .execute(caller, move |connection| {
                let query = query();
                Box::pin(async move { query.execute(connection).await.map(drop).map_err(write_error) })
            })
            .await
    }

    pub(super) async fn delete_old_requests(&self, oldest: Timestamp) -> Result<u64, StoreError> {
        let swept = sqlx::query("DELETE FROM request WHERE begun < ?1")
            .bind(oldest.as_millisecond())
            .execute(&self.pool)
            .await
            .map_err(write_error)?;
        Ok(swept.rows_affected())
    }

    pub(super) async fn quota_usage(&self, tenant: &str) -> Result<Option<QuotaUsage>, StoreError> {
        let row = sqlx::query("SELECT day, calls, last_grant, slots FROM spent WHERE tenant = ?1")
            .bind(tenant)
            .fetch_optional(&self.pool)
            .await
            .map_err(read_error)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let damaged = || {
            let row = DamagedRow::new("spent", tenant, tenant, "a column is unreadable");
            self.damaged.note(&row);
        };
        // As after a crash: all slots of the window may be used.
        let mut last_grant = row.try_get(2).map_err(|_| damaged()).map_or(Timestamp::MAX, at);
        let slots: Option<String> = row.try_get(3).unwrap_or_else(|_| Some(String::new()));
        let slots = slots.and_then(|text| {
            let slots = from_json::<record::usage::HeldSlotsRecord>(&text).map_err(|_| damaged());
            slots
                .map_err(|()| last_grant = Timestamp::MAX)
                .ok()
                .map(HeldSlots::from)
        });
        Ok(Some(QuotaUsage {
            day: row.try_get(0).map_err(|_| damaged()).unwrap_or_default(),
            calls: row.try_get(1).map_err(|_| damaged()).unwrap_or(0_i64).unsigned_abs(),
            last_grant,
            slots,
        }))
    }

    pub(super) async fn save_quota_usage(&self, tenant: &str, usage: &QuotaUsage) -> Result<(), StoreError> {
        let slots = usage.slots.clone().map(record::usage::HeldSlotsRecord::from);
        let slots = slots.as_ref().map(to_json).transpose();
        sqlx::query("INSERT OR REPLACE INTO spent (tenant, day, calls, last_grant, slots) VALUES (?1, ?2, ?3, ?4, ?5)")
            .bind(tenant)
            .bind(&usage.day)
            .bind(i64::try_from(usage.calls).unwrap_or(i64::MAX))
            .bind(usage.last_grant.as_millisecond())
            .bind(slots.map_err(|error| StoreError::new("cannot be written", &format!("the held slots: {error}")))?)
            .execute(&self.pool)
            .await
            .map_err(write_error)?;
        Ok(())
    }

    pub(super) async fn pauses(&self) -> Result<Pauses, StoreError> {
        let rows = sqlx::query("SELECT tenant, since, reason FROM tenant_pause")
            .fetch_all(&self.pool)
            .await
            .map_err(read_error)?;
        let pause = |row: &SqliteRow| {
            // A row with damaged columns is a pause, too.
            let pause = Pause {
                since: at(row.try_get(1).unwrap_or_default()),
                reason: row.try_get(2).unwrap_or_default(),
            };
            row.try_get(0).map(|tenant| (tenant, pause))
        };
        rows.iter().map(pause).collect::<Result<_, _>>().map_err(read_error)
    }

    pub(super) async fn pause(&self, tenant: &str, pause: &Pause) -> Result<Pause, StoreError> {
        self.check_writable()?;
        let row = sqlx::query(
            "INSERT INTO tenant_pause (tenant, since, reason) VALUES (?1, ?2, ?3)
             ON CONFLICT (tenant) DO UPDATE SET reason = COALESCE(NULLIF(excluded.reason, ''), tenant_pause.reason)
             RETURNING since, reason",
        )
        .bind(tenant)
        .bind(pause.since.as_millisecond())
        .bind(&pause.reason)
        .fetch_one(&self.pool)
        .await
        .map_err(write_error)?;
        Ok(Pause {
            since: at(row.try_get(0).unwrap_or_default()),
            reason: row.try_get(1).unwrap_or_default(),
        })
    }

    pub(super) async fn resume(&self, tenant: &str) -> Result<bool, StoreError> {
        self.check_writable()?;
        let deleted = sqlx::query("DELETE FROM tenant_pause WHERE tenant = ?1")
            .bind(tenant)
            .execute(&self.pool)
            .await
            .map_err(write_error)?;
        Ok(deleted.rows_affected() > 0)
    }

    pub(super) async fn close(&self) {
        self.backups.close().await;
        self.commits.close().await;
        self.pool.close().await;
        if let Some((_, lock)) = &self.file {
            lock.release();
        }
    }
}

/// Binds the key of a record and its fingerprint. A record of another message with the same id is not changed.
fn bind_request<'q>(
    query: Query<'q, sqlx::Sqlite, SqliteArguments>,
    tenant: &str,
    request: &RequestId,
) -> Query<'q, sqlx::Sqlite, SqliteArguments> {
    let query = query.bind(tenant.to_owned()).bind(request.id.to_string());
    query.bind(request.fingerprint.to_vec())
}

/// Reads the record of a request id. The outer error is an error of the database, the inner error is a damaged row.
async fn read_request(
    connection: &mut SqliteConnection,
    store: Sqlite,
    tenant: String,
    id: String,
    oldest: Timestamp,
) -> Result<Result<Option<StoredRequest>, StoreError>, StoreError> {
    let query = "SELECT fingerprint, begun, answer FROM request WHERE tenant = ?1 AND id = ?2 AND NOT begun < ?3";
    let query = sqlx::query(query).bind(&tenant).bind(&id).bind(oldest.as_millisecond());
    let Some(row) = query.fetch_optional(connection).await.map_err(read_error)? else {
        return Ok(Ok(None));
    };
    let damaged = |reason: &str| {
        let row = DamagedRow::new("request", &tenant, &id, reason);
        store.damaged.note(&row);
        StoreError::reading("holds a damaged row", &row)
    };
    let read = || {
        Ok(Some(StoredRequest {
            fingerprint: row.try_get(0).map_err(|_| damaged("the fingerprint is unreadable"))?,
            started: at(row.try_get(1).map_err(|_| damaged("the time is unreadable"))?),
            // The mutation was started. Without a readable result its outcome is unknown.
            result: row.try_get(2).unwrap_or_else(|_| {
                damaged("the result is unreadable");
                None
            }),
            is_of_other_epoch: false,
        }))
    };
    Ok(read())
}

/// Converts a stored time. A time out of range becomes the maximum.
fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

/// Returns the path of the file in a URL; `None` for a store in memory.
pub(super) fn path_of(url: &str) -> Result<Option<PathBuf>, StoreError> {
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Ok(None);
    }
    Ok(Some(options(url)?.get_filename().to_owned()))
}

fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    SqliteConnectOptions::from_str(url).map_err(|error| StoreError::new("cannot be opened", &error))
}

/// Returns the meaning of a SQLite result code; `None` if the text of SQLite is more exact.
fn meaning(code: i32) -> Option<&'static str> {
    // An extended code names the primary one in its lower byte.
    Some(match (code, code & 0xff) {
        (1032, _) => "the file was moved or deleted while it was open",
        (1544, _) => "is in a directory that cannot be written",
        (_, 3) => "cannot be opened: permission denied",
        (_, 5 | 6) => "is in use",
        (_, 8) => "is read-only",
        (266 | 522, _) => "cannot be read from the disk",
        (778 | 1034 | 1290 | 1546, _) => "cannot be written to the disk",
        (3850 | 2314 | 4618 | 4874 | 5130 | 5386, _) => "cannot be locked: its file system may not support locks",
        (_, 10) => "cannot be read or written: disk I/O error",
        (_, 11 | 26) => "is damaged, or is not a leadgate store",
        (_, 13) => "cannot be written: the disk is full",
        (_, 14) => "cannot be opened, or a file beside it (-wal) cannot be created",
        _ => return None,
    })
}

/// Returns the SQLite result code of an error, if it has one.
fn code_of(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// Returns the reason of an error for error messages.
fn reason(error: &sqlx::Error) -> String {
    code_of(error)
        .and_then(meaning)
        .map_or_else(|| error.to_string(), str::to_owned)
}

/// Returns the reason with the path of the file.
fn with_path(path: Option<&Path>, reason: &dyn std::fmt::Display) -> String {
    match path {
        Some(path) => format!("{}: {reason}", path.display()),
        None => reason.to_string(),
    }
}

/// The SQLite result codes for a file that another process uses.
const BUSY: [i32; 2] = [5, 6];

#[expect(clippy::needless_pass_by_value, reason = "the signature of a closure for map_err")]
fn open_error(error: sqlx::Error, path: Option<&Path>) -> StoreError {
    let is_busy = code_of(&error).is_some_and(|code| BUSY.contains(&(code & 0xff)));
    if is_busy {
        return in_use_error(path);
    }
    let reason = match code_of(&error).and_then(meaning) {
        Some(meaning) => match path {
            Some(path) => format!("{} {meaning}", path.display()),
            None => meaning.to_owned(),
        },
        None => with_path(path, &error),
    };
    StoreError::new("cannot be opened", &reason)
}

fn in_use_error(path: Option<&Path>) -> StoreError {
    StoreError {
        is_in_use: true,
        ..StoreError::new("is in use by another process", &with_path(path, &"locked"))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of a closure for map_err")]
fn read_error(error: sqlx::Error) -> StoreError {
    StoreError::reading("cannot be read", &reason(&error))
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of a closure for map_err")]
fn write_error(error: sqlx::Error) -> StoreError {
    StoreError::new("cannot be written", &reason(&error))
}

#[cfg(test)]
impl Sqlite {
    /// Executes a statement directly on the database.
    pub(super) async fn execute(&self, statement: &str) {
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        sqlx::query(statement).execute(&self.pool).await.unwrap();
    }

    /// Returns the number that a query selects.
    pub(super) async fn count(&self, query: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_result_codes_have_plain_texts() {
        for (code, text) in [
            (8, "is read-only"),
            (264, "is read-only"),
            (1032, "moved or deleted"),
            (1544, "directory that cannot be written"),
            (10, "disk I/O error"),
            (778, "cannot be written to the disk"),
            (266, "cannot be read from the disk"),
            (3850, "cannot be locked"),
            (13, "the disk is full"),
            (14, "cannot be opened"),
            (526, "cannot be opened"),
            (26, "not a leadgate store"),
            (11, "is damaged"),
        ] {
            let meaning = meaning(code).unwrap();
            assert!(meaning.contains(text), "{code}: {meaning}");
        }
        assert_eq!(meaning(1), None);
    }

    #[test]
    fn the_path_is_read_from_every_form_of_a_url() {
        let file = |url: &str| path_of(url).unwrap().map(|path| path.display().to_string());
        assert_eq!(
            file("sqlite:///var/lib/leadgate.db").as_deref(),
            Some("/var/lib/leadgate.db")
        );
        assert_eq!(file("sqlite://leadgate.db?mode=rwc").as_deref(), Some("leadgate.db"));
        assert_eq!(file("sqlite:leadgate.db").as_deref(), Some("leadgate.db"));
        assert_eq!(file("sqlite::memory:"), None);
        assert!(path_of("sqlite://x.db?mode=nonsense").is_err());
    }
}
