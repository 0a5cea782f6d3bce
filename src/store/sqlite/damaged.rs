//! Finds damaged rows, and moves them to the table `damaged`.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{HOUSEKEEPING, Sqlite, read_error, share, write_error};
use crate::store::{DamagedRow, StoreError};

/// Number of shares per read of a scan. Between two reads, other operations can use the connection.
const PAGE: usize = 500;

/// The checks that SQLite can do: for each table a query that returns tenant and id of each damaged row.
const CHECKS: [(&str, &str); 4] = [
    (
        "request",
        "SELECT CAST(tenant AS BLOB), CAST(id AS BLOB) FROM request
         WHERE typeof(tenant) <> 'text' OR typeof(id) <> 'text' OR typeof(begun) <> 'integer'
            OR typeof(fingerprint) <> 'blob' OR length(fingerprint) <> 32
            OR CASE WHEN answer IS NULL THEN 0 WHEN typeof(answer) <> 'text' THEN 1 WHEN NOT json_valid(answer) THEN 1
               ELSE json_type(answer, '$.Done') IS NULL AND json_type(answer, '$.Refused') IS NULL END",
    ),
    (
        "spent",
        "SELECT CAST(tenant AS BLOB), CAST(tenant AS BLOB) FROM spent
         WHERE typeof(tenant) <> 'text' OR typeof(day) <> 'text' OR typeof(calls) <> 'integer'
            OR typeof(last_grant) <> 'integer'
            OR CASE WHEN slots IS NULL THEN 0 WHEN typeof(slots) <> 'text' THEN 1 ELSE NOT json_valid(slots) END",
    ),
    (
        "share_change",
        "SELECT CAST(tenant AS BLOB), CAST(share_id || '/' || number AS BLOB) FROM share_change
         WHERE typeof(tenant) <> 'text' OR typeof(share_id) <> 'text' OR typeof(number) <> 'integer'
            OR typeof(at) <> 'integer' OR typeof(state) <> 'integer' OR state NOT BETWEEN 1 AND 9
            OR typeof(failure) <> 'text'",
    ),
    (
        "share",
        "SELECT CAST(tenant AS BLOB), CAST(id AS BLOB) FROM share WHERE typeof(tenant) <> 'text' OR typeof(id) <> 'text'",
    ),
];

/// The statements that move a damaged row of each table: the first copies the row, the second deletes it.
const MOVES: [(&str, &str, &str); 4] = [
    (
        "request",
        "INSERT INTO damaged (at, source, tenant, id, reason, content)
         SELECT ?3, 'request', tenant, id, ?4, quote(tenant) || ', ' || quote(id) || ', ' || quote(fingerprint) || ', '
                || quote(begun) || ', ' || quote(answer)
         FROM request WHERE CAST(tenant AS BLOB) IS ?1 AND CAST(id AS BLOB) IS ?2",
        "DELETE FROM request WHERE CAST(tenant AS BLOB) IS ?1 AND CAST(id AS BLOB) IS ?2",
    ),
    (
        "spent",
        "INSERT INTO damaged (at, source, tenant, id, reason, content)
         SELECT ?3, 'spent', tenant, tenant, ?4, quote(tenant) || ', ' || quote(day) || ', ' || quote(calls) || ', '
                || quote(last_grant) || ', ' || quote(slots)
         FROM spent WHERE CAST(tenant AS BLOB) IS ?1 AND CAST(tenant AS BLOB) IS ?2",
        "DELETE FROM spent WHERE CAST(tenant AS BLOB) IS ?1 AND CAST(tenant AS BLOB) IS ?2",
    ),
    (
        "share_change",
        "INSERT INTO damaged (at, source, tenant, id, reason, content)
         SELECT ?3, 'share_change', tenant, share_id, ?4, quote(tenant) || ', ' || quote(share_id) || ', '
                || quote(number) || ', ' || quote(at) || ', ' || quote(state) || ', ' || quote(failure)
         FROM share_change
         WHERE CAST(tenant AS BLOB) IS ?1
           AND (CAST(share_id || '/' || number AS BLOB) IS ?2 OR CAST(share_id AS BLOB) IS ?2)",
        "DELETE FROM share_change
         WHERE CAST(tenant AS BLOB) IS ?1
           AND (CAST(share_id || '/' || number AS BLOB) IS ?2 OR CAST(share_id AS BLOB) IS ?2)",
    ),
    (
        "share",
        "INSERT INTO damaged (at, source, tenant, id, reason, content)
         SELECT ?3, 'share', tenant, id, ?4, quote(tenant) || ', ' || quote(id) || ', ' || quote(user_id) || ', '
                || quote(kind) || ', ' || quote(entity_id) || ', ' || quote(lead_number) || ', ' || quote(state) || ', '
                || quote(unsettled) || ', ' || quote(expires) || ', ' || quote(changed) || ', ' || quote(request_id)
                || ', ' || quote(document)
         FROM share WHERE CAST(tenant AS BLOB) IS ?1 AND CAST(id AS BLOB) IS ?2",
        "DELETE FROM share WHERE CAST(tenant AS BLOB) IS ?1 AND CAST(id AS BLOB) IS ?2",
    ),
];

