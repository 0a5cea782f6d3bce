//! The shares in SQLite.

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row};
use tokio_stream::StreamExt;
use uuid::Uuid;

use super::{HOUSEKEEPING, Sqlite, at, read_error, write_error};
use crate::domain::lead::LeadKey;
use crate::domain::share::{Share, ShareChange, ShareFilter, ShareState};
use crate::store::damage::{from_json, to_json};
use crate::store::record;
use crate::store::record::change::{number_of, state_of};
use crate::store::{AddShareResult, DamagedRow, StoreError};

/// A query for shares that selects all columns that [`read`] needs.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, user_id, kind, entity_id, state, unsettled, expires, changed, document ",
            $rest
        )
    };
}

/// A page of the shares of all tenants, after the share with a tenant and an id.
pub(super) const PAGE: &str =
    "SELECT CAST(tenant AS BLOB), CAST(id AS BLOB), id, user_id, kind, entity_id, state, unsettled,
     expires, changed, document FROM share
     WHERE typeof(tenant) = 'text' AND typeof(id) = 'text' AND (tenant, id) > (CAST(?1 AS TEXT), CAST(?2 AS TEXT))
     ORDER BY tenant, id LIMIT ?3";

impl Sqlite {
    pub(in crate::store) async fn add_share(
        &self,
        tenant: &str,
        share: &Share,
        limit: Option<u32>,
    ) -> Result<AddShareResult, StoreError> {
        self.check_writable()?;
        let (store, tenant, share) = (self.clone(), tenant.to_owned(), share.clone());
        let caller = share.caller.clone();
        self.commits
            .execute(&caller, move |connection| {
                let (store, tenant, share) = (store.clone(), tenant.clone(), share.clone());
                Box::pin(async move { add(connection, &store, &tenant, &share, limit).await })
            })
            .await
    }

    pub(in crate::store) async fn save_share(
        &self,
        tenant: &str,
        share: &Share,
        in_history: bool,
    ) -> Result<(), StoreError> {
        self.check_writable()?;
        let (tenant, share) = (tenant.to_owned(), share.clone());
        let caller = share.caller.clone();
        self.commits
            .execute(&caller, move |connection| {
                let (tenant, share) = (tenant.clone(), share.clone());
                Box::pin(async move {
                    write(connection, &tenant, &share).await?;
                    match in_history {
                        true => add_to_history(connection, &tenant, &share).await,
                        false => Ok(()),
                    }
                })
            })
            .await
    }

    pub(in crate::store) async fn share(&self, tenant: &str, id: Uuid) -> Result<Option<Share>, StoreError> {
        let row = sqlx::query(select!("FROM share WHERE tenant = ?1 AND id = ?2"))
            .bind(tenant)
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(read_error)?;
        let share = row.as_ref().map(|row| self.read(tenant, row)).transpose();
        share.map_err(|row| StoreError::reading("holds a damaged row", &row))
    }

    pub(in crate::store) async fn share_of_request(&self, tenant: &str, id: Uuid) -> Result<Option<Uuid>, StoreError> {
        let row = sqlx::query("SELECT id FROM share WHERE tenant = ?1 AND request_id = ?2")
            .bind(tenant)
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(read_error)?;
        let id: Option<String> = row.map(|row| row.try_get(0)).transpose().map_err(read_error)?;
        Ok(id.and_then(|id| Uuid::try_parse(&id).ok()))
    }

    pub(in crate::store) async fn share_of_lead(
        &self,
        tenant: &str,
        key: &LeadKey,
    ) -> Result<Option<Share>, StoreError> {
        let (text, key) = match key {
            LeadKey::Id(id) => (
                select!("FROM share WHERE tenant = ?1 AND entity_id = ?2 AND kind = 1"),
                id,
            ),
            LeadKey::Number(number) => (select!("FROM share WHERE tenant = ?1 AND lead_number = ?2"), number),
            LeadKey::Email(_) | LeadKey::Phone(_) => return Ok(None),
        };
        // Returns the first readable share. Further rows are not fetched.
        let mut rows = sqlx::query(text).bind(tenant).bind(folded(key)).fetch(&self.pool);
        while let Some(row) = rows.next().await {
            if let Ok(share) = self.read(tenant, &row.map_err(read_error)?) {
                return Ok(Some(share));
            }
        }
        Ok(None)
    }

