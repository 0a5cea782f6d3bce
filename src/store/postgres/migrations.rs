//! The migrations of the database, in order. Replicas of two releases use the database at the same time during an update, so each
//! schema must work with the previous release: a migration only adds tables, indexes, and columns that have a default or may be
//! null. What is not used any more is removed one release later. The text of a released migration never changes.

use std::time::Duration;

use sqlx::Row;

use super::connection::{Connection, Failure, TransactionLimits};
use super::pool::Pool;

/// The text of each migration. Its version is its position, beginning with 1.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/1_store.sql")];

/// The key of the advisory lock of a migration: "leadgate" in ASCII.
const LOCK: i64 = 0x6c65_6164_6761_7465;

/// The limits of a migration. A replica waits while another one migrates.
const LIMITS: TransactionLimits = TransactionLimits {
    timeout: Duration::from_secs(120),
    server: Duration::from_secs(110),
};

/// The version of the schema of this release.
pub(super) const fn current() -> i64 {
    MIGRATIONS.len() as i64
}

/// Returns the version of the schema; 0 if the database has no tables of leadgate.
pub(super) async fn version(connection: &mut Connection) -> Result<i64, Failure> {
    let found = connection
        .execute(LIMITS, "SELECT to_regclass('leadgate_schema') IS NOT NULL")
        .await?;
    let exists = found[0].rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
    if !exists {
        return Ok(0);
    }
    let found = connection
        .execute(LIMITS, "SELECT coalesce(max(version), 0) FROM leadgate_schema")
        .await?;
    Ok(found[0].rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0))
}

/// Migrates the database to the current schema. Several replicas can do it at the same time.
pub(super) async fn migrate(pool: &Pool) -> Result<(), Failure> {
    let mut connection = pool.connect().await?;
    let done = migrate_on(&mut connection).await;
    connection.close().await;
    done
}

async fn migrate_on(connection: &mut Connection) -> Result<(), Failure> {
    // An up-to-date schema needs no right to create tables.
    let found = version(connection).await?;
    if found >= current() {
        return check(found);
    }
    let lock = format!(
        "SELECT pg_advisory_xact_lock({LOCK}); \
         CREATE TABLE IF NOT EXISTS leadgate_schema (version bigint PRIMARY KEY, applied timestamptz NOT NULL); \
         SELECT coalesce(max(version), 0) FROM leadgate_schema"
    );
    let results = connection.begin(LIMITS, &lock).await.map_err(with_rights)?;
    let row = results.last().and_then(|result| result.rows.first());
    let found: i64 = row.and_then(|row| row.try_get(0).ok()).unwrap_or(0);
    let missing = MIGRATIONS.iter().zip(1_i64..).skip(usize::try_from(found).unwrap_or(0));
    let texts = missing.map(|(text, version)| {
        format!("{text}; INSERT INTO leadgate_schema (version, applied) VALUES ({version}, clock_timestamp())")
    });
    let texts: Vec<String> = texts.collect();
    connection
        .commit(LIMITS, &texts.join("; "))
        .await
        .map_err(with_rights)?;
    if !texts.is_empty() {
        tracing::info!(from = found, to = current(), "database schema migrated");
    }
    check(found.max(current()))
}

/// Fails if a schema is newer than the one of the next release.
fn check(found: i64) -> Result<(), Failure> {
    let known = current();
    match found - known {
        ..=0 => Ok(()),
        1 => {
            tracing::info!(
                found,
                known,
                "the database schema is one version newer, which works with this release"
            );
            Ok(())
        }
        _ => Err(Failure::Rejected(format!(
            "the database has schema version {found}, and this release knows version {known} and works with {}; use a newer \
             release",
            known + 1
        ))),
    }
}

/// Adds what to do if the role may not create tables.
fn with_rights(failure: Failure) -> Failure {
    match failure {
        Failure::Rejected(reason) if reason.contains("42501") => Failure::Rejected(format!(
            "{reason}; to create its tables, the role needs: GRANT CREATE, USAGE ON SCHEMA public TO the role"
        )),
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_is_newer_by_one_is_accepted() {
        for (found, is_accepted) in [(current(), true), (current() + 1, true), (current() + 2, false)] {
            assert_eq!(check(found).is_ok(), is_accepted, "{found}");
        }
    }
}
