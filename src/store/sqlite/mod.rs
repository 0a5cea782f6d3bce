//! The store in one SQLite file, for one process. The only place that knows SQLite.

mod commit;
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
    SqlitePoolOptions, SqliteSynchronous,
};
use uuid::Uuid;

use super::damage::{DamagedRows, from_json, to_json};
use super::{Begun, DamagedRow, Known, StoreError, place, record};
use crate::context::RequestId;
use crate::domain::usage::{HeldSlots, QuotaUsage};
use commit::Commits;

/// How long a write waits for another process that has the file.
const PATIENCE: Duration = Duration::from_secs(2);

/// The caller of operations that nobody has asked for.
const HOUSEKEEPING: &str = "leadgate";

/// A future of an operation on the connection.
type Pending<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// A store in a file, or in memory.
#[derive(Clone, Debug)]
pub struct Sqlite {
    /// One connection, so that writes take turns here and not in the file.
    pool: SqlitePool,
    commits: Commits,
    damaged: DamagedRows,
    /// The file and its lock; none in memory.
    file: Option<(Arc<place::OpenFile>, place::Lock)>,
}

impl Sqlite {
    pub(super) async fn open(url: &str) -> Result<Self, StoreError> {
        let path = file_of(url)?;
        if let Some(path) = &path {
            place::check(path).map_err(|why| StoreError::new("cannot be opened", &why))?;
        }
        let lock = match &path {
            Some(path) => match place::Lock::take(path).map_err(|why| StoreError::new("cannot be opened", &why))? {
                Some(lock) => Some(lock),
                None => return Err(in_use(Some(path))),
            },
            None => None,
        };
        if let Some(path) = &path {
            place::make_private(path).map_err(|why| StoreError::new("cannot be opened", &why))?;
        }
        let opened = Self::connect(url, path.as_deref(), lock.clone()).await;
        if let (Err(_), Some(lock)) = (&opened, &lock) {
            lock.release();
        }
        opened
    }