    pub(in crate::store) async fn shares(&self, tenant: &str, filter: &ShareFilter) -> Result<Vec<Share>, StoreError> {
        let mut limit = filter.limit;
        loop {
            let mut query = listing(tenant, filter, limit, "");
            let rows = query.build().fetch_all(&self.pool).await.map_err(read_error)?;
            let mut shares: Vec<Share> = self.readable(tenant, &rows).collect();
            if shares.len() >= filter.limit || rows.len() < limit {
                shares.truncate(filter.limit);
                return Ok(shares);
            }
            // Reads again with a higher limit, so that damaged rows do not make the page shorter. A short page would mean that there are
            // no more shares.
            limit = filter.limit + rows.len() - shares.len();
        }
    }

    pub(in crate::store) async fn share_plan(
        &self,
        tenant: &str,
        filter: &ShareFilter,
    ) -> Result<Vec<String>, StoreError> {
        let mut query = listing(tenant, filter, filter.limit, "EXPLAIN QUERY PLAN ");
        let rows = query.build().fetch_all(&self.pool).await.map_err(read_error)?;
        rows.iter()
            .map(|row| row.try_get("detail").map_err(read_error))
            .collect()
    }

    pub(in crate::store) async fn shares_in_progress(&self, tenant: &str) -> Result<Vec<Share>, StoreError> {
        let rows = sqlx::query(select!("FROM share WHERE tenant = ?1 AND unsettled = 1 ORDER BY id"))
            .bind(tenant)
            .fetch_all(&self.pool)
            .await
            .map_err(read_error)?;
        Ok(self.readable(tenant, &rows).collect())
    }

    pub(in crate::store) async fn shares_due_to_expire(
        &self,
        tenant: &str,
        now: Timestamp,
    ) -> Result<Vec<Uuid>, StoreError> {
        let rows = sqlx::query(select!(
            "FROM share WHERE tenant = ?1 AND state IN (4, 7, 9) AND expires <= ?2"
        ))
        .bind(tenant)
        .bind(now.as_millisecond())
        .fetch_all(&self.pool)
        .await
        .map_err(read_error)?;
        Ok(self.readable(tenant, &rows).map(|share| share.id).collect())
    }

    pub(in crate::store) async fn next_expiry(&self, tenant: &str) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query("SELECT MIN(expires) FROM share WHERE tenant = ?1 AND state IN (4, 7, 9)")
            .bind(tenant)
            .fetch_one(&self.pool)
            .await
            .map_err(read_error)?;
        let next: Option<i64> = row.try_get(0).map_err(read_error)?;
        Ok(next.map(at))
    }

    pub(in crate::store) async fn share_usage(&self, tenant: &str, user_id: &str) -> Result<u32, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(DISTINCT entity_id) FROM share INDEXED BY share_live_of_user
             WHERE tenant = ?1 AND user_id = ?2 AND kind = 1 AND state IN (1, 2, 3, 4, 7, 9)",
        )
        .bind(tenant)
        .bind(folded(user_id))
        .fetch_one(&self.pool)
        .await
        .map_err(read_error)?;
        row.try_get(0).map_err(read_error)
    }

    pub(in crate::store) async fn count_shares(&self, tenant: &str) -> Result<Vec<(i64, i64)>, StoreError> {
        // The index has the state, so that no document is read.
        let rows =
            sqlx::query("SELECT state, COUNT(*) FROM share INDEXED BY share_of_user WHERE tenant = ?1 GROUP BY state")
                .bind(tenant)
                .fetch_all(&self.pool)
                .await
                .map_err(read_error)?;
        let count = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.iter().map(count).collect::<Result<_, _>>().map_err(read_error)
    }

    pub(in crate::store) async fn share_history(&self, tenant: &str, id: Uuid) -> Result<Vec<ShareChange>, StoreError> {
        let rows = sqlx::query(
            "SELECT state, at, failure FROM share_change WHERE tenant = ?1 AND share_id = ?2 ORDER BY number",
        )
        .bind(tenant)
        .bind(id.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(read_error)?;
        let change = |row: &SqliteRow| {
            Ok(ShareChange {
                state: state_of(row.try_get(0)?).unwrap_or(ShareState::Uncertain),
                at: at(row.try_get(1)?),
                failure: row.try_get(2)?,
            })
        };
        let changes = rows.iter().filter_map(|row| {
            let read: Result<ShareChange, sqlx::Error> = change(row);
            read.map_err(|_| {
                let reason = "a column of a change is unreadable";
                self.damaged
                    .note(&DamagedRow::new("share_change", tenant, &id.to_string(), reason));
            })
            .ok()
        });
        Ok(changes.collect())
    }

    pub(in crate::store) async fn delete_ended_shares(
        &self,
        tenant: &str,
        oldest: Timestamp,
    ) -> Result<u64, StoreError> {
        let tenant = tenant.to_owned();
        self.commits
            .execute(HOUSEKEEPING, move |connection| {
                let tenant = tenant.clone();
                Box::pin(async move {
                    sqlx::query(
                        "DELETE FROM share_change WHERE (tenant, share_id) IN
                         (SELECT tenant, id FROM share WHERE state IN (5, 6, 8) AND changed < ?1 AND tenant = ?2)",
                    )
                    .bind(oldest.as_millisecond())
                    .bind(&tenant)
                    .execute(&mut *connection)
                    .await
                    .map_err(write_error)?;
                    let query = "DELETE FROM share WHERE state IN (5, 6, 8) AND changed < ?1 AND tenant = ?2";
                    let query = sqlx::query(query).bind(oldest.as_millisecond()).bind(&tenant);
                    let swept = query.execute(&mut *connection).await.map_err(write_error)?;
                    Ok(swept.rows_affected())
                })
            })
            .await
    }
}

