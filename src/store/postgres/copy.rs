//! Copies a SQLite store into an empty database, in one transaction.

use std::time::Duration;

use tokio_stream::StreamExt;

use super::connection::{Connection, Failure, TransactionLimits};
use super::statement::Value;
use super::{Postgres, first};
use crate::store::sqlite::{CopiedTable, CopiedValue, Sqlite};
use crate::store::{CopiedRows, StoreError};

/// The limits of one message of the copy.
const LIMITS: TransactionLimits = TransactionLimits {
    timeout: Duration::from_secs(120),
    server: Duration::from_secs(110),
};

/// Number of rows per statement.
const CHUNK: usize = 500;

/// Locks the tables, and returns whether they have rows, and whether a replica has owned a tenant.
const CHECK: &str =
    "LOCK TABLE request, spent, quota_state, share, share_change, damaged, tenant_pause, tenant_lease IN EXCLUSIVE MODE;
     SELECT EXISTS (SELECT FROM request) OR EXISTS (SELECT FROM spent) OR EXISTS (SELECT FROM quota_state)
         OR EXISTS (SELECT FROM share) OR EXISTS (SELECT FROM share_change) OR EXISTS (SELECT FROM damaged)
         OR EXISTS (SELECT FROM tenant_pause),
         EXISTS (SELECT FROM tenant_lease WHERE epoch > 0)";

/// Returns the beginning of the statement that inserts rows of a table, and the form of one row. Unfinished requests and shares
/// have no owner, so they count as those of another epoch.
fn insert(table: CopiedTable) -> (&'static str, &'static str) {
    match table {
        CopiedTable::Request => (
            "INSERT INTO request (tenant, id, fingerprint, begun, answer, epoch, attempt) VALUES ",
            "($1, $2, $3, $4, $5, 0, 0)",
        ),
        CopiedTable::QuotaUsage => (
            "INSERT INTO spent (tenant, day, calls, last_grant, slots) VALUES ",
            "($1, $2, $3, $4, $5)",
        ),
        CopiedTable::Share => (
            "INSERT INTO share (tenant, id, user_id, kind, entity_id, lead_number, state, unsettled, expires, changed, \
             request_id, document, epoch) VALUES ",
            "($1, $2, $3, $4, $5, $6, $7, $8 <> 0, $9, $10, $11, $12, 0)",
        ),
        CopiedTable::ShareChange => (
            "INSERT INTO share_change (tenant, share_id, number, at, state, failure) VALUES ",
            "($1, $2, $3, $4, $5, $6)",
        ),
        CopiedTable::Damaged => (
            "INSERT INTO damaged (at, source, tenant, id, reason, content) VALUES ",
            "($1, $2, $3, $4, $5, $6)",
        ),
        CopiedTable::Pause => (
            "INSERT INTO tenant_pause (tenant, since, reason) VALUES ",
            "($1, $2, $3)",
        ),
    }
}

impl Postgres {
    pub(in crate::store) async fn copy_from(
        &self,
        source: &Sqlite,
        mut progress: impl FnMut(&CopiedRows),
    ) -> Result<CopiedRows, StoreError> {
        let mut connection = self.pool.connect().await.map_err(|failure| failure.writing())?;
        let results = connection
            .begin(LIMITS, CHECK)
            .await
            .map_err(|failure| failure.writing())?;
        if first::<bool>(&results[1..], 0)? {
            return Err(StoreError::new(
                "cannot be written",
                &"the database already has rows of a store",
            ));
        }
        if first::<bool>(&results[1..], 1)? {
            return Err(StoreError::new("cannot be written", &"replicas have used the database"));
        }
        let mut copied = CopiedRows::default();
        for table in CopiedTable::ALL {
            let mut rows_of_table = source.copied_rows(table);
            loop {
                let mut rows = vec![];
                while rows.len() < CHUNK
                    && let Some(row) = rows_of_table.next().await
                {
                    rows.push(row?);
                }
                if rows.is_empty() {
                    break;
                }
                self.insert(&mut connection, table, &rows)
                    .await
                    .map_err(|failure| failure.writing())?;
                copied.add(table, rows.len() as u64);
                progress(&copied);
            }
        }
        connection
            .commit(LIMITS, "SELECT 1")
            .await
            .map_err(|failure| failure.writing())?;
        connection.close().await;
        Ok(copied)
    }

    async fn insert(
        &self,
        connection: &mut Connection,
        table: CopiedTable,
        rows: &[Vec<CopiedValue>],
    ) -> Result<(), Failure> {
        let (beginning, form) = insert(table);
        let mut text = beginning.to_owned();
        for (index, row) in rows.iter().enumerate() {
            let values: Vec<Value<'_>> = row.iter().map(value).collect();
            text += if index == 0 { "" } else { ", " };
            text += &self.statement(form, &values)?;
        }
        connection.go_on(LIMITS, text).await
    }
}

/// Returns a value for a statement. The type of a missing value is that of its column.
fn value(value: &CopiedValue) -> Value<'_> {
    match value {
        CopiedValue::Null => Value::Null,
        CopiedValue::Integer(number) => (*number).into(),
        CopiedValue::Text(text) => text.into(),
        CopiedValue::Bytes(bytes) => bytes[..].into(),
    }
}