impl Sqlite {
    pub(in crate::store) fn damaged_rows(&self) -> usize {
        self.damaged.count()
    }

    pub(in crate::store) fn note_damaged(&self, row: &DamagedRow) {
        self.damaged.note(row);
    }

    pub(in crate::store) async fn find_damaged(&self) -> Result<Vec<DamagedRow>, StoreError> {
        let mut found = Vec::new();
        for (table, query) in CHECKS {
            let rows = sqlx::query(query).fetch_all(&self.pool).await.map_err(read_error)?;
            for row in &rows {
                found.push(damaged(table, row, "a column is unreadable".to_owned())?);
            }
        }
        self.find_damaged_shares(&mut found).await?;
        self.damaged.replace(&found);
        Ok(found)
    }

    /// Reads all shares in pages.
    async fn find_damaged_shares(&self, found: &mut Vec<DamagedRow>) -> Result<(), StoreError> {
        // The key of the last row, as bytes, since it may be invalid UTF-8.
        let mut last_key: (Vec<u8>, Vec<u8>) = Default::default();
        loop {
            let rows = sqlx::query(share::PAGE)
                .bind(last_key.0)
                .bind(last_key.1)
                .bind(PAGE as i64)
                .fetch_all(&self.pool)
                .await
                .map_err(read_error)?;
            for row in &rows {
                if let Err(reason) = share::read(row) {
                    found.push(damaged("share", row, reason)?);
                }
            }
            let Some(last) = rows.last().filter(|_| rows.len() == PAGE) else {
                return Ok(());
            };
            last_key = (
                last.try_get(0).map_err(read_error)?,
                last.try_get(1).map_err(read_error)?,
            );
        }
    }

    pub(in crate::store) async fn move_damaged(&self, rows: &[DamagedRow], now: Timestamp) -> Result<u64, StoreError> {
        let rows = rows.to_vec();
        self.commits
            .execute(HOUSEKEEPING, move |connection| {
                let rows = rows.clone();
                Box::pin(async move {
                    let mut moved = 0;
                    for row in &rows {
                        // A change without its share has no meaning.
                        let with_changes = row.table == "share";
                        let moves = MOVES
                            .iter()
                            .filter(|(table, ..)| *table == row.table || (with_changes && *table == "share_change"));
                        for (table, copy, delete) in moves {
                            let reason = match *table == row.table {
                                true => row.reason.as_str(),
                                false => "a change of a damaged share",
                            };
                            let copied = sqlx::query(*copy)
                                .bind(&row.tenant)
                                .bind(&row.id)
                                .bind(now.as_millisecond())
                                .bind(reason)
                                .execute(&mut *connection)
                                .await
                                .map_err(write_error)?;
                            sqlx::query(*delete)
                                .bind(&row.tenant)
                                .bind(&row.id)
                                .execute(&mut *connection)
                                .await
                                .map_err(write_error)?;
                            moved += copied.rows_affected();
                        }
                    }
                    Ok(moved)
                })
            })
            .await
    }
}

/// Returns the damaged row of a result row whose first two columns are tenant and id.
fn damaged(table: &'static str, row: &SqliteRow, reason: String) -> Result<DamagedRow, StoreError> {
    Ok(DamagedRow {
        table,
        tenant: row.try_get(0).map_err(read_error)?,
        id: row.try_get(1).map_err(read_error)?,
        reason,
    })
}