    async fn connect(url: &str, path: Option<&Path>, lock: Option<place::Lock>) -> Result<Self, StoreError> {
        let unopened = |error| unopened(error, path);
        let options = options(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was answered has to outlast a power cut.
            .synchronous(SqliteSynchronous::Full)
            // Two gateways on one file would each spend the whole quota.
            .locking_mode(SqliteLockingMode::Exclusive)
            // The log is small beside the file, so that it does not fill a small disk by itself.
            .pragma("wal_autocheckpoint", "100")
            .pragma("journal_size_limit", "1048576")
            .busy_timeout(PATIENCE);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            // A database in memory lives as long as its connection.
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(PATIENCE * 5)
            .connect_with(options)
            .await
            .map_err(unopened)?;
        let open = |path| {
            place::OpenFile::new(path).map_err(|error| StoreError::new("cannot be opened", &named(Some(path), &error)))
        };
        let file = path.map(open).transpose()?.map(Arc::new).zip(lock);
        let store = Self {
            commits: Commits::new(pool.clone()),
            pool,
            damaged: DamagedRows::default(),
            file,
        };
        store.check(path).await.map_err(unopened)??;
        migrations::migrator()
            .run(&store.pool)
            .await
            .map_err(|error| StoreError::new("cannot be brought up to date", &named(path, &error)))?;
        Ok(store)
    }

    /// Whether the store can be written: the file is the one that was opened, its folder has room, and if `by_writing`, a
    /// transaction succeeds.
    pub(super) async fn probe(&self, by_writing: bool) -> Result<(), StoreError> {
        let Some((file, _)) = &self.file else {
            return Ok(());
        };
        let (checked, named) = (file.clone(), file.path().display());
        let checked = tokio::task::spawn_blocking(move || checked.check()).await;
        checked
            .map_err(|error| error.to_string())
            .and_then(|checked| checked)
            .map_err(|why| StoreError::new("cannot be written", &why))?;
        if by_writing {
            // A number in the file's header that nothing else uses.
            let written = sqlx::query("PRAGMA user_version = 1").execute(&self.pool).await;
            written.map_err(|error| StoreError::new("cannot be written", &format!("{named}: {}", reason(&error))))?;
        }
        Ok(())
    }

    /// Fails if the file is not the one that was opened any more: what is written would be gone with the process.
    fn writable(&self) -> Result<(), StoreError> {
        match self.file.as_ref().and_then(|(file, _)| file.lost()) {
            Some(why) => Err(StoreError::new("cannot be written", &why)),
            None => Ok(()),
        }
    }

    /// Whether the file is whole.
    async fn check(&self, path: Option<&Path>) -> Result<Result<(), StoreError>, sqlx::Error> {
        let rows = sqlx::query("PRAGMA quick_check").fetch_all(&self.pool).await?;
        let said = rows.iter().map(|row| row.try_get::<String, _>(0).unwrap_or_default());
        // A value that does not belong into its column costs its row only, see `damaged`.
        let mut said = said.filter(|said| said != "ok" && !said.contains(" value in ") && !said.starts_with("CHECK "));
        Ok(match said.next() {
            None => Ok(()),
            Some(said) => Err(StoreError::new("is damaged", &named(path, &said))),
        })
    }

    pub(super) async fn known(
        &self,
        tenant: &str,
        caller: &str,
        id: &Uuid,
        oldest: Timestamp,
    ) -> Result<Option<Known>, StoreError> {
        self.writable()?;
        let (store, tenant, id) = (self.clone(), tenant.to_owned(), id.to_string());
        self.commits
            .execute(caller, move |connection| {
                Box::pin(known(connection, store.clone(), tenant.clone(), id.clone(), oldest))
            })
            .await?
    }

    pub(super) async fn begin(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        now: Timestamp,
        oldest: Timestamp,
    ) -> Result<Begun, StoreError> {
        self.writable()?;
        let (tenant, request) = (tenant.to_owned(), *request);
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
                    let begun = query.execute(connection).await.map_err(unwritten)?;
                    Ok(match begun.rows_affected() {
                        0 => Begun::Known,
                        _ => Begun::New,
                    })
                })
            })
            .await
    }

    pub(super) async fn finish(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        answer: &str,
    ) -> Result<(), StoreError> {
        let (tenant, request, answer) = (tenant.to_owned(), *request, answer.to_owned());
        let query = move || {
            let query =
                sqlx::query("UPDATE request SET answer = ?4 WHERE tenant = ?1 AND id = ?2 AND fingerprint = ?3");
            own(query, &tenant, &request).bind(answer.clone())
        };
        self.execute_in_group(caller, query).await
    }

    pub(super) async fn forget(&self, tenant: &str, caller: &str, request: &RequestId) -> Result<(), StoreError> {
        let (tenant, request) = (tenant.to_owned(), *request);
        let query = move || {
            let query = sqlx::query("DELETE FROM request WHERE tenant = ?1 AND id = ?2 AND fingerprint = ?3");
            own(query, &tenant, &request)
        };
        self.execute_in_group(caller, query).await
    }

    /// Executes one statement in a group.
    async fn execute_in_group<F>(&self, caller: &str, query: F) -> Result<(), StoreError>
    where
        F: Fn() -> Query<'static, sqlx::Sqlite, SqliteArguments> + Send + 'static,
    {
        self.commits
            .execute(caller, move |connection| {
                let query = query();
                Box::pin(async move { query.execute(connection).await.map(drop).map_err(unwritten) })
            })
            .await
    }

    pub(super) async fn sweep(&self, oldest: Timestamp) -> Result<u64, StoreError> {
        let swept = sqlx::query("DELETE FROM request WHERE begun < ?1")
            .bind(oldest.as_millisecond())
            .execute(&self.pool)
            .await
            .map_err(unwritten)?;
        Ok(swept.rows_affected())
    }

    pub(super) async fn quota_usage(&self, tenant: &str) -> Result<Option<QuotaUsage>, StoreError> {
        let row = sqlx::query("SELECT day, calls, last_grant, slots FROM spent WHERE tenant = ?1")
            .bind(tenant)
            .fetch_optional(&self.pool)
            .await
            .map_err(unread)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let damaged = || {
            let row = DamagedRow::new("spent", tenant, tenant, "a column is unreadable");
            self.damaged.note(&row);
        };
        // As after a crash: the window may be used up.
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
            .map_err(unwritten)?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.commits.close().await;
        self.pool.close().await;
        if let Some((_, lock)) = &self.file {
            lock.release();
        }
    }
}

/// Binds the key of a record and the message that it is of: a record of another message with the same id is not touched.
fn own<'q>(
    query: Query<'q, sqlx::Sqlite, SqliteArguments>,
    tenant: &str,
    request: &RequestId,
) -> Query<'q, sqlx::Sqlite, SqliteArguments> {
    let query = query.bind(tenant.to_owned()).bind(request.id.to_string());
    query.bind(request.fingerprint.to_vec())
}

/// What is known of a request id. The outer fault is the connection's, the inner one that of a damaged row.
async fn known(
    connection: &mut SqliteConnection,
    store: Sqlite,
    tenant: String,
    id: String,
    oldest: Timestamp,
) -> Result<Result<Option<Known>, StoreError>, StoreError> {
    let query = "SELECT fingerprint, begun, answer FROM request WHERE tenant = ?1 AND id = ?2 AND NOT begun < ?3";
    let query = sqlx::query(query).bind(&tenant).bind(&id).bind(oldest.as_millisecond());
    let Some(row) = query.fetch_optional(connection).await.map_err(unread)? else {
        return Ok(Ok(None));
    };
    let damaged = |reason: &str| {
        let row = DamagedRow::new("request", &tenant, &id, reason);
        store.damaged.note(&row);
        StoreError::reading("holds a damaged row", &row)
    };
    let known = || {
        Ok(Some(Known {
            fingerprint: row.try_get(0).map_err(|_| damaged("the fingerprint is unreadable"))?,
            begun: at(row.try_get(1).map_err(|_| damaged("the time is unreadable"))?),
            // A mutation with an answer that is no text was begun, and its outcome is not known.
            answer: row.try_get(2).unwrap_or_else(|_| {
                damaged("the answer is unreadable");
                None
            }),
        }))
    };
    Ok(known())
}