impl Sqlite {
    /// Returns the readable shares, and counts damaged rows.
    fn readable<'a>(&'a self, tenant: &'a str, rows: &'a [SqliteRow]) -> impl Iterator<Item = Share> + 'a {
        rows.iter().filter_map(|row| self.read(tenant, row).ok())
    }

    /// Reads a share, and counts a damaged row.
    fn read(&self, tenant: &str, row: &SqliteRow) -> Result<Share, DamagedRow> {
        read(row).map_err(|reason| {
            let id = row.try_get::<String, _>("id").unwrap_or_default();
            let row = DamagedRow::new("share", tenant, &id, reason);
            self.damaged.note(&row);
            row
        })
    }
}

/// Builds the query for shares that a filter selects, newest first.
fn listing(tenant: &str, filter: &ShareFilter, limit: usize, prefix: &str) -> QueryBuilder<sqlx::Sqlite> {
    let mut query = QueryBuilder::new(prefix);
    // The inner query reads the ids from an index only. Without it, SQLite would scan all shares of the account in their order.
    query
        .push(select!("FROM share WHERE tenant = "))
        .push_bind(tenant.to_owned());
    query.push(match (&filter.entity_id, &filter.user_id) {
        (Some(_), _) => " AND id IN (SELECT id FROM share INDEXED BY share_of_entity",
        (None, Some(_)) => " AND id IN (SELECT id FROM share INDEXED BY share_of_user",
        (None, None) => " AND id IN (SELECT id FROM share",
    });
    query.push(" WHERE tenant = ").push_bind(tenant.to_owned());
    if let Some(id) = &filter.user_id {
        query.push(" AND user_id = ").push_bind(folded(id));
    }
    if let Some(id) = &filter.entity_id {
        query.push(" AND entity_id = ").push_bind(folded(id));
    }
    if let Some(of_leads) = filter.of_leads {
        query.push(if of_leads { " AND kind = 1" } else { " AND kind = 2" });
    }
    if let Some(at) = filter.expire_before {
        query.push(" AND expires < ").push_bind(at.as_millisecond());
    }
    if let Some(id) = filter.older_than {
        query.push(" AND id < ").push_bind(id.to_string());
    }
    if !filter.states.is_empty() {
        query.push(" AND state IN (");
        // As literals, so that SQLite can use an index that is limited to some states.
        let mut states = query.separated(", ");
        for state in &filter.states {
            states.push(number_of(*state));
        }
        query.push(")");
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(limit as i64);
    query.push(") ORDER BY id DESC");
    query
}

/// Writes a new share, unless another share conflicts with it or the user has reached the limit.
async fn add(
    connection: &mut SqliteConnection,
    store: &Sqlite,
    tenant: &str,
    share: &Share,
    limit: Option<u32>,
) -> Result<AddShareResult, StoreError> {
    let rows = sqlx::query(
        // A user can have thousands of shares, a lead has few.
        select!(
            "FROM share INDEXED BY share_of_entity
             WHERE tenant = ?1 AND user_id = ?2 AND entity_id = ?3 AND state IN (1, 2, 3, 4, 7, 9)"
        ),
    )
    .bind(tenant)
    .bind(folded(&share.user_id))
    .bind(folded(share.entity_id()))
    .fetch_all(&mut *connection)
    .await
    .map_err(read_error)?;
    for other in store.readable(tenant, &rows) {
        if other.conflicts_with(share) {
            return Ok(AddShareResult::Conflict(other.id));
        }
    }
    let mut used = 0;
    if share.is_of_lead() {
        let others = sqlx::query(
            "SELECT COUNT(DISTINCT entity_id) FROM share INDEXED BY share_live_of_user
             WHERE tenant = ?1 AND user_id = ?2 AND kind = 1 AND state IN (1, 2, 3, 4, 7, 9) AND entity_id <> ?3",
        )
        .bind(tenant)
        .bind(folded(&share.user_id))
        .bind(folded(share.entity_id()))
        .fetch_one(&mut *connection)
        .await
        .map_err(read_error)?;
        used = others.try_get::<u32, _>(0).map_err(read_error)? + 1;
        if limit.is_some_and(|limit| used > limit) {
            return Ok(AddShareResult::LimitReached);
        }
    }
    // A request id whose record was deleted can be used again.
    sqlx::query("UPDATE share SET request_id = NULL WHERE tenant = ?1 AND request_id = ?2")
        .bind(tenant)
        .bind(share.request_id.map(|id| id.to_string()))
        .execute(&mut *connection)
        .await
        .map_err(write_error)?;
    write(connection, tenant, share).await?;
    add_to_history(connection, tenant, share).await?;
    Ok(AddShareResult::Added { used })
}

async fn write(work: &mut SqliteConnection, tenant: &str, share: &Share) -> Result<(), StoreError> {
    let document = to_json(&record::share::ShareRecord::from(share.clone()));
    let document = document.map_err(|reason| StoreError::new("cannot be written", &format!("a share: {reason}")))?;
    sqlx::query(
        "INSERT INTO share
         (tenant, id, user_id, kind, entity_id, lead_number, state, unsettled, expires, changed, request_id, document)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (tenant, id) DO UPDATE
         SET state = ?7, unsettled = ?8, expires = ?9, changed = ?10, document = ?12",
    )
    .bind(tenant)
    .bind(share.id.to_string())
    .bind(folded(&share.user_id))
    .bind(kind_of(share))
    .bind(folded(share.entity_id()))
    .bind(share.lead_number())
    .bind(number_of(share.state()))
    .bind(share.stage.is_in_progress())
    .bind(share.expires.map(Timestamp::as_millisecond))
    .bind(share.changed.as_millisecond())
    .bind(share.request_id.map(|id| id.to_string()))
    .bind(document)
    .execute(work)
    .await
    .map_err(write_error)?;
    Ok(())
}

/// Adds the current state to the history of a share.
async fn add_to_history(work: &mut SqliteConnection, tenant: &str, share: &Share) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO share_change (tenant, share_id, number, at, state, failure)
         SELECT ?1, ?2, COUNT(*) + 1, ?3, ?4, ?5 FROM share_change WHERE tenant = ?1 AND share_id = ?2",
    )
    .bind(tenant)
    .bind(share.id.to_string())
    .bind(share.changed.as_millisecond())
    .bind(number_of(share.state()))
    .bind(share.failure.as_ref().map_or("", |error| error.name()))
    .execute(work)
    .await
    .map_err(write_error)?;
    Ok(())
}

