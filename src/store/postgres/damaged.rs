//! Finds damaged rows, and moves them to the table `damaged`. The types of the columns are those of the tables, so only contents
//! can be damaged.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::statement::values;
use super::{HOUSEKEEPING, Postgres, column_error, fence_held, first, share};
use crate::store::damage::from_json;
use crate::store::{DamagedRow, StoreError, record};

/// Number of shares per read of a scan.
const PAGE: usize = 500;

/// The checks that the server can do: for each table a query that returns tenant and id of each damaged row.
const CHECKS: [(&str, &str); 2] = [
    (
        "request",
        "SELECT tenant, id FROM request
         WHERE length(fingerprint) <> 32 OR answer NOT LIKE '{\"Done\":%}' AND answer NOT LIKE '{\"Refused\":%}'",
    ),
    (
        "share_change",
        "SELECT tenant, share_id || '/' || number FROM share_change WHERE state NOT BETWEEN 1 AND 9",
    ),
];

/// For each table: the columns of its rows as literals, the condition for a row with the tenant `$1` and the id `$2`, and the id.
const MOVES: [(&str, &str, &str, &str); 4] = [
    (
        "request",
        "quote_nullable(tenant), quote_nullable(id), quote_nullable(fingerprint), quote_nullable(begun),
         quote_nullable(answer), quote_nullable(owner), quote_nullable(epoch), quote_nullable(attempt), quote_nullable(keys)",
        "tenant = $1 AND id = $2",
        "id",
    ),
    (
        "spent",
        "quote_nullable(tenant), quote_nullable(day), quote_nullable(calls), quote_nullable(last_grant),
         quote_nullable(slots)",
        "tenant = $1 AND tenant = $2",
        "tenant",
    ),
    (
        "share_change",
        "quote_nullable(tenant), quote_nullable(share_id), quote_nullable(number), quote_nullable(at),
         quote_nullable(state), quote_nullable(failure)",
        "tenant = $1 AND (share_id || '/' || number = $2 OR share_id = $2)",
        "share_id",
    ),
    (
        "share",
        "quote_nullable(tenant), quote_nullable(id), quote_nullable(user_id), quote_nullable(kind),
         quote_nullable(entity_id), quote_nullable(lead_number), quote_nullable(state), quote_nullable(unsettled),
         quote_nullable(expires), quote_nullable(changed), quote_nullable(request_id), quote_nullable(document),
         quote_nullable(owner), quote_nullable(epoch)",
        "tenant = $1 AND id = $2",
        "id",
    ),
];

impl Postgres {
    pub(in crate::store) fn damaged_rows(&self) -> usize {
        self.damaged.count()
    }

    pub(in crate::store) fn note_damaged(&self, row: &DamagedRow) {
        self.damaged.note(row);
    }

    pub(in crate::store) async fn find_damaged(&self) -> Result<Vec<DamagedRow>, StoreError> {
        let mut found = vec![];
        for (table, query) in CHECKS {
            for row in &self.read(Ok(query.to_owned())).await? {
                let reason = "a column is unreadable";
                found.push(DamagedRow::new(table, &text(row, "tenant")?, &text_at(row, 1)?, reason));
            }
        }
        let usages = self
            .read(Ok("SELECT tenant, slots FROM spent WHERE slots IS NOT NULL".to_owned()))
            .await?;
        for row in &usages {
            if from_json::<record::usage::HeldSlotsRecord>(&text(row, "slots")?).is_err() {
                let tenant = text(row, "tenant")?;
                found.push(DamagedRow::new("spent", &tenant, &tenant, "a column is unreadable"));
            }
        }
        self.find_damaged_shares(&mut found).await?;
        self.damaged.replace(&found);
        Ok(found)
    }

    /// Reads all shares in pages.
    async fn find_damaged_shares(&self, found: &mut Vec<DamagedRow>) -> Result<(), StoreError> {
        let mut last_key = (String::new(), String::new());
        loop {
            let page = self.statement(share::PAGE, values![&last_key.0, &last_key.1, PAGE as i64]);
            let rows = self.read(page).await?;
            for row in &rows {
                if let Err(reason) = share::read(row) {
                    found.push(DamagedRow::new(
                        "share",
                        &text(row, "tenant")?,
                        &text(row, "id")?,
                        reason,
                    ));
                }
            }
            let Some(last) = rows.last().filter(|_| rows.len() == PAGE) else {
                return Ok(());
            };
            last_key = (text(last, "tenant")?, text(last, "id")?);
        }
    }

    pub(in crate::store) async fn move_damaged(&self, rows: &[DamagedRow], now: Timestamp) -> Result<u64, StoreError> {
        let mut moved = 0;
        for row in rows {
            moved += self.move_one(row, now).await?;
        }
        Ok(moved)
    }

    /// Moves a row, and the changes of a share. Fails if a replica owns the tenant.
    async fn move_one(&self, row: &DamagedRow, now: Timestamp) -> Result<u64, StoreError> {
        let key = |part: &Option<Vec<u8>>| String::from_utf8_lossy(part.as_deref().unwrap_or_default()).into_owned();
        let (tenant, id) = (key(&row.tenant), key(&row.id));
        // A change without its share has no meaning.
        let with_changes = row.table == "share";
        let moves = MOVES
            .iter()
            .filter(|(table, ..)| *table == row.table || (with_changes && *table == "share_change"));
        let mut moved = 0;
        for (table, columns, condition, id_column) in moves {
            let reason = match *table == row.table {
                true => row.reason.as_str(),
                false => "a change of a damaged share",
            };
            let template = format!(
                "WITH FENCE($1),
                 d AS (DELETE FROM {table} WHERE {condition} AND EXISTS (SELECT FROM l) RETURNING *),
                 w AS (INSERT INTO damaged (at, source, tenant, id, reason, content)
                       SELECT $3, '{table}', tenant, {id_column}, $4, concat_ws(', ', {columns}) FROM d RETURNING 1)
                 SELECT (SELECT count(*) FROM l), (SELECT count(*) FROM w)"
            );
            let statement = self.statement(&template, values![&tenant, &id, now.as_millisecond(), reason]);
            let results = self.write(HOUSEKEEPING, statement).await?;
            fence_held(&results)?;
            moved += first::<i64>(&results, 1)?.unsigned_abs();
        }
        Ok(moved)
    }
}

fn text(row: &PgRow, column: &str) -> Result<String, StoreError> {
    row.try_get(column).map_err(column_error)
}

fn text_at(row: &PgRow, column: usize) -> Result<String, StoreError> {
    row.try_get(column).map_err(column_error)
}