/// A time beyond those that can be told is the end of all.
fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

/// The file of the store at that address; `None` if it is in memory.
pub(super) fn file_of(url: &str) -> Result<Option<PathBuf>, StoreError> {
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Ok(None);
    }
    Ok(Some(options(url)?.get_filename().to_owned()))
}

fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    SqliteConnectOptions::from_str(url).map_err(|error| StoreError::new("cannot be opened", &error))
}

/// What SQLite's result code means; `None` where its own text says more.
fn meaning(code: i32) -> Option<&'static str> {
    // An extended code names the primary one in its lower byte.
    Some(match (code, code & 0xff) {
        (1032, _) => "the file was moved or deleted while it was open",
        (1544, _) => "is in a folder that cannot be written",
        (_, 3) => "cannot be opened: permission denied",
        (_, 5 | 6) => "is in use",
        (_, 8) => "is read-only",
        (266 | 522, _) => "cannot be read from the disk",
        (778 | 1034 | 1290 | 1546, _) => "cannot be written to the disk",
        (3850 | 2314 | 4618 | 4874 | 5130 | 5386, _) => "cannot be locked: its file system may not support locks",
        (_, 10) => "cannot be read or written: error of the disk",
        (_, 11 | 26) => "is damaged, or is not a store of leadgate",
        (_, 13) => "cannot be written: the disk is full",
        (_, 14) => "cannot be opened, or a file beside it (-wal) cannot be made",
        _ => return None,
    })
}

/// SQLite's result code, if it is SQLite that failed.
fn code_of(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// The reason in plain words.
fn reason(error: &sqlx::Error) -> String {
    code_of(error)
        .and_then(meaning)
        .map_or_else(|| error.to_string(), str::to_owned)
}

/// The reason with the file that it is about.
fn named(path: Option<&Path>, why: &dyn std::fmt::Display) -> String {
    match path {
        Some(path) => format!("{}: {why}", path.display()),
        None => why.to_string(),
    }
}

/// SQLite's codes for a file that somebody else has.
const BUSY: [i32; 2] = [5, 6];

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn unopened(error: sqlx::Error, path: Option<&Path>) -> StoreError {
    let is_busy = code_of(&error).is_some_and(|code| BUSY.contains(&(code & 0xff)));
    if is_busy {
        return in_use(path);
    }
    let why = match code_of(&error).and_then(meaning) {
        Some(meaning) => match path {
            Some(path) => format!("{} {meaning}", path.display()),
            None => meaning.to_owned(),
        },
        None => named(path, &error),
    };
    StoreError::new("cannot be opened", &why)
}

fn in_use(path: Option<&Path>) -> StoreError {
    StoreError {
        in_use: true,
        ..StoreError::new("is in use by another process", &named(path, &"locked"))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn unread(error: sqlx::Error) -> StoreError {
    StoreError::reading("cannot be read", &reason(&error))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn unwritten(error: sqlx::Error) -> StoreError {
    StoreError::new("cannot be written", &reason(&error))
}

#[cfg(test)]
impl Sqlite {
    /// Executes a statement behind the store's back.
    pub(super) async fn execute(&self, statement: &str) {
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        sqlx::query(statement).execute(&self.pool).await.unwrap();
    }

    /// The number that a query returns.
    pub(super) async fn count(&self, query: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_sqlite_are_told_in_plain_words() {
        for (code, text) in [
            (8, "is read-only"),
            (264, "is read-only"),
            (1032, "moved or deleted"),
            (1544, "folder that cannot be written"),
            (10, "error of the disk"),
            (778, "cannot be written to the disk"),
            (266, "cannot be read from the disk"),
            (3850, "cannot be locked"),
            (13, "the disk is full"),
            (14, "cannot be opened"),
            (526, "cannot be opened"),
            (26, "not a store"),
            (11, "is damaged"),
        ] {
            let meaning = meaning(code).unwrap();
            assert!(meaning.contains(text), "{code}: {meaning}");
        }
        assert_eq!(meaning(1), None);
    }

    #[test]
    fn the_file_of_an_address_is_known_whatever_its_form() {
        let file = |url: &str| file_of(url).unwrap().map(|path| path.display().to_string());
        assert_eq!(
            file("sqlite:///var/lib/leadgate.db").as_deref(),
            Some("/var/lib/leadgate.db")
        );
        assert_eq!(file("sqlite://leadgate.db?mode=rwc").as_deref(), Some("leadgate.db"));
        assert_eq!(file("sqlite:leadgate.db").as_deref(), Some("leadgate.db"));
        assert_eq!(file("sqlite::memory:"), None);
        assert!(file_of("sqlite://x.db?mode=nonsense").is_err());
    }
}
