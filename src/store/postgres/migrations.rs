//! The migrations of the database, in order. Replicas of two releases use the database at the same time during an update, so each
//! schema must work with the previous release: a migration only adds tables, indexes, and columns that have a default or may be
//! null. What is not used any more is removed one release later. The text of a released migration never changes.
//!
//! The table `leadgate_schema` has a row for each migration. It says which releases can use the schema, so that an older release
//! knows it.

use std::time::Duration;

use sqlx::Row;

use super::connection::{Connection, Failure, StatementResult, TransactionLimits};
use super::pool::Pool;

/// The migrations. The version of each is its position, beginning with 1.
const MIGRATIONS: [Migration; 1] = [Migration {
    text: include_str!("migrations/1_store.sql"),
    works_with: 1,
}];

struct Migration {
    text: &'static str,
    /// The oldest version that a release must have to use the schema after this migration: that of the previous release, if the
    /// migration only adds.
    works_with: i64,
}

/// The state of a database. Both are 0 if it has no tables of leadgate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Schema {
    pub(super) version: i64,
    /// The oldest version that a release must have.
    works_with: i64,
}

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

/// The query for a [`Schema`].
const SCHEMA: &str = "SELECT coalesce(max(version), 0), coalesce(max(works_with), 0) FROM leadgate_schema";

/// Returns the schema of the database.
pub(super) async fn schema(connection: &mut Connection) -> Result<Schema, Failure> {
    let found = connection
        .execute(LIMITS, "SELECT to_regclass('leadgate_schema') IS NOT NULL")
        .await?;
    let exists = found[0].rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
    if !exists {
        return Ok(Schema::default());
    }
    read(&connection.execute(LIMITS, SCHEMA).await?)
}

/// Reads the last result.
fn read(results: &[StatementResult]) -> Result<Schema, Failure> {
    let row = results.last().and_then(|result| result.rows.first());
    let schema = row.and_then(|row| {
        Some(Schema {
            version: row.try_get(0).ok()?,
            works_with: row.try_get(1).ok()?,
        })
    });
    schema.ok_or_else(|| Failure::Rejected("the table leadgate_schema cannot be read".to_owned()))
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
    let found = schema(connection).await?;
    if found.version >= current() {
        return check(found);
    }
    let lock = format!(
        "SELECT pg_advisory_xact_lock({LOCK}); \
         CREATE TABLE IF NOT EXISTS leadgate_schema \
         (version bigint PRIMARY KEY, works_with bigint NOT NULL, applied timestamptz NOT NULL); \
         {SCHEMA}"
    );
    let results = connection.begin(LIMITS, &lock).await.map_err(with_rights)?;
    let found = read(&results)?;
    let missing = MIGRATIONS
        .iter()
        .zip(1_i64..)
        .skip(usize::try_from(found.version).unwrap_or(0));
    let texts = missing.map(|(Migration { text, works_with }, version)| {
        format!(
            "{text}; INSERT INTO leadgate_schema (version, works_with, applied) \
             VALUES ({version}, {works_with}, clock_timestamp())"
        )
    });
    let texts: Vec<String> = texts.collect();
    connection
        .commit(LIMITS, &texts.join("; "))
        .await
        .map_err(with_rights)?;
    if !texts.is_empty() {
        tracing::info!(from = found.version, to = current(), "database schema migrated");
    }
    check(found)
}

/// Fails if a newer schema does not work with this release.
fn check(found: Schema) -> Result<(), Failure> {
    let (known, Schema { version, works_with }) = (current(), found);
    if works_with > known {
        return Err(Failure::Rejected(format!(
            "the database has schema version {version}, which needs a release with schema version {works_with} or newer; this \
             release has version {known}: use a newer release"
        )));
    }
    if version > known {
        tracing::info!(
            version,
            known,
            "the database schema is newer, and works with this release"
        );
    }
    Ok(())
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
    fn a_newer_schema_is_accepted_if_it_works_with_this_release() {
        let schema = |version, works_with| Schema { version, works_with };
        assert_eq!(check(schema(current(), current())), Ok(()));
        assert_eq!(check(schema(current() + 3, current())), Ok(()));
        let error = check(schema(current() + 3, current() + 1)).unwrap_err().to_string();
        assert!(error.contains("use a newer release"), "{error}");
    }

    #[test]
    fn each_migration_works_with_an_earlier_version_or_its_own() {
        for (migration, version) in MIGRATIONS.iter().zip(1_i64..) {
            assert!((1..=version).contains(&migration.works_with), "{version}");
        }
    }
}
