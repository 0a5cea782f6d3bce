//! Reads all rows of a store, for a copy into another backend.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, TypeInfo, ValueRef};
use tokio_stream::{Stream, StreamExt};

use super::{Sqlite, read_error};
use crate::store::StoreError;

/// The tables that are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum CopiedTable {
    Request,
    QuotaUsage,
    Share,
    ShareChange,
    Damaged,
    Pause,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) enum CopiedValue {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl CopiedTable {
    pub(in crate::store) const ALL: [Self; 6] = [
        Self::Request,
        Self::QuotaUsage,
        Self::Share,
        Self::ShareChange,
        Self::Damaged,
        Self::Pause,
    ];

    fn query(self) -> &'static str {
        match self {
            Self::Request => "SELECT tenant, id, fingerprint, begun, answer FROM request",
            Self::QuotaUsage => "SELECT tenant, day, calls, last_grant, slots FROM spent",
            Self::Share => {
                "SELECT tenant, id, user_id, kind, entity_id, lead_number, state, unsettled, expires, changed, request_id,
                        document FROM share"
            }
            Self::ShareChange => "SELECT tenant, share_id, number, at, state, failure FROM share_change",
            // The keys and the content can be any bytes. They are read as texts.
            Self::Damaged => {
                "SELECT at, source, CAST(tenant AS TEXT), CAST(id AS TEXT), reason, content FROM damaged ORDER BY number"
            }
            Self::Pause => "SELECT tenant, since, reason FROM tenant_pause",
        }
    }
}

impl Sqlite {
    /// Returns the rows of a table.
    pub(in crate::store) fn copied_rows(
        &self,
        table: CopiedTable,
    ) -> impl Stream<Item = Result<Vec<CopiedValue>, StoreError>> + Unpin + '_ {
        let rows = sqlx::query(table.query()).fetch(&self.pool);
        rows.map(|row| row.and_then(|row| copied(&row)).map_err(read_error))
    }
}

fn copied(row: &SqliteRow) -> Result<Vec<CopiedValue>, sqlx::Error> {
    (0..row.len())
        .map(|at| {
            let raw = row.try_get_raw(at)?;
            if raw.is_null() {
                return Ok(CopiedValue::Null);
            }
            let type_info = raw.type_info();
            Ok(match type_info.name() {
                "INTEGER" => CopiedValue::Integer(row.try_get(at)?),
                "BLOB" => CopiedValue::Bytes(row.try_get(at)?),
                _ => {
                    let bytes: Vec<u8> = row.try_get_unchecked(at)?;
                    CopiedValue::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
            })
        })
        .collect()
}
