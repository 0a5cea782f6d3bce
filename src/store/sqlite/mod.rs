//! The store in one SQLite file, for one process. The only place that knows SQLite.

mod share;

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use uuid::Uuid;

use super::{Fault, Known};
use crate::caller::RequestId;
use crate::domain::spent::Spent;

/// How long a write waits for another process that has the file.
const PATIENCE: Duration = Duration::from_secs(2);

/// A store in a file, or in memory.
#[derive(Clone, Debug)]
pub struct Sqlite {
    /// One connection, so that writes take turns here and not in the file.
    pool: SqlitePool,
}

impl Sqlite {
    pub(super) async fn open(url: &str) -> Result<Self, Fault> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| Fault::new("cannot be opened", &error))?
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
        let store = Self { pool };
        store.check().await?;
        sqlx::migrate!("src/store/migrations")
            .run(&store.pool)
            .await
            .map_err(|error| Fault::new("cannot be brought up to date", &error))?;
        Ok(store)
    }

    /// Whether the file is whole.
    async fn check(&self) -> Result<(), Fault> {
        let row = sqlx::query("PRAGMA quick_check(1)")
            .fetch_one(&self.pool)
            .await
            .map_err(unopened)?;
        match row.try_get::<String, _>(0).unwrap_or_default().as_str() {
            "ok" => Ok(()),
            said => Err(Fault::new("is damaged", &said)),
        }
    }

    pub(super) async fn begin(
        &self,
        tenant: &str,
        request: &RequestId,
        now: Timestamp,
        oldest: Timestamp,
    ) -> Result<Known, Fault> {
        let id = request.id.to_string();
        // One statement each, and one connection: nobody comes between them.
        let begun = sqlx::query(
            "INSERT INTO request (tenant, id, fingerprint, begun) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (tenant, id) DO UPDATE SET fingerprint = ?3, begun = ?4, answer = NULL WHERE begun < ?5",
        )
        .bind(tenant)
        .bind(&id)
        .bind(&request.fingerprint[..])
        .bind(now.as_millisecond())
        .bind(oldest.as_millisecond())
        .execute(&self.pool)
        .await
        .map_err(unwritten)?;
        if begun.rows_affected() > 0 {
            return Ok(Known::New);
        }
        let row = sqlx::query("SELECT fingerprint, begun, answer FROM request WHERE tenant = ?1 AND id = ?2")
            .bind(tenant)
            .bind(&id)
            .fetch_one(&self.pool)
            .await
            .map_err(unread)?;
        Ok(Known::Used {
            fingerprint: row.try_get(0).map_err(unread)?,
            begun: at(row.try_get(1).map_err(unread)?),
            answer: row.try_get(2).map_err(unread)?,
        })
    }

    pub(super) async fn finish(&self, tenant: &str, id: &Uuid, answer: &str) -> Result<(), Fault> {
        sqlx::query("UPDATE request SET answer = ?3 WHERE tenant = ?1 AND id = ?2")
            .bind(tenant)
            .bind(id.to_string())
            .bind(answer)
            .execute(&self.pool)
            .await
            .map_err(unwritten)?;
        Ok(())
    }

    pub(super) async fn forget(&self, tenant: &str, id: &Uuid) -> Result<(), Fault> {
        sqlx::query("DELETE FROM request WHERE tenant = ?1 AND id = ?2")
            .bind(tenant)
            .bind(id.to_string())
            .execute(&self.pool)
            .await
            .map_err(unwritten)?;
        Ok(())
    }

    pub(super) async fn sweep(&self, oldest: Timestamp) -> Result<u64, Fault> {
        let swept = sqlx::query("DELETE FROM request WHERE begun < ?1")
            .bind(oldest.as_millisecond())
            .execute(&self.pool)
            .await
            .map_err(unwritten)?;
        Ok(swept.rows_affected())
    }

    pub(super) async fn spent(&self, tenant: &str) -> Result<Option<Spent>, Fault> {
        let row = sqlx::query("SELECT day, calls, last_grant FROM spent WHERE tenant = ?1")
            .bind(tenant)
            .fetch_optional(&self.pool)
            .await
            .map_err(unread)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let calls: i64 = row.try_get(1).map_err(unread)?;
        Ok(Some(Spent {
            day: row.try_get(0).map_err(unread)?,
            calls: calls.unsigned_abs(),
            last_grant: at(row.try_get(2).map_err(unread)?),
        }))
    }

    pub(super) async fn spend(&self, tenant: &str, spent: &Spent) -> Result<(), Fault> {
        sqlx::query("INSERT OR REPLACE INTO spent (tenant, day, calls, last_grant) VALUES (?1, ?2, ?3, ?4)")
            .bind(tenant)
            .bind(&spent.day)
            .bind(i64::try_from(spent.calls).unwrap_or(i64::MAX))
            .bind(spent.last_grant.as_millisecond())
            .execute(&self.pool)
            .await
            .map_err(unwritten)?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A time beyond those that can be told is the end of all.
fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

/// SQLite's code for a file that somebody else has.
const BUSY: &str = "5";

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn unopened(error: sqlx::Error) -> Fault {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let in_use = code.as_deref() == Some(BUSY);
    let what = if in_use {
        "is in use by another process"
    } else {
        "cannot be opened"
    };
    Fault {
        in_use,
        ..Fault::new(what, &error)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn unread(error: sqlx::Error) -> Fault {
    Fault::new("cannot be read", &error)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn unwritten(error: sqlx::Error) -> Fault {
    Fault::new("cannot be written", &error)
}