/// Reads a share. The error is the reason why the row is damaged.
pub(super) fn read(row: &SqliteRow) -> Result<Share, String> {
    let unreadable = |column: &'static str| move |_: sqlx::Error| format!("the column {column} is unreadable");
    let document: &str = row.try_get("document").map_err(unreadable("document"))?;
    let share = Share::from(from_json::<record::share::ShareRecord>(document)?);
    let id: &str = row.try_get("id").map_err(unreadable("id"))?;
    let user_id: &str = row.try_get("user_id").map_err(unreadable("user_id"))?;
    let entity_id: &str = row.try_get("entity_id").map_err(unreadable("entity_id"))?;
    let kind: i64 = row.try_get("kind").map_err(unreadable("kind"))?;
    let state: i64 = row.try_get("state").map_err(unreadable("state"))?;
    row.try_get::<bool, _>("unsettled").map_err(unreadable("unsettled"))?;
    row.try_get::<Option<i64>, _>("expires")
        .map_err(unreadable("expires"))?;
    row.try_get::<i64, _>("changed").map_err(unreadable("changed"))?;
    let is_same = id == share.id.to_string()
        && user_id == folded(&share.user_id)
        && entity_id == folded(share.entity_id())
        && kind == kind_of(&share);
    if !is_same {
        return Err("the columns belong to a different share than the content".to_owned());
    }
    if state_of(state).is_none() {
        return Err("the column state is unknown".to_owned());
    }
    Ok(share)
}

/// The stored kind of a share: 1 for a lead, 2 for an opportunity.
fn kind_of(share: &Share) -> i64 {
    if share.is_of_lead() { 1 } else { 2 }
}

/// Returns an id in lower case, since ids are case-insensitive.
fn folded(id: &str) -> String {
    id.to_ascii_lowercase()
}
